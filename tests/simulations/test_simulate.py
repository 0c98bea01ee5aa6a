"""``simulate`` from end to end: every kind of data, what it writes, and what it refuses before anything is spent."""

import importlib.util
import json
import math
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from homespun.privacy.ledger import CHECKPOINT_NAME, EXPORT_NAME, LEDGER_NAME, Ledger, check
from homespun.simulations import commands, training, world
from homespun.simulations.options import Options
from homespun.simulations.recorded import read
from homespun.simulations.watch import LEAVES

toy = runpy.run_path(str(Path(__file__).parents[1] / "toy.py"))
data = runpy.run_path(str(Path(__file__).parents[1] / "made_up_data.py"))
SMALL = {"users": 120, "dim": 8, "rank": 2, "shots": (0, 5)}
METHODS = {"global", "personal", "gated", "other_user", "shuffled"}
METHODS |= {f"private_{epsilon}" for epsilon in (1, 2, 4, 8)}
REFERENCES = {"local_only", "pooled"}
TIMES = {"run", "name", "started", "seconds", "seconds_by_stage", "peak_rss_mb", "us_per_user_update"}

KEYS = {
    "schema_version", "message_type", "success", "run", "name", "homespun_version", "started", "seconds",
    "seconds_by_stage", "peak_rss_mb", "us_per_user_update", "data", "features", "projection", "encoder", "dimension",
    "rank", "ranks_kept", "split", "held_out", "repeats", "seed", "seeded_noise", "engine", "cell_size", "users_seen",
    "users_unseen", "dropped_shots", "epsilon", "delta", "privacy_unit", "neighboring_relation", "sampling", "trust",
    "accountant", "crosscheck", "noise_multiplier", "min_survivors", "colluding", "population", "phases", "rounds", "dropout", "max_dropout", "survivors",
    "adapter_privacy", "accuracy", "gain", "harmed_share", "improved_share", "harm", "gate_open_share", "calibration",
    "optimum", "baselines", "folds", "spread", "warnings",
}  # fmt: skip
PARTS = {
    "seconds_by_stage": {"read", "encode", "train", "evaluate", "report"},
    "data": {
        "name",
        "source",
        "attribution",
        "people",
        "items",
        "labels",
        "skipped_rows",
        "public_catalogue",
        "planted",
    },
    "encoder": {"name", "digest"},
    "crosscheck": {"name", "epsilon"},
    "adapter_privacy": {
        "mode",
        "note",
        "epsilon",
        "delta",
        "privacy_unit",
        "neighboring_relation",
        "accountant",
        "crosscheck",
        "kept_share",
    },
    "calibration": {"personal", "global"},
}
STATUS = {
    "schema_version", "message_type", "time", "fold", "round", "rounds", "phase", "accuracy", "global_accuracy",
    "epsilon", "delta", "privacy_unit", "neighboring_relation", "accountant", "devices", "asked", "attempts", "seconds", "signal_to_noise",
}  # fmt: skip


class Reporter:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.steps = 0
        self.rounds: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def stage(self, name: str, total: int | None = None) -> None:
        self.stages.append((name, total))

    def advance(self, n: int = 1) -> None:
        self.steps += n

    def round(self, status: Any) -> None:
        self.rounds.append(dict(status))

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMESPUN_HOME", str(tmp_path / "home"))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No encoder, no baselines, no figures: what is looked at here lies between them."""
    monkeypatch.setattr(world, "load", toy["stand_in_encoder"])
    monkeypatch.setattr(world, "embed", toy["stand_in_embed"])
    monkeypatch.setattr(commands, "reference_methods", lambda *_: ({}, {}))
    monkeypatch.setattr(commands, "render", lambda _: None)


def simulate(tmp_path: Path, reporter: Reporter | None = None, **given: Any) -> dict[str, Any]:
    return commands.simulate({**SMALL, "out": str(tmp_path / "runs"), **given}, None, reporter or Reporter())


