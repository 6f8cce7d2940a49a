"""File writers of answers: Parquet, Arrow or CSV, whole or not at all, written while the answers are computed."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq

from midstream.app.export.events import require_folder_of
from midstream.app.mapping.csv_cells import CsvTable
from midstream.core.errors import Fault, Invalid
from midstream.events.loose_arrow import Batch, Schema, pa, pt
from midstream.events.whole_file import OPEN_MODE, WholeFile

TABLE_FORMATS = ("parquet", "arrow", "csv")
WAITING_MAX = 2
"""Batches that are read while one is written: 30 MB with 40 columns."""
_SUFFIXES = {".parquet": "parquet", ".arrow": "arrow", ".arrows": "arrow", ".feather": "arrow", ".csv": "csv"}
_PAGE = "/docs/features.md"


def table_format(path: Path, named: str | None) -> str:
    """Return the format that is named, or by the file's name.

    Raises:
        Invalid: There is no such format, or the name says none; or there is no folder for the file.
    """
    if not (folder := path.absolute().parent).is_dir():
        raise Invalid((Fault("--out", f"There is no folder {folder}.", "A file in a folder that is there.", _PAGE),))
    found = named or _SUFFIXES.get(path.suffix.lower(), "")
    if found not in TABLE_FORMATS:
        came = f"{named!r}." if named else f"{path.name} does not say which."
        raise Invalid((Fault("--format", came, f"One of {', '.join(TABLE_FORMATS)}.", _PAGE),))
    return found


def write_tables(path: Path, name: str, schema: Schema, batches: Iterable[Batch]) -> int:
    """Write record batches to a file, which gets its name when it is whole; return the number of rows.

    A thread writes, so that packing costs no time of the reading.
    """
    rows = 0
    require_folder_of(path)
    with ExitStack() as stack:
        file = stack.enter_context(WholeFile(path, OPEN_MODE))
        writer = _WRITERS[name](file, schema)
        stack.callback(writer.close)
        pool = stack.enter_context(ThreadPoolExecutor(1))
        waiting: list[Future[None]] = []
        for batch in batches:
            rows += len(batch)
            waiting.append(pool.submit(writer.write_batch, batch))
            if len(waiting) > WAITING_MAX:
                waiting.pop(0).result()
        for each in waiting:
            each.result()
    return rows


def _parquet(file: BinaryIO, schema: Schema) -> Any:  # noqa: ANN401  the stubs know no writer
    # Numbers that differ in each row are not worth a dictionary; packing harder than 1 costs more than it saves.
    texts: Any = [each.name for each in schema if pt.is_string(each.type)]  # the stubs know one for all columns alone
    return pq.ParquetWriter(file, schema, compression="zstd", compression_level=1, use_dictionary=texts)


_WRITERS: dict[str, Callable[[BinaryIO, Schema], Any]] = {
    "parquet": _parquet,
    "arrow": pa.ipc.new_file,
    "csv": CsvTable,
}
