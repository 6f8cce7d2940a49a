"""Questions as NDJSON records, converted to columns."""

from typing import Any, cast

import msgspec

from midstream.app.mapping.pieces import LinePiece
from midstream.app.point_in_time.request_columns import PAGE
from midstream.core.errors import Fault, Invalid
from midstream.core.nearest import nearest
from midstream.events.loose_arrow import Batch, pa

_FIELDS = ("log_position", "time", "user_id", "session_id", "items", "item_id", "basket", "placement", "seed")
_OBJECTS = ("context", "item_fields")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def batch_of_lines(piece: LinePiece) -> Batch:
    """Return JSON objects as a table with the columns that they have.

    Raises:
        Invalid: A line is none, or has a field that no question has.
    """
    records: list[dict[str, Any]] = []
    for number, line in enumerate(piece.body.splitlines(), piece.lines_before + 1):
        if line.strip():
            records.append(_record(line, number))
    return _table(records)


def _record(line: bytes, number: int) -> dict[str, Any]:
    try:
        record = _decode(line)
    except msgspec.MsgspecError as error:
        raise Invalid((Fault(f"line {number}", str(error), "A JSON object.", PAGE),)) from error
    for name in record:
        if name not in _FIELDS and name not in _OBJECTS:
            came = f'"{name}" is no field of a question.{nearest(name, (*_FIELDS, *_OBJECTS))}'
            raise Invalid((Fault(f"line {number}", came, ", ".join((*_FIELDS, *_OBJECTS)), PAGE),))
    return record


def _table(records: list[dict[str, Any]]) -> Batch:
    """Return records as a table that always has the same columns; objects stand in it as JSON."""
    columns: dict[str, Any] = {name: [record.get(name) for record in records] for name in (*_FIELDS, *_OBJECTS)}
    one: list[Any] = columns.pop("item_id")
    columns["items"] = [
        _texts(each) if alone is None else [str(alone)] for each, alone in zip(columns["items"], one, strict=True)
    ]
    columns["basket"] = [_texts(each) for each in columns["basket"]]
    arrays: list[Any] = []
    for name, cells in columns.items():
        if name in ("log_position", "seed"):
            arrays.append(pa.array(cells, pa.int64()))
        elif name in ("items", "basket"):
            arrays.append(pa.array(cells, pa.list_(pa.string())))
        else:
            arrays.append(pa.array([_text(cell) for cell in cells], pa.string()))
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _texts(cell: object) -> list[str | None] | None:
    if not isinstance(cell, list):
        return None
    return [None if each is None else str(each) for each in cast("list[object]", cell)]


def _text(cell: object) -> str | None:
    return cell if cell is None or isinstance(cell, str) else msgspec.json.encode(cell).decode()
