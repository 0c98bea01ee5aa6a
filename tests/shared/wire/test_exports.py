from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import homespun.wire as package

MODULES = [module.name for module in pkgutil.iter_modules(package.__path__)]


def test_the_export_list() -> None:
    assert package.__all__ == [
        "ADVERTISE",
        "CONSENT",
        "MASK",
        "MAX_PARTIES",
        "REVEAL",
        "SHARE",
        "TRAIN",
        "Contribution",
        "MalformedMessage",
        "Refusal",
        "RoundRequest",
        "StepRequest",
        "UnknownPhase",
        "advertise_from_record",
        "advertise_to_record",
        "contribution_from_record",
        "contribution_to_record",
        "masked_from_record",
        "masked_to_record",
        "reply_from_record",
        "reply_to_record",
        "request_digest",
        "request_from_record",
        "request_to_record",
        "step_from_record",
        "step_to_record",
    ]
    assert all(hasattr(package, name) for name in package.__all__)


@pytest.mark.parametrize("name", ["", *(f".{module}" for module in MODULES)])
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"homespun.wire{name}")).failed == 0


def test_only_one_module_touches_flowers_internals() -> None:
    """An upgrade of Flower is one file and its contract tests; a peer of a benchmark speaks the legacy API that it measures."""
    root = Path(__file__).parents[3]
    public = ("flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.simulation")
    found = set()
    for name in ("shared", "client", "server", "simulations"):
        for path in (root / name).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                if module.startswith("flwr") and module not in public:
                    found.add((path.name, module))
    assert {path for path, _ in found} <= {"flower.py", "flower_secagg.py"}
    legacy = {module for path, module in found if path == "flower_secagg.py"}
    assert {module.split(".")[1] for module in legacy} <= {"client", "common", "server"}


def test_imports_point_down() -> None:
    for path in Path(package.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("homespun"):
                assert (node.module or "").startswith(("homespun.wire", "homespun.preferences", "homespun.privacy"))
