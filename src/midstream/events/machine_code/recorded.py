"""Kernels that a warm-up asks for, with the types of their arguments: what can be compiled before it, side by side.

The list is recorded after a warm-up (``scripts/kernels``) and kept beside the sources. It is
no promise: what it misses is compiled when it is called, and what it has too much is compiled in vain.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import msgspec

RECORDED = Path(__file__).with_name("recorded.json")
_PACKAGE = Path(__file__).parents[2]
Json: TypeAlias = object


@dataclass(frozen=True, slots=True)
class RecordedKernel:
    """One kernel, with all versions of it."""

    module: str
    name: str
    cost_ms: int
    """Estimate of its CPU time, of the machine code that it is."""
    needs: tuple[int, ...]
    """Places in the list of the kernels that it calls; they stand before it."""
    is_called: bool
    """Python calls it; others are only called by kernels."""
    is_optional: bool
    """Its callers have another way (``optional_kernel``)."""
    signatures: tuple[tuple[int, ...], ...]
    """Of each version, the places of its arguments' types in the list of types."""

    @property
    def source(self) -> Path:
        """Where its module lies."""
        return _source_of(self.module)


@cache
def _source_of(module: str) -> Path:
    """Return where a module lies; a start asks for it a thousand times, of eighty modules."""
    return _PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")


class Recording(msgspec.Struct, frozen=True):
    """Contents of the file."""

    types: tuple[Json, ...]
    """In the form of ``type_text``."""
    kernels: tuple[RecordedKernel, ...]
    """Callees first."""


@cache
def recording() -> Recording:
    """Return what was recorded for this version."""
    return msgspec.json.decode(RECORDED.read_bytes(), type=Recording)


def needed_at_once() -> frozenset[int]:
    """Return the places of kernels that are asked for by others than optional ones: a start waits for these."""
    kernels = recording().kernels
    found: set[int] = set()
    due = [number for number, each in enumerate(kernels) if each.is_called and not each.is_optional]
    while due:
        number = due.pop()
        if number not in found:
            found.add(number)
            due += kernels[number].needs
    return frozenset(found)


def written(recorded: Recording) -> str:
    """Return the text of the file: a type or a kernel a line, so that a difference shows which one it is."""
    types = ",\n".join(msgspec.json.encode(each).decode() for each in recorded.types)
    kernels = ",\n".join(msgspec.json.encode(each).decode() for each in recorded.kernels)
    return f'{{"types":[\n{types}\n],"kernels":[\n{kernels}\n]}}\n'
