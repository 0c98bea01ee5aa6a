"""How well each method ranks what unseen people have not yet labelled, person by person.

Every figure is of people who took no part in the training, on pairs that are in nobody's evidence. The personal model
always stands beside its controls: the average user (``global``), another person's adapter (``other_user``), an adapter
fitted to shuffled labels (``shuffled``), and people on their own (``local_only``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from homespun.personal import Adapter, Backbone, Pairs, Records, TierCaps, fit, gate, predict

Method = Callable[[Pairs, Pairs], Tensor]
"""Evidence and test pairs of the same people to log-odds, float32 ``(people, test pairs)``."""

REPLICATES = 200  # of the bootstrap over items behind a person's standard error
BINS = 10  # of equal mass, for calibration


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Unseen people's labels: what each number of shots shows, and what they are tested on."""

    shots: Mapping[int, Pairs] = field(repr=False)
    shuffled: Mapping[int, Pairs] = field(repr=False)
    test: Pairs = field(repr=False)
    records: Records = field(repr=False)
    """The labels of the most shots one by one, by arrival."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Results of one fold's people, without their names."""

    shots: tuple[int, ...]
    accuracy: Mapping[str, Tensor] = field(repr=False)
    """Per method, float32 ``(shots, people)``."""
    standard_error: Mapping[str, Tensor] = field(repr=False)
    """Of accuracy minus global, for ``personal`` and ``gated``, float32 ``(shots, people)``."""
    gate_open: Tensor = field(repr=False)
    """bool ``(shots, people)``."""
    chances: Mapping[str, Tensor] = field(repr=False)
    """At the most shots, predicted chance of what was preferred, for every test pair: ``global`` and ``personal``."""


def evaluate(
    backbone: Backbone,
    evidence: Evidence,
    methods: Mapping[str, Method],
    *,
    adapters: Mapping[str, Mapping[int, Adapter]],
    caps: TierCaps,
    seed: int,
) -> Evaluation:
    """Evaluate a backbone, its adapters and their controls on unseen people.

    Args:
        backbone: What was trained.
        evidence: The people.
        methods: Further methods by name; each sees what the personal model sees.
        adapters: Further adapters on the same backbone, by name and number of shots.
        caps: Bounds of personalization.
        seed: Of the draw of other users and of the bootstrap.
    """
    test = evidence.test
    generator = torch.Generator().manual_seed(seed)
    strangers = _strangers(test.users, generator)
    replicate = _Replicates(test, generator)
    names = ("global", "personal", "gated", "other_user", "shuffled", *adapters, *methods)
    accuracy: dict[str, list[Tensor]] = {name: [] for name in names}
    errors: dict[str, list[Tensor]] = {"personal": [], "gated": []}
    gates: list[Tensor] = []
    chances: dict[str, Tensor] = {}
    for n, shots in evidence.shots.items():
        adapter = fit(backbone, shots)
        own = predict(backbone, adapter, test, caps=caps)
        open_ = gate(backbone, adapter, shots)
        margins = {
            "global": own.shared,
            "personal": own.total,
            "gated": torch.where(open_.unsqueeze(1), own.total, own.shared),
            "other_user": predict(backbone, adapter.reassigned(strangers), test, caps=caps).total,
            "shuffled": predict(backbone, fit(backbone, evidence.shuffled[n]), test, caps=caps).total,
            **{name: predict(backbone, made[n], test, caps=caps).total for name, made in adapters.items()},
            **{name: method(shots, test) for name, method in methods.items()},
        }
        right = {name: correct(margin) for name, margin in margins.items()}
        for name in names:
            accuracy[name].append(per_person(right[name], test))
        for name, rows in errors.items():
            rows.append(replicate.standard_error(right[name] - right["global"]))
        gates.append(open_)
        here = test.weight > 0
        chances = {"global": torch.sigmoid(own.shared)[here], "personal": own.probability[here]}
    return Evaluation(
        shots=tuple(evidence.shots),
        accuracy={name: torch.stack(rows) for name, rows in accuracy.items()},
        standard_error={name: torch.stack(rows) for name, rows in errors.items()},
        gate_open=torch.stack(gates),
        chances=chances,
    )


def correct(margin: Tensor) -> Tensor:
    """1 where the preferred item scores higher, 0.5 where both score the same, else 0."""
    return (margin > 0).float() + 0.5 * (margin == 0).float()


def per_person(values: Tensor, test: Pairs) -> Tensor:
    """Mean over each person's test pairs, shape ``(people,)``."""
    here = (test.weight > 0).float()
    return (values * here).sum(1) / here.sum(1).clamp(min=1)


def _strangers(people: int, generator: torch.Generator) -> Tensor:
    """For each person somebody else, uniformly among arrangements that are one cycle."""
    order = torch.randperm(people, generator=generator)
    stranger = torch.empty(people, dtype=torch.int64)
    stranger[order] = order.roll(1)
    return stranger


class _Replicates:
    """Bootstrap over items, not pairs: a person's test pairs share items and so are not independent.

    A replicate draws item counts (Poisson with mean 1); a pair counts the product of its two items' counts.
    """

    def __init__(self, test: Pairs, generator: torch.Generator) -> None:
        self._weights = []
        for person in range(test.users):
            here = test.weight[person] > 0
            ends = torch.stack([test.chosen[person][here], test.rejected[person][here]])
            items, place = torch.unique(ends, return_inverse=True)
            counts = torch.poisson(torch.ones(REPLICATES, len(items)), generator=generator)
            self._weights.append((here, counts[:, place[0]] * counts[:, place[1]]))

    def standard_error(self, difference: Tensor) -> Tensor:
        """Of each person's mean difference, shape ``(people,)``."""
        rows = []
        for (here, weight), values in zip(self._weights, difference, strict=True):
            total = weight.sum(1)
            means = (weight @ values[here])[total > 0] / total[total > 0]
            rows.append(means.std() if len(means) > 1 else torch.tensor(float("nan")))
        return torch.nan_to_num(torch.stack(rows), nan=float("inf"))


def reliability(chance: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Calibration of predicted chances of what was preferred.

    Args:
        chance: float32, any number of predictions ``P(preferred)``.

    Returns:
        Reliability bins of equal mass on the confidence in the predicted side, float32 ``(bins, 3)``: mean confidence,
        accuracy, share; and expected calibration error, Brier score and log loss.
    """
    confidence, order = torch.sort(torch.maximum(chance, 1 - chance))
    hit = correct(chance - 0.5)[order]
    bins = torch.stack(
        [
            torch.stack([c.mean(), h.mean(), torch.tensor(len(c) / len(chance))])
            for c, h in zip(confidence.tensor_split(BINS), hit.tensor_split(BINS), strict=True)
            if len(c)
        ]
    )
    return bins, {
        "ece": float(((bins[:, 0] - bins[:, 1]).abs() * bins[:, 2]).sum()),
        "brier": float(((1 - chance) ** 2).mean()),
        "log_loss": float(-torch.log(chance.clamp(min=1e-12)).mean()),
    }
