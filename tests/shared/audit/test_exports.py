"""What the audit offers, and that its examples are true."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import homespun.audit as package

MODULES = [module.name for module in pkgutil.iter_modules(package.__path__)]


def test_the_export_list() -> None:
    assert package.__all__ == [
        "Finding",
        "Source",
        "Sources",
        "Verdict",
        "build_report",
        "find_sources",
        "verify_report",
        "write_report",
    ]
    assert all(hasattr(package, name) for name in package.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(f"{package.__name__}.{name}")
    assert doctest.testmod(module, raise_on_error=False).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_the_audit_knows_nothing_of_who_uses_it(name: str) -> None:
    tree = ast.parse((Path(package.__path__[0]) / f"{name}.py").read_text(encoding="utf-8"))
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    above = ("homespun.cli", "homespun.client", "homespun.server", "homespun.simulations")
    assert not [module for module in imported if module.startswith(above)]
