"""The settings of ``homespun simulate``: their names, their rules, and where a value may come from.

Flag > environment (``HOMESPUN_EPSILON``) > CONFIG.toml > project file > user file > default. Keys in TOML are
kebab-case, the same words as the flags:

    epsilon = 1.0            # or "inf"
    shots = [0, 5, 20, 80]
    adapter-privacy = "record:2"

The defaults themselves belong to the simulation; a setting that nobody gave is left out.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SETTINGS", "Setting", "parse", "read_config"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One setting: ``name`` in kebab-case, ``rule`` as shown in errors, ``read`` from a flag's text or a TOML value."""

    name: str
    rule: str
    read: Callable[[object], object]

    @property
    def key(self) -> str:
        """Its name in Python: snake_case."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "HOMESPUN_" + self.key.upper()


class _Refused(ValueError):
    """A value breaks its rule."""


def _text(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise _Refused


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
        return value.lower() in {"1", "true", "yes", "on"}
    raise _Refused


def _whole(low: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise _Refused
        number = int(value)  # a text that is no number is a ValueError, which `parse` turns into the rule
        if number < low:
            raise _Refused
        return number

    return read


def _positive(value: object) -> float:
    """A positive number or ``inf``."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _Refused
    number = float(value)
    if not number > 0:
        raise _Refused
    return number


def _delta(value: object) -> float:
    number = _positive(value)
    if number >= 1:
        raise _Refused
    return number


def _share(below: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise _Refused
        number = float(value)
        if not 0 <= number < below:
            raise _Refused
        return number

    return read


def _shots(value: object) -> tuple[int, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not parts:
        raise _Refused
    counts = tuple(sorted({_whole(0)(part) for part in parts}))
    if len(counts) != len(parts):
        raise _Refused
    return counts


def _one_of(*names: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value in names and isinstance(value, str):
            return value
        raise _Refused

    return read


def _participation(value: object) -> str:
    text = _text(value)
    if text != "full":
        found = re.fullmatch(r"poisson:([0-9.eE+-]+)", text)
        if not found or not 0 < float(found.group(1)) < 1:
            raise _Refused
    return text


def _adapter_privacy(value: object) -> str:
    text = _text(value)
    if text != "exact":
        found = re.fullmatch(r"record:([0-9.eE+-]+)", text)
        if not found or not 0 < float(found.group(1)) < math.inf:
            raise _Refused
    return text


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting(name="data", rule="a file or folder of preferences", read=_text),
        Setting(
            name="split",
            rule="one of new-items, known-items, new-topic",
            read=_one_of("new-items", "known-items", "new-topic"),
        ),
        Setting(name="shots", rule="different whole numbers >= 0, as in 0,5,20", read=_shots),
        Setting(name="epsilon", rule="a number > 0, or inf", read=_positive),
        Setting(name="delta", rule="a number in (0, 1)", read=_delta),
        Setting(name="dim", rule="a whole number >= 1", read=_whole(1)),
        Setting(name="rank", rule="a whole number >= 1", read=_whole(1)),
        Setting(name="users", rule="a whole number >= 2", read=_whole(2)),
        Setting(name="participation", rule="full, or poisson:q with q in (0, 1)", read=_participation),
        Setting(name="trust", rule="one of distributed, central", read=_one_of("distributed", "central")),
        Setting(name="dropout", rule="a number in [0, 0.5)", read=_share(0.5)),
        Setting(name="max-dropout", rule="a number in [0, 1)", read=_share(1.0)),
        Setting(name="colluding", rule="a number in [0, 1)", read=_share(1.0)),
        Setting(name="adapter-privacy", rule="exact, or record:E with E > 0", read=_adapter_privacy),
        Setting(name="engine", rule="one of vectorised, faithful, ray", read=_one_of("vectorised", "faithful", "ray")),
        Setting(name="features", rule="one of text, item, text+item", read=_one_of("text", "item", "text+item")),
        Setting(name="encoder", rule="the name or the path of a sentence encoder", read=_text),
        Setting(name="user-column", rule="the name of a column", read=_text),
        Setting(name="skip-bad-rows", rule="true or false", read=_flag),
        Setting(name="cell-size", rule="a whole number >= 1", read=_whole(1)),
        Setting(name="seed", rule="a whole number >= 0", read=_whole(0)),
        Setting(name="repeats", rule="a whole number >= 1", read=_whole(1)),
        Setting(name="compare", rule="true or false", read=_flag),
        Setting(name="out", rule="a folder", read=_text),
    )
}


def parse(name: str, value: object, *, source: str) -> object:
    """Check one value against its rule.

    Args:
        name: A key of ``SETTINGS``.
        value: Text from a flag or the environment, or a TOML value.
        source: Where it came from, for the error: ``"--epsilon"`` or a file.
    Raises:
        ValueError: The value breaks the rule; the text shows both.
    """
    setting = SETTINGS[name]
    try:
        return setting.read(value)
    except ValueError:
        raise ValueError(f"Expected {name}={value} to be {setting.rule} ({source}).") from None


def read_config(path: Path, *, known: Mapping[str, Setting] = SETTINGS) -> dict[str, object]:
    """Read settings from a TOML file.

    Returns:
        Checked values by kebab-case name.
    Raises:
        ValueError: The file is not TOML, holds a key that is not known (the text names the nearest), or a value that
            breaks its rule.
        OSError: The file cannot be read.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected {path} to be TOML: {error}.") from None
    for name in content:
        if name not in known:
            nearest = difflib.get_close_matches(name.replace("_", "-"), known, n=1, cutoff=0.5)
            unknown = ValueError(f"Expected keys of {path} to be settings, found {name}.")
            unknown.add_note(f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(sorted(known))}")
            raise unknown
    return {name: parse(name, value, source=str(path)) for name, value in content.items()}
