from __future__ import annotations

import ast
import copy
import hashlib
import math
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import homespun.privacy
from homespun.privacy import NoiseStream, NoiseStreamForked, discrete_gaussian, draw_shares


@pytest.mark.parametrize("variance", [1, 2, 9, 40])
def test_distribution(variance: int) -> None:
    """Chi-square against the definition of the discrete Gaussian, fixed seed."""
    size = 200_000
    drawn = NoiseStream.seeded(b"chi", variance).discrete_gaussian(variance, size)
    far = 4 * math.isqrt(variance) + 4
    values = np.arange(-far, far + 1)
    weights = np.exp(-(values.astype(float) ** 2) / (2 * variance))
    expected = size * weights / weights.sum()
    keep = expected >= 10
    observed = np.array([(drawn == value).sum() for value in values[keep]])
    rest = size - observed.sum()
    statistic = ((observed - expected[keep]) ** 2 / expected[keep]).sum()
    statistic += (rest - (size - expected[keep].sum())) ** 2 / max(size - expected[keep].sum(), 1.0)
    assert 0.001 < stats.chi2.sf(statistic, keep.sum()) < 0.9999


@pytest.mark.parametrize("std", [4, 250, 20_000])
def test_variance_over_a_million(std: int) -> None:
    """Bug 7: the scale is the standard deviation's, not the variance's, and not halved."""
    drawn = NoiseStream.seeded(5, "variance", std).discrete_gaussian(std * std, 1_000_000)
    assert abs(drawn.mean()) < 4 * std / 1000
    assert drawn.var() == pytest.approx(std * std, rel=0.005)
    assert stats.kstest((drawn[:100_000] + np.random.default_rng(0).random(100_000) - 0.5) / std, "norm").pvalue > 1e-3


def test_symmetric() -> None:
    drawn = NoiseStream.seeded(6).discrete_gaussian(9, 400_000)
    for k in (1, 2, 5):
        plus, minus = (drawn == k).sum(), (drawn == -k).sum()
        assert abs(plus - minus) < 4.5 * math.sqrt(plus + minus)


def test_coordinates_are_independent() -> None:
    drawn = NoiseStream.seeded(8).discrete_gaussian(100, 200_000).astype(float)
    for lag in (1, 2, 8, 16):
        assert abs(np.corrcoef(drawn[:-lag], drawn[lag:])[0, 1]) < 4.5 / math.sqrt(len(drawn))
    assert abs(np.corrcoef(np.abs(drawn), np.sign(drawn))[0, 1]) < 4.5 / math.sqrt(len(drawn))


def test_no_variance_gives_zeros_and_size_zero_gives_nothing() -> None:
    stream = NoiseStream()
    assert not stream.discrete_gaussian(0, 7).any()
    assert stream.discrete_gaussian(4, 0).shape == (0,)
    assert discrete_gaussian(4, 3, stream=stream).dtype == np.int64
    for variance, size in ((-1, 1), (1, -1)):
        with pytest.raises(ValueError, match="Expected variance="):
            stream.discrete_gaussian(variance, size)


def test_seeded_is_reproducible_and_labels_separate() -> None:
    def draw(*key: object) -> bytes:
        return NoiseStream.seeded(*key).read(64)  # type: ignore[arg-type]

    assert draw(1, "a", 2) == draw(1, "a", 2)
    keys = [
        (1, "a", 2),
        (1, "a", "2"),
        (1, "a2"),
        (1, "a"),
        (1, 2, "a"),
        (b"1", "a", 2),
        (2, "a", 2),
        (1, "", "a", 2),
        (-1, "a", 2),
    ]
    assert len({draw(*key) for key in keys}) == len(keys)
    assert NoiseStream.seeded(1).is_seeded
    assert not NoiseStream().is_seeded


def test_seeded_stream_is_pinned() -> None:
    """A simulation of an earlier version must give the same noise."""
    assert NoiseStream.seeded(7, "fold", 0).discrete_gaussian(10**6, 4).tolist() == PINNED


def test_never_repeats_within_a_process() -> None:
    """Bug 8, over streams, steps and threads."""
    stream, seen = NoiseStream(), set()

    def read() -> None:
        for _ in range(200):
            seen.add(stream.read(16))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen |= {NoiseStream().read(16) for _ in range(200)}
    assert len(seen) == 1000


def test_no_repeat_after_fork() -> None:
    """Bugs 8 and 25: parent and two children draw from the same object, none the same."""
    stream = NoiseStream()
    reads = []
    for _ in range(2):
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(into, stream.read(32))
            os._exit(0)
        os.waitpid(pid, 0)
        reads.append(os.read(out, 32))
        os.close(out)
        os.close(into)
    reads.append(stream.read(32))
    assert len(set(reads)) == 3
    assert all(len(read) == 32 for read in reads)


