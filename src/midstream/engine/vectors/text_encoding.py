"""Text encoding: vectors of the texts of items, computed once for each text and written into a vector attribute.

What an item should have follows from its texts alone, so nothing is remembered that a restart could lose: item after
item the text is hashed, its vector looked up on disk or computed in a child process of low priority, and where the
state holds another one an item event with the vector is recorded as any client's is. So vectors are in the log, and a
state that is made of it again needs no encoder. The newest items are looked at in every round, the others in turn.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
import numpy as np
import xxhash

from midstream.core.kinds import Kind, Operation
from midstream.core.types import Score
from midstream.engine.engine import Engine
from midstream.engine.vectors.encoded_attribute import EncodedAttribute
from midstream.engine.vectors.text_cache import TextCache
from midstream.events.schema import Event, build
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
_DIGITS: Final = 6
"""Of a number in the log: closer than what float32 sums differ by from one machine to another."""
Encode: TypeAlias = Callable[[str, Sequence[str]], Awaitable[Score]]
"""Name of an encoder and texts to vectors, (n, width)."""


class TextEncoding:
    """An ``EngineService``."""

    def __init__(
        self, engine: Engine, attributes: Sequence[EncodedAttribute], encode: Encode, cache: TextCache
    ) -> None:
        """Prepare it; an error, such as that the weights are not installed, goes to health and metrics."""
        self._engine = engine
        self._attributes = tuple(attributes)
        self._encode = encode
        self._cache = cache
        self._fold: Fold | None = None
        self._looked: dict[str, NDArray[np.uint64]] = {}
        self._place = 0
        self.encoded_count = 0
        """Texts that a child has encoded."""
        self.recorded_count = 0
        """Item events with a vector that were recorded."""
        self._service = engine.supervise("text_encoding", self._round, PAUSE_S)

    def start(self) -> None:
        """Begin on the running event loop; without an attribute nothing runs."""
        if self._attributes:
            self._service.start()

    async def stop(self) -> None:
        """End it, with its child."""
        await self._service.stop()

    async def _round(self) -> None:
        """Look at some items, and give those their vectors that lack them."""
        fold = self._engine.fold
        if fold is not self._fold:  # another state numbers its items otherwise
            self._fold, self._place = fold, 0
            self._looked = {each.attribute: np.zeros(0, dtype=np.uint64) for each in self._attributes}
        indices = self._next_items(fold.items)
        for each in self._attributes:
            if due := self._due(each, fold.items, indices):
                await self._write(each, fold, due)

    def _next_items(self, items: Items) -> list[int]:
        """Return the newest items, and those whose turn it is."""
        newest = items.newest()[0][:NEWEST_MAX].tolist()
        stop = min(self._place + LOOKED_MAX, items.count)
        turn = range(self._place, stop)
        self._place = stop if stop < items.count else 0
        return list(dict.fromkeys((*newest, *turn)))

    def _due(self, attribute: EncodedAttribute, items: Items, indices: Sequence[int]) -> dict[int, str]:
        """Return the texts of those items whose documents changed since the last look, ``BATCH_MAX`` at most."""
        looked = self._looked[attribute.attribute]
        if len(looked) < items.count:
            grown = np.zeros(max(items.count, 2 * len(looked)), dtype=np.uint64)
            grown[: len(looked)] = looked
            looked = self._looked[attribute.attribute] = grown
        due: dict[int, str] = {}
        for index in indices:
            told = xxhash.xxh3_64_intdigest(items.document_text(index)) or 1
            if told == int(looked[index]):
                continue
            if len(due) == BATCH_MAX:
                self._place = min(self._place, index)
                break
            looked[index] = told
            if text := attribute.text(items, index):
                due[index] = text
        return due

    async def _write(self, attribute: EncodedAttribute, fold: Fold, due: dict[int, str]) -> None:
        """Record the vectors of some items that the state does not hold."""
        looked = self._looked[attribute.attribute]
        is_done = False
        try:
            vectors = await self._vectors(attribute, sorted(set(due.values())))
            events = list(self._events(attribute, fold, due, vectors))
            if events:
                await self._engine.record(build(events))
                self.recorded_count += len(events)
            is_done = True
        finally:
            if not is_done:
                looked[[*due]] = 0  # they are looked at again

    async def _vectors(self, attribute: EncodedAttribute, texts: Sequence[str]) -> dict[str, Score]:
        """Return the vector of each text, of the cache or of a child."""
        keys = {text: attribute.key(text) for text in texts}
        known = await asyncio.to_thread(self._cache.get, [*keys.values()])
        missing = [text for text in texts if keys[text] not in known]
        if missing:
            made = _rounded(await self._encode(attribute.model, missing))
            self.encoded_count += len(missing)
            fresh = {keys[text]: vector for text, vector in zip(missing, made, strict=True)}
            await asyncio.to_thread(self._cache.put, fresh)
            known |= fresh
        return {text: known[key] for text, key in keys.items()}

    def _events(
        self, attribute: EncodedAttribute, fold: Fold, due: dict[int, str], vectors: dict[str, Score]
    ) -> Iterator[Event]:
        """Yield a change of each item whose text is still the same and whose vector is another one."""
        if self._engine.fold is not fold:
            return
        for index, text in due.items():
            vector = vectors[text]
            held = fold.items.vectors(attribute.attribute, np.array([index], dtype=np.int32))[0]
            if held.tobytes() == vector.astype(np.float32).tobytes():
                continue
            if attribute.text(fold.items, index) != text:
                continue
            body = msgspec.json.encode(
                {attribute.attribute: [float(f"{each:.{_DIGITS}g}") for each in vector.tolist()]}
            )
            yield Event(Kind.ITEM, Operation.PATCH, item_id=fold.vocabulary.item_id(index), body=body)


def _rounded(vectors: Score) -> Score:
    """Return vectors as they come back from the log: each number has few digits."""
    told = [[float(f"{each:.{_DIGITS}g}") for each in row] for row in vectors.tolist()]
    return np.array(told, dtype=np.float64).astype(np.float32)
