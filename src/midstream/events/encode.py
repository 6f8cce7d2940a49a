"""Events as the JSON objects that ``decode`` takes: what an export writes.

Decoding an export gives the same rows again, byte for byte: each row is written as an event of its own, with the
``event_id#n`` that a row of an order has, and with its log time where that is asked for.
"""

from base64 import b64encode
from math import isnan

import msgspec
import numpy as np

from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch
from midstream.events.schema import Event, event_at
from midstream.events.values import compact, nests_within
from midstream.events.wire import CONTENT_NESTING_MAX

_ENCODER = msgspec.json.Encoder()
_BODY_FIELDS = {
    Kind.INTERACTION: "context",
    Kind.IMPRESSION: "context",
    Kind.ITEM: "attributes",
    Kind.USER: "attributes",
}


def to_object(event: Event, *, log_time: bool = False) -> dict[str, object]:
    """Return an event as a JSON object of the fields in docs/events.md; what was not sent is left out.

    Args:
        event: Any event of the log.
        log_time: Whether its log time goes with it. Only a trusted caller may send that back.
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

    Cost: about 20 µs an event.
    """
    objects = (to_object(event_at(batch, index), log_time=log_time) for index in range(len(batch)))
    return b"".join(_ENCODER.encode(each) + b"\n" for each in objects)


def _put_body(found: dict[str, object], kind: Kind, body: bytes) -> None:
    """Add the body under the name it has for this kind."""
    name = _BODY_FIELDS.get(kind)
    if name is not None:
        found[name] = msgspec.json.decode(body)
        return
    content = _canonical(body)
    if content is None:
        found["content_base64"] = b64encode(body).decode()
    else:
        found["content"] = content


def _canonical(body: bytes) -> object | None:
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
