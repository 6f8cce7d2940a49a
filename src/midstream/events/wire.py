"""Wire types of events: the fields that a client may send, and the terms on which they are taken.

The structs are the strict form that msgspec decodes into; what a type cannot state (which fields go together, what is
finite, how long a text may be) is checked by ``rows``. Every field, limit and error is described in docs/events.md.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, cast

import msgspec

from midstream.core.errors import MidstreamError

PAGE = "/docs/events.md"
POSITION_MAX = 32_766
"""A position is an int16 with -1 for "not sent"; the largest int16 stays free."""
TIME_SECONDS_END = 100_000_000_000
"""Numbers below are seconds: as milliseconds they would be before March 1973, as seconds they reach the year 5138."""
TIME_MS_MIN = 946_684_800_000
"""2000-01-01T00:00:00Z."""
TIME_MS_END = 4_133_980_800_000
"""2101-01-01T00:00:00Z: the year 2100 is the last one."""
MICROSECONDS_BEGIN = 253_402_300_800_000
"""Numbers from here on are no milliseconds of people: those would be after the year 9999. As microseconds they are
after January 1978, as nanoseconds after 3 January 1970."""
LOG_TIME_MS_END = 1 << 62
"""Log time is copied back from an export, which may come from a simulated clock, so any int64 with a margin will do."""
CONTENT_NESTING_MAX = 32
"""Levels in the content of served, tick, control and erase events: four times what a client may send."""

OPEN_TYPES = frozenset({"impression", "item", "user"})
"""Types beside the configured interactions that a client may send."""

VECTOR_LENGTH_MAX = 1_024
"""Numbers of one vector: 4 KiB an item."""
FLOAT32_MAX = 3.4028234663852886e38
"""Of what is kept as float32."""
_KIND = r"\A(number|category|tags|boolean|vector:([1-9][0-9]{0,2}|10[01][0-9]|102[0-4]))\Z"
AttributeKind: TypeAlias = Annotated[str, msgspec.Meta(pattern=_KIND)]
"""``number``, ``category`` (a text), ``tags`` (several), ``boolean``, or ``vector:8``: a list of eight numbers."""
PlainKind: TypeAlias = Literal["number", "category", "tags", "boolean", "vector"]
"""A kind without its length."""
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
Position: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=POSITION_MAX)]
OperationName: TypeAlias = Literal["put", "patch", "delete", "merge"]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most that one request, one event and one text may hold."""

    id_chars_max: int = 128
    """Characters of an id, a category or a tag. At most 16,383: four UTF-8 bytes each fill a row's 16-bit length."""
    body_bytes_max: int = 262_144
    """256 KiB: 500 events of 500 bytes, which decode in about 2 ms, so one request never holds a turn for long."""
    events_max: int = 500
    nesting_max: int = 8
    """Levels of objects and arrays in one event, the event itself being the first."""
    free_bytes_max: int = 4_096
    """Bytes of a context, and of an event's attributes that are not declared, as compact JSON."""
    order_items_max: int = 100
    """Items of one event: as many as a slate may have."""
    rows_max: int = 5_000
    """Rows of the log: each item of an event with ``items`` is one. 500 events of ten items on average, or 250 whole
    slates of 20; at 2 µs a row they take the decoding thread 10 ms."""
    text_bytes_max: int = 4_194_304
    """4 MiB of text in those rows, which repeat their event's ids and context: 800 bytes for each of 5,000 rows. A
    body of 256 KiB cannot become more than 16 times itself."""
    tags_max: int = 100
    """Entries of one tags attribute; the state keeps the first ``item_tags_max`` of them."""


