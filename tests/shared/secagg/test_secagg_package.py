from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import homespun.secagg as package

MODULES = [module.name for module in pkgutil.iter_modules(package.__path__)]


@pytest.mark.parametrize("name", ["", *(f".{module}" for module in MODULES)])
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"homespun.secagg{name}")).failed == 0


def test_the_export_list() -> None:
    assert package.__all__ == sorted(package.__all__, key=lambda name: name)
    assert all(hasattr(package, name) for name in package.__all__)


def test_it_is_a_library_of_its_own() -> None:
    for path in Path(package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("homespun"):
                assert (node.module or "").startswith("homespun.secagg")
