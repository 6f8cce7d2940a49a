"""Vectors of some texts, of the cache or of a child, where a text that cannot be encoded costs no other its vector.

A child that fails with several texts is tried with a text that every encoder knows. If it fails with that one too, the
encoder is broken. Otherwise some of the texts are at fault: they are halved until each of these is alone.

Halves are kept from call to call, so no part is tried twice, however many texts are at fault. The largest and the
smallest have their turns: of the one come vectors, and of the other, in each call, a text that is known to be at fault.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from midstream.core.types import Score
from midstream.engine.vectors.encoded_attribute import EncodedAttribute
from midstream.engine.vectors.text_cache import TextCache

PROBE: Final = "a"
TRIES_MAX: Final = 32
"""Children of one call: a single text at fault among 256 is alone after 18, and the first of 256 after 20."""
FAILED_MAX: Final = 10_000
"""Texts at fault that are remembered, and not tried again before a restart."""
HALVED_MAX: Final = 10_000
"""Texts whose parts are remembered; with more of them all parts are made anew."""
_DIGITS: Final = 6
"""Of a number in the log: closer than what float32 sums differ by from one machine to another."""
Encode: TypeAlias = Callable[[str, Sequence[str]], Awaitable[Score]]
"""Name of an encoder and texts to vectors, (n, width)."""


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """What came of some texts; one that is in neither was not come to."""

    vectors: dict[str, Score] = field(default_factory=dict[str, Score])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    """Why, of each that cannot be encoded."""


class IsolatedTexts:
    """An encoder with its cache; one child at a time."""

    def __init__(self, encode: Encode, cache: TextCache) -> None:
        """Begin with no text at fault."""
        self._encode = encode
        self._cache = cache
        self._turn = asyncio.Lock()
        self._failed: dict[bytes, str] = {}
        self._parts: dict[bytes, int] = {}
        """Number of the part with which a text is tried next, of those with which a child has failed."""
        self._part_count = 0
        self._again: set[bytes] = set()
        """Texts with which a child has failed once, alone."""
        self.encoded_count = 0
        """Texts that a child has encoded."""

    async def encoded(self, attribute: EncodedAttribute, texts: Sequence[str]) -> EncodedTexts:
        """Return the vectors of some texts, each kept in the cache as soon as there is one.

        Raises:
            Exception: As raised by the encoder, which cannot encode anything.
            OSError: The cache cannot be read or written.
        """
        keys = {text: attribute.key(text) for text in texts}
        known = await asyncio.to_thread(self._cache.get, [*keys.values()])
        found = EncodedTexts()
        missing: dict[str, bytes] = {}
        for text, key in keys.items():
            if key in known:
                found.vectors[text] = known[key]
            elif key in self._failed:
                found.failed[text] = self._failed[key]
            else:
                missing[text] = key
        await self._make(attribute.model, missing, found)
        return found

    async def _make(self, model: str, keys: Mapping[str, bytes], found: EncodedTexts) -> None:
        """Encode texts, named with their keys, by ``TRIES_MAX`` children at most; usually by one."""
        parts, is_proven = self._begun(keys), False
        for place in range(TRIES_MAX):
            if not parts:
                break
            part = (min if place % 2 else max)(parts, key=len)
            parts.remove(part)
            vectors = await self._tried(model, part)
            if not isinstance(vectors, BaseException):
                await self._take(found, {text: keys[text] for text in part}, vectors)
                continue
            if not is_proven and isinstance(await self._tried(model, [PROBE]), BaseException):
                raise vectors
            is_proven = True
            half = len(part) // 2
            if half:
                parts += [self._left(each, keys) for each in (part[:half], part[half:])]
            elif (key := keys[part[0]]) in self._again:
                self._fail(found, part[0], key, f"{type(vectors).__name__}: {vectors}")
            else:  # a child that was killed says nothing of its text
                parts.append(self._left(part, keys))
                self._again.add(key)

    def _begun(self, keys: Mapping[str, bytes]) -> list[list[str]]:
        """Return the parts in which earlier calls left some texts, before them those that are new, as one."""
        parts: dict[int, list[str]] = {0: []}
        for text, key in keys.items():
            parts.setdefault(self._parts.get(key, 0), []).append(text)
        return [each for each in parts.values() if each]

    def _left(self, part: list[str], keys: Mapping[str, bytes]) -> list[str]:
        """Return a part to be tried, kept for the next call."""
        if len(self._parts) > HALVED_MAX:
            self._parts.clear()
            self._again.clear()
        self._part_count += 1
        self._parts.update((keys[text], self._part_count) for text in part)
        return part

    async def _take(self, found: EncodedTexts, keys: Mapping[str, bytes], vectors: Score) -> None:
        """Add and keep vectors; one with a number that is none is a fault of its text."""
        good: dict[str, Score] = {}
        for (text, key), vector in zip(keys.items(), await asyncio.to_thread(_rounded, vectors), strict=True):
            if np.isfinite(vector).all():
                good[text] = vector
            else:
                self._fail(found, text, key, "its vector has a number that is not finite")
        await asyncio.to_thread(self._cache.put, {keys[text]: vector for text, vector in good.items()})
        found.vectors.update(good)
        self.encoded_count += len(good)
        self._forget(keys[text] for text in good)

    def _fail(self, found: EncodedTexts, text: str, key: bytes, why: str) -> None:
        """Note a text at fault."""
        found.failed[text] = why
        if len(self._failed) < FAILED_MAX:
            self._failed[key] = why
        self._forget((key,))

    def _forget(self, keys: Iterable[bytes]) -> None:
        """Drop the parts of texts that are not tried any more."""
        for key in keys:
            self._parts.pop(key, None)
            self._again.discard(key)

    async def _tried(self, model: str, texts: Sequence[str]) -> Score | BaseException:
        """Return the vectors of texts, or what the child failed with."""
        async with self._turn:
            (found,) = await asyncio.gather(self._encode(model, texts), return_exceptions=True)
        return found


def told_number(number: float) -> float:
    """Return a number with as many digits as the log has of it."""
    return float(f"{number:.{_DIGITS}g}")


def _rounded(vectors: Score) -> Score:
    """Return vectors as they come back from the log: each number has few digits."""
    told = [[told_number(each) for each in row] for row in vectors.tolist()]
    return np.array(told, dtype=np.float64).astype(np.float32)
