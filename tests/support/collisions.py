"""Ids made on purpose to have the XXH64 of another: what an outsider can do where a hash has no key.

Of 16 bytes XXH64 is two rounds, each of which can be turned back, and a finish that is one to one. So for a given end
state and any first eight bytes there is exactly one word of eight that leads there. First halves of printable
characters are tried until that word is printable too: one in (95/256)^8 = 2,800 is.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np

_P1, _P2 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_MASK = (1 << 64) - 1
_BACK_1, _BACK_2 = pow(_P1, -1, 1 << 64), pow(_P2, -1, 1 << 64)
ID_BYTES = 16
_HALF = 8
_TRIED_MAX = 1_000_000
_BEGIN = (_P5 + ID_BYTES) & _MASK


def twin_of(text: str, seed: int = 0) -> str:
    """Return another id of 16 printable bytes with the XXH64 of an id of 16 bytes. Cost: 10 ms."""
    return next(twins_of(text, seed))


def twins(text: str, count: int, seed: int = 0) -> list[str]:
    """Return several, all different."""
    return list(islice(twins_of(text, seed), count))


def twins_of(text: str, seed: int = 0) -> Iterator[str]:
    """Yield ids of 16 printable bytes, each once, that have the XXH64 of an id of 16 bytes.

    Raises:
        ValueError: The id has another length.
    """
    content = text.encode()
    if len(content) != ID_BYTES:
        message = f"{text!r} has {len(content)} bytes where {ID_BYTES} are right"
        raise ValueError(message)
    end = _step(_step(_BEGIN, content[:_HALF]), content[_HALF:])
    dice, known = np.random.default_rng(seed), {content}
    for _ in range(_TRIED_MAX):
        first = dice.integers(0x21, 0x7F, _HALF, dtype=np.uint8).tobytes()
        second = _word_between(_step(_BEGIN, first), end)
        found = first + second
        if found not in known and all(0x21 <= each < 0x7F for each in second):
            known.add(found)
            yield found.decode()


def _step(state: int, word: bytes) -> int:
    """Return the state after eight bytes."""
    mixed = (int.from_bytes(word, "little") * _P2) & _MASK
    mixed = (_turned(mixed, 31) * _P1) & _MASK
    return (_turned(state ^ mixed, 27) * _P1 + _P4) & _MASK


def _word_between(state: int, after: int) -> bytes:
    """Return the eight bytes that lead from one state to another."""
    mixed = _turned(((after - _P4) * _BACK_1) & _MASK, 64 - 27) ^ state
    word = _turned((mixed * _BACK_1) & _MASK, 64 - 31)
    return ((word * _BACK_2) & _MASK).to_bytes(_HALF, "little")


def _turned(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _MASK
