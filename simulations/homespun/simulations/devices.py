"""The people of engine ``faithful``: each a real device in a folder of its own, with vault, ledger, policy and witness.

    RUN/devices/fold-0/00017/     see homespun.client.device
    RUN/witness.sqlite            the newest head of every device's ledger

A device is made when it is first asked, opened for each message and closed again, so that a thousand of them need no
thousand open files; the masked round that it takes part in stays in memory. The keys of vaults, identities and witness
follow from the seed and are never on disk; so does the noise, which is why such a device protects nobody. The keys of
masks are fresh: no result depends on them.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flwr.app import Context

from homespun.client.anchor import MemoryAnchor
from homespun.client.app import Contributor
from homespun.client.device import Device, Installation
from homespun.client.lineage import ACCOUNT, newest_ledger
from homespun.client.masked_round import Sessions
from homespun.client.vault import GivenKey
from homespun.personal import Backbone, Pairs
from homespun.privacy import Noise, NoiseStream, Phase, Plan, canonical_json
from homespun.privacy.accountant import orders_for, to_epsilon
from homespun.privacy.ledger import KeyRole, Kind, Ledger, SigningKey, event_cost
from homespun.privacy.policy import Policy
from homespun.privacy.policy_check import contribution_event
from homespun.secagg import Identity, MaskedVector
from homespun.server.witness import WitnessBook
from homespun.wire import Contribution, RoundRequest, StepRequest

__all__ = ["SimulatedDevice", "declare_devices", "permitting", "roster", "simulated_devices", "summarise_devices"]

FEWEST = 5  # smaller groups of devices are not told apart
MOST_GROUPS = 40
DEVICES, WITNESS = "devices", "witness.sqlite"


@dataclass(frozen=True, kw_only=True)
class SimulatedDevice:
    """One person's device, closed between messages."""

    folder: Path
    key: GivenKey = field(repr=False)
    policy: Policy
    around: Installation
    said: Callable[[], tuple[Pairs, Sequence[Mapping[str, Any]]]] = field(repr=False)
    """The person's pairs, and the same as texts: asked for once, when the device is made."""

    def contribute(self, request: RoundRequest) -> Contribution:
        """Answer a plain round; see :meth:`homespun.client.device.Device.contribute`."""
        with self._opened() as device:
            return device.contribute(request)

    def advertise(self, request: RoundRequest, step: StepRequest) -> bytes:
        """Begin a masked round; see :meth:`homespun.client.device.Device.advertise`."""
        with self._opened() as device:
            return device.advertise(request, step)

    def share(self, step: StepRequest) -> bytes:
        """See :meth:`homespun.client.device.Device.share`."""
        with self._opened() as device:
            return device.share(step)

    def mask(self, step: StepRequest) -> MaskedVector:
        """See :meth:`homespun.client.device.Device.mask`."""
        with self._opened() as device:
            return device.mask(step)

    def consent(self, step: StepRequest) -> bytes:
        """See :meth:`homespun.client.device.Device.consent`."""
        with self._opened() as device:
            return device.consent(step)

    def reveal(self, step: StepRequest) -> bytes:
        """See :meth:`homespun.client.device.Device.reveal`."""
        with self._opened() as device:
            return device.reveal(step)

    def note_malformed(self) -> None:
        """See :meth:`homespun.client.device.Device.note_malformed`."""
        with self._opened() as device:
            device.note_malformed()

    def _opened(self) -> Device:
        if not self.folder.exists():
            device = Device.create(self.folder, self.key, self.policy, self.around)
        else:
            device = Device.open(self.folder, self.key, self.around)
        if not device.has_learnt:  # new, or killed before it was given its data
            device.learn(*self.said())
        return device


def simulated_devices(
    run: Path,
    plan: Plan,
    pairs: Pairs,
    phases: Mapping[str, Phase[Backbone, Pairs]],
    *,
    seed: int,
    fold: int = 0,
    texts: Sequence[str] = (),
    noise: Callable[[int], Callable[[int, int, int], Noise]] | None = None,
) -> Callable[[Context], Contributor]:
    """Find the device of a node from its Flower context.

    Args:
        run: Run folder.
        plan: What the run does; every owner allows just that.
        pairs: Everybody's pairs.
        phases: The installed learner.
        seed: Keys and noise follow from it.
        fold: Number of the fold: its people are devices of their own.
        texts: The items' texts, for the preferences as they were said; none where they are not known.
        noise: Given a place, where the noise of a run, a round and an attempt comes from; seeded streams if not given.
    """
    policy, anchor = permitting(plan), MemoryAnchor()
    home = run / DEVICES / f"fold-{fold}"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    witness = WitnessBook(run / WITNESS, _witness_key(seed))

    sessions = Sessions()

    def seeded(place: int) -> Callable[[int, int, int], Noise]:
        return lambda run, round, attempt: NoiseStream.seeded(seed, "shares", run, round, place, attempt)

    def said(place: int) -> tuple[Pairs, Sequence[Mapping[str, Any]]]:
        own = pairs.select(slice(place, place + 1))
        return own, _said(own, texts)

    @cache
    def at_place(place: int) -> SimulatedDevice:
        return SimulatedDevice(
            folder=home / f"{place:05d}",
            key=GivenKey(_derived(seed, "vault", fold, place)),
            policy=policy,
            around=Installation(
                project="simulation",
                phases=phases,
                user=f"person-{place}",
                witness=witness,
                anchor=anchor,
                noise=(noise or seeded)(place),
                identity=_identity(seed, fold, place),
                sessions=sessions,
            ),
            said=partial(said, place),
        )

    return lambda context: at_place(int(context.node_config["partition-id"]))


