"""From people's results to the figures of a report: means, intervals, harm, calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from homespun.simulations.evaluation import Evaluation, reliability

RESAMPLES = 2000  # of people, for 95 % intervals
RESAMPLED_AT_ONCE = 100  # sets the memory: 16 bytes a person and resample
WORST = 0.1  # the worst decile: mean of the lowest tenth of people under each method


def pool(evaluations: Sequence[Evaluation]) -> dict[str, Tensor]:
    """All folds' people side by side, in the tensors of ``evaluation.safetensors``."""
    tensors: dict[str, Tensor] = {}
    for name in evaluations[0].accuracy:
        tensors[f"accuracy.{name}"] = torch.cat([e.accuracy[name] for e in evaluations], dim=1)
    for name in evaluations[0].standard_error:
        tensors[f"standard_error.{name}"] = torch.cat([e.standard_error[name] for e in evaluations], dim=1)
    tensors["gate_open"] = torch.cat([e.gate_open for e in evaluations], dim=1)
    tensors["fold"] = torch.cat([torch.full((e.gate_open.shape[1],), number) for number, e in enumerate(evaluations)])
    for name in evaluations[0].chances:
        tensors[f"calibration.{name}"] = reliability(torch.cat([e.chances[name] for e in evaluations]))[0]
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def measure(evaluations: Sequence[Evaluation], *, seed: int) -> dict[str, Any]:
    """The accuracy part of ``summary.json``.

    Intervals are bootstrap percentiles over people, 2,000 resamples; the same resamples serve every method, so gains
    are paired.
    """
    tensors = pool(evaluations)
    shots = evaluations[0].shots
    methods = [name.removeprefix("accuracy.") for name in tensors if name.startswith("accuracy.")]
    people = tensors["fold"].shape[0]
    values = torch.stack([tensors[f"accuracy.{method}"] for method in methods])
    gains = values - values[methods.index("global")]
    resampled, resampled_gains = _resample(values, seed=seed), _resample(gains, seed=seed)
    accuracy: dict[str, Any] = {}
    gain: dict[str, Any] = {}
    harm: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    for place, n in enumerate(shots):
        accuracy[str(n)], gain[str(n)] = {"users": people}, {}
        for m, method in enumerate(methods):
            row = values[m, place]
            accuracy[str(n)][method] = {**_interval(row, resampled[m, place]), "worst_decile": _worst(row)}
            if method != "global":
                gain[str(n)][method] = _interval(gains[m, place], resampled_gains[m, place])
        exact = methods.index("personal")
        kept[str(n)] = {
            method: _kept(gains[[m, exact], place], resampled_gains[[m, exact], place])
            for m, method in enumerate(methods)
            if method.startswith("private")
        }
        harm[str(n)] = {
            method: _harm(gains[methods.index(method), place], tensors[f"standard_error.{method}"][place])
            for method in ("personal", "gated")
        }
    last = str(shots[-1])
    return {
        "accuracy": accuracy,
        "gain": gain,
        "harm": harm,
        "kept_share": kept,
        "harmed_share": harm[last]["gated"]["harmed"],
        "improved_share": harm[last]["gated"]["improved"],
        "gate_open_share": {str(n): float(tensors["gate_open"][place].float().mean()) for place, n in enumerate(shots)},
        "calibration": {
            name: reliability(torch.cat([e.chances[name] for e in evaluations]))[1] for name in ("global", "personal")
        },
        "folds": [_fold(number, e) for number, e in enumerate(evaluations)],
        "spread": _spread(evaluations),
    }


def _resample(values: Tensor, *, seed: int) -> Tensor:
    """Means over resampled people, float64 ``(..., RESAMPLES)``, of values ``(..., people)``; the same for all rows."""
    people = values.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    means = []
    for _ in range(0, RESAMPLES, RESAMPLED_AT_ONCE):
        draws = torch.randint(people, (RESAMPLED_AT_ONCE, people), generator=generator)
        counts = torch.zeros(RESAMPLED_AT_ONCE, people, dtype=torch.float64)
        counts.scatter_add_(1, draws, torch.ones(1, 1, dtype=torch.float64).expand_as(draws))
        means.append(values.double() @ counts.T / people)
    return torch.cat(means, dim=-1)


def _interval(row: Tensor, means: Tensor) -> dict[str, float]:
    return {
        "mean": float(row.mean()),
        "low": float(torch.quantile(means, 0.025)),
        "high": float(torch.quantile(means, 0.975)),
    }


def _kept(gains: Tensor, means: Tensor) -> dict[str, float] | None:
    """Share of the exact adapter's gain that a private one keeps; None where there is no gain to speak of.

    Args:
        gains: Of the private and of the exact adapter, shape ``(2, people)``.
        means: The same over resampled people, shape ``(2, RESAMPLES)``; both of the same people, so the share is paired.
    """
    if float(torch.quantile(means[1], 0.025)) <= 0:
        return None
    gained = means[1] > 0  # at most one resample in forty has no gain; of nothing no share is kept
    share = means[0][gained] / means[1][gained]
    return {
        "mean": float(gains[0].double().mean() / gains[1].double().mean()),
        "low": float(torch.quantile(share, 0.025)),
        "high": float(torch.quantile(share, 0.975)),
    }


def _worst(row: Tensor) -> float:
    return float(torch.sort(row).values[: max(1, round(WORST * len(row)))].mean())


def _harm(difference: Tensor, error: Tensor) -> dict[str, float]:
    return {
        "harmed": float((difference < -2 * error).float().mean()),
        "improved": float((difference > 2 * error).float().mean()),
    }


def _fold(number: int, evaluation: Evaluation) -> dict[str, Any]:
    means: Mapping[str, Any] = {
        str(n): {name: float(values[place].mean()) for name, values in evaluation.accuracy.items()}
        for place, n in enumerate(evaluation.shots)
    }
    return {"fold": number, "users_unseen": evaluation.gate_open.shape[1], "accuracy": means}


def _spread(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Standard deviation over folds of the fold means; nothing to say of one fold."""
    if len(evaluations) < 2:
        return {}
    result: dict[str, Any] = {}
    for place, n in enumerate(evaluations[0].shots):
        personal = torch.stack([e.accuracy["personal"][place].mean() for e in evaluations])
        shared = torch.stack([e.accuracy["global"][place].mean() for e in evaluations])
        result[str(n)] = {
            "global": float(shared.std()),
            "personal": float(personal.std()),
            "gain_personal": float((personal - shared).std()),
        }
    return result
