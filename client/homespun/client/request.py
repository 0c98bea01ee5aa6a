"""What a device reads in a request before it decides: the installed phase, the backbone, and what a ledger may say of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from homespun.personal import Backbone, Pairs
from homespun.privacy import Phase, ReleasePlan
from homespun.wire import RoundRequest, UnknownPhase

__all__ = ["Asked", "is_answerable", "read_request", "subject_of"]

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request that this device could answer, as it was read."""

    request: RoundRequest
    digest: str
    """Of the whole request."""
    phase: Phase[Backbone, Pairs] = field(repr=False)
    backbone: Backbone = field(repr=False)
    subject: Mapping[str, str | int]
    """What a ledger may say of it."""

    @property
    def run(self) -> str:
        """Project and run: each has one last answer, and one open session."""
        return f"{self.subject['project']}/{self.request.run}"

    @property
    def place(self) -> tuple[int, int]:
        """Round and attempt: they rise within a run."""
        return self.request.round, self.request.attempt


def is_answerable(request: RoundRequest) -> bool:
    """Whether a request is one for a single person, under a plan that has a digest."""
    return request.participants is None and _DIGEST.match(request.plan_digest) is not None


def subject_of(request: RoundRequest, project: str) -> dict[str, str | int]:
    """What a request is about, as far as it can stand in a ledger."""
    release = request.release
    subject: dict[str, str | int] = {
        "project": project,
        "run": request.run,
        "round": request.round,
        "phase_round": request.phase_round,
        "attempt": request.attempt,
        "population": release.population,
        "min_survivors": release.min_survivors,
        "colluding": release.colluding,
        "trust": release.trust.value,
    }
    if _NAME.match(release.name):
        subject["phase"] = release.name
    if _DIGEST.match(request.plan_digest):
        subject["plan_sha256"] = request.plan_digest
    return subject


def read_request(
    request: RoundRequest, phases: Mapping[str, Phase[Backbone, Pairs]]
) -> tuple[Phase[Backbone, Pairs], Backbone]:
    """The installed phase that a request names, and the backbone that it carries.

    Raises:
        UnknownPhase: No such phase, its release differs from the installed one, or the tensors are no backbone.
    """
    phase = phases.get(request.release.name)
    if phase is None or not _fits(phase, request.release) or request.phase_round >= phase.rounds:
        raise UnknownPhase("Expected one of the installed phases, with the clip norm and dimension it was built for.")
    tensors = {name: torch.from_numpy(value) for name, value in request.backbone.items()}
    try:
        backbone = Backbone.from_tensors(tensors, projection=request.projection, version=request.version)
    except ValueError as error:
        raise UnknownPhase("Expected the tensors of a backbone.") from error
    return phase, backbone


def _fits(phase: Phase[Backbone, Pairs], release: ReleasePlan) -> bool:
    same = (phase.clip_norm, phase.dimension, phase.rounds) == (release.clip_norm, release.dimension, release.rounds)
    return same and phase.name == release.name
