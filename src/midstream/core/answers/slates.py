"""Answers with slates: of one request, of a page, and of many users."""

from collections.abc import Mapping
from typing import Any

import msgspec

from midstream.core.answers.events import EventsAnswer
from midstream.core.answers.explanations import SlateWhy
from midstream.core.answers.problems import Problem


class SlateItem(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One item of a slate."""

    id: str
    score: float | None
    """None = the scorer gave it none, as a pinned item may have."""
    position: int
    # Attributes are any JSON; ``object`` is no type of a schema.
    fields: Mapping[str, Any] | None = None
    reason: str | None = None
    """Reason of the item, for visitors."""


class FailedPart(msgspec.Struct, frozen=True, gc=False):
    """A part of the plan that did not answer."""

    part: str
    reason: str


class RemovedItem(msgspec.Struct, frozen=True, gc=False):
    """One of the caller's own items that may not be served, and the name of its filter."""

    id: str
    filter: str


class Slate(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """Answer to a request."""

    request_id: str
    placement: str
    items: list[SlateItem]
    tier: str
    applied_log_position: str
    state_age_ms: int
    config_hash: str
    read_your_writes: bool | None = None
    failures: tuple[FailedPart, ...] = ()
    events: EventsAnswer | None = None
    """Outcomes of the request's events."""
    events_problem: Problem | None = None
    """Instead: why they are not acknowledged. The slate was made without them."""
    models: Mapping[str, str] = {}
    """Version of each model that the placement reads, by name."""
    removed: tuple[RemovedItem, ...] = ()
    """Of a ranking: the items that may not be served."""
    not_selected: int = 0
    """Of a ranking: number of the other items without a position."""
    explanation: SlateWhy | None = None
    cursor: str | None = None
    """Continues the slate: sent in the next request. None = not requested, or no item is left."""
    unexplained: Mapping[str, str] = {}
    """Missing part of the request (``explanation``, ``reasons``), or the source of a missing reason, with the cause."""
    experiment: str = ""
    """Experiment that chose how to answer, or ``holdout``; left out = none did."""
    variant: str = ""
    """Its variant."""
    because: str = ""
    """Of a row of a page: the item of the visitor's own acts that it goes by; left out = it goes by none."""


class PageSlate(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Result of one placement of a page: a slate, or an error."""

    placement: str
    slate: Slate | None = None
    problem: Problem | None = None


class Page(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Answer to a page: slates in the order of the placements."""

    page_id: str
    slates: list[PageSlate]
    events: EventsAnswer | None = None
    """Outcomes of the request's events."""
    events_problem: Problem | None = None
    """Instead: why they are not acknowledged. The slates were made without them."""


class UserSlate(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Result of one user: a slate, or an error."""

    user_id: str
    slate: Slate | None = None
    problem: Problem | None = None


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Answer to a batch, in the order of the users."""

    answers: list[UserSlate]


class PreviewSlates(msgspec.Struct, frozen=True):
    """Slates of a preview, one of the draft and one of today; request ids are empty, because nothing is kept."""

    preview: Slate
    today: Slate | None
    """None = there is no placement of that name."""
