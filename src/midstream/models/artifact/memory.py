"""Memory of a model in service: the bytes of its files, and those that it derives from them.

It is measured on the model itself: arrays derived for speed (rounded vectors, sorted hashes, places of words) are in no
file.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from sys import getsizeof
from typing import Final, TypeGuard

import msgspec
import numpy as np
from numpy.typing import NDArray

HELD_TIMES_MAX: Final = 2
"""Times the bytes of its files that a model holds at most, but for the words of ``content``: vectors of float32 are
rounded to half of their bytes (``halves``), those of ``svd``, of float64, to 4 + 2 of 8, and a vocabulary of
n items has 16 n bytes of hashes and their order beside the 8 n and the ids that it is read from."""


def held_bytes(model: object) -> int:
    """Return the bytes of all arrays, texts and tables that an object holds, each once. Cost: 1 µs each."""
    seen: dict[int, object] = {}
    ahead: list[object] = [model]
    total = 0
    while ahead:
        named = ahead.pop()
        each = _owner(named) if _is_array(named) else named
        if id(each) not in seen:
            seen[id(each)] = each
            total += each.nbytes if _is_array(each) else getsizeof(each)
            ahead.extend(_inside(each))
    return total


def _inside(each: object) -> Iterable[object]:
    """Return what an object names."""
    if _is_table(each):
        return (part for pair in each.items() for part in pair)
    if _is_row(each):
        return each
    if isinstance(each, msgspec.Struct):
        return (getattr(each, name) for name in each.__struct_fields__)
    if dataclasses.is_dataclass(each):
        return (getattr(each, field.name) for field in dataclasses.fields(each))
    return ()


def _owner(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the array whose memory one looks into, or itself."""
    found = array
    while _is_array(found.base):
        found = found.base
    return found


def _is_array(each: object) -> TypeGuard[NDArray[np.generic]]:
    return isinstance(each, np.ndarray)


def _is_table(each: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(each, Mapping)


def _is_row(each: object) -> TypeGuard[tuple[object, ...] | list[object]]:
    return isinstance(each, tuple | list)
