"""What a device's adapter is made of (guarantee B): one noisy sum a block of records, each released once, ever.

Guarantee B has a ledger of its own, because the head of the other one is shown to a witness and must not tell how many
records a device holds. Its accounts are the blocks, and its cap is what one release costs: a block that was paid for,
whatever became of it, cannot be released again.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from safetensors.torch import load, save
from torch import Tensor

from homespun.client.errors import Declined
from homespun.client.lineage import sync
from homespun.client.spending import ADAPTER_LEDGER
from homespun.client.vault import Vault
from homespun.personal import Backbone, BlockSum, PublicMoments, Records, record_dimension, record_rows, release_block
from homespun.privacy import NoiseStream
from homespun.privacy.ledger import Genesis, Ledger, SigningKey, event_cost
from homespun.privacy.policy import Policy
from homespun.privacy.policy_check import Reason
from homespun.privacy.record_plan import RecordPlan, build_record_plan

__all__ = ["finish_releases", "open_releases", "release_blocks", "sums_from_bytes", "sums_to_bytes", "write_off"]

SUMS = "sums"


def open_releases(
    folder: Path, name: str, key: SigningKey, policy: Policy, records: Records, *, lost: bool
) -> tuple[Ledger, RecordPlan]:
    """Open the adapter's ledger, or begin it with the plan that the owner's policy calls for.

    Args:
        folder: The device's.
        name: The device's.
        key: Signs the ledger.
        policy: Says how much any one record may cost.
        records: What is to be released.
        lost: Whether some history of the device was lost. A ledger that is begun then has every block that these records
            fill, and the next one, written off: they may have been released in that history.
    Raises:
        ValueError: The adapter is exact, or was begun with another promise.
    """
    if policy.adapter_epsilon is None:
        raise ValueError("Expected adapter='record:E' for releases; this owner chose the exact adapter.")
    path, dim = folder / ADAPTER_LEDGER, records.dim
    if not path.is_file():
        plan = build_record_plan(policy.adapter_epsilon, policy.delta, record_dimension(dim))
        return _begin(path, key, _genesis(name, plan), plan, records.places if lost else None), plan
    ledger = Ledger.open(path, key)
    plan = RecordPlan.from_dict(ledger.genesis.adapter or {})
    if (plan.epsilon, plan.dimension) != (policy.adapter_epsilon, record_dimension(dim)):
        ledger.close()
        raise ValueError(
            f"Expected adapter='record:{plan.epsilon:g}' over features of the same kind, as this adapter was begun: what "
            "was released stays released. Keep that choice, or choose exact."
        )
    return ledger, plan


def release_blocks(
    ledger: Ledger,
    plan: RecordPlan,
    vault: Vault,
    records: Records,
    backbone: Backbone,
    public: PublicMoments,
    place: tuple[int, str],
) -> list[BlockSum]:
    """Release every full block that was not paid for yet, and return all sums that there are.

    Args:
        ledger: Of guarantee B.
        plan: Its plan.
        vault: Where sums are sealed.
        records: All of one person's, by arrival.
        backbone: Shared model.
        public: Facts about the texts.
        place: Size and root of the other ledger, as the vault writes them down.
    Guarantees:
        * once: a block is paid for before its records are summed, and never summed again.
        * sealed before it counts: a sum is in the vault before its reservation is committed.
    Raises:
        Declined: A sum is in the vault that the ledger does not know: the ledger was rolled back.
    """
    sums = _sums(vault)
    if any(ledger.spent(_account(block)) == 0 for block in sums):
        raise Declined(Reason.LEDGER_FORKED)
    start = 0
    for block, size in enumerate(plan.sizes(records.places)):
        if ledger.spent(_account(block)) == 0:
            paid = ledger.reserve(_account(block), plan.event, {"block": block, "records": size})
            rows = record_rows(backbone, public, plan, records.between(start, start + size))
            with NoiseStream() as noise:
                sums[block] = release_block(rows, plan, block=block, noise=noise)
            vault.write(SUMS, sums_to_bytes(sums), ledger=place)
            ledger.commit(paid, _artifact(sums[block]))
        start += size
    return [sums[block] for block in sorted(sums)]


def finish_releases(folder: Path, key: SigningKey, vault: Vault) -> None:
    """End what a crash left open: a sum that was sealed is committed, everything else is burned and lost for ever."""
    if not (folder / ADAPTER_LEDGER).is_file():
        return
    with Ledger.open(folder / ADAPTER_LEDGER, key) as ledger:
        for paid in ledger.open_reservations():
            found = _sums(vault).get(int(paid.subject["block"]))
            if found is None:
                ledger.burn(paid, "crash")
            else:
                ledger.commit(paid, _artifact(found))


def write_off(folder: Path, key: SigningKey, records: Records | None) -> None:
    """After a fork: count every block that may have been released in the lost history as paid for.

    Whatever the owner allows now: a later policy could release them again. Where there is no ledger yet, nothing can be
    written off before one is begun; :func:`open_releases` does it then.
    """
    if not (folder / ADAPTER_LEDGER).is_file():
        return
    with Ledger.open(folder / ADAPTER_LEDGER, key) as ledger:
        plan = RecordPlan.from_dict(ledger.genesis.adapter or {})
        _write_off(ledger, plan, 0 if records is None else records.places)


def sums_to_bytes(sums: Mapping[int, BlockSum]) -> bytes:
    """Sums by block, as safetensors."""
    tensors: dict[str, Tensor] = {}
    facts: dict[str, str] = {}
    for block, found in sums.items():
        tensors |= {f"{block}.{name}": tensor.clone().contiguous() for name, tensor in found.tensors().items()}
        facts |= {f"{block}.{name}": text for name, text in found.facts().items()}
    return save(tensors, metadata=facts)


def sums_from_bytes(content: bytes) -> dict[int, BlockSum]:
    """The inverse of :func:`sums_to_bytes`."""
    facts = _metadata(content)
    tensors = load(content)
    blocks = sorted({int(name.partition(".")[0]) for name in tensors})
    return {block: BlockSum.read(_of(tensors, block), _of(facts, block)) for block in blocks}


T = TypeVar("T")


def _of(values: Mapping[str, T], block: int) -> dict[str, T]:
    return {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{block}.")}


def _metadata(content: bytes) -> dict[str, str]:
    """The texts in the header of a safetensors file: 8 bytes of length, little-endian, then JSON."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    texts: dict[str, str] = header["__metadata__"]
    return texts