def strict(path: Path) -> Any:
    """JSON without NaN and infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [n for part in value.values() for n in numbers(part)]
    if isinstance(value, list):
        return [n for part in value for n in numbers(part)]
    return [value] if isinstance(value, float) else []


def check_run(summary: dict[str, Any], *, methods: set[str], shots: list[str], folds: int = 1) -> Path:
    """Everything that the run folder's contract promises."""
    run = Path(summary["run"])
    assert run.stat().st_mode & 0o777 == 0o700
    assert strict(run / "summary.json") == summary
    assert set(summary) >= KEYS
    for key, parts in PARTS.items():
        assert parts <= set(summary[key]), key
    assert all(map(math.isfinite, numbers(summary)))
    assert (summary["schema_version"], summary["message_type"], summary["success"]) == (1, "summary", True)
    assert summary["name"] == run.name
    for row in summary["accuracy"].values():
        assert set(row) == {"users", *methods}
        for method in methods:
            assert set(row[method]) == {"mean", "low", "high", "worst_decile"}
            assert row[method]["low"] - 1e-6 <= row[method]["mean"] <= row[method]["high"] + 1e-6
            assert 0 <= row[method]["worst_decile"] <= row[method]["mean"] <= 1
    assert list(summary["accuracy"]) == list(summary["gain"]) == list(summary["harm"]) == shots
    for row in summary["gain"].values():
        assert set(row) == methods - {"global"}
    assert len(summary["folds"]) == len(summary["ranks_kept"]) == folds
    for phase in summary["phases"]:
        assert set(phase) == {
            "name", "rounds", "share", "clip_norm", "noise_multiplier", "dimension", "signal_to_noise",
        }  # fmt: skip
    assert sum(phase["rounds"] for phase in summary["phases"]) == summary["rounds"]
    assert math.isclose(sum(phase["share"] for phase in summary["phases"]), 1)

    config = (run / "config.toml").read_text()
    assert "adapter-privacy" in config
    assert "cell-size" in config
    environment = strict(run / "environment.json")
    assert set(environment) == {"python", "platform", "cpu_count", "versions", "git_commit", "argv"}
    recorded = read(run)
    assert [(row["fold"], row["round"]) for row in recorded.rounds] == [
        (fold, round_) for fold in range(folds) for round_ in range(summary["rounds"])
    ]
    for row in recorded.rounds:
        assert STATUS <= set(row) <= STATUS | {"epsilon_reason"}
    for row in recorded.sent:
        assert set(row) - {"steps"} == {"fold", "round", "phase", "from", "messages", "fields", "bytes"}
        assert row["fields"] == (["vector"] if "steps" not in row else list(LEAVES.values()))
    checked = check((run / EXPORT_NAME).read_bytes(), (run / CHECKPOINT_NAME).read_bytes())
    assert checked.problems == ()
    assert checked.genesis is not None
    assert {"name", "purpose", "tuning", "seeded-noise"} <= set(checked.genesis.declared)
    with Ledger.open(run / LEDGER_NAME, None) as ledger:
        assert ledger.head == checked.head
        assert ledger.open_reservations() == ()
    plan = checked.genesis.plan
    assert plan is not None
    assert plan.digest == summary["plan_digest"]
    assert (plan.claim.epsilon, plan.claim.delta) == (summary["epsilon"], summary["delta"])
    if summary["epsilon"] is not None:
        paid = {name: len(account.events) for name, account in checked.accounts.items()}
        assert paid == {f"run-{fold}": summary["rounds"] for fold in range(folds)}
        last = [row for row in recorded.rounds if row["fold"] == 0][-1]
        assert last["epsilon"] == pytest.approx(summary["epsilon"])
    check_tensors(run, summary, methods)
    return run


