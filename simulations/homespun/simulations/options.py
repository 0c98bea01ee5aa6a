"""Every option of a simulation, resolved: the defaults live here and nowhere else."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from homespun.privacy import Participation, Trust

EMBEDDED = "embedded"
MOST_MISSING = 0.45
"""The largest default of ``max-dropout``: masks come off only where more than half of a cohort is there."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What one simulation does. Kebab-case names in ``config.toml`` are these names."""

    data: str = EMBEDDED
    """A path or hub name, or ``embedded``."""
    split: str = "new-items"
    shots: tuple[int, ...] = (0, 5, 10, 20, 40, 80)
    """Labels that an unseen person gives before being tested."""
    epsilon: float = 2.0
    """Target for the backbone over the whole run; inf adds no noise."""
    delta: float = 1e-5
    dim: int = 24
    rank: int = 8
    users: int | None = None
    """Keep at most so many people; for the embedded population, simulate so many."""
    participation: str = "full"
    trust: str = "distributed"
    """``distributed`` or ``central``; `resolve` takes the second where participation is Poisson."""
    dropout: float = 0.0
    """Chance that a device falls silent in a round, at one of its five steps."""
    max_dropout: float = 0.0
    """Share of the people that may be missing when a sum is opened; `resolve` takes twice the dropout."""
    colluding: float = 0.0
    """Share of the people that may collude with the server."""
    adapter_privacy: str = "record:2"
    """``exact``, or ``record:E``: the epsilon that one label of a person costs, whoever sees their adapter."""
    engine: str = "vectorised"
    features: str = "text"
    encoder: str | None = None
    user_column: str | None = None
    skip_bad_rows: bool = False
    cell_size: int = 1000
    seed: int = 0
    repeats: int = 1
    compare: bool = False
    out: str = "runs"

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any text is read.

        Raises:
            ValueError: Names the value, the rule and the way out.
        """
        _require(self.epsilon > 0, f"Expected epsilon={self.epsilon} > 0, or inf for no privacy.")
        _require(0 < self.delta < 1, f"Expected delta={self.delta} in (0, 1).")
        _require(self.dim >= 1, f"Expected dim={self.dim} >= 1.")
        _require(1 <= self.rank <= self.dim, f"Expected rank={self.rank} in [1, dim={self.dim}].")
        _require(self.users is None or self.users >= 2, f"Expected users={self.users} >= 2.")
        _require(self.cell_size >= 1, f"Expected cell-size={self.cell_size} >= 1.")
        _require(self.seed >= 0, f"Expected seed={self.seed} >= 0.")
        _require(self.repeats >= 1, f"Expected repeats={self.repeats} >= 1.")
        _require(
            len(self.shots) > 0 and min(self.shots) >= 0 and list(self.shots) == sorted(set(self.shots)),
            f"Expected shots={','.join(map(str, self.shots))} as rising whole numbers >= 0.",
        )
        for name, value, known in (
            ("split", self.split, ("new-items", "known-items", "new-topic")),
            ("engine", self.engine, ("vectorised", "faithful", "ray")),
            ("features", self.features, ("text", "item", "text+item")),
            ("trust", self.trust, tuple(trust.value for trust in Trust)),
        ):
            _require(value in known, f"Expected {name}={value} to be one of {', '.join(known)}.")
        self._check_cohorts()
        _require(
            self.adapter_privacy == "exact" or 0 < (_record_epsilon(self.adapter_privacy) or 0.0) < math.inf,
            f"Expected adapter-privacy={self.adapter_privacy} as exact, or record:E with E in (0, inf).",
        )

    def _check_cohorts(self) -> None:
        """Who takes part, who may be missing, and who is trusted, must go together."""
        poisson = Participation.parse(self.participation).sampling_probability is not None
        central = self.trust == Trust.CENTRAL.value
        _require(
            central or not poisson,
            f"Expected trust={self.trust} as central with participation={self.participation}: a noise share cannot be "
            "sized for a cohort of random size. Leave trust out, or write participation=full.",
        )
        _require(0.0 <= self.dropout < 0.5, f"Expected dropout={self.dropout:g} in [0, 0.5).")
        highest = 1.0 if central else 0.5
        _require(
            self.dropout <= self.max_dropout < highest,
            f"Expected max-dropout={self.max_dropout:g} in [dropout={self.dropout:g}, {highest:g}): "
            + ("somebody must answer." if central else "masks come off only where more than half of a cohort is there.")
            + " Leave it out for twice the dropout.",
        )
        _require(0.0 <= self.colluding < 1.0, f"Expected colluding={self.colluding:g} in [0, 1).")
        _require(
            not central or self.colluding == 0.0,
            f"Expected colluding={self.colluding:g} as 0 with trust=central: the server is trusted there, and adds the "
            "noise itself. Leave it out, or write trust=distributed.",
        )

    @classmethod
    def resolve(cls, given: Mapping[str, object]) -> Self:
        """Options from what was given; everything else takes its default, which may hang on what was given.

        Raises:
            ValueError: An unknown name, or a value that breaks its rule.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(given) - names)
        _require(not unknown, f"Expected known options, got {', '.join(unknown)}.")
        values: dict[str, Any] = dict(given)
        if "shots" in values:
            values["shots"] = tuple(values["shots"])
        if "trust" not in values:
            sampled = Participation.parse(values.get("participation", cls.participation)).sampling_probability
            values["trust"] = (Trust.DISTRIBUTED if sampled is None else Trust.CENTRAL).value
        if "max_dropout" not in values:
            dropout = values.get("dropout", cls.dropout)
            values["max_dropout"] = max(dropout, min(2 * dropout, MOST_MISSING))
        return cls(**values)

    def to_toml(self) -> dict[str, object]:
        """Every value, for ``config.toml``; what is not set is left out, as TOML has no null."""
        values: dict[str, object] = {}
        for name, value in dataclasses.asdict(self).items():
            if value is None:
                continue
            if isinstance(value, float) and math.isinf(value):
                value = "inf"
            values[name.replace("_", "-")] = list(value) if isinstance(value, tuple) else value
        return values

    @classmethod
    def from_toml(cls, content: Mapping[str, object]) -> Self:
        """The inverse of :meth:`to_toml`."""
        values = {name.replace("-", "_"): value for name, value in content.items()}
        if values.get("epsilon") == "inf":
            values["epsilon"] = math.inf
        return cls.resolve(values)

    @property
    def record_epsilon(self) -> float | None:
        """Epsilon of one label in ``record:E``; None for exact adapters."""
        return _record_epsilon(self.adapter_privacy)

    @property
    def slug(self) -> str:
        """A short name for the run folder."""
        name = self.data if self.data == EMBEDDED else Path(self.data.rstrip("/")).name
        word = "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")[:32]
        return f"{word}-{self.split}-eps-{self.epsilon:g}"


def _record_epsilon(mode: str) -> float | None:
    """The number in ``record:E``; None where there is none."""
    kind, _, number = mode.partition(":")
    try:
        return float(number) if kind == "record" else None
    except ValueError:
        return None


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(text)
