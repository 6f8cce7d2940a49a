"""Retry of a dead letter as an event: unchanged, except where it would count twice or at a wrong time.

An operator may retry a letter more than once. So an event without a time gets the time of its arrival, and one with
neither time nor id gets an id of its content and the letter's number. Of an order with rejected items, the recorded
items are left out. An event that replaces the letter's own is treated in the same way, and without an id it always gets
the letter's: of one letter at most one event without an id of its own is recorded, whatever replaced it.
"""

import msgspec
import xxhash

from midstream.core.answers.letters import DeadLetter

_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
_decode_event = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_id = msgspec.json.Decoder(str).decode
_NULL = b"null"


def event_of(letter: DeadLetter, mended: str | None = None) -> bytes | None:
    """Return the JSON of a letter's event, None when there is none that could be judged: no object, or cut off.

    Args:
        letter: Rejected event.
        mended: JSON of the event that replaces it, None = none does.

    Example:
        >>> event_of(DeadLetter(5, None, '{"type": "view", "time": 4}'))
        b'{"type":"view","time":4}'
    """
    if letter.characters_cut and mended is None:
        return None
    try:
        fields = _decode_event(letter.raw if mended is None else mended)
        if letter.item >= 0:
            fields = _one_item(fields, letter.item)
        # As the only object of a body these would be a list of events, and an event has no such field.
        if "events" in fields:
            return None
        return msgspec.json.encode(_dated(fields, letter, is_mended=mended is not None))
    except _UNREADABLE:
        return None


def _one_item(fields: dict[str, msgspec.Raw], place: int) -> dict[str, msgspec.Raw]:
    """Return the event of one item of an order, with the id that its row had."""
    items = _decode_items(fields["items"]) if "items" in fields else []
    if not place < len(items):
        return fields
    single = {name: value for name, value in fields.items() if name != "items"} | items[place]
    if _is_sent(fields, "event_id"):
        single["event_id"] = _raw(f"{_decode_id(fields['event_id'])}#{place}")
    return single


def _dated(fields: dict[str, msgspec.Raw], letter: DeadLetter, *, is_mended: bool) -> dict[str, msgspec.Raw]:
    """Return the event with a time, and with the id of the letter where it had neither, or no id and was mended."""
    is_timed = _is_sent(fields, "time")
    if is_timed and not is_mended:
        return fields
    dated = fields if is_timed else fields | {"time": _raw(letter.time_ms)}
    if _is_sent(fields, "event_id"):
        return dated
    content = xxhash.xxh3_64_hexdigest(letter.raw.encode("utf-8", "surrogatepass"))
    return dated | {"event_id": _raw(f"dead-letter:{letter.number}:{content}")}


def _is_sent(fields: dict[str, msgspec.Raw], name: str) -> bool:
    return name in fields and bytes(fields[name]) != _NULL


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
