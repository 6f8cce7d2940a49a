"""Subject of a control event: the field ``change`` of its body, by which each table finds the events that it folds."""

import msgspec


class _Change(msgspec.Struct, frozen=True):
    change: str = ""


_decode = msgspec.json.Decoder(_Change).decode


def change_of(body: bytes) -> str:
    """Return the field ``change`` of the body of a control event; empty = it has none, or is no JSON object."""
    try:
        return _decode(body).change
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
