"""Faults of an event: place, value, accepted values.

msgspec reports its own message. Here the place is found again in the event, decoded without a type, so that every fault
has the same four parts, shows the value, and names the nearest field. Only a rejected event costs this.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite, isinf
from typing import cast

import msgspec

from midstream.core.errors import Fault
from midstream.core.nearest import nearest_name
from midstream.events.wire import (
    EVENT_FIELDS,
    ITEM_FIELDS,
    PAGE,
    TRUSTED_FIELDS,
    Accept,
    Refused,
    WireEvent,
    WireItem,
    right_of,
)

_SHOWN_CHARS_MAX = 60
"""Of one value: with the sentence around it a message stays on one line of a terminal."""
_LISTED_MAX = 24
_DIGITS_MAX = 40
_OTHER_NAMES = {
    "action": "type",
    "event": "type",
    "event_type": "type",
    "kind": "type",
    "timestamp": "time",
    "ts": "time",
    "event_time": "time",
    "id": "event_id",
    "product_id": "item_id",
    "sku": "item_id",
    "item": "item_id",
    "products": "items",
    "visitor_id": "user_id",
    "customer_id": "user_id",
    "user": "user_id",
    "session": "session_id",
    "price": "value",
    "amount": "value",
    "rating": "value",
    "qty": "quantity",
    "rank": "position",
    "properties": "attributes",
    "metadata": "context",
}
"""Names of the same fields in other systems, where the spelling alone would not find them."""


def shown(value: object) -> str:
    """Return a value as one short line of ASCII, for errors."""
    match value:
        case dict():
            words = f"an object of {len(cast('dict[object, object]', value))} fields"
        case list() | tuple():
            words = f"a list of {len(cast('list[object]', value))}"
        case str():
            words = _shown_text(value)
        case None | bool():
            words = json.dumps(value)
        case int():
            digits = value.bit_length() * 3 // 10
            words = str(value) if digits < _DIGITS_MAX else f"a whole number of about {digits} digits"
        case float():
            words = "an infinity, or a number too large to be one" if isinf(value) else repr(value)
        case _:
            words = f"a value of type {type(value).__name__}"
    return words


def _shown_text(text: str) -> str:
    """Return text in quotes, cut so that the escapes of its odd characters fit and stay whole."""
    count = min(len(text), _SHOWN_CHARS_MAX)
    while len(quoted := json.dumps(text[:count])) > _SHOWN_CHARS_MAX + len('""'):
        count -= 1
    return quoted if count == len(text) else f'{quoted[:-1]}..." ({len(text)} characters)'


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ``' Nearest: "…".'``, or nothing where no name is near."""
    known = tuple(names)
    short = name[:_SHOWN_CHARS_MAX].lower()
    alias = _OTHER_NAMES.get(short, "")
    found = alias if alias in known else nearest_name(short, known)
    return f' Nearest: "{found}".' if found else ""


def listed(names: Sequence[str]) -> str:
    """Return names with commas, of many the first ones."""
    more = len(names) - _LISTED_MAX
    return ", ".join(names[:_LISTED_MAX]) + (f" and {more} more" if more > 0 else "")


def fault_of(refused: Refused, prefix: str, loose: object) -> Fault:
    """Return the fault of an event.

    Args:
        refused: The rejection.
        prefix: Place of the event in the body, such as ``/events/3`` or ``line 4: ``.
        loose: The event as untyped JSON, for the value.
    """
    pointer = "".join(f"/{_escaped(str(part))}" for part in refused.path)
    return Fault(
        where=f"{prefix}{pointer}".removesuffix(": ") or "body",
        came=refused.came or f"{_came(loose, refused.path)}.",
        right=refused.right,
        page=PAGE,
    )