def _seeded_in_child(stream: NoiseStream, queue: multiprocessing.SimpleQueue[str]) -> None:
    try:
        stream.read(1)
        queue.put("read")
    except NoiseStreamForked:
        queue.put("refused")


def test_seeded_stream_refuses_after_fork() -> None:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=_seeded_in_child, args=(NoiseStream.seeded(1), queue))
    process.start()
    assert queue.get() == "refused"
    process.join()


def test_never_repeats_over_restart() -> None:
    code = "from homespun.privacy import NoiseStream; print(NoiseStream().discrete_gaussian(10**6, 8).tolist())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip() != str(NoiseStream().discrete_gaussian(10**6, 8).tolist())


def test_no_copy() -> None:
    stream = NoiseStream()
    for action in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="one owner"):
            action(stream)


def test_no_secret_shown() -> None:
    assert repr(NoiseStream()) == "NoiseStream(seeded=False)"
    assert str(NoiseStream.seeded(b"secret")) == "NoiseStream(seeded=True)"


def test_closed_stream_is_refused() -> None:
    with NoiseStream() as stream:
        stream.read(1)
    with pytest.raises(ValueError, match="open NoiseStream"):
        stream.read(1)


def test_rekeys_before_the_counter_ends() -> None:
    stream = NoiseStream.seeded(3)
    stream._left = 8
    first = stream.read(8)
    second = stream.read(8)
    assert first != second
    assert stream._left == 2**36 - 8


def test_shares_add_up_to_their_variance_in_few_pieces() -> None:
    calls: list[tuple[int, int]] = []

    def draw(variance: int, size: int) -> np.ndarray:
        calls.append((variance, size))
        return np.full(size, variance, dtype=np.int64)

    assert draw_shares(draw, 5, 1000, 3).tolist() == [5000] * 3  # every share is in it exactly once
    assert sum(size for _, size in calls) // 3 == (1000).bit_count()
    assert all(variance >= 5 for variance, _ in calls)
    calls.clear()
    big = (2**18 // 13) ** 2  # the table of two such shares would be too large: single shares
    assert draw_shares(draw, big, 3, 2).tolist() == [3 * big] * 2
    assert calls == [(big, 6)]
    assert draw_shares(draw, 5, 0, 2).tolist() == [0, 0]


def test_variance_of_many_shares() -> None:
    """Bug 7 over a cell: 37 shares at once have 37 times the variance of one."""
    drawn = draw_shares(NoiseStream.seeded(4, "cell").discrete_gaussian, 400, 37, 200_000)
    assert drawn.var() == pytest.approx(37 * 400, rel=0.015)


def test_near_constant_time() -> None:
    """Bug 27: the lookup takes the same steps near zero and in the tail; a loop over magnitudes would be 1000 times off."""
    import timeit

    from homespun.privacy.gaussian_table import gaussian_table

    table = gaussian_table(1000**2)
    low = np.zeros(20_000, dtype=np.uint64)
    near = np.full(20_000, 2**40, dtype=np.uint64)
    far = np.full(20_000, 2**64 - 2**30, dtype=np.uint64)
    assert table.magnitudes(near, low).max() < 10
    assert table.magnitudes(far, low).min() > 5000
    times = [
        min(timeit.repeat(lambda words=words: table.magnitudes(words, low), number=3, repeat=7))
        for words in (near, far)
    ]
    assert max(times) < 5 * min(times)


def test_no_predictable_randomness_in_the_package() -> None:
    """Bug 25, static: no NumPy, torch or standard-library generator anywhere in the package."""
    folder = Path(homespun.privacy.__file__).parent
    files = sorted(folder.rglob("*.py"))
    assert len(files) >= 12
    banned_calls = {
        "normal",
        "randn",
        "rand",
        "randint",
        "manual_seed",
        "default_rng",
        "RandomState",
        "randn_like",
        "rand_like",
        "normal_",
        "bernoulli",
    }
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & {"random"}, path
            if isinstance(node, ast.ImportFrom):
                assert node.module not in {"random", "numpy.random"}, path
            if isinstance(node, ast.Attribute):
                assert node.attr not in banned_calls | {"random"}, (path, node.lineno)


def test_noise_hash_differs_between_rounds() -> None:
    stream = NoiseStream()
    digests = {hashlib.sha256(stream.discrete_gaussian(10**4, 64).tobytes()).hexdigest() for _ in range(100)}
    assert len(digests) == 100


PINNED = [1060, -495, -1595, -32]
