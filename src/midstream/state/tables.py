"""Table registry of the fold: each table is one entry, and their order is that in which a step is handed to them.

A table is built from, and may read, those above it. The name of a table is that of its arrays in snapshots and digests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from midstream.core.errors import TableMissing
from midstream.core.protocols import StateTable
from midstream.state.cells.cells import Cells
from midstream.state.cells.coverage import CountCoverage, counted_bytes
from midstream.state.cells.layout import cell_bytes
from midstream.state.control.input_positions import TABLE_BYTES_MAX as INPUT_BYTES_MAX
from midstream.state.control.input_positions import InputPositions
from midstream.state.control.placements import TABLE_BYTES_MAX, Placements
from midstream.state.control.promotions import PROMOTION_BYTES, PROMOTIONS_MAX, Promotions
from midstream.state.control.retractions import RETRACTION_BYTES, RETRACTIONS_MAX
from midstream.state.ids.aliases import alias_bytes
from midstream.state.ids.compacted_items import Dropped
from midstream.state.ids.erased_users import erasure_bytes
from midstream.state.ids.event_ids import EventIds, event_id_bytes
from midstream.state.ids.vocabulary import Vocabulary, vocabulary_bytes
from midstream.state.items.items import Items, item_bytes
from midstream.state.online.online_models import OnlineModels, online_bytes
from midstream.state.outcomes.outcomes import Outcomes, outcome_bytes
from midstream.state.outcomes.requests import Requests, request_bytes
from midstream.state.pairs.covisitation import Pairs, pair_bytes
from midstream.state.search.text_index import text_index_bytes
from midstream.state.segments.segments import Segments, segment_bytes
from midstream.state.sessions.session_index import SessionIndex, session_index_bytes
from midstream.state.sessions.sessions import Sessions, session_bytes
from midstream.state.settings import FoldSettings
from midstream.state.users.users import Users, user_bytes

T = TypeVar("T", bound=StateTable)


class TablesAbove:
    """The tables above the one that is built next, by type."""

    def __init__(self, settings: FoldSettings, dropped: Dropped) -> None:
        """Start without tables.

        Args:
            settings: Decide what the state is after the same events.
            dropped: What ``settings.compaction`` names.
        """
        self.settings = settings
        self.dropped = dropped
        self.tables: dict[type, StateTable] = {}

    def add(self, entry: "TableEntry") -> StateTable:
        """Build the next table."""
        table = entry.build(self)
        self.tables[type(table)] = table
        return table

    def table(self, kind: type[T]) -> T:
        """Return the table of a type, or raise ``TableMissing``: it does not stand above."""
        found = self.tables.get(kind)
        if not isinstance(found, kind):
            raise TableMissing(kind.__name__)
        return found


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One table of the fold."""

    name: str
    build: Callable[[TablesAbove], StateTable]
    """Reserves the table at its maximum."""
    bytes_for: Callable[[FoldSettings], int]
    """Its memory at the maximum, from the settings alone: known before a byte is reserved."""
    by_part: bool = False
    """It is handed a step in parts in which the catalogue stands still (``state.steps.parts``)."""
    is_leaf: bool = False
    """No other table reads it, so a fold can leave it out: of ``outcomes``, where no cell counts them."""


TABLES = (
    TableEntry(
        "event_ids",
        lambda above: EventIds(above.settings.limits.event_ids_max, above.settings.hash_key()),
        event_id_bytes,
    ),
    TableEntry("vocabulary", lambda above: Vocabulary(above.settings, above.dropped), vocabulary_bytes),
    TableEntry("aliases", lambda above: above.table(Vocabulary).aliases, alias_bytes),
    TableEntry("erasures", lambda above: above.table(Vocabulary).erasures, erasure_bytes),
    TableEntry(
        "retractions",
        lambda above: above.table(Vocabulary).retractions,
        lambda _: RETRACTIONS_MAX * RETRACTION_BYTES,
    ),
    TableEntry("sessions", lambda above: Sessions(above.settings), session_bytes),
    TableEntry("items", lambda above: Items(above.settings, above.table(Vocabulary)), item_bytes, by_part=True),
    TableEntry("text_index", lambda above: above.table(Items).texts, text_index_bytes),
    TableEntry("users", lambda above: Users(above.settings, above.table(Items).category), user_bytes, by_part=True),
    TableEntry(
        "cells",
        lambda above: Cells(above.settings, above.table(Vocabulary), above.table(Items)),
        cell_bytes,
        by_part=True,
    ),
    TableEntry("counted", lambda above: CountCoverage(above.settings), counted_bytes),
    TableEntry(
        "segments",
        lambda above: Segments(above.settings, above.table(Vocabulary), above.table(Items), above.table(Users)),
        segment_bytes,
        by_part=True,
        is_leaf=True,
    ),
    TableEntry("pairs", lambda above: Pairs(above.settings, above.table(Vocabulary)), pair_bytes, is_leaf=True),
    TableEntry(
        "session_index",
        lambda above: SessionIndex(above.settings.limits, above.table(Vocabulary)),
        session_index_bytes,
        is_leaf=True,
    ),
    TableEntry("requests", lambda above: Requests(above.settings), request_bytes, is_leaf=True),
    TableEntry(
        "outcomes",
        lambda above: Outcomes(above.settings, above.table(Cells).outcome_rows),
        outcome_bytes,
        is_leaf=True,
    ),
    TableEntry("online", lambda above: OnlineModels(above.settings), online_bytes, is_leaf=True),
    TableEntry("promotions", lambda _: Promotions(), lambda _: PROMOTIONS_MAX * PROMOTION_BYTES),
    TableEntry("placements", lambda _: Placements(), lambda _: TABLE_BYTES_MAX),
    TableEntry("inputs", lambda _: InputPositions(), lambda _: INPUT_BYTES_MAX),
)


def sizes_max(settings: FoldSettings) -> Mapping[str, int]:
    """Return the bytes of each table at its maximum, by the table's name in ``Fold.sizes``."""
    return {entry.name: entry.bytes_for(settings) for entry in TABLES}