def find_refusal(loose: object, failure: Exception, accept: Accept) -> Refused:
    """Return why msgspec refused an event.

    Args:
        loose: The event as untyped JSON.
        failure: msgspec's exception: used unchanged if no other fault is found.
        accept: Settings of decoding.
    """
    if not isinstance(loose, dict):
        right = 'An object, such as {"type": "view", "user_id": "ann", "item_id": "lamp"}.'
        return Refused((), right)
    event = cast("dict[str, object]", loose)
    found = _field_refusal(event, WireEvent, (), accept)
    if found is None and isinstance(event.get("items"), list):
        found = _items_refusal(cast("list[object]", event["items"]), accept)
    if found is None and isinstance(event.get("context"), dict):
        found = _context_refusal(cast("dict[str, object]", event["context"]), accept)
    return found or _text_refusal(event) or Refused((), "An event in JSON, UTF-8.", f"{failure}."[:200])


def _field_refusal(
    fields: Mapping[str, object], kind: type[WireEvent | WireItem], path: tuple[str | int, ...], accept: Accept
) -> Refused | None:
    """Return the fault of the names or plain values of an event's or an item's fields."""
    required, names = ("type", EVENT_FIELDS) if kind is WireEvent else ("item_id", ITEM_FIELDS)
    offered = names if accept.trusted else tuple(name for name in names if name not in TRUSTED_FIELDS)
    for name in fields:
        if name not in names:
            came = f"{shown(name)} is not a field here.{nearest(name, offered)}"
            return Refused((*path, name), f"Fields: {', '.join(offered)}.", came)
    if required not in fields:
        return Refused((*path, required), right_of(required, accept), "Nothing was sent.")
    for name, value in fields.items():
        if not _is_right(name, value, kind, required):
            return Refused((*path, name), right_of(name, accept))
    return None


def _is_right(name: str, value: object, kind: type[WireEvent | WireItem], required: str) -> bool:
    """Say whether one field alone can be taken; lists and objects are looked into elsewhere."""
    if isinstance(value, float) and not isfinite(value):
        return False
    if name == "items" and isinstance(value, list):
        return True
    if name == "context" and isinstance(value, dict):
        return True
    try:
        msgspec.convert({required: "x", name: value}, kind)
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError):
        return False
    return True


def _items_refusal(items: list[object], accept: Accept) -> Refused | None:
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            return Refused(("items", number), right_of("items", accept))
        found = _field_refusal(cast("dict[str, object]", item), WireItem, ("items", number), accept)
        if found is not None:
            return found
    return None


def _context_refusal(context: dict[str, object], accept: Accept) -> Refused | None:
    for name, value in context.items():
        if not isinstance(value, str | int | float) or (isinstance(value, float) and not isfinite(value)):
            return Refused(("context", name), right_of("context", accept))
    return None


def _text_refusal(event: dict[str, object]) -> Refused | None:
    """Return the field of a text that is not UTF-8, or of a number that JSON does not have."""
    for name, value in event.items():
        try:
            text = json.dumps(value, ensure_ascii=False, default=repr)
            text.encode()
        except UnicodeEncodeError:
            return Refused((name,), "Valid UTF-8: no other encoding, no half of a surrogate pair.")
        if _holds_no_number(value):
            return Refused((name,), "Finite numbers: JSON has no NaN and no Infinity.", "NaN or an infinity.")
    return None


def _holds_no_number(value: object) -> bool:
    """Say whether NaN or an infinity is anywhere in a value."""
    if isinstance(value, dict):
        return any(_holds_no_number(each) for each in cast("dict[str, object]", value).values())
    if isinstance(value, list):
        return any(_holds_no_number(each) for each in cast("list[object]", value))
    return isinstance(value, float) and not isfinite(value)


def _came(loose: object, path: tuple[str | int, ...]) -> str:
    """Return the value at a path, shortened."""
    for part in path:
        if isinstance(loose, dict) and part in loose:
            loose = cast("dict[str | int, object]", loose)[part]
        elif isinstance(loose, list) and isinstance(part, int) and part < len(cast("list[object]", loose)):
            loose = cast("list[object]", loose)[part]
        else:
            return "nothing was sent"
    return shown(loose)


def _escaped(part: str) -> str:
    """Return one part of a JSON pointer, short and printable."""
    short = part[:_SHOWN_CHARS_MAX].replace("~", "~0").replace("/", "~1")
    return short if short.isprintable() else json.dumps(short)[1:-1]