def check_tensors(run: Path, summary: dict[str, Any], methods: set[str]) -> None:
    tensors = load_file(run / "evaluation.safetensors")
    shots, people = len(summary["accuracy"]), next(iter(summary["accuracy"].values()))["users"]
    assert {name for name in tensors if name.startswith("accuracy.")} == {f"accuracy.{method}" for method in methods}
    for method in methods:
        assert (tensors[f"accuracy.{method}"].dtype, tensors[f"accuracy.{method}"].shape) == (
            np.float32,
            (shots, people),
        )
        last = list(summary["accuracy"])[-1]
        mean = float(tensors[f"accuracy.{method}"][-1].mean())
        assert summary["accuracy"][last][method]["mean"] == pytest.approx(mean, abs=1e-6)
    for method in ("personal", "gated"):
        assert tensors[f"standard_error.{method}"].shape == (shots, people)
    assert (tensors["gate_open"].dtype, tensors["gate_open"].shape) == (np.bool_, (shots, people))
    for name in ("fold", "labels"):
        assert (tensors[name].dtype, tensors[name].shape) == (np.int64, (people,))
    assert tensors["labels"].min() >= 30
    assert tensors["calibration.personal"].shape == (10, 3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A small run of the embedded population with everything real; embeddings are kept from one test run to the next."""
    cache = request.config.cache
    assert cache is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOMESPUN_HOME", str(cache.mkdir("homespun")))
        out = tmp_path_factory.mktemp("whole")
        return commands.simulate(
            {"users": 240, "epsilon": math.inf, "shots": (0, 5, 40), "repeats": 2, "seed": 1, "out": str(out)},
            None,
            Reporter(),
        )


def test_the_embedded_population(whole: dict[str, Any]) -> None:
    run = check_run(whole, methods=METHODS | REFERENCES | {"optimum"}, shots=["0", "5", "40"], folds=2)
    assert whole["data"]["planted"] is True
    assert whole["encoder"]["name"] == "all-MiniLM-L6-v2"
    assert "all texts of the embedded population" in whole["projection"]
    assert {"accuracy_best_possible", "share_of_gain", "subspace_angle_degrees"} <= set(whole["optimum"])
    assert set(whole["optimum"]["share_of_gain"]) <= {"5", "40"}
    assert 0.5 < whole["optimum"]["accuracy_best_possible"] < 1
    assert set(whole["baselines"]) == REFERENCES | {"optimum"}
    assert all(note["epsilon"] is None and note["note"] for note in whole["baselines"].values())
    assert set(whole["spread"]) == {"0", "5", "40"}
    assert (run / "report.html").is_file()
    assert sorted(path.suffix for path in (run / "figures").iterdir()) == [".svg"] * len(
        list((run / "figures").iterdir())
    )


def test_without_privacy_nothing_is_claimed(whole: dict[str, Any]) -> None:
    assert whole["epsilon"] is None
    assert whole["epsilon_reason"]
    assert whole["noise_multiplier"] == 0
    assert all(phase["noise_multiplier"] == 0 and phase["signal_to_noise"] is None for phase in whole["phases"])
    assert any("inf" in note for note in whole["warnings"])
    for row in read(Path(whole["run"])).rounds:
        assert row["epsilon"] is None
        assert row["epsilon_reason"] == whole["epsilon_reason"]
    assert 'epsilon = "inf"' in (Path(whole["run"]) / "config.toml").read_text()


def test_the_controls_stand_where_they_should(whole: dict[str, Any]) -> None:
    """Somebody else's adapter helps less than one's own, and labels without meaning do not help."""
    row, gain = whole["accuracy"]["40"], whole["gain"]["40"]
    assert gain["personal"]["low"] > 0
    assert row["other_user"]["mean"] <= row["personal"]["mean"]
    assert gain["shuffled"]["low"] <= 0
    assert gain["shuffled"]["mean"] < gain["personal"]["mean"] / 2
    for method in ("personal", "gated", "other_user", "shuffled"):  # without labels everybody is the average user
        assert whole["gain"]["0"][method] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert whole["gate_open_share"]["0"] == 0
    assert whole["harm"]["0"]["personal"] == {"harmed": 0.0, "improved": 0.0}


@pytest.mark.usefixtures("bare")
def test_private_texts(tmp_path: Path) -> None:
    """A TRL file: nothing is fitted to its texts, and the report says what was fitted instead."""
    file = data["write_jsonl"](tmp_path / "said.jsonl", data["choices"]())
    summary = simulate(tmp_path, data=str(file), users=None)
    check_run(summary, methods=METHODS, shots=["0", "5"])
    assert summary["data"]["public_catalogue"] is False
    assert re.search("embedded population, because those of the data are private", summary["projection"])
    assert (summary["data"]["people"], summary["data"]["labels"]) == (110, 110 * 40)
    assert summary["optimum"] is None
    assert summary["epsilon"] <= 2


@pytest.mark.usefixtures("bare")
def test_nothing_shared_depends_on_private_texts(tmp_path: Path) -> None:
    """The same choices between other texts: projection, geometry and so every phase's constants are the same."""
    found = []
    for mark in ("one", "another"):
        file = data["write_jsonl"](tmp_path / f"{mark}.jsonl", data["choices"](mark=mark))
        options = Options.resolve({**SMALL, "data": str(file), "users": None})
        prepared = world.prepare(options)
        folds = list(training.fold_data(prepared, options))
        course = training.plan_course(prepared, folds, options)
        geometry = training.geometry_of(prepared, options, population=100)
        found.append(
            (prepared.projection.digest, course.plan.digest, course.initial.digest, geometry, prepared.features)
        )
    first, second = found
    assert first[:3] == second[:3]
    assert (first[3].covariance == second[3].covariance).all()
    assert (first[3].universal == second[3].universal).all()
    assert (first[4] != second[4]).any()  # the texts do differ


@pytest.mark.usefixtures("bare")
def test_a_polis_conversation(tmp_path: Path) -> None:
    folder = data["write_polis"](tmp_path / "town")
    summary = simulate(tmp_path, data=str(folder), users=None, split="known-items", features="text+item")
    check_run(summary, methods=METHODS, shots=["0", "5"])
    assert summary["data"]["public_catalogue"] is True
    assert summary["data"]["items"] == 70
    assert "town, which are public" in summary["projection"]
    assert "Polis" in summary["data"]["attribution"]


@pytest.mark.usefixtures("bare")
def test_ratings(tmp_path: Path) -> None:
    folder = data["write_votes"](tmp_path / "readers")
    summary = simulate(tmp_path, data=str(folder / "votes.csv"), users=None, participation="poisson:0.5", cell_size=30)
    check_run(summary, methods=METHODS, shots=["0", "5"])
    assert (summary["trust"], summary["cell_size"]) == ("central", 30)
    assert "Poisson" in summary["sampling"]
    assert {row["messages"] for row in read(Path(summary["run"])).sent} == {math.ceil(summary["users_seen"] / 30)}
    assert all(row["devices"] < summary["users_seen"] for row in read(Path(summary["run"])).rounds)


@pytest.mark.usefixtures("bare")
def test_the_same_seed_gives_the_same_summary(tmp_path: Path) -> None:
    """All but times; another seed gives another."""
    first, second = simulate(tmp_path), simulate(tmp_path)
    assert {k: v for k, v in first.items() if k not in TIMES} == {k: v for k, v in second.items() if k not in TIMES}
    other = simulate(tmp_path, seed=1)
    assert other["accuracy"] != first["accuracy"]
    for name in ("backbone.safetensors", "state.json"):
        one, two = (Path(s["run"]) / "checkpoints/fold-0/round-0000" / name for s in (first, second))
        same = one.read_bytes() == two.read_bytes()
        assert same or name == "state.json"  # which holds a time


@pytest.mark.usefixtures("bare")
def test_engines_and_cells_agree_without_noise(tmp_path: Path) -> None:
    runs = [
        simulate(tmp_path, epsilon=math.inf, engine="faithful"),
        simulate(tmp_path, epsilon=math.inf, cell_size=17),
        simulate(tmp_path, epsilon=math.inf),
    ]
    for run in runs[1:]:
        for shots, row in run["accuracy"].items():
            for method in METHODS:
                assert row[method]["mean"] == pytest.approx(runs[0]["accuracy"][shots][method]["mean"], abs=2e-3)
    sent = [read(Path(run["run"])).sent[0] for run in runs]
    assert [row["from"] for row in sent] == ["device", "cell", "cell"]
    assert sent[0]["messages"] == runs[0]["users_seen"]
    assert sent[0]["steps"] == dict.fromkeys(LEAVES, runs[0]["users_seen"])
    assert sent[0]["bytes"] > 4 * runs[0]["phases"][0]["dimension"] * runs[0]["users_seen"]
    assert [row["bytes"] == 4 * runs[0]["phases"][0]["dimension"] * row["messages"] for row in sent[1:]] == [True] * 2
    assert sent[2]["messages"] == 1
    assert (runs[0]["engine"], runs[0]["cell_size"]) == ("faithful", 1)


@pytest.mark.usefixtures("bare")
def test_the_reporter_is_told(tmp_path: Path) -> None:
    reporter = Reporter()
    summary = simulate(tmp_path, reporter, repeats=2, epsilon=math.inf)
    assert [name for name, _ in reporter.stages] == ["read", "encode", "train", "evaluate", "report"]
    totals = dict(reporter.stages)
    assert (totals["train"], totals["evaluate"]) == (2 * summary["rounds"], 2)
    assert reporter.steps == 2 * summary["rounds"] + 2
    assert reporter.rounds == list(read(Path(summary["run"])).rounds)
    assert any("epsilon=inf" in note for note in reporter.notes)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "epsilon 0": ({"epsilon": 0.0}, "epsilon=0"),
    "epsilon below 0": ({"epsilon": -1.0}, "epsilon=-1"),
    "epsilon nan": ({"epsilon": math.nan}, "epsilon=nan"),
    "delta 0": ({"delta": 0.0}, "delta=0"),
    "delta above one person in the population": ({"delta": 0.5}, "delta=0.5"),
    "two people": ({"users": 2}, "people"),
    "one person": ({"users": 1}, "users=1"),
    "rank above dim": ({"rank": 9}, "rank=9"),
    "more dimensions than the encoder has": ({"dim": 1000}, "dim=1000"),
    "shots falling": ({"shots": (5, 0)}, "shots=5,0"),
    "no shots": ({"shots": (0,)}, "shots"),
    "more labels than anybody gave": ({"shots": (0, 100_000)}, "100000"),
    "a split that is none": ({"split": "random"}, "split=random"),
    "an engine that is none": ({"engine": "fast"}, "engine=fast"),
    "everybody and nobody": ({"participation": "poisson:1.5"}, "participation"),
    "no mode of adapters": ({"adapter_privacy": "none"}, "adapter-privacy=none"),
    "no epsilon for a record": ({"adapter_privacy": "record:"}, "adapter-privacy=record:"),
    "epsilon 0 for a record": ({"adapter_privacy": "record:0"}, "adapter-privacy=record:0"),
    "epsilon inf for a record": ({"adapter_privacy": "record:inf"}, "adapter-privacy=record:inf"),
    "distributed noise in a random cohort": (
        {"participation": "poisson:0.5", "trust": "distributed"},
        "trust=distributed",
    ),
    "a trust that is none": ({"trust": "blind"}, "trust=blind"),
    "half of the people gone": ({"dropout": 0.5}, "dropout=0.5"),
    "fewer may be missing than will be": ({"dropout": 0.2, "max_dropout": 0.1}, "max-dropout=0.1"),
    "half of the people missing": ({"max_dropout": 0.5}, "max-dropout=0.5"),
    "more missing than masks can bear": ({"max_dropout": 0.499, "colluding": 0.2}, "colluding=19"),
    "more colluding than there are": ({"colluding": 1.0}, "colluding=1"),
    "nobody left who is honest": ({"max_dropout": 0.3, "colluding": 0.8}, "colluding="),
    "colluding where the server is trusted": ({"trust": "central", "colluding": 0.1}, "colluding=0.1"),
    "more for a record than can be proven": ({"adapter_privacy": "record:100"}, "epsilon=100"),
    "an option that is none": ({"colour": "red"}, "colour"),
    "no such file": ({"data": "nowhere.jsonl"}, "nowhere.jsonl"),
}


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_run_is_refused_before_anything_is_spent(what: str, tmp_path: Path) -> None:
    given, named = REFUSED[what]
    with pytest.raises(ValueError, match=re.escape(named)):
        simulate(tmp_path, **given)
    assert list(tmp_path.rglob(LEDGER_NAME)) == []


