"""Retry of a dead letter as an event: unchanged, except where it would count twice or at a wrong time.

An operator may retry a letter more than once. So an event without a time gets the time of its arrival, and one with
neither time nor id gets an id of its content and the letter's number. Of an order with rejected items, the recorded
items are left out.
"""

import msgspec
import xxhash

from midstream.events.dead_letters.dead_letters import DeadLetter

_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
_decode_event = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_id = msgspec.json.Decoder(str).decode
_NULL = b"null"


def event_of(letter: DeadLetter) -> bytes | None:
    """Return the JSON of a letter's event, None when there is none that could be judged: no object, or cut off.

    Example:
        >>> event_of(DeadLetter(5, None, '{"type": "view", "time": 4}'))
        b'{"type":"view","time":4}'
    """
    if letter.characters_cut:
        return None
    try:
        fields = _decode_event(letter.raw)
        if letter.item >= 0:
            fields = _one_item(fields, letter.item)
        # As the only object of a body these would be a list of events, and an event has no such field.
        if "events" in fields:
            return None
        return msgspec.json.encode(_dated(fields, letter))
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


def _dated(fields: dict[str, msgspec.Raw], letter: DeadLetter) -> dict[str, msgspec.Raw]:
    """Return the event with a time, and with an id where it had neither."""
    if _is_sent(fields, "time"):
        return fields
    dated = fields | {"time": _raw(letter.time_ms)}
    if not _is_sent(fields, "event_id"):
        content = xxhash.xxh3_64_hexdigest(letter.raw.encode("utf-8", "surrogatepass"))
        dated["event_id"] = _raw(f"dead-letter:{letter.number}:{content}")
    return dated


def _is_sent(fields: dict[str, msgspec.Raw], name: str) -> bool:
    return name in fields and bytes(fields[name]) != _NULL


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
