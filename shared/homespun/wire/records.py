"""How parts of a Flower record are read: each of one type, of a declared size, and nothing beside them.

Every function either returns what it was asked for or raises `MalformedMessage`; what a stranger sent cannot make it
raise anything else, nor allocate on the word of a header.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
import io
import math
import re
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

MAX_TENSORS = 16
MAX_AXES = 4
MAX_TENSOR_VALUES = 2**24  # 64 MiB of float32 a tensor; a backbone of 627 features in 8 directions has 5,651 values
MAX_TEXT = 4096  # characters of a release plan or a digest

ScalarT = TypeVar("ScalarT", bound=np.generic)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")


class MalformedMessage(ValueError):
    """A message does not fit the schema. The text names the rule, never the content."""


def config(record: RecordDict, name: str) -> ConfigRecord:
    """The part of a record that holds plain fields."""
    part = record[name]
    if not isinstance(part, ConfigRecord):
        raise MalformedMessage(f"Expected {name} as a ConfigRecord.")
    return part


def arrays(record: RecordDict, name: str, kind: type[ScalarT]) -> dict[str, npt.NDArray[ScalarT]]:
    """The tensors of a part by name, each the reader's own copy; of at most `MAX_TENSOR_VALUES` finite values."""
    part = record[name]
    if not isinstance(part, ArrayRecord):
        raise MalformedMessage(f"Expected {name} as an ArrayRecord.")
    require(1 <= len(part) <= MAX_TENSORS, f"1 to {MAX_TENSORS} tensors in {name}")
    values: dict[str, npt.NDArray[ScalarT]] = {}
    for key, array in part.items():
        require(_NAME.match(key) is not None, f"lower-case tensor names in {name}")
        values[key] = _values(array, name, kind)
    return values


def _values(array: Array, name: str, kind: type[ScalarT]) -> npt.NDArray[ScalarT]:
    """The tensor that an Array declares: its header must say the same, and exactly its bytes must follow.

    `Array.numpy()` will not do: it believes the header (which may ask for a terabyte), opens zip archives, and fails in
    half a dozen ways.
    """
    dtype, shape = np.dtype(kind).newbyteorder("<"), tuple(array.shape)
    sound = len(shape) <= MAX_AXES and all(type(n) is int and 0 <= n <= MAX_TENSOR_VALUES for n in shape)
    size = math.prod(shape) if sound else -1
    declared = array.stype == "numpy.ndarray" and array.dtype == dtype.name and 0 <= size <= MAX_TENSOR_VALUES
    require(declared, f"{dtype.name} tensors of at most {MAX_TENSOR_VALUES} values in {name}")
    usual = _header(dtype.str, shape)
    if array.data.startswith(usual):  # what NumPy writes; parsing the same bytes took a tenth of a device's round
        start, same = len(usual), True
    else:
        stream = io.BytesIO(array.data)
        try:
            version = np.lib.format.read_magic(stream)
            header = np.lib.format.read_array_header_1_0(stream)
        except Exception as error:  # of unrelated classes: the header is parsed as a Python literal
            raise MalformedMessage(f"Expected a readable tensor in {name}.") from error
        start, same = stream.tell(), version == (1, 0) and header == (shape, False, dtype)
    require(same and len(array.data) == start + size * dtype.itemsize, f"tensors as declared in {name}")
    value = np.frombuffer(array.data, dtype=dtype, offset=start).reshape(shape).astype(kind)
    require(dtype.kind != "f" or bool(np.isfinite(value).all()), f"finite tensors in {name}")
    return value


@lru_cache(maxsize=64)
def _header(kind: str, shape: tuple[int, ...]) -> bytes:
    """The bytes with which NumPy begins a file of such an array, rows in order."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def plain(value: npt.NDArray[ScalarT]) -> npt.NDArray[ScalarT]:
    """Rows in order, little-endian: the one layout that is read."""
    return np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))


def whole(value: object) -> int:
    """A whole number in [0, 2^63), which a truth value is not."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise MalformedMessage("Expected a whole number in [0, 2^63).")
    return value


def text(value: object) -> str:
    """A text of at most `MAX_TEXT` characters."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise MalformedMessage(f"Expected a text of at most {MAX_TEXT} characters.")
    return value


def require(condition: bool, rule: str) -> None:
    """Refuse a message that breaks a rule."""
    if not condition:
        raise MalformedMessage(f"Expected {rule}.")
