"""Pieces of a file that is imported: tables where it has columns, whole lines where each is a JSON document.

Every row knows its line, also one that is refused.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault
from midstream.events.loose_arrow import Batch

CHUNK_ROWS = 10_000
"""Rows of a table at once: 2 MB at 200 B."""


@dataclass(frozen=True, slots=True)
class RowRefused:
    """A row that is no event, and why."""

    line: int
    fault: Fault
    raw: bytes


@dataclass(frozen=True, slots=True, eq=False)
class TablePiece:
    """Some rows as columns."""

    table: Batch
    lines: NDArray[np.int64]
    """Of each row: the line at which it begins in a text file, from 1 with the header; else the row, from 1."""
    refused: tuple[RowRefused, ...] = ()
    """Rows that are not in the table, in the order of their lines."""


@dataclass(frozen=True, slots=True)
class LinePiece:
    """Some lines of NDJSON."""

    body: bytes
    lines_before: int
    refused: tuple[RowRefused, ...] = ()
    """Lines that are not in the body."""


Piece: TypeAlias = TablePiece | LinePiece


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An open file."""

    header: tuple[str, ...] | None
    """Its columns; None = each record has its own."""
    read: Callable[[Sequence[str] | None], Iterator[Piece]]
    """Yields its rows, once. Of a file that has types only these columns need to be read; None = all."""
    bytes_read: Callable[[], int]
    """Of the file so far, about, as it lies on disk."""
    has_types: bool = True
    """Whether a text in it is a text: a cell of CSV may also stand for a number or a truth value."""


@dataclass(frozen=True, slots=True)
class RowOrigin:
    """Where the rows of an import come from: a file, or a table of a database."""

    name: str
    """For accounts and errors, without a secret."""
    opened: Callable[[], AbstractContextManager[OpenFile]]
    """Opens it; its errors say what is wrong with it."""
    size: int = 0
    """In the unit of ``OpenFile.bytes_read``; 0 = unknown."""
    is_part: bool = False
    """Of a history that is imported in parts, sorted by time: changes without a time are of its beginning."""
    needs_event_time: bool = False
    """The parts before were folded as they happened, so this one is, or is refused."""
