"""``summary.json``: what ran, what is claimed, what came out. Every epsilon with its unit, relation and delta."""

import importlib.metadata
import math
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from homespun.personal import Backbone
from homespun.privacy import Plan
from homespun.simulations.evaluation import Evaluation
from homespun.simulations.options import Options
from homespun.simulations.population import Truth
from homespun.simulations.record_adapters import adapter_statement
from homespun.simulations.summary import measure
from homespun.simulations.training import Course, FoldData
from homespun.simulations.world import World


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Everything that a summary is made of."""

    options: Options
    world: World
    course: Course
    folds: Sequence[FoldData] = field(repr=False)
    backbones: Sequence[Backbone] = field(repr=False)
    evaluations: Sequence[Evaluation] = field(repr=False)
    baselines: Mapping[str, Mapping[str, Any]]
    seconds: Mapping[str, float]
    rounds: Sequence[Mapping[str, Any]] = field(repr=False)
    """Lines of ``metrics.jsonl``: a run that was resumed has those from before, too."""
    started: str


def summarise(facts: RunFacts, run: Path) -> dict[str, Any]:
    """The summary of a finished run, strict JSON."""
    options, plan = facts.options, facts.course.plan
    measured = measure(facts.evaluations, seed=options.seed)
    kept = measured.pop("kept_share")
    return {
        "schema_version": 1,
        "message_type": "summary",
        "success": True,
        "run": str(run),
        "name": run.name,
        "homespun_version": importlib.metadata.version("homespun"),
        "started": facts.started,
        "seconds": sum(facts.seconds.values()),
        "seconds_by_stage": dict(facts.seconds),
        "peak_rss_mb": round(_peak_rss_mb(), 1),
        "us_per_user_update": _us_per_update(facts.rounds),
        "data": _data(facts.world),
        "features": options.features,
        "projection": f"{options.dim} principal components of {facts.world.projection.source}",
        "encoder": {"name": facts.world.encoder.name, "digest": facts.world.encoder.digest},
        "dimension": facts.world.features.shape[1],
        "rank": options.rank,
        "ranks_kept": [facts.course.geometry.learned(backbone) for backbone in facts.backbones],
        "split": options.split,
        "held_out": " ".join(fold.held_out for fold in facts.folds[:1]),
        "repeats": options.repeats,
        "seed": options.seed,
        "seeded_noise": True,
        "engine": options.engine,
        "cell_size": 1 if options.engine == "faithful" else options.cell_size,
        "users_seen": round(np.mean([fold.seen.users for fold in facts.folds])),
        "users_unseen": round(np.mean([fold.evidence.test.users for fold in facts.folds])),
        "dropped_shots": list(facts.folds[0].dropped_shots),
        "dropout": options.dropout,
        "max_dropout": options.max_dropout,
        "survivors": _survivors(facts),
        **privacy_statement(plan, {row["phase"]: row["signal_to_noise"] for row in facts.rounds}),
        "adapter_privacy": adapter_statement(options, facts.course.geometry.dim, kept),
        **measured,
        "optimum": _optimum(facts, measured),
        "baselines": {name: dict(note) for name, note in facts.baselines.items()},
        "warnings": _warnings(facts, measured),
    }


def privacy_statement(plan: Plan, signal_to_noise: Mapping[str, float | None]) -> dict[str, Any]:
    """The claim about one training run's backbone, with everything it needs to mean something."""
    claim, spec = plan.claim, plan.spec
    rate = spec.participation.sampling_probability
    total = sum(r.rounds / r.noise_multiplier**2 for r in plan.releases if r.noise_multiplier > 0)
    statement: dict[str, Any] = {"epsilon": claim.epsilon}
    if claim.epsilon is None:
        statement["epsilon_reason"] = claim.reason
    return {
        **statement,
        "epsilon_target": spec.epsilon if math.isfinite(spec.epsilon) else None,
        "delta": claim.delta,
        "privacy_unit": claim.unit.value,
        "neighboring_relation": claim.relation.value,
        "sampling": (
            "Everybody is asked in every round; no amplification by sampling is claimed."
            if rate is None
            else f"Each device is drawn with probability {rate:g} by its own secret coin in every round (Poisson); the "
            "amplification holds against whoever sees the released backbones, not against the server."
        ),
        "trust": claim.trust.value,
        "accountant": claim.accountant,
        "crosscheck": {"name": claim.crosscheck, "epsilon": claim.crosscheck_epsilon},
        "noise_multiplier": total**-0.5 if total > 0 else 0.0,
        "population": spec.population,
        "min_survivors": spec.min_survivors,
        "colluding": spec.colluding,
        "rounds": sum(release.rounds for release in plan.releases),
        "phases": [
            {
                "name": release.name,
                "rounds": release.rounds,
                "share": asked.share,
                "clip_norm": release.clip_norm,
                "noise_multiplier": release.noise_multiplier,
                "dimension": release.dimension,
                "signal_to_noise": signal_to_noise.get(release.name),
            }
            for release, asked in zip(plan.releases, spec.releases, strict=True)
        ],
        "plan_digest": plan.digest,
    }


