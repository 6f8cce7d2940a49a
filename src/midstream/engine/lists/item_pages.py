"""List of items: by index, so in the order in which they became known, which new items do not change.

A cursor has the index of the next item and the hash of the id of the one before. After a rebuild that numbered items
anew another item stands there, and the cursor is refused; a rebuild that keeps the numbers keeps the cursor.
"""

import asyncio
from typing import Final

import msgspec
import numpy as np

from midstream.core.answers.lists import ItemPage, ListedItem
from midstream.core.types import Index, TimestampMs
from midstream.engine.lists.list_cursor import ListCursor, read_cursor, refused, write_cursor
from midstream.engine.lists.list_filter import OF_ITEMS, compiled, moment_of
from midstream.engine.live import LiveState
from midstream.features.language import Condition
from midstream.state.fold import Fold

SCANNED_ITEMS_MAX: Final = 50_000
"""Items of a page that the filter looks at: 25 turns."""
_TURN_ITEMS: Final = 2_000
"""Items that the filter looks at in a turn: some 0.2 ms a comparison."""
_TURN_ROWS: Final = 50
"""Documents that are read in a turn: some 1 ms."""
_PAGE_BYTES_MAX: Final = 4_194_304
"""Text of the documents of a page; one with more ends earlier."""


class ItemListing(msgspec.Struct, frozen=True):
    """Request for a page of items, without its cursor and its limit, which may change from page to page."""

    filter: str | None = None
    fields: tuple[str, ...] | None = None
    """Attributes of each item; None = all."""


async def item_page(live: LiveState, asked: ItemListing, cursor: str | None, limit: int) -> ItemPage:
    """Return the items from a place on that pass a filter. Deleted ones are left out.

    Raises:
        RequestInvalid: The filter or the cursor cannot be used, or items were numbered anew since it was made.
    """
    ids = live.host.request_ids
    at = ListCursor(0) if cursor is None else read_cursor(cursor, "items", asked, ids)
    begin, now_ms, rows, bytes_left = at.position, live.clock(), list[ListedItem](), _PAGE_BYTES_MAX
    where = compiled(asked.filter, live.plans, OF_ITEMS)
    while len(rows) < limit and at.position - begin < SCANNED_ITEMS_MAX and bytes_left > 0:
        fold = live.fold  # another state may have been swapped in since the last turn
        require_numbered(fold, at)
        stop = min(fold.vocabulary.item_count, at.position + _TURN_ITEMS)
        if stop <= at.position:
            return ItemPage(rows, at.position - begin)
        passing = _passing(fold, where, np.arange(at.position, stop, dtype=np.int32), now_ms)
        chosen = passing[: min(limit - len(rows), _TURN_ROWS)].tolist()
        for index in chosen:
            bytes_left -= len(fold.items.document_text(index))
            rows.append(_row(fold, index, asked.fields))
        following = chosen[-1] + 1 if len(chosen) < len(passing) else stop
        at = ListCursor(following, anchor=_hash_before(fold, following))
        await asyncio.sleep(0)
    more = at.position < live.fold.vocabulary.item_count
    return ItemPage(rows, at.position - begin, write_cursor(at, "items", asked, ids) if more else None)


def require_numbered(fold: Fold, at: ListCursor) -> None:
    """Refuse a place whose item before it is another one now.

    Raises:
        RequestInvalid: Items were numbered anew.
    """
    if at.position > fold.vocabulary.item_count or _hash_before(fold, at.position) != at.anchor:
        raise refused("A rebuild has numbered the items anew since this cursor was made.")


def _hash_before(fold: Fold, position: int) -> int:
    return int(fold.vocabulary.item_hash[position - 1]) if position else 0


def _passing(fold: Fold, where: Condition | None, indices: Index, now_ms: TimestampMs) -> Index:
    """Return those of some items that exist and pass."""
    kept = np.array([index for index in indices.tolist() if fold.items.exists(index)], dtype=np.int32)
    return kept if where is None else kept[where.passes(moment_of(fold, now_ms), kept)]


def _row(fold: Fold, index: int, fields: tuple[str, ...] | None) -> ListedItem:
    document = fold.items.document(index)
    if fields is not None:
        document = {name: document[name] for name in fields if name in document}
    in_catalogue = bool(fold.vocabulary.in_catalogue[index])
    return ListedItem(fold.vocabulary.item_id(index), bool(fold.items.available[index]), in_catalogue, document)
