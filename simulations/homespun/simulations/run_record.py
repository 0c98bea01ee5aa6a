"""The ledger of a simulation's run folder, and what its first entry declares."""

import secrets
from collections.abc import Mapping
from typing import Any

from homespun.cli.places import places
from homespun.privacy import Plan
from homespun.privacy.ledger import Ledger, SigningKey
from homespun.server.run_ledger import OPERATOR, open_run_ledger, run_genesis
from homespun.simulations.run_folder import RunFolder, software

KEY_NAME = "operator.key"

DECLARED = {
    "purpose": "A simulation of federated preference learning: all people and the server are on one machine.",
    "tuning": "Constants were chosen on other folds and seeds, see docs/design/04-learner.md.",
    "seeded-noise": "yes: the noise follows from the seed of the run, so whoever knows the seed can take it away.",
}
"""What a report must say and no ledger can compute."""


def open_ledger(folder: RunFolder, plan: Plan, adapter: Mapping[str, Any] | None = None) -> Ledger:
    """Open the ledger of a run folder, or begin it; it is signed by the operator's key in the data folder.

    Args:
        folder: The run folder, held.
        plan: What every fold does.
        adapter: What the private adapters of the run are planned to spend (`RecordPlan.to_dict`); None where they are
            exact.
    Raises:
        LedgerDamaged: An entry was edited, dropped or moved.
        LedgerError: The ledger is of another plan, or signed by another key.
    """
    key = SigningKey.load_or_create(places()["data"] / KEY_NAME, OPERATOR)
    name = folder.path.name
    genesis = run_genesis(
        plan,
        # The random part keeps entries of two runs apart that one key signs.
        origin=f"homespun/run/{name[:80]}/{secrets.token_hex(8)}",
        adapter=adapter,
        declared={"name": name, **DECLARED},
        software=software(),
    )
    return open_run_ledger(folder.path, key, genesis)
