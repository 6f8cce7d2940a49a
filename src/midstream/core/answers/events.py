"""Answers to events: the outcome of each event of a request, and of a stream."""

import msgspec


class Rejection(msgspec.Struct, frozen=True):
    """One event that was not recorded, or one item of it, and why."""

    index: int
    """Of the event in the request, from 0."""
    pointer: str
    came: str
    right: str
    page: str


class Result(msgspec.Struct, frozen=True):
    """What became of one event: ``recorded``, ``duplicate``, ``conflict`` or ``rejected``."""

    index: int
    outcome: str


class EventsAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The acknowledgement: everything counted as recorded or as a duplicate is durable and applied."""

    recorded: int
    duplicates: int
    rejected: tuple[Rejection, ...]
    conflicts: int = 0
    """Events whose id was recorded before with other content; the first one is kept."""
    without_dedupe: int = 0
    """Rows with neither ``event_id`` nor ``time``: sent again, they count again."""
    log_position: str | None = None
    """Token: a recommendation with this ``min_log_position`` sees all of it. Absent after a dry run."""
    results: tuple[Result, ...] = ()
    """Every event that was not recorded, or every event on request."""
    dry_run: bool = False

    @property
    def nothing_taken(self) -> bool:
        """Whether events came and none of them is in the log."""
        return not (self.recorded or self.duplicates) and bool(self.rejected or self.conflicts)


class RetractedEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One act that was taken back."""

    type: str
    item_id: str
    time: int
    """Event time, milliseconds since 1970."""
    event_id: str = ""
    """Left out where it has none."""


class RetractionAnswer(msgspec.Struct, frozen=True):
    """The acknowledgement of a retraction: it is durable and applied."""

    retracted: int
    """Acts that were taken back now: one, or a row for each item of an event with several."""
    already_retracted: int
    """Acts that had been taken back before; nothing was done to them."""
    events: tuple[RetractedEvent, ...]
    """Both, in the order of the log."""
    log_position: str
    """Token: a recommendation with this ``min_log_position`` no longer goes by them."""


class BulkAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The acknowledgement of a stream: all that is counted as recorded or as a duplicate is durable and applied.

    Of a stream that broke, or of which nothing was taken, it is a problem document as well.
    """

    recorded: int
    duplicates: int
    rejected: int
    rejections: tuple[Rejection, ...]
    """The first ``REJECTIONS_MAX`` rejections, one for each item of an event."""
    conflicts: int = 0
    without_dedupe: int = 0
    log_position: str | None = None
    dry_run: bool = False
    type: str = ""
    title: str = ""
    status: int = 200
    detail: str = ""
    pointer: str | None = None
    """Where it broke: a line, a row or a message."""
    came: str = ""
    right: str = ""
    page: str = ""
    retry_after: int = 0

    @property
    def nothing_taken(self) -> bool:
        """Whether events came and none of them is in the log."""
        return not (self.recorded or self.duplicates) and bool(self.rejected or self.conflicts)
