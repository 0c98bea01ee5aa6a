"""Every option of a simulation, resolved: the defaults live here and nowhere else."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from homespun.privacy import Participation

EMBEDDED = "embedded"


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
        ):
            _require(value in known, f"Expected {name}={value} to be one of {', '.join(known)}.")
        Participation.parse(self.participation)
        _require(
            self.adapter_privacy == "exact" or 0 < (_record_epsilon(self.adapter_privacy) or 0.0) < math.inf,
            f"Expected adapter-privacy={self.adapter_privacy} as exact, or record:E with E in (0, inf).",
        )

    @classmethod
    def resolve(cls, given: Mapping[str, object]) -> Self:
        """Options from what was given; everything else takes its default.

        Raises:
            ValueError: An unknown name, or a value that breaks its rule.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(given) - names)
        _require(not unknown, f"Expected known options, got {', '.join(unknown)}.")
        values: dict[str, Any] = dict(given)
        if "shots" in values:
            values["shots"] = tuple(values["shots"])
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
