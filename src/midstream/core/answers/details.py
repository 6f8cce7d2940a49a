"""Answers about one item and one user, and events as they are listed: the fields of what lookups return."""

import msgspec


class ItemDetail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """State of an item: attributes, whether it can be served, acts by window."""

    item_id: str
    available: bool
    in_catalogue: bool
    attributes: dict[str, object]
    counts: dict[str, dict[str, int]]
    """By action and window, such as 1h."""


class RecentAct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An act of a user on an item."""

    item_id: str
    action: str
    time: int


class SeenItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An item that a user saw."""

    item_id: str
    count: int
    time: int
    """Of the newest impression."""


class Leaning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Affinity of a user to a value of an attribute."""

    value: str | None
    weight: float


class UserDetail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """State of a user, under any of its ids."""

    user_id: str
    attributes: dict[str, object]
    counts: dict[str, int]
    """By action."""
    first_seen: int | None
    last_seen: int | None
    recent: list[RecentAct]
    """Oldest first."""
    impressions: list[SeenItem]
    """Oldest first."""
    leanings: dict[str, list[Leaning]]
    """By attribute, the strongest first."""
    sessions: list[list[str]]
    """Items of the open sessions, the newest session first."""
    merged_ids_count: int


class LoggedEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An event of the log, with the fields that it has."""

    type: str
    log_time: int
    event_id: str = ""
    user_id: str = ""
    session_id: str = ""
    item_id: str = ""
    time: int | None = None
    value: float | None = None
    quantity: float | None = None
    position: int | None = None
    request_id: str = ""
    operation: str = ""
    attributes: dict[str, object] | None = None
    context: dict[str, object] | None = None
    content: dict[str, object] | None = None
    """Of kinds that the engine writes."""
    content_base64: str = ""
    """The same where it is no JSON of this form."""
    retracted: bool = False
    """Whether the act was taken back since."""