def _survivors(facts: RunFacts) -> dict[str, Any] | None:
    """How many people were asked and in a sum, all rounds of all folds; None where that is a secret."""
    if facts.course.plan.spec.participation.sampling_probability is not None:
        return None
    counted = [int(row["devices"]) for row in facts.rounds]
    return {
        "asked": round(float(np.mean([row["asked"] for row in facts.rounds]))),
        "mean": round(float(np.mean(counted)), 2),
        "least": min(counted),
        "rounds": len(counted),
        "attempts": sum(row["attempts"] for row in facts.rounds),
    }


def _us_per_update(rounds: Sequence[Mapping[str, Any]]) -> float | None:
    updates = sum(row["devices"] for row in rounds)
    return round(1e6 * sum(row["seconds"] for row in rounds) / updates, 2) if updates else None


def _data(world: World) -> dict[str, Any]:
    dataset = world.dataset
    return {
        "name": dataset.name,
        "source": dataset.source,
        "attribution": dataset.attribution,
        "people": len(world.labels.users),
        "items": len(world.catalogue),
        "labels": len(world.labels.choice_user) + len(world.labels.vote_user),
        "ties": int(world.labels.choice_tie.sum()),
        "skipped_rows": dataset.skipped_rows,
        "public_catalogue": dataset.public_catalogue,
        "planted": world.truth is not None,
    }


def _optimum(facts: RunFacts, measured: Mapping[str, Any]) -> dict[str, Any] | None:
    """Distance to what was planted."""
    truth = facts.world.truth
    if truth is None:
        return None
    share = {}
    for n, row in measured["accuracy"].items():
        reachable = row["optimum"]["mean"] - row["global"]["mean"] if "optimum" in row else 0.0
        if int(n) > 0 and reachable > 0:
            share[n] = (row["personal"]["mean"] - row["global"]["mean"]) / reachable
    rows = truth.answers.rows(facts.world.catalogue)
    test, people = facts.folds[0].evidence.test, facts.folds[0].evaluated_users
    best = truth.best_possible(
        rows[test.chosen.numpy()], rows[test.rejected.numpy()], np.asarray(people), weight=test.weight.numpy()
    )
    return {
        "accuracy_best_possible": best.expected,
        "share_of_gain": share,
        **_directions(truth, facts.backbones[0], facts.course.geometry.learned(facts.backbones[0])),
    }


def _directions(truth: Truth, backbone: Backbone, rank: int) -> dict[str, float | None]:
    """How near the learned directions are to the planted ones: those that stand out, not the floor that all have."""
    learned = replace(backbone, basis=backbone.basis[:, :rank], prior=backbone.prior[:rank])
    if learned.basis.shape[1] == 0:
        return {"variance_captured": 0.0, "subspace_angle_degrees": None}
    return {
        "variance_captured": truth.captured(learned),
        "subspace_angle_degrees": float(truth.angles(learned).mean()),
    }


def _warnings(facts: RunFacts, measured: Mapping[str, Any]) -> list[str]:
    notes = list(facts.course.plan.spec.advice)
    notes.append("The noise is seeded so that the run can be repeated; a deployment never seeds it.")
    if facts.options.repeats > 1:
        notes.append(
            f"The privacy loss is that of one training run. The {facts.options.repeats} folds train on overlapping "
            "people to measure accuracy; releasing more than one of their backbones would add up."
        )
    if facts.course.plan.spec.participation.sampling_probability is not None:
        notes.append(
            "metrics.jsonl, sent.jsonl and the checkpoints hold the size of each round's cohort, which the amplification "
            "by sampling takes to be a secret: publish the backbone, not these."
        )
    dropped = facts.folds[0].dropped_shots
    if dropped:
        notes.append(f"Too few unseen people could give {', '.join(map(str, dropped))} labels; not measured.")
    last = list(measured["gain"])[-1]
    if measured["gain"][last]["personal"]["low"] <= 0:
        notes.append(f"At {last} labels the personal model's gain over the average user is within its error.")
    if measured["gain"][last]["other_user"]["low"] > 0:
        notes.append("Another person's adapter also beats the average user: the gain is not only personal.")
    return notes


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux, bytes on macOS
    return peak / 1024 if sys.platform != "darwin" else peak / 2**20
