"""What a device computes from its data when it is asked: one statistic of an installed phase, or nothing."""

import hashlib
import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from homespun.personal import Backbone, Pairs
from homespun.privacy import Phase, ReleasePlan, canonical_json
from homespun.wire import RoundRequest, UnknownPhase

__all__ = ["read_request", "request_digest", "statistic_or_nothing"]

LOG = logging.getLogger("homespun.client")


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


def request_digest(request: RoundRequest) -> str:
    """SHA-256 over every field of a request, tensors included: two requests are the same if and only if this is."""
    fields = {
        "run": request.run,
        "round": request.round,
        "phase_round": request.phase_round,
        "release": request.release.to_dict(),
        "plan_digest": request.plan_digest,
        "projection": request.projection,
        "version": request.version,
    }
    total = hashlib.sha256(b"homespun request 1\n" + canonical_json(fields).encode("ascii") + b"\n")
    for name in sorted(request.backbone):
        tensor = request.backbone[name]
        total.update(f"{name} {tensor.shape}\n".encode("ascii") + tensor.astype("<f4").tobytes())
    return total.hexdigest()


def statistic_or_nothing(phase: Phase[Backbone, Pairs], backbone: Backbone, pairs: Pairs, phase_round: int) -> Tensor:
    """Some people's statistic, without the rows of those from whose preferences it cannot be computed.

    Args:
        phase: The installed phase.
        backbone: Public state.
        pairs: Some people's pairs.
        phase_round: Round within the phase.

    Returns:
        float32, shape ``(at most users, dimension)``.

    Guarantees:
        * no exception: whatever the statistic raises or returns ends here; its class alone is logged, because the text
          may quote a preference.
    """
    try:
        rows = phase.statistic(backbone, pairs, phase_round)
        if rows.shape == (pairs.users, phase.dimension) and rows.dtype == torch.float32:
            return rows
        problem = "a tensor of another shape or type"
    except Exception as error:  # noqa: BLE001  (silence would tell the server about the data)
        problem = type(error).__name__
    if pairs.users > 1:  # one person must not take the others' part away, nor tell of themselves by doing so
        people = (pairs.select(slice(place, place + 1)) for place in range(pairs.users))
        return torch.cat([statistic_or_nothing(phase, backbone, person, phase_round) for person in people])
    LOG.warning("a statistic failed, noise alone is sent: %s", problem)
    return torch.zeros(0, phase.dimension)


def _fits(phase: Phase[Backbone, Pairs], release: ReleasePlan) -> bool:
    same = (phase.clip_norm, phase.dimension, phase.rounds) == (release.clip_norm, release.dimension, release.rounds)
    return same and phase.name == release.name
