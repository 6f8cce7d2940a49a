"""Dead letters, as files and answers hold them: rejected events, pages of them, and results of a retry or removal."""

from collections.abc import Mapping

import msgspec

from midstream.core.errors import Fault


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rejected event."""

    time_ms: int
    reason: Fault
    raw: str
    """The event as it arrived; bytes that are no UTF-8 are written as backslash escapes."""
    characters_cut: int = 0
    """Number of characters cut off the end of ``raw`` to keep within the maximum of one letter."""
    item: int = -1
    """Index of the rejected item in the event's ``items``, since items are rejected separately; -1 = the whole
    event."""
    tries: int = 0
    """Number of rejected retries."""
    number: int = 0
    """Rises by one from 1 with each letter, and stays; 0 = not kept yet."""
    origin: Mapping[str, str] = {}
    """Topic, partition, position and headers of the message that it came in; empty = it came in no message."""


class LetterPage(msgspec.Struct, frozen=True):
    """A page of the letters, the newest first."""

    letters: list[DeadLetter]
    kept: int
    """Letters in all."""
    bytes_kept: int
    """Size of their files, at most 32 MiB."""
    next: int | None
    """To be sent as ``after`` for the next page, None = this was the last."""


class RetriedLetters(msgspec.Struct, frozen=True):
    """Results of a retry: tried = recorded + duplicates + refused."""

    tried: int
    recorded: int
    """In the log now, and no letters any more; of an order, when at least one of its items is."""
    duplicates: int
    """In the log before, and no letters any more."""
    refused: int
    """Refused again, and kept with the reason of today, unless its user was erased."""
    missing: tuple[int, ...] = ()
    """Numbers under which there is no letter."""
    last: int | None = None
    """Highest number that was tried, None = none was: where to go on from."""


class RemovedLetters(msgspec.Struct, frozen=True):
    """Results of a removal."""

    removed: int
    missing: tuple[int, ...] = ()
    """Numbers under which there was no letter."""
    last: int | None = None
    """Highest number of the request, None = it had none: where to go on from."""
