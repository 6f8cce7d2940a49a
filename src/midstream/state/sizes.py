"""Memory of every table when it is full, from the settings alone: known before a byte is reserved.

The sums are those of the arrays that each table makes; a test holds them against the tables themselves.
"""

from collections.abc import Mapping
from typing import Final

from midstream.events.wire import plain_kind, vector_length
from midstream.state.attributes.vectors import MARK_BYTES, NUMBER_BYTES
from midstream.state.cells.coverage import counted_bytes
from midstream.state.cells.layout import cell_bytes
from midstream.state.control.placements import TABLE_BYTES_MAX
from midstream.state.control.promotions import PROMOTION_BYTES, PROMOTIONS_MAX
from midstream.state.ids.aliases import ALIAS_BYTES
from midstream.state.ids.erased_users import ERASURE_BYTES
from midstream.state.ids.user_slots import USER_ROW
from midstream.state.ids.vocabulary import ITEM_ID_BYTES_MEAN
from midstream.state.outcomes.early_outcomes import WAITING_ROW
from midstream.state.outcomes.outcome_fold import ACTIONS, OUTCOME, SLATE
from midstream.state.outcomes.recipients import ASKED
from midstream.state.outcomes.slate_groups import GROUPS_MAX
from midstream.state.pairs.covisitation import row_words
from midstream.state.sessions.session_slots import SESSION_BYTES
from midstream.state.settings import PAIR_NEIGHBOURS_MAX, FoldSettings
from midstream.state.structures.hash_table import table_size
from midstream.state.structures.windows import ROW_CELLS
from midstream.state.users.affinities import AFFINITIES_MAX

_USER_BYTES: Final = 88
_RING_BYTES: Final = 21
_WORD: Final = 8
_EVENT_ID_BYTES: Final = 20
_REQUEST_BYTES: Final = 16
_ITEM_ID_BYTES: Final = 17
"""Hash, start, and whether it is in the catalogue."""


def sizes_max(settings: FoldSettings) -> Mapping[str, int]:
    """Return the bytes of each table at its maximum, by the table's name in ``Fold.sizes``."""
    limits = settings.limits
    return {
        "event_ids": limits.event_ids_max * _EVENT_ID_BYTES + _table(limits.event_ids_max),
        "vocabulary": _vocabulary(settings),
        "sessions": limits.sessions_max * (SESSION_BYTES + 4 * limits.session_items_max)
        + 2 * _table(limits.sessions_max),
        "items": _items(settings),
        "users": _users(settings),
        "cells": cell_bytes(settings),
        "counted": counted_bytes(settings),
        "pairs": limits.items_max * _WORD * row_words(min(limits.pair_neighbours_max, PAIR_NEIGHBOURS_MAX)),
        "segments": _segments(settings),
        "session_index": limits.index_sessions_max * (4 * limits.index_items_max + 1 + 8)
        + limits.items_max * (4 * limits.index_entries_max + 8),
        "aliases": limits.aliases_max * ALIAS_BYTES + _table(limits.aliases_max),
        "erasures": limits.erased_max * ERASURE_BYTES,
        "outcomes": _outcomes(settings),
        "requests": limits.requests_max * _REQUEST_BYTES + _table(limits.requests_max),
        "promotions": PROMOTIONS_MAX * PROMOTION_BYTES,
        "placements": TABLE_BYTES_MAX,
    }


def _table(places_max: int) -> int:
    return 4 * table_size(places_max)


def _outcomes(settings: FoldSettings) -> int:
    limits = settings.limits
    rows = limits.outcome_slates_max * (SLATE.itemsize + ASKED.itemsize)
    rows += limits.outcome_items_max * (_WORD + OUTCOME.itemsize)
    rows += limits.outcomes_waiting_max * WAITING_ROW.itemsize
    tables = 2 * _table(limits.outcome_slates_max) + _table(limits.outcomes_waiting_max)
    return rows + tables + GROUPS_MAX * _WORD * (ACTIONS + len(settings.types) + 1)


def _vocabulary(settings: FoldSettings) -> int:
    users_max, items_max = settings.limits.users_max, settings.limits.items_max
    users = users_max * USER_ROW.itemsize + _table(users_max)
    return users + items_max * (_ITEM_ID_BYTES + ITEM_ID_BYTES_MEAN) + 8 + _table(items_max)


def _items(settings: FoldSettings) -> int:
    limits = settings.limits
    lists, rows = len(settings.half_lives), len(settings.types) + 1
    columns = {"number": 8, "boolean": 1, "category": 4, "tags": 4 * limits.item_tags_max, "vector": MARK_BYTES}
    item = lists * rows * 8 + rows * ROW_CELLS * 4 + 2 + 8 + lists * 8
    item += sum(columns[plain_kind(kind)] for kind in settings.attributes.values())
    item += sum(vector_length(kind) * NUMBER_BYTES for kind in settings.attributes.values())
    lists_bytes = lists * 2 * limits.hot_items_max * (8 + 4) + limits.new_items_max * (4 + 8)
    coded = sum(kind in {"category", "tags"} for kind in settings.attributes.values())
    lists_bytes += coded * limits.attribute_values_max * _WORD
    return limits.items_max * item + lists_bytes + limits.document_bytes_max


def _segments(settings: FoldSettings) -> int:
    limits = settings.limits
    if not settings.segment:
        return 0
    value = 8 * limits.items_max + 2 * limits.hot_items_max * (8 + 4)
    return limits.users_max * 2 + limits.items_max + limits.segment_values_max * value


def _users(settings: FoldSettings) -> int:
    limits = settings.limits
    row = _USER_BYTES + _RING_BYTES * limits.user_ring_max
    row += -row % _WORD
    row += sum(kind == "category" for kind in settings.attributes.values()) * (8 + 8 * AFFINITIES_MAX)
    return limits.users_max * row + limits.document_bytes_max
