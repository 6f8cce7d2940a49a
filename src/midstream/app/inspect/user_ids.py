"""Ids of a folder's users: the state has hashes alone, so they are read from the log."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from midstream.app.inspect.folder_view import LogView
from midstream.core.errors import Fault, Invalid
from midstream.engine.snapshots.base_state import everything
from midstream.events.schema import event_at
from midstream.state.fold import Fold
from midstream.state.ids.erased_users import hash_column
from midstream.state.structures.hashing import id_hash

PAGE = "/docs/cli.md"
_USER_TEXT = 2


def known_users(fold: Fold, log: LogView, notify: Callable[[int, int], None] | None = None) -> Iterator[str]:
    """Yield each user that a state has a row of, once, in the order in which the log first names them.

    An id that was merged into another one is none of its own; an erased or evicted user is not known.

    Args:
        fold: The state at the end of the log.
        log: Of the folder.
        notify: Told how many events were read, of how many.

    Cost: one pass over the log, 0.1 µs an event; 40 bytes a user while it goes on.
    """
    if log.reader is None:
        return
    seen: set[int] = set()
    for first, batch in everything(log.reader, log.end):
        hashes = hash_column(batch, _USER_TEXT, fold.vocabulary.id_key)
        found, places = np.unique(hashes, return_index=True)
        for place in np.sort(places[found != 0]).tolist():
            user = int(hashes[place])
            if user in seen:
                continue
            seen.add(user)
            if fold.vocabulary.user_slot(user) >= 0:
                yield event_at(batch, place).user_id
        if notify is not None:
            notify(first + len(batch), log.end)


def listed_users(path: Path) -> Iterator[str]:
    """Yield the ids of a file, one a line, each once; empty lines are none.

    Raises:
        Invalid: There is no such file, or it is no text.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        right = "A text file with a user id on each line."
        why = f"byte {error.start} is no UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise Invalid((Fault("--users", f"{path.name} cannot be read: {why}.", right, PAGE),)) from error
    yield from dict.fromkeys(line.strip() for line in lines if line.strip())


def matches(fold: Fold, user_id: str, wanted: tuple[tuple[str, str], ...]) -> bool:
    """Say whether the profile of a user has each of some values, compared as text; true and false as in JSON."""
    slot = fold.vocabulary.user_slot(id_hash(user_id, fold.vocabulary.id_key))
    return not wanted or (slot >= 0 and all(_text(fold.users.value(slot, name)) == value for name, value in wanted))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