def rows_of(*, people: int = 110, **named: Any) -> list[dict[str, object]]:
    return list(data["choices"](people=people, **named))


FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty": (lambda folder: data["write_jsonl"](folder / "x.jsonl", []), "x.jsonl"),
    "one person": (lambda folder: data["write_jsonl"](folder / "x.jsonl", rows_of(people=1)), "people"),
    "everybody with one pair": (lambda folder: data["write_jsonl"](folder / "x.jsonl", rows_of(labels=1)), "people"),
    "no name": (
        lambda folder: data["write_jsonl"](
            folder / "x.jsonl", [{k: v for k, v in row.items() if k != "user"} for row in rows_of(people=2)]
        ),
        "x.jsonl",
    ),
    "a rating that is nan": (
        lambda folder: data["write_jsonl"](
            folder / "x.jsonl", [{"user": "a", "prompt": "p", "completion": "c", "label": math.nan}]
        ),
        "x.jsonl:1: Expected label=nan",
    ),
    "a vote that is nan": (
        lambda folder: spoil(data["write_votes"](folder / "v") / "votes.csv", "reader 0,3,nan"),
        "to be a finite number",
    ),
    "no json": (lambda folder: written(folder / "x.jsonl", "user,chosen\n"), "x.jsonl:1"),
    "bytes": (lambda folder: written(folder / "x.jsonl", "\0\1\2"), "x.jsonl"),
    "a name that says nothing": (lambda folder: written(folder / "x.bin", "1"), "x.bin"),
}


