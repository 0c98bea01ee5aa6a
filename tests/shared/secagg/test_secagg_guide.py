"""The guide's examples run, and its numbers are those of the code."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from homespun.secagg.shape import choose_shape, failure_bound

DOCS = Path(__file__).parents[3] / "docs"
GUIDE = (DOCS / "secagg.md").read_text(encoding="utf-8")
DESIGN = (DOCS / "design/12-secure-aggregation.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_runs(number: int, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(EXAMPLES[number], encoding="utf-8")
    runpy.run_path(str(script))


def test_degrees_in_the_guide() -> None:
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) \| (\d+) \| (\d+) \|$", GUIDE, flags=re.MULTILINE)
    assert len(rows) == 3
    for row in rows:
        parties, *degrees = (int(number.replace(",", "")) for number in row)
        for tenths, degree in enumerate(degrees, start=1):
            shape = choose_shape(parties, min_survivors=parties - parties * tenths // 10, colluding=parties // 20)
            assert shape.degree == degree


def test_shapes_and_bounds_in_the_design_page() -> None:
    rows = re.findall(
        r"^\| ([\d,]+) \| (\d+) % \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|.*\| (-[\d.]+) \| [\d.e-]+ \|$",
        DESIGN,
        re.MULTILINE,
    )
    assert len(rows) == 9
    for row in rows:
        parties, percent, degree, threshold, committee, quorum = (int(number.replace(",", "")) for number in row[:-1])
        fewest, corrupt = parties - parties * percent // 100, parties // 20
        shape = choose_shape(parties, min_survivors=fewest, colluding=corrupt)
        assert (shape.degree, shape.threshold, shape.committee, shape.quorum) == (degree, threshold, committee, quorum)
        assert failure_bound(shape, parties, fewest, corrupt) == pytest.approx(float(row[-1]), abs=0.06)
