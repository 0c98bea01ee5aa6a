"""Bug 25: noise from a generator that can be predicted, a fixed seed in production, or state that a fork shares.

Published: ``np.random`` and ``torch.normal`` in almost every DP library; Flower's SecAgg+ folds a 256-bit key into 32 bits
for ``np.random.RandomState`` (flwrlabs/flower#7522): the whole seed space is 2.6 core-hours; opacus' secure mode rests on
torchcsprng, which no longer installs.

Seen to fail: the scan below is run over sources with each of the bugs in them.
"""

import ast
import os
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from homespun.client import client_app  # noqa: F401  (imported so that the packages below are on the path)
from homespun.privacy import NoiseStream, NoiseStreamForked

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("shared/homespun/privacy", "shared/homespun/personal", "client/homespun/client", "server/homespun/server")
MODULES = {"random", "pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "torchcsprng", "opacus"}
DRAWS = {
    "normal", "normal_", "randn", "randn_like", "rand", "rand_like", "randint", "randint_like", "randperm", "uniform_",
    "bernoulli", "bernoulli_", "multinomial", "poisson", "manual_seed", "seed", "default_rng", "RandomState", "Generator",
    "standard_normal", "laplace", "exponential_", "cauchy_", "geometric_", "log_normal_", "dropout",
}  # fmt: skip

PUBLIC = {  # fixed points for sums over public moments: known to everybody, and noise for nobody
    "shared/homespun/personal/private.py": ["torch.randn", "torch.Generator().manual_seed", "torch.Generator"],
}


def found(source: str) -> Iterator[str]:
    """Names that a source takes randomness, or objects that can be forged, from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in MODULES)
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] in MODULES or "random" in parts:
                yield node.module
            yield from (alias.name for alias in node.names if parts[0] in ("torch", "numpy") and alias.name in DRAWS)
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if node.attr == "random" and owner in ("np", "numpy"):
                yield f"{owner}.random"
            drawn = node.attr in DRAWS and not owner.startswith(("self", "noise", "stream"))
            if drawn and owner.split(".")[0] in ("torch", "np", "numpy"):
                yield f"{owner}.{node.attr}"
            if node.attr in DRAWS and node.attr.endswith("_"):
                yield f"{owner}.{node.attr}"  # a tensor's own method
            if node.attr == "load" and owner in ("torch", "np", "numpy"):
                yield f"{owner}.load"  # both unpickle


def sources() -> list[Path]:
    files = [file for package in PACKAGES for file in sorted((REPOSITORY / package).rglob("*.py"))]
    assert len(files) > 30
    return files


@pytest.mark.parametrize("file", sources(), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_no_predictable_generator_and_no_pickle(file: Path) -> None:
    allowed = PUBLIC.get(file.relative_to(REPOSITORY).as_posix(), [])
    assert list(found(file.read_text(encoding="utf-8"))) == allowed


@pytest.mark.parametrize(
    "bug",
    [
        "import numpy as np\nnp.random.normal(0, 1, 3)",
        "import numpy\nnumpy.random.default_rng(0).standard_normal(3)",
        "import torch\ntorch.normal(0.0, 1.0, (3,))",
        "import torch\ntorch.randn(3)",
        "import torch\ntorch.empty(3).normal_(0, 1)",
        "from torch import randn\nrandn(3)",
        "import torch\ntorch.manual_seed(7)",
        "import random\nrandom.gauss(0, 1)",
        "from numpy.random import default_rng",
        "import pickle",
        "import torch\ntorch.load('adapter.pt')",
        "from opacus.accountants import GaussianAccountant",
    ],
)
def test_the_bug_is_seen(bug: str) -> None:
    assert list(found(bug))


def test_a_central_limit_accountant_is_used_nowhere() -> None:
    """Not in the DP packages, not in simulations, not by another name; nor is it among what is installed with us."""
    for file in REPOSITORY.glob("*/homespun/**/*.py"):
        text = file.read_text(encoding="utf-8")
        assert "GaussianAccountant" not in text, file
        assert "GDPAccountant" not in text, file
    for name in ("pyproject.toml", "requirements.lock"):
        assert "opacus" not in (REPOSITORY / name).read_text(encoding="utf-8")


def test_seeds_are_for_simulations_alone() -> None:
    """Whoever runs on a device or a server takes what it is given; nothing there makes a seeded stream."""
    for package in (
        "client/homespun/client",
        "server/homespun/server",
        "shared/homespun/personal",
        "shared/homespun/wire",
    ):
        for file in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute):
                    assert node.attr != "seeded", (file, node.lineno)


def test_a_fork_does_not_share_a_stream() -> None:
    stream, seeded = NoiseStream(), NoiseStream.seeded(1)
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            seeded.read(16)
            answer = b"drew"
        except NoiseStreamForked:
            answer = b"refused"
        os.write(into, stream.read(16) + answer)
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        child = pipe.read()
    assert child[16:] == b"refused"
    assert child[:16] != stream.read(16)


def test_bits_come_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stream has a key of its own from there, and 32 bytes of it."""
    asked: list[int] = []

    def urandom(size: int) -> bytes:
        asked.append(size)
        return bytes([len(asked)]) * size

    monkeypatch.setattr("homespun.privacy.noise.os.urandom", urandom)
    first, second = NoiseStream().read(32), NoiseStream().read(32)
    assert asked == [32, 32]
    assert first != second
