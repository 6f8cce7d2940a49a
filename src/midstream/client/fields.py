"""Fields of questions as keyword arguments: names, types and meaning are those of docs/http.md."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from midstream.client.requests import Event, Events

Value = str | float | bool


class CommonFields(TypedDict, total=False):
    """Of every question."""

    context: Mapping[str, Value]
    item_fields: Mapping[str, Mapping[str, float]]
    exclude: Sequence[str]
    min_log_position: str | None
    """Instead of the remembered one."""
    deadline: str | None
    """Such as ``50ms``."""
    explain: bool
    reasons: str | None


class PlacementFields(CommonFields, total=False):
    """Of a question to one placement."""

    filter: str | None
    fields: Sequence[str]
    n: int | None


class ItemSlateFields(TypedDict, total=False):
    """Of similar items and of a search, which are questions in a query string."""

    user_id: str | None
    session_id: str | None
    context: Mapping[str, Value]
    exclude: Sequence[str]
    min_log_position: str | None
    deadline: str | None
    explain: bool
    reasons: str | None
    filter: str | None
    fields: Sequence[str]
    n: int | None


class RecommendationFields(PlacementFields, total=False):
    """Of a recommendation."""

    user_id: str | None
    session_id: str | None
    items: Sequence[str]
    events: Events
    """Recorded first, each with an event id."""
    cursor: str | bool


class RankFields(PlacementFields, total=False):
    """Of a ranking of the caller's items."""

    user_id: str | None
    session_id: str | None
    basket: Sequence[str]
    events: Events


class PageFields(CommonFields, total=False):
    """Of a page."""

    user_id: str | None
    session_id: str | None
    items: Sequence[str]
    events: Events


class ListFields(TypedDict, total=False):
    """Of a list of items or users."""

    filter: str | None
    fields: Sequence[str]
    limit: int
    """Rows of one request; the iterator goes over all pages."""


class RankingFields(TypedDict, total=False):
    """Of a ranking of users or of values."""

    n: int


class PastFields(TypedDict, total=False):
    """Of a read of features as of a past moment."""

    features: Sequence[str]
    """All that are declared, when left out."""
    user_id: str | None
    session_id: str | None


class FeatureFields(TypedDict, total=False):
    """Of a read of features."""

    features: Sequence[str]
    """All that are declared, when left out."""
    user_id: str | None
    session_id: str | None
    item_fields: Mapping[str, Mapping[str, float]]
    context: Mapping[str, Value]
    min_log_position: str | None


class PreviewFields(TypedDict, total=False):
    """Of the question of a preview."""

    user_id: str | None
    session_id: str | None
    items: Sequence[str]
    context: Mapping[str, Value]
    item_fields: Mapping[str, Mapping[str, float]]
    exclude: Sequence[str]
    filter: str | None
    fields: Sequence[str]
    n: int | None


class TimedFields(TypedDict, total=False):
    """Of a list that is read from the log."""

    since: int | str
    until: int | str
    limit: int


class EventListFields(TimedFields, total=False):
    """Of the events of a user."""

    type: Sequence[str]


class RequestListFields(TimedFields, total=False):
    """Of served slates."""

    user_id: str | None
    placement: str | None


class LetterListFields(TypedDict, total=False):
    """Of a list of dead letters."""

    limit: int


class LetterFields(TypedDict, total=False):
    """Of the removal of dead letters."""

    all: bool
    """Every letter, 1,000 a call, in place of numbers."""
    after: int | None
    """With ``all``: begin behind this number, ``last`` of the answer before."""


class RetryFields(LetterFields, total=False):
    """Of a retry of dead letters."""

    event: Event | None
    """Sent in place of the event of the one letter."""


class ChangeFields(TypedDict, total=False):
    """Of a change of an item or a user."""

    time: int | str | None
    event_id: str | None
    """Left out, the client makes one."""


__all__ = [
    "ChangeFields",
    "CommonFields",
    "Event",
    "EventListFields",
    "Events",
    "FeatureFields",
    "ItemSlateFields",
    "LetterFields",
    "LetterListFields",
    "ListFields",
    "PageFields",
    "PastFields",
    "PlacementFields",
    "PreviewFields",
    "RankFields",
    "RankingFields",
    "RecommendationFields",
    "RequestListFields",
    "RetryFields",
    "TimedFields",
    "Value",
]
