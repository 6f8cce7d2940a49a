"""The wire form of a served record in parts: fields of the request, fields of items that are bytes already, defaults.

What a kernel has encoded of the items goes between a head and a tail, instead of into a ``ServedBody`` and out again.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

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
    context: Mapping[str, object]
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
_TOLD = (_FIELDS.index("models"), _FIELDS.index("trace_rules"), _FIELDS.index("trace_ids") + 1)
"""Place of the models, of the first of the three fields of rules, and of the first field behind these."""


def _defaults(first: int, stop: int) -> bytes:
    """Return the encoded defaults of some fields."""
    return b"".join(
        _encode(each.default_factory() if callable(each.default_factory) else each.default)
        for each in msgspec.structs.fields(ServedBody)[first:stop]
    )


_TAIL = _defaults(_AFTER, _FIELDS.index("took_us"))
"""Every field between those of the items and the last one, ``took_us``, with its default."""
_TO_FEATURES = _defaults(_AFTER, _FIELDS.index("feature_names"))
_NO_ACTIONS = _defaults(_TOLD[1] + 1, _TOLD[2])
"""Those of the fields of rules behind their names."""
_GIVEN = _FIELDS.index("given")
_TO_GIVEN = _defaults(_TOLD[0] + 1, _GIVEN)
_TO_RULES = _defaults(_GIVEN + 1, _TOLD[1])
_BEHIND_RULES = _defaults(_TOLD[2], _FIELDS.index("bins"))
"""``bins`` is the last field but one."""


class ServedTail(NamedTuple):
    """What a record has behind the items of a slate of scored candidates, or of a ranking."""

    feature_names: tuple[str, ...] = ()
    feature_values: bytes = b""
    models: Mapping[str, str] = MappingProxyType({})
    rules: tuple[str, ...] = ()
    """Names of the rules that did something."""
    actions: bytes | memoryview = _NO_ACTIONS
    """Their actions and the ids of items outside of the slate, encoded one after another."""
    given: tuple[str, ...] = ()
    """The caller's own items, in the caller's order."""
    bins: tuple[bytes, ...] = ()
    """What models read that go on learning."""

    def encoded(self) -> bytes:
        """Return all fields between those of the items and ``took_us``, the others with their defaults."""
        features = _encode(self.feature_names) + _encode(self.feature_values)
        parts = (_encode(dict(self.models)), _TO_GIVEN, _encode(self.given), _TO_RULES, _encode(self.rules))
        return b"".join((_TO_FEATURES, features, *parts, self.actions, _BEHIND_RULES, _encode(self.bins)))


def joined_body(head: ServedHead, items: bytes | memoryview, tail: bytes = _TAIL, took_us: int | None = None) -> bytes:
    """Return what ``encode_body`` returns for the same fields.

    Args:
        head: Of the record version ``RECORD_VERSION``.
        items: ``ITEM_FIELDS``, encoded one after another.
        tail: All fields behind them but the last one, encoded; without it each has its default.
        took_us: The last field.
    """
    return b"".join((_BEGIN, _encode(head)[_ARRAY_HEAD:], items, tail, _encode(took_us)))


__all__ = ["ITEM_FIELDS", "RECORD_VERSION", "ServedHead", "ServedTail", "joined_body"]