def spoil(file: Path, line: str) -> Path:
    file.write_text(file.read_text() + line + "\n")
    return file


def written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("what", FILES)
def test_data_that_cannot_be_used_is_refused_before_anything_is_spent(what: str, tmp_path: Path) -> None:
    make, named = FILES[what]
    with pytest.raises(ValueError, match=re.escape(named)):
        simulate(tmp_path, data=str(make(tmp_path)), users=None)
    assert list(tmp_path.rglob(LEDGER_NAME)) == []


@pytest.mark.usefixtures("bare")
def test_somebody_with_one_pair_does_not_matter(tmp_path: Path) -> None:
    """They are left out, not stumbled over."""
    rows = rows_of()
    lonely = {**rows[0], "user": "just-one"}
    plain = data["write_jsonl"](tmp_path / "said.jsonl", rows)
    with_one = data["write_jsonl"](tmp_path / "also.jsonl", [*rows, lonely])
    first, second = (simulate(tmp_path, data=str(file), users=None) for file in (plain, with_one))
    assert second["data"]["people"] == first["data"]["people"] + 1
    assert second["users_seen"] == first["users_seen"]


@pytest.mark.usefixtures("bare")
def test_bad_rows_can_be_left_out(tmp_path: Path) -> None:
    file = spoil(data["write_votes"](tmp_path / "v") / "votes.csv", "reader 0,3,nan")
    assert simulate(tmp_path, data=str(file), users=None, skip_bad_rows=True)["data"]["skipped_rows"] == 1


