"""What of a batch is new: dedupe over applied and pending events, and what the configuration refuses.

The fold repeats the dedupe, so an event that slips through (its first copy pending when a process died) is still
applied once; here it keeps duplicates out of the log and gives each its answer.
"""

from asyncio import Future
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch
from midstream.engine.types import Outcome
from midstream.events.schema import pick, texts_of
from midstream.state.fold import Fold
from midstream.state.vocabulary import Vocabulary

_ITEM_TEXT = 3
"""Place of the item id among the texts of a row."""


@dataclass(frozen=True, slots=True, eq=False)
class Admitted:
    """What is to be appended, and what became of the rest."""

    batch: EventBatch
    outcome: NDArray[np.uint8]
    """``Outcome`` of each row that came."""
    first_copies: tuple[Future[None], ...]
    """Of duplicates of pending events: wait for these before answering."""
    hashes: tuple[int, ...]
    """Of the events to be appended; pending until ``release``."""
    items: Counter[str]
    """Named by the item events among them: coming until ``release``. Empty unless unknown items are refused."""


class Intake:
    """The ids on their way into the log, in front of those that are applied."""

    def __init__(self, fold: Fold) -> None:
        """Look applied ids up in ``fold``."""
        self._fold = fold
        self._event_ids = fold.event_ids
        self._pending: dict[int, tuple[int, Future[None]]] = {}
        self._coming: Counter[str] = Counter()

    def admit(self, batch: EventBatch, ticket: Future[None]) -> Admitted:
        """Sort a batch into new events, duplicates and refusals; the new ones are pending under ``ticket``.

        Cost: about 0.3 µs an event and 10 µs a batch.
        """
        prints = self._event_ids.fingerprints(batch)
        outcome = self._event_ids.find(prints).astype(np.uint8)
        for index in self._refused(batch):
            outcome[index] = Outcome.REFUSED
        chosen: list[int] = []
        hashes: list[int] = []
        waits: dict[Future[None], None] = {}
        contents = prints.content.tolist()
        for index, (known, event_hash) in enumerate(zip(outcome.tolist(), prints.id_hash.tolist(), strict=True)):
            if known:
                continue
            earlier = self._pending.get(event_hash) if event_hash else None
            if earlier is not None:
                same = earlier[0] == contents[index]
                outcome[index] = Outcome.DUPLICATE if same else Outcome.CONFLICT
                if earlier[1] is not ticket:
                    waits[earlier[1]] = None
                continue
            chosen.append(index)
            if event_hash:
                self._pending[event_hash] = (contents[index], ticket)
                hashes.append(event_hash)
        fresh = batch if len(chosen) == len(batch) else pick(batch, chosen)
        items = Counter(self._items_of(fresh).keys())
        self._coming.update(items)
        return Admitted(fresh, outcome, tuple(waits), tuple(hashes), items)

    def release(self, admitted: Admitted, ticket: Future[None]) -> None:
        """The events are applied, or were not stored: their ids are pending no more."""
        if not ticket.cancelled():
            ticket.exception()  # seen here, for the case that its request was given up
        for event_hash in admitted.hashes:
            self._pending.pop(event_hash, None)
        self._coming -= admitted.items

    def _refused(self, batch: EventBatch) -> list[int]:
        """Return rows of unknown items that may not become known: by configuration, or because there is no room."""
        vocabulary = self._fold.vocabulary
        kinds = batch.rows["kind"]
        limits = self._fold.settings.limits
        refused: list[int] = []
        if self._fold.settings.unknown_items == "reject":
            acts = np.flatnonzero((kinds == Kind.INTERACTION) | (kinds == Kind.IMPRESSION))
            made = self._items_of(batch)
            for row in self._unknown(vocabulary, batch, acts):
                item = _item_id(batch, row)
                if item not in self._coming and made.get(item, row) >= row:
                    refused.append(row)
        if vocabulary.item_count >= limits.items_max:
            refused.extend(self._unknown(vocabulary, batch, np.flatnonzero(kinds == Kind.ITEM)))
        return refused

    def _items_of(self, batch: EventBatch) -> dict[str, int]:
        """Return the items that a batch itself makes known, each with its first row; none where all are taken."""
        if self._fold.settings.unknown_items != "reject":
            return {}
        rows: list[int] = np.flatnonzero(batch.rows["kind"] == Kind.ITEM)[::-1].tolist()
        return {_item_id(batch, row): row for row in rows}

    @staticmethod
    def _unknown(vocabulary: Vocabulary, batch: EventBatch, rows: NDArray[np.intp]) -> list[int]:
        ids = [_item_id(batch, int(row)) for row in rows]
        return rows[vocabulary.item_indices(ids) < 0].tolist() if ids else []


def _item_id(batch: EventBatch, row: int) -> str:
    return texts_of(batch, row)[_ITEM_TEXT].decode()
