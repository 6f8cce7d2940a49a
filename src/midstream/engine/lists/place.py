"""Places in the log at which pages begin and end."""

from midstream.engine.lists.list_cursor import ListCursor, ListName, refused, write_cursor
from midstream.engine.lists.log_walk import continues
from midstream.engine.live import LiveState


def begin_of(live: LiveState, at: ListCursor | None) -> int:
    """Return the log position before which a page begins; without a cursor the end of what is folded.

    Raises:
        RequestInvalid: The log was rewritten, repaired or restored since the cursor was made.
    """
    end = min(int(live.log.end), int(live.fold.log_position))
    if at is None:
        return end
    if at.generation != live.log.generation or at.position > end:
        raise refused("The log was rewritten, repaired or restored since this cursor was made.")
    return at.position


def cursor_at(live: LiveState, name: ListName, asked: object, position: int) -> str:
    """Return the cursor of a page that begins before a log position."""
    return write_cursor(ListCursor(position, live.log.generation), name, asked, live.host.request_ids)


def cursor_behind(live: LiveState, name: ListName, asked: object, walked: tuple[int, int]) -> str | None:
    """Return the cursor behind a walk from its first to its second position; None = the log begins there."""
    return cursor_at(live, name, asked, walked[1]) if continues(*walked) else None