@pytest.mark.usefixtures("bare")
def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_: list[Any] = []
    monkeypatch.setattr(commands, "read_data", read_.append)
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError):
            simulate(tmp_path, out=str(out))
    assert read_ == []


@pytest.mark.usefixtures("bare")
def test_private_texts_have_no_items(tmp_path: Path) -> None:
    file = data["write_jsonl"](tmp_path / "said.jsonl", rows_of())
    with pytest.raises(ValueError, match="features=text"):
        simulate(tmp_path, data=str(file), users=None, features="item")
    assert list(tmp_path.rglob(LEDGER_NAME)) == []


@pytest.mark.usefixtures("bare")
def test_the_first_people_are_kept(tmp_path: Path) -> None:
    file = data["write_jsonl"](tmp_path / "said.jsonl", rows_of(people=130))
    assert simulate(tmp_path, data=str(file), users=112)["data"]["people"] == 112


def test_options_come_back_from_a_config() -> None:
    import tomli_w

    for given in ({}, {"epsilon": math.inf, "users": 7, "shots": [1, 2], "compare": True, "encoder": "x"}):
        options = Options.resolve(given)
        text = tomli_w.dumps(options.to_toml())
        assert Options.from_toml(__import__("tomllib").loads(text)) == options


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="the extra is installed")
def test_the_ray_engine_without_its_extra(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("homespun[ray]")):
        simulate(tmp_path, engine="ray")
    assert list(tmp_path.iterdir()) == []
