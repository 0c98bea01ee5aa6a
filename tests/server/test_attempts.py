"""Attempts at masked rounds: new keys each time, the ledger before a reveal, and a server that is killed in between."""

import dataclasses
import itertools
import json
import os
import runpy
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from flwr.app import RecordDict

from homespun.personal import Backbone
from homespun.privacy import CohortTooSmall
from homespun.privacy.ledger import LEDGER_NAME, Ledger
from homespun.secagg import Identity
from homespun.server import attempts, masked
from homespun.server import cohort as cohorts
from homespun.server.attempts import ATTEMPTS, take_attempt
from homespun.server.cohort import Answers
from homespun.server.coordinator import RoundReport, Training, coordinate
from homespun.server.masked import terms_of
from homespun.wire import (
    ADVERTISE,
    CONSENT,
    MASK,
    REVEAL,
    SHARE,
    RoundRequest,
    StepRequest,
    request_digest,
)
from homespun.wire.flower import in_process_identity

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_masked_grid.py"))
toy = lab["toy"]
PEOPLE = lab["PEOPLE"]
FEWEST = lab["FEWEST"]
DIM = lab["DIM"]
STEPS = lab["STEPS"]
ROSTER = lab["ROSTER"]
PLAN = lab["PLAN"]
Party = lab["Party"]
vector_of = lab["vector_of"]
Link = lab["Link"]
kind_of = lab["kind_of"]
silent_from = lab["silent_from"]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for: in this process an answer is there or never comes."""
    for name in ("NODES_POLL_SECONDS", "NODES_TIMEOUT_SECONDS", "ROUND_TIMEOUT_SECONDS"):
        monkeypatch.setattr(cohorts, name, 0.0)
    monkeypatch.setattr(masked, "STAGE_TIMEOUT_SECONDS", 0.0)


def training(*, roster: tuple[bytes, ...] | None = ROSTER, plan: Any = PLAN) -> Training[Backbone]:
    return dataclasses.replace(toy["toy_training"](plan, (1,) * PEOPLE), roster=roster)


@dataclasses.dataclass
class Run:
    """What one call of the coordinator did."""

    state: Backbone | None
    error: BaseException | None
    reports: list[RoundReport[Backbone]]
    link: Link


def run(folder: Path, *, link: Callable[[Any], Link] = Link) -> Run:
    """Run, or go on with, the training in a folder; what ends it is kept."""
    reports: list[RoundReport[Backbone]] = []
    state: Backbone | None = None
    caught: BaseException | None = None
    with in_process_identity() as flower, toy["toy_ledger"](folder, PLAN) as ledger:
        grid = link(flower)
        try:
            state = coordinate(training(), grid, ledger, folder / "checkpoints", reports.append)
        except (CohortTooSmall, KeyboardInterrupt) as error:
            caught = error
    return Run(state=state, error=caught, reports=reports, link=grid)


def entries(folder: Path) -> list[Any]:
    with Ledger.open(folder / LEDGER_NAME, None) as ledger:
        return list(ledger.entries())


def kinds(folder: Path) -> list[str]:
    return [entry.kind.value for entry in entries(folder)]


def test_a_masked_run_is_the_plain_run_of_the_same_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The masks are gone to the last bit: same sums, same backbone, same noise."""
    made = run(tmp_path)
    assert made.state is not None

    def plain(grid: Any, nodes: Any, members: Any, request: RoundRequest, cohort: Any) -> Answers:
        rows = tuple(cohorts.Contribution(vector=vector_of(request, place), devices=1) for place in range(PEOPLE))
        return Answers(contributions=rows, messages=PEOPLE, reply_bytes=0)

    monkeypatch.setattr("homespun.server.coordinator.ask", plain)
    (tmp_path / "plain").mkdir()
    with in_process_identity() as flower, toy["toy_ledger"](tmp_path / "plain", PLAN) as ledger:
        state = coordinate(training(roster=None), Link(flower), ledger, tmp_path / "plain" / "checkpoints")
    assert made.state.digest == state.digest
    assert kinds(tmp_path) == ["genesis", *["reserve", "open", "commit"] * 3]
    assert kinds(tmp_path / "plain") == ["genesis", *["reserve", "commit"] * 3]


