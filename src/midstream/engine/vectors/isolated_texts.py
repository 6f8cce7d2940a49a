"""Vectors of some texts, of the cache or of a child, where a text that cannot be encoded costs no other its vector.

A child that fails with several texts is tried with a text that every encoder knows. If it fails with that one too, the
encoder is broken. Otherwise one of the texts is at fault: they are halved until it is alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from midstream.core.types import Score
from midstream.engine.vectors.encoded_attribute import EncodedAttribute
from midstream.engine.vectors.text_cache import TextCache

PROBE: Final = "a"
TRIES_MAX: Final = 32
"""Children of one call: a single text at fault among 256 is alone after 19."""
FAILED_MAX: Final = 10_000
"""Texts at fault that are remembered, and not tried again before a restart."""
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
        self.encoded_count = 0
        """Texts that a child has encoded."""

    async def encoded(self, attribute: EncodedAttribute, texts: Sequence[str]) -> EncodedTexts:
        """Return the vectors of some texts.

        Raises:
            Exception: As raised by the encoder, which cannot encode anything.
            OSError: The cache cannot be read or written.
        """
        keys = {text: attribute.key(text) for text in texts}
        known = await asyncio.to_thread(self._cache.get, [*keys.values()])
        found = EncodedTexts()
        missing: list[str] = []
        for text, key in keys.items():
            if key in known:
                found.vectors[text] = known[key]
            elif key in self._failed:
                found.failed[text] = self._failed[key]
            else:
                missing.append(text)
        if missing:
            made = await self._made(attribute.model, missing)
            self.encoded_count += len(made.vectors)
            await asyncio.to_thread(self._cache.put, {keys[text]: each for text, each in made.vectors.items()})
            for text, why in made.failed.items():
                if len(self._failed) < FAILED_MAX:
                    self._failed[keys[text]] = why
            found.vectors.update(made.vectors)
            found.failed.update(made.failed)
        return found

    async def _made(self, model: str, texts: list[str]) -> EncodedTexts:
        """Encode texts by ``TRIES_MAX`` children at most; usually by one."""
        found, parts, is_proven = EncodedTexts(), [texts], False
        again: set[str] = set()
        for _ in range(TRIES_MAX):
            if not parts:
                break
            part = parts.pop(0)
            vectors = await self._tried(model, part)
            if not isinstance(vectors, BaseException):
                _take(found, part, _rounded(vectors))
                continue
            if not is_proven and isinstance(await self._tried(model, [PROBE]), BaseException):
                raise vectors
            is_proven = True
            half = len(part) // 2
            if half:
                parts[:0] = [part[:half], part[half:]]
            elif part[0] in again:
                found.failed[part[0]] = f"{type(vectors).__name__}: {vectors}"
            else:  # a child that was killed says nothing of its text
                again.add(part[0])
                parts.append(part)
        return found

    async def _tried(self, model: str, texts: Sequence[str]) -> Score | BaseException:
        """Return the vectors of texts, or what the child failed with."""
        async with self._turn:
            (found,) = await asyncio.gather(self._encode(model, texts), return_exceptions=True)
        return found


def _take(found: EncodedTexts, texts: Sequence[str], vectors: Score) -> None:
    """Add vectors; one with a number that is none is a fault of its text."""
    for text, vector in zip(texts, vectors, strict=True):
        if np.isfinite(vector).all():
            found.vectors[text] = vector
        else:
            found.failed[text] = "its vector has a number that is not finite"


def told_number(number: float) -> float:
    """Return a number with as many digits as the log has of it."""
    return float(f"{number:.{_DIGITS}g}")


def _rounded(vectors: Score) -> Score:
    """Return vectors as they come back from the log: each number has few digits."""
    told = [[told_number(each) for each in row] for row in vectors.tolist()]
    return np.array(told, dtype=np.float64).astype(np.float32)
