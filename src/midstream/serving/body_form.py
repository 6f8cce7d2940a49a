"""Which of the four forms a body of events has, so that a place in it can be named and a piece of it kept.

Used for events that decoded well and were refused afterwards; decoding names its own places, in the same way.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

_BOM = b"\xef\xbb\xbf"
_ENVELOPE = re.compile(rb'\s*\{\s*"events"\s*:')


class _Envelope(msgspec.Struct):
    events: list[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class BodyForm:
    """The events of a body as pieces of bytes, and what stands before a pointer into each."""

    prefix: Callable[[int], str]
    raw: tuple[bytes, ...]


def form_of(body: bytes, event_count: int) -> BodyForm:
    """Return the form of a body that decoded into ``event_count`` events. Cost: reads the body once more."""
    body = body.removeprefix(_BOM)
    if body.lstrip()[:1] == b"[":
        raws = msgspec.json.decode(body, type=list[msgspec.Raw])
        return BodyForm(lambda index: f"/{index}", tuple(map(bytes, raws)))
    if _ENVELOPE.match(body):
        raws = msgspec.json.decode(body, type=_Envelope).events
        return BodyForm(lambda index: f"/events/{index}", tuple(map(bytes, raws)))
    if event_count == 1:
        return BodyForm(lambda _index: "", (body.strip(),))
    lines = [(number, line.strip()) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]
    return BodyForm(lambda index: f"line {lines[index][0]}: ", tuple(line for _, line in lines))