def test_what_is_told_of_a_masked_round(tmp_path: Path) -> None:
    made = run(tmp_path, link=lambda flower: Link(flower, tamper=silent_from(MASK, (2, 3))))
    for number, report in enumerate(made.reports):
        known = report.checkpoint
        assert (known.round, known.devices, known.messages, known.attempts) == (number, PEOPLE - 2, PEOPLE, 1)
        left = PEOPLE - 2
        assert known.steps == {"advertise": PEOPLE, "share": PEOPLE, "mask": left, "consent": left, "reveal": left}
        state = json.loads((tmp_path / "checkpoints" / f"round-{number:04d}" / "state.json").read_text())
        assert (state["attempts"], state["steps"]) == (1, known.steps)
    written = entries(tmp_path)
    facts = [entry.body["facts"] for entry in written if entry.kind.value == "commit"]
    assert facts == [{"asked": PEOPLE, "answered": PEOPLE - 2, "attempts": 1}] * 3
    opened = [entry.body for entry in written if entry.kind.value == "open"]
    assert [(body["attempt"], body["survivors"]) for body in opened] == [(0, PEOPLE - 2)] * 3
    assert len({body["transcript_sha256"] for body in opened}) == 3


def test_an_opening_is_in_the_ledger_before_the_first_reveal_is_asked_for(tmp_path: Path) -> None:
    found: list[tuple[str, list[str]]] = []

    def link(flower: Any) -> Link:
        return Link(flower, on_push=lambda kind: found.append((kind, kinds(tmp_path)[-2:])))

    run(tmp_path, link=link)
    assert [kind for kind, _ in found] == list(STEPS) * 3
    for kind, last in found:
        assert last[-1] == ("open" if kind == REVEAL else "reserve")


@pytest.mark.parametrize("step", [ADVERTISE, SHARE, MASK, CONSENT, REVEAL])
def test_another_attempt_has_other_terms_and_asks_everybody_again(step: str, tmp_path: Path) -> None:
    """The first attempt fails at a step; the next one goes through, with nothing of the first in it."""
    lost = silent_from(step, range(PEOPLE - 3))
    first = True

    def link(flower: Any) -> Link:
        def begun(kind: str) -> None:
            nonlocal first
            first = grid.count(ADVERTISE) < PEOPLE or (first and kind != ADVERTISE)

        grid = Link(flower, tamper=lambda reply, seen: lost(reply, seen) if first else [reply], on_push=begun)
        return grid

    made = run(tmp_path, link=link)
    assert made.state is not None and made.error is None
    assert [report.checkpoint.attempts for report in made.reports] == [2, 1, 1]
    assert [report.checkpoint.devices for report in made.reports] == [PEOPLE] * 3
    assert made.link.count(ADVERTISE) == 4 * PEOPLE and len(made.link.sessions()) == 4
    assert all(party.seen == [(0, 0), (0, 1), (1, 0), (2, 0)] for party in made.link.parties)
    keys = [reply.content["reply"]["payload"] for reply in made.link._all if kind_of(reply) == ADVERTISE]  # type: ignore[index]
    assert len(set(keys)) == 4 * PEOPLE
    opened = [entry.body["attempt"] for entry in entries(tmp_path) if entry.kind.value == "open"]
    assert opened == ([0, 1, 0, 0] if step == REVEAL else [1, 0, 0])
    facts = [entry.body["facts"]["attempts"] for entry in entries(tmp_path) if entry.kind.value == "commit"]
    assert facts == [2, 1, 1]


