"""Session data sets for the next-item protocol, and a file of sessions split by time."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from midstream.core.errors import Fault, Invalid
from midstream.evaluation.data.interactions import InteractionTable, by_time, with_sessions
from midstream.evaluation.data.tables import PAGE, FileColumns, read_table


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Train and test part."""

    learned: InteractionTable
    asked: InteractionTable


@dataclass(frozen=True, slots=True)
class NextItemData:
    """A data set for the next-item protocol. Nothing is read before it is called for."""

    name: str
    choosing: Callable[[], Split]
    """Settings may be chosen on this."""
    reporting: Callable[[], Split]
    """Read once, after the settings are written down."""
    repeat: bool
    """The last item of the session may be recommended again."""
    last_only: bool = False
    """Only the last act of each session is a question: leave-one-out."""
    unseen: bool = False
    """Nothing that the session has had before may be recommended."""
    validation_learned: bool = True
    """The validation part is learned before the test."""
    k: int = 20
    """Length of the lists that published figures are of."""


def of_file(path: Path, columns: FileColumns, *, repeat: bool = False, gap_ms: int = 1_800_000) -> NextItemData:
    """Return any file as a data set: the last tenth of its sessions is the test part, the tenth before it validation.

    Args:
        path: CSV, TSV, either as .gz, or Parquet.
        columns: Names of its columns. Without a session column, sessions are the acts of a user between gaps.
        repeat: The last item may be recommended again.
        gap_ms: Gap that ends a session, where the file has no sessions.
    """

    def rows() -> InteractionTable:
        found = read_table(path, columns)
        return found if columns.session else with_sessions(found, gap_ms)

    return of_rows(path.name, rows, repeat=repeat)


def of_rows(name: str, rows: Callable[[], InteractionTable], *, repeat: bool = False) -> NextItemData:
    """Return interactions with sessions as a data set; the parts are those of ``of_file``."""

    def choosing() -> Split:
        train, valid, _ = cut_by_time(rows())
        return Split(train, valid)

    def reporting() -> Split:
        train, valid, test = cut_by_time(rows())
        return Split(_joined(train, valid), test)

    return NextItemData(name, choosing, reporting, repeat=repeat)


def cut_by_time(
    interactions: InteractionTable, shares: tuple[float, float] = (0.8, 0.9)
) -> tuple[InteractionTable, InteractionTable, InteractionTable]:
    """Return three parts, each by time: sessions that began before the first share of all sessions had, and so on.

    No session is in two parts, and no part holds a session that began before one of the part before.

    Raises:
        Invalid: There are fewer than three sessions.
    """
    rows = by_time(interactions)
    session, first_row = np.unique(rows.session_id, return_index=True)
    if len(session) < 3:  # noqa: PLR2004  one a part
        raise Invalid((Fault("sessions", f"{len(session)} sessions", "three at least, one a part", PAGE),))
    order = np.argsort(first_row)
    place = np.empty(len(session), dtype=np.intp)
    place[order] = np.arange(len(session))
    part_of = place[np.searchsorted(session, rows.session_id)]
    middle = min(max(1, round(len(session) * shares[0])), len(session) - 2)
    last = min(max(middle + 1, round(len(session) * shares[1])), len(session) - 1)
    first, second, third = (
        rows.take((part_of >= low) & (part_of < high)) for low, high in pairwise((0, middle, last, len(session)))
    )
    return first, second, third


def _joined(first: InteractionTable, second: InteractionTable) -> InteractionTable:
    """Return all rows of both, by time."""
    return by_time(
        replace(
            first,
            user_id=np.concatenate([first.user_id, second.user_id]),
            session_id=np.concatenate([first.session_id, second.session_id]),
            item_id=np.concatenate([first.item_id, second.item_id]),
            action=np.concatenate([first.action, second.action]),
            time_ms=np.concatenate([first.time_ms, second.time_ms]),
        )
    )