def _sums(vault: Vault) -> dict[int, BlockSum]:
    try:
        return sums_from_bytes(vault.read(SUMS))
    except KeyError:
        return {}


def _begin(path: Path, key: SigningKey, genesis: Genesis, plan: RecordPlan, lost: int | None) -> Ledger:
    """Begin the ledger, whole or not at all; ``lost`` places of records may have been released before."""
    if lost is None:
        return Ledger.create(path, key, genesis)
    aside = path.with_name(f".{path.name}.next")
    for file in path.parent.glob(f"{aside.name}*"):
        file.unlink()
    with Ledger.create(aside, key, genesis) as ledger:
        _write_off(ledger, plan, lost)
    aside.rename(path)
    sync(path.parent)
    return Ledger.open(path, key)


def _write_off(ledger: Ledger, plan: RecordPlan, places: int) -> None:
    cap = f"{event_cost(plan.event, None):.18f}"
    blocks = range(len(plan.sizes(places)) + 1)
    lost = {_account(block): cap for block in blocks if ledger.spent(_account(block)) == 0}
    ledger.record("acknowledge", {"incident": "ledger-forked", "spent_after": lost})


def _account(block: int) -> str:
    return f"block-{block}"


def _artifact(found: BlockSum) -> str:
    return hashlib.sha256(found.total.contiguous().numpy().tobytes()).hexdigest()


def _genesis(name: str, plan: RecordPlan) -> Genesis:
    return Genesis(
        origin=f"homespun/adapter/{name}/1",
        guarantee="adapter",
        holder="device",
        unit=plan.unit,
        relation=plan.relation,
        delta=plan.delta,
        cap=event_cost(plan.event, None),
        adapter=plan.to_dict(),
        software={"homespun": importlib.metadata.version("homespun")},
    )
