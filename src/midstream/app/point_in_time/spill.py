"""Spill of tables too large for memory: record batches on disk, from which any rows can be taken in any order.

They are written once, in order, and read through a memory map. Their file has no name, so that a killed process leaves
nothing behind. Taking adjacent rows copies nothing; others are taken batch by batch, since Arrow joins the batches of a
whole table in memory to take rows out of it.
"""

import mmap
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from midstream.events.loose_arrow import Batch, Schema, pa

Rows = NDArray[np.int64]


class RecordBatchSpill:
    """Record batches of one schema. Write all, then take; use it in a ``with`` block, at whose end the file is gone."""

    def __init__(self, schema: Schema, folder: Path | None = None) -> None:
        """Begin an empty file.

        Args:
            schema: Of every batch.
            folder: Where there is room; None = where the system has temporary files.
        """
        self.schema = schema
        self._file = tempfile.TemporaryFile(prefix=".midstream-", dir=folder)  # noqa: SIM115  closed at the block's end
        self._writer: Any = pa.ipc.new_file(self._file, schema)
        self._reader: Any = None
        self._starts: list[int] = [0]

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file."""
        self._end_writing()
        self._reader = None
        self._file.close()

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._starts[-1]

    def write(self, batch: Batch) -> None:
        """Add rows, before any are taken."""
        if len(batch):
            self._writer.write_batch(batch)
            self._starts.append(self._starts[-1] + len(batch))

    def take(self, rows: Rows) -> Batch:
        """Return rows by their numbers, in the order asked for."""
        reader = self._reading()
        first, count = (int(rows[0]), len(rows)) if len(rows) else (0, 0)
        if not count:
            return pa.RecordBatch.from_pylist([], schema=self.schema)
        if int(rows[-1]) - first + 1 == count and bool((np.diff(rows) == 1).all()):
            return _joined(list(self._slices(reader, first, count)))
        starts = np.array(self._starts)
        number = np.searchsorted(starts, rows, side="right") - 1
        by_batch = np.argsort(number, kind="stable")
        parts: list[Batch] = []
        for each in np.unique(number).tolist():
            own = rows[number == each] - starts[each]
            parts.append(reader.get_batch(each).take(pa.array(own)))
        back = np.empty(count, dtype=np.int64)
        back[by_batch] = np.arange(count)
        return _joined(parts).take(pa.array(back))

    def _slices(self, reader: Any, first: int, count: int) -> Iterator[Batch]:  # noqa: ANN401  the stubs know no reader
        number = int(np.searchsorted(np.array(self._starts), first, side="right")) - 1
        while count:
            batch = reader.get_batch(number).slice(first - self._starts[number], count)
            yield batch
            first, count, number = first + len(batch), count - len(batch), number + 1

    def _reading(self) -> Any:  # noqa: ANN401  as above
        if self._reader is None:
            self._end_writing()
            mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)  # goes with the last row of it
            self._reader = pa.ipc.open_file(pa.py_buffer(mapped))
        return self._reader

    def _end_writing(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._file.flush()
            self._writer = None


def _joined(batches: list[Batch]) -> Batch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