class Accept(msgspec.Struct, frozen=True):
    """The terms on which events are taken: what is configured, who sends, and how much."""

    actions: frozenset[str]
    """Configured interaction names."""
    now_ms: int
    """Used in messages alone ("such as …"): to judge lateness is the fold's."""
    limits: Limits = Limits()
    attributes: Mapping[str, AttributeKind] = {}
    """Declared item attributes and their kinds. Values of others are kept as they came, within ``free_bytes_max``."""
    open_types: frozenset[str] = OPEN_TYPES
    """Of those, the ones that are taken here: a route of items takes no others."""
    forbidden: frozenset[str] = frozenset()
    """Types that the sender's API key does not allow, none of ``open_types``: such an event is no dead letter, as a
    retry would record it with the rights of another key."""
    against: frozenset[str] = frozenset()
    """Of ``actions`` those against an item: no unknown type is said to be near one of them."""
    trusted: bool = False
    """May send served, tick, control and erase events, and log times: imports of an export, not clients."""
    takes_reserved: bool = False
    """May name the users whom the engine reserves: its freshness probe, not clients."""


class WireItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One item of an event that has several: a line of an order, a tile of a slate that was seen."""

    item_id: Text
    value: float | None = None
    quantity: float | None = None
    position: Position | None = None


class WireEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One event as a client sends it. ``null`` is the same as a field that was not sent."""

    type: str
    event_id: Text | None = None
    user_id: Text | None = None
    session_id: Text | None = None
    item_id: Text | None = None
    items: list[WireItem] | None = None
    time: int | float | str | None = None
    value: float | None = None
    quantity: float | None = None
    position: Position | None = None
    request_id: Text | None = None
    context: dict[str, str | int | float | bool] | None = None
    operation: OperationName | None = None
    # The value of an attribute is any JSON: its declared kind, if it has one, is known at run time only.
    attributes: dict[str, Any] | None = None
    content: dict[str, Any] | None = None
    content_base64: str | None = None
    log_time: int | None = None


class WireEnvelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """``{"events": [...]}``."""

    events: list[WireEvent]


EVENT_FIELDS = WireEvent.__struct_fields__
ITEM_FIELDS = WireItem.__struct_fields__
TRUSTED_FIELDS = frozenset({"content", "content_base64", "log_time"})
"""Fields that only a trusted caller may send, so no message offers them to others."""
ID_FIELDS = ("event_id", "user_id", "item_id", "session_id", "request_id")


def plain_kind(kind: AttributeKind) -> PlainKind:
    """Return a kind without its length.

    Example:
        >>> plain_kind("vector:8")
        'vector'
    """
    return cast("PlainKind", kind.partition(":")[0])


def vector_length(kind: AttributeKind) -> int:
    """Return how many numbers a vector has, 0 = it is none.

    Example:
        >>> vector_length("vector:8"), vector_length("number")
        (8, 0)
    """
    return int(kind.partition(":")[2] or 0)


class Refused(MidstreamError):
    """An event cannot be taken; becomes a ``Fault`` where it is known which event of a request it is."""

    def __init__(self, path: tuple[str | int, ...], right: str, came: str = "") -> None:
        """Keep where in the event, what would be right, and what came if the value alone does not say it."""
        super().__init__(right)
        self.path = path
        self.right = right
        self.came = came


def right_of(field: str, accept: Accept) -> str:
    """Return what a field of an event or of one of its items may hold, as a phrase."""
    limits = accept.limits
    if field in ID_FIELDS:
        return f"Text of 1 to {limits.id_chars_max} characters, none of them a control character."
    return {
        "type": "Text: a configured interaction, or impression, item, user.",
        "items": f"A list of 1 to {limits.order_items_max} objects of item_id, value, quantity and position.",
        "time": (
            f"Milliseconds since 1970 as a whole number, such as {accept.now_ms}, or ISO 8601 text with a zone, "
            'such as "2026-01-31T12:00:00Z"; within the years 2000 to 2100.'
        ),
        "value": "A finite number.",
        "quantity": (
            "A finite number from 0 to 3.4e38; what came back or was cancelled is an event of a type of its own, such "
            'as "return" with a negative weight in [events.types].'
        ),
        "position": f"A whole number from 0 (the first place) to {POSITION_MAX}.",
        "context": f"An object of text, numbers and booleans, at most {limits.free_bytes_max} bytes.",
        "operation": "put, patch, delete, or of users merge.",
        "attributes": "An object: names of attributes and their values.",
        "content": f"An object of at most {CONTENT_NESTING_MAX} levels.",
        "content_base64": "Text in base64.",
        "log_time": "Milliseconds since 1970 as a whole number.",
    }[field]
