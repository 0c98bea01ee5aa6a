"""Bug 27: the time of a draw tells its size.

Published: rejection loops and Bernoulli trials of discrete samplers take longer for larger values (arXiv:2112.05307: up to
99.7 % of samples recovered from timing).

What is counted is work, not seconds: comparisons against the table, bytes of randomness. Clocks only confirm, generously.
Seen to fail: a sampler that walks the table from zero.
"""

import runpy
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from homespun.privacy import NoiseStream
from homespun.privacy.gaussian_table import GaussianTable, gaussian_table

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
VARIANCE = 1000**2
Lookup = Callable[[GaussianTable, NDArray[np.uint64], NDArray[np.uint64]], NDArray[np.int64]]


def words(table: GaussianTable, magnitude: int, count: int) -> NDArray[np.uint64]:
    """Upper halves that are looked up as this magnitude."""
    return np.full(count, int(table.high[magnitude - 1]) + 1 if magnitude else 0, np.uint64)


def seconds(lookup: Lookup, magnitude: int) -> float:
    """Of a lookup of 2,000 equal magnitudes; the fastest of many, which is what the work takes."""
    table = gaussian_table(VARIANCE)
    high, low = words(table, magnitude, 2000), np.zeros(2000, np.uint64)
    assert lookup(table, high, low).tolist() == [magnitude] * 2000
    times = []
    for _ in range(25):
        began = time.perf_counter()
        lookup(table, high, low)
        times.append(time.perf_counter() - began)
    return min(times)


def check(lookup: Lookup) -> None:
    """A hundred times larger does not take three times as long."""
    times = [seconds(lookup, magnitude) for magnitude in (0, 40, 400, 4000)]
    assert max(times) < 3 * min(times)


def test_a_draw_takes_as_long_whatever_it_is() -> None:
    check(GaussianTable.magnitudes)


def walked(table: GaussianTable, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The bug: from zero upwards until the table is passed."""
    found = np.zeros(len(high), np.int64)
    step = 0
    while bool((moving := table.high[np.minimum(step, table.tail - 1)] <= high).any()):
        found[moving] += 1
        step += 1
    return found


def test_the_bug_is_seen() -> None:
    with pytest.raises(AssertionError):
        check(walked)


@pytest.mark.parametrize("variance", [16, 10**4, 10**8])
def test_the_same_randomness_is_read_for_every_draw(variance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen bytes and a bit: no rejection loop that a large value would go round again."""
    sizes: list[int] = []
    real = NoiseStream.read

    def read(stream: Any, size: int) -> bytes:
        sizes.append(size)
        return real(stream, size)

    monkeypatch.setattr(NoiseStream, "read", read)
    largest = 0
    for seed in range(20):
        with NoiseStream.seeded(seed) as stream:
            largest = max(largest, int(np.abs(stream.discrete_gaussian(variance, 800)).max()))
    assert largest > 3 * variance**0.5
    assert sizes == [16 * 800 + 100] * 20


def test_a_rounds_work_does_not_depend_on_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes drawn for a vector: the same for silence, for a huge row and for one that is no number."""
    release = path.one_release()
    read: list[int] = []
    real = NoiseStream.read

    def counted(stream: Any, size: int) -> bytes:
        read.append(size)
        return real(stream, size)

    monkeypatch.setattr(NoiseStream, "read", counted)
    per_row = []
    for value in (0.0, 1.0, 1e30, float("nan")):
        read.clear()
        with NoiseStream.seeded(1) as stream:
            path.private_sum.contribute(path.torch.full((1, 64), value), release, devices=1, noise=stream)
        per_row.append(list(read))
    assert per_row[1:] == per_row[:-1]