def roster(people: int, *, seed: int, fold: int = 0) -> tuple[bytes, ...]:
    """The identities of a fold's devices by place, Ed25519 public keys of 32 bytes: what an enrolment would know."""
    return tuple(_identity(seed, fold, place).public for place in range(people))


def permitting(plan: Plan) -> Policy:
    """The policy of an owner who allows a plan and nothing else.

    It pays for the plan twice: a round that a kill burned stays spent and is paid again.
    """
    events = [(release, contribution_event(release)) for release in plan.releases]
    costs = [release.rounds * event_cost(event, None) for release, event in events if event is not None]
    orders, budget = orders_for(()), 2 * float(sum(costs, Decimal(0)))
    whole = len(costs) == len(events)
    return Policy(
        phases=tuple(release.name for release in plan.releases),
        trust=(plan.spec.trust,),
        min_noise_multiplier=min(0.0 if event is None else event.noise_multiplier for _, event in events),
        min_cohort=plan.spec.min_survivors,
        max_epsilon=to_epsilon(orders, orders * budget, delta=plan.spec.delta).epsilon if whole else float("inf"),
        delta=plan.spec.delta,
        max_rounds=2 * sum(release.rounds for release in plan.releases),
        adapter="exact",
    )


def summarise_devices(run: Path) -> dict[str, Any]:
    """What the ledgers of all devices of a run say together.

    Guarantees:
        * nobody alone: groups of fewer than five devices are added up as ``fewer``.
    """
    spent: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    burned = 0
    for folder in sorted((run / DEVICES).glob("fold-*/[0-9]*")):
        with Ledger.open(newest_ledger(folder), None) as ledger:
            spent[str(ledger.spent(ACCOUNT))] += 1
            for entry in ledger.entries():
                if entry.kind is Kind.REFUSE:
                    refused[str(entry.body["reason"])] += 1
                burned += entry.kind is Kind.BURN
    return {
        "devices": sum(spent.values()),
        "rho": _grouped(spent),
        "refused": _grouped(refused),
        "burned": burned,
    }


def declare_devices(ledger: Ledger, run: Path) -> None:
    """Write the summary of the devices' ledgers into the server's, once."""
    text = canonical_json(summarise_devices(run))
    told = [entry.body["text"] for entry in ledger.entries() if entry.kind is Kind.DECLARE]
    if text not in told:
        ledger.record("declare", {"name": "devices", "text": text})


def _grouped(counts: Counter[str]) -> dict[str, int]:
    """Groups large enough to be told apart, the largest first; the rest together."""
    kept = {name: count for name, count in counts.most_common(MOST_GROUPS) if count >= FEWEST}
    rest = sum(counts.values()) - sum(kept.values())
    return {**kept, "fewer": rest} if rest else kept


def _said(pairs: Pairs, texts: Sequence[str]) -> list[Mapping[str, Any]]:
    """One person's pairs as texts."""
    if not texts:
        return []
    counted = (pairs.weight[0] > 0).nonzero().flatten().tolist()
    chosen, rejected = pairs.chosen[0].tolist(), pairs.rejected[0].tolist()
    return [{"chosen": texts[chosen[n]], "rejected": texts[rejected[n]]} for n in counted]


def _identity(seed: int, fold: int, place: int) -> Identity:
    return Identity.from_bytes(_derived(seed, "identity", fold, place))


def _witness_key(seed: int) -> SigningKey:
    return SigningKey.from_bytes("homespun-simulated-witness", _derived(seed, "witness"), role=KeyRole.COSIGNER)


def _derived(seed: int, *labels: str | int) -> bytes:
    """32 bytes from the seed (HKDF-SHA256, RFC 5869)."""
    info = json.dumps(labels).encode("ascii")
    return HKDF(hashes.SHA256(), 32, salt=b"homespun simulated device v1", info=info).derive(str(seed).encode("ascii"))
