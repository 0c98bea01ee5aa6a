from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import homespun.preferences as package

MODULES = [module.name for module in pkgutil.iter_modules(package.__path__)]


def test_the_export_list() -> None:
    assert package.__all__ == [
        "EVIDENCE_PER_VOTE",
        "Answers",
        "BadRow",
        "Catalogue",
        "Comparisons",
        "Dataset",
        "Feedback",
        "Fold",
        "Labels",
        "MissingColumn",
        "MissingExtra",
        "NoData",
        "NotEnoughItems",
        "NotEnoughPeople",
        "Preference",
        "PreferencesError",
        "SplitKind",
        "SplitSpec",
        "Tier",
        "UnknownFormat",
        "folds",
        "index",
        "join",
        "pair_choices",
        "pair_votes",
        "read",
    ]
    assert all(hasattr(package, name) for name in package.__all__)


@pytest.mark.parametrize("name", ["", *(f".{module}" for module in MODULES)])
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"homespun.preferences{name}")).failed == 0


def test_importing_loads_neither_arrow_nor_datasets_nor_torch() -> None:
    code = (
        "import sys, homespun.preferences; "
        "print([m for m in ('pyarrow', 'datasets', 'torch', 'flwr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
