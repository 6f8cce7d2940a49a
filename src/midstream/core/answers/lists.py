"""Pages of lists, as they are written: rows, and the cursor of the next page."""

import msgspec


class ListedItem(msgspec.Struct, frozen=True):
    """An item of a list."""

    item_id: str
    available: bool
    in_catalogue: bool
    attributes: dict[str, object]
    """All, or those of ``fields``."""


class ItemPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Items in the order in which they became known."""

    items: list[ListedItem]
    scanned: int
    """Items that were looked at for this page."""
    next_cursor: str | None = None
    """None = the list ends here."""


class ListedUser(msgspec.Struct, frozen=True):
    """A user of a list."""

    user_id: str
    """The id of the user's newest event."""
    first_seen: int | None
    last_seen: int | None
    counts: dict[str, int]
    attributes: dict[str, object]


class UserPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Users, the one seen last first."""

    users: list[ListedUser]
    scanned: int
    """Events of the log that were looked at for this page."""
    next_cursor: str | None = None


class EventPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Events of one user, the newest first, each with the fields of docs/events.md and its log time."""

    events: list[dict[str, object]]
    scanned: int
    next_cursor: str | None = None


class ListedRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A served slate of a list; ``GET /v1/requests/{request_id}`` has all of it."""

    request_id: str
    placement: str
    time: int
    tier: str
    items: tuple[str, ...]
    user_id: str | None = None
    session_id: str | None = None
    took_us: int | None = None
    """Microseconds from the request's admission to its slate; left out where it was not measured."""


class AuditRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change: who made it, from where, and by which route."""

    time: int
    """Log time, just behind the change."""
    who: str
    """``key:ID``, ``cli:USER``, or ``anonymous``."""
    address: str
    method: str
    route: str
    target: str = ""
    """Name in the path; left out where it has none, or a user's."""
    status: int = 200


class AuditPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Changes, the newest first."""

    changes: list[AuditRow]
    scanned: int
    next_cursor: str | None = None


class RequestPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Served slates, the newest first."""

    requests: list[ListedRequest]
    scanned: int
    next_cursor: str | None = None


class RankedUser(msgspec.Struct, frozen=True):
    """A user of a ranking."""

    user_id: str | None
    """The id of the user's last act; None = retention has cut it from the log."""
    score: float
    last_seen: int


class UserRanking(msgspec.Struct, frozen=True):
    """Users, the highest score first."""

    users: list[RankedUser]
    scanned: int
    """Users who were looked at."""


class RankedValue(msgspec.Struct, frozen=True):
    """A value of an attribute, for one user."""

    value: str
    score: float
    """Half of ``own`` and half of ``near``."""
    own: float
    """Share in the affinities of the user, 0 to 1."""
    near: float
    """Mean share in those of similar users, weighted by their similarity."""


class ValueRanking(msgspec.Struct, frozen=True):
    """Values of one attribute, the highest score first."""

    attribute: str
    values: list[RankedValue]
    neighbours: int
    """Similar users whose affinities count."""