class Cheat(Party):
    """Deals shares of another secret than it announced, each time: no sum with it can be opened."""

    def answer(self, kind: str, content: RecordDict) -> RecordDict:
        if kind == SHARE:
            self._client._fresh = dataclasses.replace(self._client._fresh, self_secret=1)  # type: ignore[type-var]
        return super().answer(kind, content)


def test_who_dealt_false_shares_is_not_asked_again(tmp_path: Path) -> None:
    """Two cheats cost two attempts, not the training; in the next round they are asked like everybody."""

    def link(flower: Any) -> Link:
        grid = Link(flower)
        for place in (2, 5):
            grid.parties[place] = Cheat(place)
        return grid

    made = run(tmp_path, link=link)
    assert made.error is None
    assert [report.checkpoint.attempts for report in made.reports] == [ATTEMPTS] * 3
    assert [report.checkpoint.devices for report in made.reports] == [PEOPLE - 2] * 3
    assert made.link.parties[2].seen == [(0, 0), (1, 0), (2, 0)]
    assert made.link.parties[5].seen == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert made.link.parties[0].seen == [(number, attempt) for number in range(3) for attempt in range(ATTEMPTS)]


def test_a_round_that_never_opens_says_how_far_it_came(tmp_path: Path) -> None:
    made = run(tmp_path, link=lambda flower: Link(flower, tamper=silent_from(MASK, range(5))))
    text = str(made.error)
    assert isinstance(made.error, CohortTooSmall)
    assert f"Expected round 0 to be opened within {ATTEMPTS} attempts." in text
    for number in range(ATTEMPTS):
        assert f"Attempt {number} ended at step mask" in text
    assert text.count("advertise 12, share 12, mask 7") == ATTEMPTS and "taken up where it stands" in text
    assert kinds(tmp_path) == ["genesis", "reserve"] and made.link.count(REVEAL) == 0
    # taken up again: not paid for again, and no number is used twice
    parties = made.link.parties

    def link(flower: Any) -> Link:
        grid = Link(flower)
        grid.parties = parties
        return grid

    later = run(tmp_path, link=link)
    assert later.error is None
    assert kinds(tmp_path) == ["genesis", *["reserve", "open", "commit"] * 3]
    assert later.reports[0].checkpoint.attempts == ATTEMPTS + 1
    assert parties[0].seen == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (2, 0)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("round_", [0, 1])
def test_a_killed_server_goes_on_with_another_attempt(step: str, round_: int, tmp_path: Path) -> None:
    """SIGKILL in the middle of a step, in a process of its own; the devices remember what they were asked."""
    kill_at = 1 + len(STEPS) * round_ + STEPS.index(step)
    child = os.fork()
    if child == 0:  # pragma: no cover
        pushes = itertools.count(1)

        def die(kind: str) -> None:
            if next(pushes) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        run(tmp_path, link=lambda flower: Link(flower, on_push=die))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    before = kinds(tmp_path)
    whole = ["reserve", "open", "commit"]
    assert before == ["genesis", *whole * round_, "reserve", *(["open"] if step == REVEAL else [])]

    def link(flower: Any) -> Link:
        grid = Link(flower)
        for party in grid.parties:
            party.seen = [(number, 0) for number in range(round_ + 1)]  # what the killed server asked of them
        return grid

    made = run(tmp_path, link=link)
    assert made.state is not None and made.error is None
    assert kinds(tmp_path) == before + ["open", "commit"] + whole * (2 - round_)
    assert [report.checkpoint.attempts for report in made.reports] == [2, *[1] * (2 - round_)]
    assert made.link.count(ADVERTISE) == PEOPLE * (3 - round_)
    opened = [entry.body["attempt"] for entry in entries(tmp_path) if entry.kind.value == "open"]
    assert opened == [0] * round_ + ([0, 1] if step == REVEAL else [1]) + [0] * (2 - round_)


