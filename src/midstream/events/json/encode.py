"""Encoding of events as the JSON objects that ``decode`` reads, for exports.

Decoding an export gives the same rows again, byte for byte: each row is written as an event of its own, with the
``event_id#n`` of a row of an order, and optionally with its log time.
"""

from base64 import b64encode
from math import isnan

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, Index
from midstream.events.json.line_kernels import FIXED_BYTES_MAX, WordTables, write_lines
from midstream.events.kernel import frozen_columns
from midstream.events.schema import Event, event_at
from midstream.events.values import compact, nests_within
from midstream.events.wire import CONTENT_NESTING_MAX

_ENCODER = msgspec.json.Encoder()
BODY_FIELDS = {
    Kind.INTERACTION: "context",
    Kind.IMPRESSION: "context",
    Kind.ITEM: "attributes",
    Kind.USER: "attributes",
}


def to_object(event: Event, *, log_time: bool = False) -> dict[str, object]:
    """Return an event as a JSON object of the fields in docs/events.md; missing fields are left out.

    Args:
        event: Any event of the log.
        log_time: Include the log time. Only a trusted caller may send that back.
    """
    kind = Kind(event.kind)
    found: dict[str, object] = {"type": event.action if kind is Kind.INTERACTION else kind.name.lower()}
    for name in ("event_id", "user_id", "session_id", "item_id"):
        if text := getattr(event, name):
            found[name] = text
    if event.event_time_ms is not None:
        found["time"] = event.event_time_ms
    if not isnan(event.value):
        found["value"] = event.value
    if not isnan(event.quantity):
        found["quantity"] = _short_float32(event.quantity)
    if event.position >= 0:
        found["position"] = event.position
    if event.request_id:
        found["request_id"] = event.request_id
    if event.operation:
        found["operation"] = Operation(event.operation).name.lower()
    if event.body:
        _put_body(found, kind, event.body)
    if log_time:
        found["log_time"] = event.log_time_ms
    return found


def encode_lines(batch: EventBatch, *, log_time: bool = False) -> bytes:
    """Return the events of a batch as NDJSON, in order, a line each with its line end.

    Cost: about 0.3 µs an event; 20 µs one that the engine wrote.
    """
    rows, text = frozen_columns(batch)
    odd = ~np.isin(rows["kind"], [int(kind) for kind in BODY_FIELDS]) | (rows["operation"] > max(Operation))
    out = np.empty(len(rows) * FIXED_BYTES_MAX + 2 * len(batch.text), dtype=np.uint8)
    ends = np.empty(len(rows), dtype=np.int64)
    tables, codes = _words(rows)
    write_lines(rows, text, tables, codes, int(log_time), odd, out, ends)
    pieces: list[bytes] = []
    start = 0
    for index in np.flatnonzero(odd).tolist():
        stop = int(ends[index])
        pieces.append(out[start:stop].tobytes())
        pieces.append(_ENCODER.encode(to_object(event_at(batch, index), log_time=log_time)) + b"\n")
        start = stop
    pieces.append(out[start : int(ends[-1]) if len(rows) else 0].tobytes())
    return b"".join(pieces)


def _words(rows: NDArray[np.void]) -> tuple[WordTables, tuple[Index, Index]]:
    """Return the words that lines of these events are made of, and which of them each value and quantity is."""
    # By their bits: 0.0 and -0.0 are the same number and not the same text.
    values, value_code = np.unique(rows["value"].copy().view(np.int64), return_inverse=True)
    quantities, quantity_code = np.unique(rows["quantity"].copy().view(np.int32), return_inverse=True)
    kinds = [b"", *(kind.name.lower().encode() for kind in Kind)]
    operations = [operation.name.lower().encode() for operation in Operation]
    numbers = [_ENCODER.encode(each) for each in values.view(np.float64).tolist()]
    numbers += [_ENCODER.encode(_short_float32(each)) for each in quantities.view(np.float32).tolist()]
    words = [*kinds, *operations, *numbers]
    starts = np.zeros(len(words) + 1, dtype=np.int64)
    np.cumsum([len(word) for word in words], out=starts[1:])
    first = len(kinds) + len(operations)
    tables = (np.frombuffer(b"".join(words), dtype=np.uint8), starts, starts[len(kinds) :], starts[first:])
    value_words: Index = np.where(np.isnan(rows["value"]), -1, value_code).astype(np.int32)
    quantity_words: Index = np.where(np.isnan(rows["quantity"]), -1, quantity_code + len(values)).astype(np.int32)
    return tables, (value_words, quantity_words)


def _put_body(found: dict[str, object], kind: Kind, body: bytes) -> None:
    """Add the body under the name it has for this kind."""
    name = BODY_FIELDS.get(kind)
    if name is not None:
        found[name] = msgspec.json.decode(body)
        return
    content = canonical(body)
    if content is None:
        found["content_base64"] = b64encode(body).decode()
    else:
        found["content"] = content


def canonical(body: bytes) -> object | None:
    """Return the content of a body that ``decode`` would write in the same bytes, else None."""
    try:
        content: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not _is_dict(content) or not nests_within(content, CONTENT_NESTING_MAX):
        return None
    return content if compact(content, ()).encode() == body else None


def _is_dict(value: object) -> bool:
    return isinstance(value, dict)


def _short_float32(value: float) -> float:
    """Return the shortest number that is the same float32: 0.1 and not 0.10000000149011612."""
    exact = np.float32(value)
    short = float(str(exact))
    return short if np.float32(short) == exact else float(value)
