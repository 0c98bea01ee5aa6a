from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import homespun.privacy

MODULES = [module.name for module in pkgutil.walk_packages(homespun.privacy.__path__, "homespun.privacy.")]


def test_exported_names() -> None:
    assert len(set(homespun.privacy.__all__)) == len(homespun.privacy.__all__)
    for name in homespun.privacy.__all__:
        assert hasattr(homespun.privacy, name)
    assert {"PrivacySpec", "Release", "Plan", "Phase", "clip_users", "encode", "decode", "NoiseStream"} <= set(
        homespun.privacy.__all__
    )
    assert {"discrete_gaussian", "contribute", "open_sum"} <= set(homespun.privacy.__all__)


@pytest.mark.parametrize("name", ["homespun.privacy", *MODULES])
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_no_other_homespun_package_is_imported() -> None:
    import ast
    from pathlib import Path

    for path in Path(homespun.privacy.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("homespun"):
                assert (node.module or "").startswith("homespun.privacy"), path
