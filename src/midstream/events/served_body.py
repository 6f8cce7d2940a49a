"""The wire form of a served record: one MessagePack array, field by field in the order of ``ServedBody``.

The ranking writes it, whatever reads the log (a record by its request, the join of outcomes) reads it. Numbers of the
items are packed as little-endian float32, sources as bits: 20 items with ids of 12 characters take about 0.7 kB.
"""

from typing import TypeAlias

import msgspec

RECORD_VERSION = 12
TOOK_US_MAX = (1 << 32) - 1
"""Five bytes of a record: 71 minutes, beyond the deadline of any request."""
Value: TypeAlias = str | float | bool


class ServedBody(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """The array, in its order. Fields are only ever added at the end, with a default and a higher version.

    So a record of an earlier version reads as one without them: the log outlives the releases that wrote it. It is made
    by name alone, which costs 4 µs more than by place: two fields of a type that changed places would be read for ever.
    """

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
    context: dict[str, Value]
    fetched: dict[str, bytes]
    """Fetched columns of the items ``fetched_ids``, by name, each compressed with zlib: a number each, little-endian,
    NaN = unknown, or sent by the caller; float32 where those hold each number exactly, else float64. Those of the user
    are among ``context``. Empty before version 8."""
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
    ids: tuple[str, ...]
    scores: bytes
    propensities: bytes
    """Empty = 1 for each, as with any choice without chance."""
    source_bits: tuple[int, ...]
    item_fields: dict[str, dict[str, float]] = {}
    """What the caller sent of items."""
    feature_names: tuple[str, ...] = ()
    """Columns of ``feature_values``; none = the request is not among those whose values are kept."""
    feature_values: bytes = b""
    """Of each item of the slate, in its order: a float32 a column, little-endian, NaN = unknown."""
    models: dict[str, str] = {}
    """Version of each model that the plan read, by name."""
    given: tuple[str, ...] = ()
    """The caller's own items, in the caller's order."""
    taken: tuple[str, ...] = ()
    """Items of the page's earlier slates."""
    spare: int = 0
    page_id: str = ""
    trace_rules: tuple[str, ...] = ()
    """Names of the rules of the slate that did something."""
    traces: bytes = b""
    """Four bytes an action: number of the rule; number of the word, 128 more where the item has a text in
    ``trace_ids``; position, two bytes, little-endian, 65,535 = none. Before version 7 one byte, 255 = none."""
    trace_ids: tuple[str, ...] = ()
    """Of each action whose item is not the one at its position, in order; "" = no item."""
    order_max: int = 0
    order_ids: tuple[str, ...] = ()
    """What comes after the slate, for requests that continue it; with scores, propensities and bits as the slate's."""
    order_scores: bytes = b""
    order_propensities: bytes = b""
    order_bits: tuple[int, ...] = ()
    order_lengths: tuple[int, ...] = ()
    """Of the slates that it is."""
    continues: str = ""
    """Request id of the slate whose order this one reads on in."""
    turn: int = 0
    first_position: int = 0
    fetched_ids: bytes = b""
    """A MessagePack array of texts, compressed with zlib; empty = no item."""
    fetched_context: tuple[str, ...] = ()
    """Names of ``context`` that were fetched."""
    rerunnable: bool = True
    """False = what was asked from outside exceeds the bytes of a record: of fetched columns it has those of the slate's
    items, of scores none."""
    outside_scores: bytes = b""
    """Scores that a server gave the candidates: eight bytes that stand for their ids, then a float32 each in the order
    of the ids, little-endian, compressed with zlib. Empty = they are of a part that computes them anew."""
    proposed: dict[str, bytes] = {}
    """What sources proposed that ask an index of vectors, by name: an int32 for each item, the index of this fold
    version, then a float32 for the score of each, little-endian. Empty before version 10."""
    bins: tuple[bytes, ...] = ()
    """What models read that learn on from outcomes, one for each: eight bytes that stand for the inputs and their bins,
    four for the position of the first item, then a byte an input for each item of the slate, in its order. Empty before
    version 11."""
    took_us: int | None = None
    """Microseconds from the request's admission by the engine to its slate, by the monotonic clock, at most
    ``TOOK_US_MAX``. A measurement, which no rerun reproduces. None = not measured, as before version 12."""


REQUIRED_COUNT = sum(each.required for each in msgspec.structs.fields(ServedBody))
"""Fields that every version has."""
_MICROSECONDS = 1e6
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ServedBody).decode


def microseconds(seconds: float) -> int:
    """Return a measured time as a record holds it: whole microseconds, from 0 to ``TOOK_US_MAX``."""
    return min(TOOK_US_MAX, max(0, round(seconds * _MICROSECONDS)))


def encode_body(body: ServedBody) -> bytes:
    """Return the bytes of a served event's body."""
    return _encode(body)


def decode_body(body: bytes) -> ServedBody:
    """Return what the bytes of a served event's body say.

    Raises:
        ValueError: They are no record, or one of a later version.
    """
    told = _decode(body)
    if not 1 <= told.version <= RECORD_VERSION:
        message = f"a served record of version {told.version} where those up to {RECORD_VERSION} are read"
        raise ValueError(message)
    return told
