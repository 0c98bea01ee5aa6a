"""A small, plausible run folder in the shape that `homespun simulate` writes; loaded by path, as tests are no package."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

SHOTS = (0, 5, 20, 80)
METHODS = {
    "global": (0.612, 0.612, 0.612, 0.612),
    "personal": (0.612, 0.641, 0.678, 0.702),
    "gated": (0.612, 0.63, 0.672, 0.7),
    "private_8": (0.612, 0.634, 0.671, 0.698),
    "private_2": (0.612, 0.618, 0.651, 0.689),
    "other_user": (0.612, 0.604, 0.596, 0.588),
    "shuffled": (0.612, 0.608, 0.606, 0.607),
    "local_only": (0.5, 0.55, 0.6, 0.655),
    "pooled": (0.623, 0.652, 0.687, 0.712),
    "optimum": (0.75, 0.75, 0.75, 0.75),
}
ADAPTERS = {
    "mode": "record:2",
    "note": "Each label is charged once in its life; exact adapters are computed beside, to compare with.",
    "epsilon": 1.99,
    "delta": 1e-5,
    "privacy_unit": "record",
    "neighboring_relation": "zero-out",
    "accountant": "RDP of the discrete Gaussian",
    "crosscheck": {"name": "exact Gaussian", "epsilon": 1.83},
    "noise_multiplier": 2.149,
    "dimension": 21,
    "blocks": [5, 5, "each twice the one before"],
    "public": "How many places for records a person has filled is public.",
    "noise_multipliers": {"1": 4.045, "2": 2.149, "4": 1.158, "8": 0.638},
    "kept_share": {
        "0": {"private_8": None, "private_2": None},
        "5": {"private_8": {"mean": 0.76, "low": 0.7, "high": 0.82}, "private_2": {"mean": 0.21, "low": 0.1, "high": 0.3}},
        "20": {"private_8": {"mean": 0.89, "low": 0.85, "high": 0.94}, "private_2": {"mean": 0.59, "low": 0.52, "high": 0.66}},
        "80": {"private_8": {"mean": 0.96, "low": 0.93, "high": 0.98}, "private_2": {"mean": 0.857, "low": 0.81, "high": 0.9}},
    },
}  # fmt: skip
EXACT = {"mode": "exact", "note": "Adapters are exact and never leave their device.", "epsilon": None, "kept_share": {}}
COMPARED = {
    "ditto": (0.6, 0.615, 0.65, 0.68),
    "fedrep": (0.59, 0.61, 0.64, 0.67),
    "lore": (0.605, 0.62, 0.66, 0.69),
    "lore_repaired": (0.608, 0.63, 0.665, 0.692),
}


def write_run(
    folder: Path,
    *,
    people: int = 120,
    epsilon: float | None = 1.0,
    lift: float = 0.0,
    compare: bool = False,
    planted: bool = True,
    **changes: Any,
) -> dict[str, Any]:
    """Fill ``folder`` and return its summary; ``lift`` is added to the personal accuracies, ``changes`` replace keys."""
    rng = np.random.default_rng(5)
    folder.mkdir(parents=True, exist_ok=True)
    methods = {**METHODS, **(COMPARED if compare else {})}
    if not planted:
        methods.pop("optimum")
    difficulty = rng.normal(0, 0.06, people)
    tensors: dict[str, Any] = {}
    for method, means in methods.items():
        own = lift if method in {"personal", "gated"} else 0.0
        noise = rng.normal(0, 0.03, (len(SHOTS), people)) * np.array(SHOTS)[:, None] ** 0.25
        if method == "global":
            noise[:] = 0
        values = np.array(means)[:, None] + own * (np.array(SHOTS)[:, None] > 0) + difficulty + noise
        tensors[f"accuracy.{method}"] = np.clip(values, 0, 1).astype(np.float32)
    for method in ("personal", "gated"):
        tensors[f"standard_error.{method}"] = np.full((len(SHOTS), people), 0.025, np.float32)
    tensors["fold"] = (np.arange(people) % 3).astype(np.int64)
    tensors["labels"] = np.full(people, 120, np.int64)
    tensors["gate_open"] = rng.random((len(SHOTS), people)) < 0.6
    confidence = np.linspace(0.52, 0.95, 10)
    for method, bend in (("global", 0.9), ("personal", 1.0)):
        table = np.stack([confidence, 0.5 + bend * (confidence - 0.5), np.full(10, 0.1)], axis=1)
        tensors[f"calibration.{method}"] = table.astype(np.float32)
    save_file(tensors, str(folder / "evaluation.safetensors"))

    accuracy: dict[str, Any] = {}
    gain: dict[str, Any] = {}
    harm: dict[str, Any] = {}
    for row, shots in enumerate(SHOTS):
        cell: dict[str, Any] = {"users": people}
        for method in methods:
            values = np.sort(tensors[f"accuracy.{method}"][row].astype(float))
            half = 1.96 * values.std() / people**0.5
            mean = float(values.mean())
            worst = float(values[: max(1, people // 10)].mean())
            cell[method] = {"mean": mean, "low": mean - half, "high": mean + half, "worst_decile": worst}
        accuracy[str(shots)] = cell
        gain[str(shots)] = {}
        harm[str(shots)] = {}
        for method in ("personal", "gated", "other_user"):
            difference = (tensors[f"accuracy.{method}"][row] - tensors["accuracy.global"][row]).astype(float)
            half, mean = 1.96 * difference.std() / people**0.5, float(difference.mean())
            gain[str(shots)][method] = {"mean": mean, "low": mean - half, "high": mean + half}
            if method != "other_user":
                harmed, improved = float((difference < -0.05).mean()), float((difference > 0.05).mean())
                harm[str(shots)][method] = {"harmed": harmed, "improved": improved}

    private = epsilon is not None
    plan = (("mean", 1, 0.2, 8.34, 20, 6.1), ("basis", 1, 0.6, 4.82, 210, 2.4), ("refine", 3, 0.2, 14.4, 100, 1.1))
    phases = [
        {
            "name": name,
            "rounds": rounds,
            "share": share,
            "clip_norm": 1.0,
            "noise_multiplier": sigma if private else 0.0,
            "dimension": size,
            "signal_to_noise": ratio if private else None,
        }
        for name, rounds, share, sigma, size, ratio in plan
    ]
    summary: dict[str, Any] = {
        "schema_version": 1,
        "message_type": "summary",
        "success": True,
        "run": str(folder),
        "name": "planted",
        "homespun_version": "0.1.0",
        "started": "2026-03-14T09:15:00Z",
        "seconds": 312.4,
        "seconds_by_stage": {"read": 1.2, "encode": 44.0, "train": 203.0, "evaluate": 60.1, "report": 4.1},
        "peak_rss_mb": 1432.0,
        "us_per_user_update": 41.7,
        "data": {
            "name": "planted",
            "source": "built-in texts, planted preferences",
            "attribution": "texts written for homespun",
            "people": 3000,
            "items": 4096,
            "labels": 360000,
            "skipped_rows": 0,
            "public_catalogue": True,
            "planted": planted,
        },
        "features": "text",
        "projection": "principal directions of the public texts, differences scaled to norm 1",
        "encoder": {
            "name": "all-MiniLM-L6-v2",
            "digest": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
        "dimension": 20,
        "rank": 5,
        "ranks_kept": [5, 4, 5],
        "split": "new-items",
        "held_out": "20 % of people and 30 % of texts, of which neither was seen in training",
        "repeats": 3,
        "seed": 7,
        "seeded_noise": True,
        "engine": "vectorised",
        "cell_size": 500,
        "users_seen": 2400,
        "users_unseen": 600,
        "dropped_shots": [],
        "epsilon": epsilon,
        **({} if private else {"epsilon_reason": "no noise was added"}),
        "delta": 1e-5,
        "privacy_unit": "device",
        "neighboring_relation": "add-or-remove",
        "sampling": "everyone takes part in every round; no amplification is claimed",
        "trust": "distributed",
        "accountant": "RDP of the discrete Gaussian",
        "crosscheck": {"name": "PLD", "epsilon": 0.97 if private else None},
        "noise_multiplier": 3.73 if private else 0.0,
        "min_survivors": 2300,
        "colluding": 0,
        "dropout": 0.02,
        "max_dropout": 0.04,
        "survivors": {"asked": 2400, "mean": 2371.4, "least": 2359, "rounds": 15, "attempts": 15},
        "population": 2400,
        "phases": phases,
        "rounds": 5,
        "adapter_privacy": ADAPTERS,
        "accuracy": accuracy,
        "gain": gain,
        "harm": harm,
        "harmed_share": harm[str(SHOTS[-1])]["gated"]["harmed"],
        "improved_share": harm[str(SHOTS[-1])]["gated"]["improved"],
        "gate_open_share": {"0": 0.0, "5": 0.31, "20": 0.58, "80": 0.74},
        "calibration": {
            "personal": {"ece": 0.021, "brier": 0.207, "log_loss": 0.604},
            "global": {"ece": 0.043, "brier": 0.231, "log_loss": 0.655},
        },
        "optimum": {
            "accuracy_best_possible": 0.75,
            "share_of_gain": {"0": 0.0, "5": 0.21, "20": 0.477, "80": 0.652},
            "subspace_angle_degrees": 21.5,
        }
        if planted
        else None,
        "folds": [
            {
                "fold": fold,
                "users_unseen": people // 3,
                "accuracy": {
                    str(n): {method: means[row] + 0.003 * fold for method, means in methods.items()}
                    for row, n in enumerate(SHOTS)
                },
            }
            for fold in range(3)
        ],
        "spread": {str(shots): {"personal": 0.004, "gain_personal": 0.003} for shots in SHOTS},
        "warnings": ["fewer than 1000 people took part in fold 2"],
    }
    if compare:
        summary["baselines"] = {name: {"epsilon": None, "note": "no privacy"} for name in COMPARED}
        summary["baselines"]["fedrep"] = {"epsilon": 1.0, "note": "DP-FedAvg on the shared head"}
    summary.update(changes)
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (folder / "config.toml").write_text('data = "planted"\nseed = 7\n', encoding="utf-8")
    versions = {"homespun": "0.1.0", "flwr": "1.41.0", "torch": "2.13.0"}
    environment = {
        "python": "3.11.7",
        "platform": "Linux-6.1-x86_64",
        "cpu_count": 4,
        "versions": versions,
        "git_commit": None,
        "argv": ["homespun", "simulate", "--epsilon", "1", "--seed", "7"],
    }
    (folder / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    rounds, sent = [], []
    for fold in range(3):
        for number in range(5):
            phase = ("mean", "basis", "refine", "refine", "refine")[number]
            rounds.append(
                {
                    "schema_version": 1,
                    "message_type": "status",
                    "fold": fold,
                    "round": number,
                    "rounds": 5,
                    "phase": phase,
                    "accuracy": 0.614 + 0.014 * number + 0.003 * fold,
                    "global_accuracy": 0.6 + 0.002 * number,
                    "epsilon": 0.2 * (number + 1) if private else None,
                    "delta": 1e-5,
                    "privacy_unit": "device",
                    "neighboring_relation": "add-or-remove",
                    "accountant": "RDP of the discrete Gaussian",
                    "devices": 2400,
                    "asked": 2400,
                    "attempts": 1,
                    "seconds": 13.5,
                    "signal_to_noise": 2.0,
                }
            )
            sent.append(
                {
                    "fold": fold,
                    "round": number,
                    "phase": phase,
                    "from": "cell",
                    "messages": 5,
                    "fields": ["vector"],
                    "bytes": 4321,
                }
            )
    for name, rows in (("metrics.jsonl", rounds), ("sent.jsonl", sent)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return summary