def test_the_ledger_remembers_attempts_that_were_opened(tmp_path: Path) -> None:
    """Should the count beside the checkpoints be lost, no attempt that was opened is repeated."""
    run(tmp_path, link=lambda flower: Link(flower, tamper=silent_from(REVEAL, range(9))))
    assert kinds(tmp_path) == ["genesis", "reserve", *["open"] * ATTEMPTS]
    (tmp_path / "checkpoints" / attempts.FILE).unlink()
    made = run(tmp_path)
    assert made.error is None and made.reports[0].checkpoint.attempts == ATTEMPTS + 1


def test_a_round_with_a_checkpoint_is_not_asked_for_again(tmp_path: Path) -> None:
    """Killed between the checkpoint and the commit: the masked sum was used, the devices are left alone."""
    first = run(tmp_path)
    assert first.state is not None
    (tmp_path / "again").mkdir()

    def observe(report: RoundReport[Backbone]) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "again"
    with in_process_identity() as flower, toy["toy_ledger"](folder, PLAN) as ledger, pytest.raises(KeyboardInterrupt):
        coordinate(training(), Link(flower), ledger, folder / "checkpoints", observe)
    assert kinds(folder) == ["genesis", "reserve", "open"]
    made = run(folder)
    assert made.state is not None and made.state.digest == first.state.digest
    assert all(party.seen == [(1, 0), (2, 0)] for party in made.link.parties)
    assert kinds(folder) == ["genesis", *["reserve", "open", "commit"] * 3]


def test_attempts_are_counted_by_round(tmp_path: Path) -> None:
    folder = tmp_path / "fold-0" / "checkpoints"
    assert [take_attempt(folder, 0, least=0) for _ in range(3)] == [0, 1, 2]
    assert [take_attempt(folder, 1, least=least) for least in (0, 0, 5, 0)] == [0, 1, 5, 6]
    assert take_attempt(folder, 0, least=0) == 3
    assert json.loads((folder / attempts.FILE).read_text()) == {"0": 4, "1": 7}
    assert [path.name for path in folder.iterdir()] == [attempts.FILE]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"0": -1}', b'{"0": "1"}', b'{"0": true}', b"[" * 10**5, b"\xff"]
)
def test_damaged_attempts_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / attempts.FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"attempts\.json to hold the attempts that were written"):
        take_attempt(tmp_path, 0, least=0)
    assert (tmp_path / attempts.FILE).read_bytes() == content


def _rosters() -> Mapping[str, tuple[bytes, ...]]:
    return {
        "one missing": ROSTER[:-1],
        "one too many": (*ROSTER, Identity.generate().public),
        "somebody twice": (*ROSTER[:-1], ROSTER[0]),
        "a key cut short": (*ROSTER[:-1], ROSTER[-1][:-1]),
        "nobody": (),
    }


@pytest.mark.parametrize("what", _rosters())
def test_a_roster_that_is_not_the_nodes_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match="roster|identities"):
        training(roster=_rosters()[what])


def test_what_cannot_be_masked_is_refused_before_anything_is_paid() -> None:
    with pytest.raises(ValueError, match="trust='central'"):
        training(plan=toy["toy_plan"](PEOPLE, trust=toy["Trust"].CENTRAL))
    with pytest.raises(ValueError, match="can be masked"):  # a majority may be missing: two lists could be opened
        training(plan=toy["toy_plan"](PEOPLE, min_survivors=3))
    with pytest.raises(ValueError, match="one behind each node"):
        cells = toy["toy_training"](PLAN, (PEOPLE // 2, PEOPLE // 2))
        dataclasses.replace(cells, roster=ROSTER[:2])


def test_terms_are_bound_to_the_attempt() -> None:
    requests = [toy["toy_request"](PLAN, attempt=number) for number in range(2)]
    first, second = (terms_of(r.release, ROSTER, context=bytes.fromhex(request_digest(r))) for r in requests)
    assert first.digest != second.digest
    assert (first.min_survivors, first.colluding, first.dimension) == (FEWEST, 0, DIM)
    assert isinstance(StepRequest(session=first.digest, payload=first.encode()).session, bytes)
