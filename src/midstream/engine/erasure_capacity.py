"""Capacity for pending erasures, with a separate quota for unknown ids.

The state keeps ``erased_max`` erased ids: it hides their events until the log is rewritten. An id without a row in the
state may be made up; it may also be of a user whose row was evicted and whose events the log still has, so it is erased
like any other. Such ids may take half of the places at most; the other half is for known users. An id takes one place,
however often it is erased, and so does each id that was merged into it.

When the places of either kind run out, the log is rewritten early, which frees all of them; until then an erase is
refused with a time for its retry.
"""

from math import ceil
from typing import TYPE_CHECKING

from midstream.core.errors import ErasuresFull

if TYPE_CHECKING:
    from collections.abc import Callable

    from midstream.state.fold import Fold

CROWDED_SHARE = 0.9
"""Share of the unknown ids' places from which a rewrite is requested. The rest, 500 of 10,000, are for erasures
during the rewrite: minutes, at some a second."""
UNTOLD_WAIT_S = 24 * 3_600
"""Where nothing rewrites the log, such as one in memory: late copies are refused, and remembered, for a day."""


def _nothing() -> None:
    """Begin no rewrite."""


def _untold() -> float:
    return UNTOLD_WAIT_S


class ErasurePlaces:
    """Admission of erasures, which requests a rewrite when places run out."""

    def __init__(self) -> None:
        """Begin without anything that rewrites the log."""
        self.when_crowded: Callable[[], None] = _nothing
        """Called whenever an erase finds that places run out: begins a rewrite, or lets it be."""
        self.room_in_s: Callable[[], float] = _untold
        """Says in how many seconds places are free again."""

    def take(self, fold: "Fold", user_id: str) -> None:
        """Admit an erase that has a place.

        Args:
            fold: The state before it.
            user_id: The user to be erased.

        Raises:
            ErasuresFull: There is none for an id of this kind.
        """
        vocabulary, places = fold.vocabulary, fold.settings.limits.erased_max
        waiting = {row.user_hash for row in vocabulary.erasures.pending}
        user = vocabulary.user_hash_of(user_id)
        wanted = {user, *vocabulary.aliases.members(user).tolist()} - waiting
        for_unknown = unknown_max(places)
        if len(waiting) + len(wanted) > CROWDED_SHARE * for_unknown:
            self.when_crowded()
        is_known = vocabulary.user_slot(user) >= 0
        # One that is more than all places together is taken by itself: the oldest rows make room for the newest.
        if waiting and wanted and len(waiting) + len(wanted) > (places if is_known else for_unknown):
            kind = "erased ids" if is_known else "erased ids, as many as ids that are not known may make,"
            message = f"{len(waiting)} {kind} wait for the log to be rewritten"
            raise ErasuresFull(message, ceil(max(1.0, self.room_in_s())))


def unknown_max(erased_max: int) -> int:
    """Return the number of places for ids without a row in the state."""
    return (erased_max + 1) // 2
