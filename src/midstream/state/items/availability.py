"""Availability of items: what the reserved attribute means, and which events ask that an item is not served."""

import msgspec

from midstream.core.kinds import Operation


class _Availability(msgspec.Struct):
    """The one field of a body that decides whether an item may be served."""

    available: object = True


def is_true(value: object) -> bool:
    """Return whether a value of ``available`` lets an item be served: true, or the 1 of a file without truth values."""
    return isinstance(value, bool | int | float) and value == 1


def hides(operation: int, body: bytes) -> bool:
    """Return whether an item event asks that the item is not served."""
    if operation == Operation.DELETE:
        return True
    try:
        sent = msgspec.json.decode(body, type=_Availability).available
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return sent is not None and not is_true(sent)
