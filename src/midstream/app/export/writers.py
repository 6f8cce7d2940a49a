"""File writers of slates: a line for each user in NDJSON, a row for each item in CSV and Parquet."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, BinaryIO, Protocol

import msgspec
import pyarrow.parquet as pq

from midstream.app.mapping.csv_cells import CsvTable
from midstream.events.loose_arrow import pa

ROWS_MAX = 16_384
"""Items of a Parquet row group, and of a block of CSV: some MB."""


class ExportedSlate(msgspec.Struct, frozen=True):
    """One user's slate as it is written."""

    user_id: str
    placement: str
    request_id: str | None
    """None = it was not logged, so nothing can name it."""
    tier: str
    items: list[dict[str, Any]]
    """``id``, ``score``, ``position``, and ``fields`` where any were asked for."""


class SlateWriter(Protocol):
    """Writes slates one after another."""

    def write(self, slate: ExportedSlate) -> None:
        """Write one."""
        ...

    def close(self) -> None:
        """Write what is left; the file stays open."""
        ...


class _Lines:
    def __init__(self, file: BinaryIO, fields: tuple[str, ...]) -> None:
        self._file = file
        self._encode = msgspec.json.Encoder().encode
        self._fields = fields

    def write(self, slate: ExportedSlate) -> None:
        self._file.write(self._encode(slate) + b"\n")

    def close(self) -> None:
        self._file.flush()


class _Rows:
    """Gathers rows to blocks; a field is a column ``field.<name>`` of text, JSON where it is none."""

    def __init__(self, file: BinaryIO, fields: tuple[str, ...], opened: Callable[[BinaryIO, Any], Any]) -> None:
        columns = [(name, pa.string()) for name in ("user_id", "placement", "request_id", "tier")]
        columns += [("position", pa.int64()), ("item_id", pa.string()), ("score", pa.float64())]
        self._schema: Any = pa.schema([*columns, *((f"field.{name}", pa.string()) for name in fields)])
        self._fields = fields
        self._writer = opened(file, self._schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, slate: ExportedSlate) -> None:
        for item in slate.items:
            own: Mapping[str, Any] = item.get("fields") or {}
            self._rows.append(
                {
                    "user_id": slate.user_id,
                    "placement": slate.placement,
                    "request_id": slate.request_id,
                    "tier": slate.tier,
                    "position": item["position"],
                    "item_id": item["id"],
                    "score": item["score"],
                    **{f"field.{name}": _text(own.get(name)) for name in self._fields},
                }
            )
        if len(self._rows) >= ROWS_MAX:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


WRITERS: Mapping[str, Callable[[BinaryIO, tuple[str, ...]], SlateWriter]] = {
    "ndjson": _Lines,
    "csv": partial(_Rows, opened=CsvTable),
    "parquet": partial(_Rows, opened=partial(pq.ParquetWriter, compression="zstd")),
}
"""By format."""
