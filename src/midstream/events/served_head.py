"""The wire form of a served record in parts: fields of the request, fields of items that are bytes already, defaults.

What a kernel has encoded of the items goes between a head and a tail, instead of into a ``ServedBody`` and out again.
"""

import msgspec

from midstream.events.served_body import RECORD_VERSION, ServedBody

ITEM_FIELDS = ("ids", "scores", "propensities", "source_bits")
"""Those of the items, which lie side by side."""


class ServedHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields of ``ServedBody`` before those of the items, in its order."""

    version: int
    log_position: int
    request_id: str
    placement: str
    user_id: str | None
    session_id: str | None
    slate_size: int
    now_ms: int
    seed: int
    items: tuple[str, ...]
    exclude: tuple[str, ...]
    filter: str | None
    context: dict[str, str]
    fetched: dict[str, bytes]
    config_hash: str
    fold_version: str
    scorer: str
    tier: str
    retrieved_count: int
    candidate_count: int
    source_names: tuple[str, ...]
    retrieved: dict[str, int]
    removed: dict[str, int]
    failures: tuple[tuple[str, str], ...]


_ARRAY_HEAD = 3
"""Bytes of the head of an array of 16 to 65,535 elements."""
_FIELDS = ServedBody.__struct_fields__
_encode = msgspec.msgpack.Encoder().encode
_BEGIN = b"\xdc" + len(_FIELDS).to_bytes(2, "big")
_AFTER = len(ServedHead.__struct_fields__) + len(ITEM_FIELDS)
_TAIL = b"".join(
    _encode(each.default_factory() if callable(each.default_factory) else each.default)
    for each in msgspec.structs.fields(ServedBody)[_AFTER:]
)
"""Every field behind those of the items, with its default."""


def joined_body(head: ServedHead, items: bytes | memoryview) -> bytes:
    """Return what ``encode_body`` returns for the same fields and defaults behind them.

    Args:
        head: Of the record version ``RECORD_VERSION``.
        items: ``ITEM_FIELDS``, encoded one after another.
    """
    return b"".join((_BEGIN, _encode(head)[_ARRAY_HEAD:], items, _TAIL))


__all__ = ["ITEM_FIELDS", "RECORD_VERSION", "ServedHead", "joined_body"]
