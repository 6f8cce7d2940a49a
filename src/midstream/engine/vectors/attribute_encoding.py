"""Encoding of one attribute: item after item gets the vector that its text should have.

What an item should have follows from its texts alone, so nothing is remembered that a restart could lose: item after
item the text is hashed, its vector looked up on disk or computed in a child process of low priority, and where the
state holds another one an item event with the vector is recorded as any client's is. So vectors are in the log, and a
state that is made of it again needs no encoder. The newest items are looked at in every round, the others in turn.

An item that gets no vector, because its text cannot be encoded or because its document has no room for it, is a fault
that health names; all others get theirs.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import xxhash

from midstream.core.kinds import Kind, Operation
from midstream.core.types import Score
from midstream.engine.engine import Engine
from midstream.engine.vectors.document_room import refusal
from midstream.engine.vectors.encoded_attribute import EncodedAttribute
from midstream.engine.vectors.isolated_texts import EncodedTexts, IsolatedTexts, told_number
from midstream.events.schema import Event, build
from midstream.monitoring.facts import Fact
from midstream.state.fold import Fold
from midstream.state.items.items import Items

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAUSE_S: Final = 0.1
LOOKED_MAX: Final = 500
"""Items whose documents are hashed in one round; so 200,000 are looked at in 40 s."""
NEWEST_MAX: Final = 200
"""New items that are looked at in every round."""
BATCH_MAX: Final = 256
"""Texts of one child: 10 s of 30 words each, beside which starting one costs little."""
FAULTS_MAX: Final = 10_000
"""Items without a vector that are counted; of more it is said that there are more."""
_AT_ONCE: Final = 16
"""Items whose vectors are written between two turns of others on the event loop: 8 ms at 384 numbers."""


class AttributeEncoding:
    """A background service, and what came of it."""

    def __init__(self, engine: Engine, attribute: EncodedAttribute, texts: IsolatedTexts) -> None:
        """Prepare it; an error, such as that the weights are not installed, goes to health and metrics."""
        self._engine = engine
        self._attribute = attribute
        self._texts = texts
        self._fold: Fold | None = None
        self._looked: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self._place = 0
        self._faults: dict[int, str] = {}
        self.recorded_count = 0
        """Item events with a vector that were recorded."""
        self.service = engine.supervise(f"text_encoding_{attribute.attribute}", self._round, PAUSE_S)

    async def _round(self) -> None:
        """Look at some items, and give those their vectors that lack them."""
        fold = self._engine.fold
        if fold is not self._fold:  # another state numbers its items otherwise
            self._fold, self._place = fold, 0
            self._looked = np.zeros(0, dtype=np.uint64)
            self._faults.clear()
            self._tell()
        if due := self._due(fold.items, self._next_items(fold.items)):
            await self._write(fold, due)

    def _next_items(self, items: Items) -> list[int]:
        """Return the newest items, and those whose turn it is."""
        newest = items.newest()[0][:NEWEST_MAX].tolist()
        stop = min(self._place + LOOKED_MAX, items.count)
        turn = range(self._place, stop)
        self._place = stop if stop < items.count else 0
        return list(dict.fromkeys((*newest, *turn)))

    def _due(self, items: Items, indices: Sequence[int]) -> dict[int, str]:
        """Return the texts of those items whose documents changed since the last look, ``BATCH_MAX`` at most."""
        if len(self._looked) < items.count:
            grown = np.zeros(max(items.count, 2 * len(self._looked)), dtype=np.uint64)
            grown[: len(self._looked)] = self._looked
            self._looked = grown
        due: dict[int, str] = {}
        for index in indices:
            told = xxhash.xxh3_64_intdigest(items.document_text(index)) or 1
            if told == int(self._looked[index]):
                continue
            if len(due) == BATCH_MAX:
                self._place = min(self._place, index)
                break
            self._looked[index] = told
            if text := self._attribute.text(items, index):
                due[index] = text
            else:
                self._note(index, "")
        return due

    async def _write(self, fold: Fold, due: dict[int, str]) -> None:
        """Record the vectors of some items that the state does not hold."""
        looked, is_done = self._looked, False
        again: list[int] = []
        try:
            told = await self._texts.encoded(self._attribute, sorted(set(due.values())))
            again = [index for index, text in due.items() if text not in told.vectors and text not in told.failed]
            indices = [*due]
            for begin in range(0, len(indices), _AT_ONCE):
                await self._write_some(fold, {index: due[index] for index in indices[begin : begin + _AT_ONCE]}, told)
                await asyncio.sleep(0)
            is_done = True
        finally:
            looked[again if is_done else [*due]] = 0  # they are looked at again
            if self._engine.fold is fold:
                self._tell()

    async def _write_some(self, fold: Fold, due: dict[int, str], told: EncodedTexts) -> None:
        """Record those that the event loop is held for at once."""
        events = dict(self._events(fold, due, told))
        if events:
            await self._engine.record(build([*events.values()]))
            self.recorded_count += len(events)
            self._check(fold, due, told.vectors, [*events])

    def _events(self, fold: Fold, due: dict[int, str], told: EncodedTexts) -> Iterator[tuple[int, Event]]:
        """Yield a change of each item whose text is still the same and whose vector is another one, by index."""
        if self._engine.fold is not fold:
            return
        name, now_ms = self._attribute.attribute, self._engine.clock()
        for index, text in due.items():
            if text in told.failed:
                self._note(index, told.failed[text])
            vector = told.vectors.get(text)
            if vector is None:
                continue
            if self._holds(fold, index, vector) or self._attribute.text(fold.items, index) != text:
                self._note(index, "")
                continue
            body = msgspec.json.encode({name: [told_number(each) for each in vector.tolist()]})
            why = refusal(fold, index, body, now_ms)
            self._note(index, why)
            if not why:
                yield (
                    index,
                    Event(Kind.ITEM, Operation.PATCH, item_id=fold.vocabulary.item_id(index), body=body),
                )

    def _check(self, fold: Fold, due: dict[int, str], vectors: dict[str, Score], written: Sequence[int]) -> None:
        """Note the items that do not have the vectors that were recorded, though their texts are the same."""
        if self._engine.fold is not fold:
            return
        for index in written:
            if (
                not self._holds(fold, index, vectors[due[index]])
                and self._attribute.text(fold.items, index) == due[index]
            ):
                self._note(index, "the state has refused it")

    def _holds(self, fold: Fold, index: int, vector: Score) -> bool:
        """Return whether an item has a vector."""
        held = fold.items.vectors(self._attribute.attribute, np.array([index], dtype=np.int32))[0]
        return bool(held.tobytes() == vector.astype(np.float32).tobytes())

    def _note(self, index: int, why: str) -> None:
        """Note why an item has no vector, empty = it has; a new fault goes to the log."""
        if not why:
            self._faults.pop(index, None)
        elif self._faults.get(index) != why and (index in self._faults or len(self._faults) < FAULTS_MAX):
            self._faults.pop(index, None)
            self._faults[index] = why  # the newest last
            name = self._attribute.attribute
            item = self._engine.fold.vocabulary.item_id(index)
            fact = Fact("item_not_encoded", "warning", {"attribute": name}, name, detail=f"{item}: {why}")
            self._engine.facts.note(fact)

    def _tell(self) -> None:
        """Have health say what has no vector."""
        name, concerns = self._attribute.attribute, self._engine.concerns
        key = f"text_encoding-{name}"
        if not self._faults:
            concerns.pop(key, None)
            return
        index, why = next(reversed(self._faults.items()))
        count = f"{len(self._faults):,}{'' if len(self._faults) < FAULTS_MAX else ' or more'}"
        item = self._engine.fold.vocabulary.item_id(index)
        concerns[key] = f"{name}: items with a text and without its vector: {count}, the last of them {item!r}: {why}"
