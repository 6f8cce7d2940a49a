"""SipHash-2-4 as a kernel: ids become 64-bit hashes under a secret key, without a Python object for each.

Ids come from outside, and tables tell users, sessions, requests and events apart by hash alone. Under a key that
nobody outside knows two ids of one hash cannot be made, nor many whose places in a table lie side by side. What is
left is chance: two of 10 M ids share 64 bits with probability 3e-6. Tables that may not confuse ids keep 32 bits more,
of the function's 128-bit form.

The key follows from the log (``LogIdentity.id_key``), so each process that folds a copy of it has the same hashes. It
is an argument everywhere: a kernel would freeze a global. Models hash their items here too, so this lies below them.

Reference: J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012; the 128-bit form is that
of the authors' reference code.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.events.kernel import inlined, kernel
from midstream.events.text_kernels import WORD_BYTES, read_word

IdKey: TypeAlias = NDArray[np.uint64]
"""The 128 bits under which ids are hashed, as two words, (2,)."""
Words: TypeAlias = tuple[np.uint64, np.uint64, np.uint64, np.uint64]
"""The function's inner state."""
KEY_BYTES = 16
NO_KEY = "00" * KEY_BYTES
"""Key of a state without a log, such as an evaluation's on data of one's own: nobody outside sends ids to it."""
_FINISHES = 4
_A, _B = np.uint64(0x736F6D6570736575), np.uint64(0x646F72616E646F6D)
_C, _D = np.uint64(0x6C7967656E657261), np.uint64(0x7465646279746573)
_END = np.uint64(0xFF)
_WIDE, _WIDE_SECOND = np.uint64(0xEE), np.uint64(0xDD)
_BITS = np.uint64(64)
_NONE = np.uint64(0)


def id_key_of(digits: str) -> IdKey:
    """Return the key that 32 hex digits say.

    Raises:
        ValueError: They are no hex digits, or another number of them.
    """
    content = bytes.fromhex(digits)
    if len(content) != KEY_BYTES:
        message = f"a key of ids has {2 * KEY_BYTES} hex digits, {len(digits)} came"
        raise ValueError(message)
    return np.frombuffer(content, dtype="<u8").astype(np.uint64)


def id_hash(text: str, key: IdKey) -> int:
    """Return the 64-bit hash of an id; 0 stands for "no id", so only the empty text has it. Cost: about 0.5 µs.

    Example:
        >>> key = id_key_of("000102030405060708090a0b0c0d0e0f")
        >>> id_hash("", key)
        0
        >>> hex(id_hash("ann", key))
        '0x373c1692840bbb8d'
    """
    return hash_content(text.encode(), key) if text else 0


def hashes_of(text: NDArray[np.uint8], starts: NDArray[np.int64], key: IdKey) -> NDArray[np.uint64]:
    """Return ``id_hash`` of texts that lie end to end: text i is from ``starts[i]`` to ``starts[i + 1]``."""
    found = np.empty(len(starts) - 1, dtype=np.uint64)
    _hash_texts(text, starts, key, found)
    return found


@inlined
def hash_id(arena: NDArray[np.uint8], start: int, length: int, key: IdKey) -> np.uint64:
    """Return ``id_hash`` of ``length`` bytes of the arena. Cost: about 15 ns for an id of 16 bytes.

    One function with one way out: numba counts references to arrays in any other, which costs as much again.
    """
    a, b, c, d = key[0] ^ _A, key[1] ^ _B, key[0] ^ _C, key[1] ^ _D
    at, end = start, start + length
    while at + WORD_BYTES <= end:
        a, b, c, d = sip_word(a, b, c, d, read_word(arena, at))
        at += WORD_BYTES
    a, b, c, d = sip_word(a, b, c, d, _last_word(arena, start, length, 0))
    a, b, c, d = _finish(a, b, c ^ _END, d)
    found = a ^ b ^ c ^ d
    return _NONE if length == 0 else found if found != _NONE else np.uint64(1)


@kernel
def hash_content(content: bytes, key: IdKey) -> int:
    """Return ``id_hash`` of an id in UTF-8, which is not empty: one view fewer than an array has on its way here."""
    return hash_id(np.frombuffer(content, np.uint8), 0, len(content), key)  # type: ignore[return-value]


@inlined
def sip_begin(key: IdKey) -> Words:
    """Return the state before the first word of a hash of 128 bits."""
    return key[0] ^ _A, key[1] ^ _B ^ _WIDE, key[0] ^ _C, key[1] ^ _D


@inlined
def sip_word(a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64, word: np.uint64) -> Words:
    """Return the state after 8 bytes more."""
    a, b, c, d = _round(a, b, c, d ^ word)
    a, b, c, d = _round(a, b, c, d)
    return a ^ word, b, c, d


@inlined
def sip_text(
    state: Words, before: int, arena: NDArray[np.uint8], start: int, length: int
) -> tuple[np.uint64, np.uint64]:
    """Return the hash of 128 bits, as two words, of words and then bytes of the arena.

    Args:
        state: By ``sip_begin`` and a ``sip_word`` for each word.
        before: Bytes of these words.
        arena: Where the bytes lie.
        start: From where on.
        length: How many.
    """
    a, b, c, d = state
    at, end = start, start + length
    while at + WORD_BYTES <= end:
        a, b, c, d = sip_word(a, b, c, d, read_word(arena, at))
        at += WORD_BYTES
    a, b, c, d = sip_word(a, b, c, d, _last_word(arena, start, length, before))
    a, b, c, d = _finish(a, b, c ^ _WIDE, d)
    first = a ^ b ^ c ^ d
    a, b, c, d = _finish(a, b ^ _WIDE_SECOND, c, d)
    return first, a ^ b ^ c ^ d


@inlined
def _finish(a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64) -> Words:
    for _ in range(_FINISHES):
        a, b, c, d = _round(a, b, c, d)
    return a, b, c, d


@inlined
def _round(a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64) -> Words:
    a += b
    b = _turn(b, np.uint64(13)) ^ a
    a = _turn(a, np.uint64(32))
    c += d
    d = _turn(d, np.uint64(16)) ^ c
    a += d
    d = _turn(d, np.uint64(21)) ^ a
    c += b
    b = _turn(b, np.uint64(17)) ^ c
    return a, b, _turn(c, np.uint64(32)), d


@inlined
def _turn(value: np.uint64, bits: np.uint64) -> np.uint64:
    return (value << bits) | (value >> (_BITS - bits))


@inlined
def _last_word(arena: NDArray[np.uint8], start: int, length: int, before: int) -> np.uint64:
    """Return the bytes after the last whole word, with the lowest byte of the length of all in the highest one."""
    left = length % WORD_BYTES
    word = _NONE
    if length >= WORD_BYTES and left > 0:
        word = read_word(arena, start + length - WORD_BYTES) >> np.uint64(64 - 8 * left)
    elif left > 0:
        for place in range(left):
            word |= np.uint64(arena[start + place]) << np.uint64(8 * place)
    return word | (np.uint64(before + length) << np.uint64(56))


@kernel
def _hash_texts(text: NDArray[np.uint8], starts: NDArray[np.int64], key: IdKey, found: NDArray[np.uint64]) -> None:
    for i in range(len(found)):
        found[i] = hash_id(text, starts[i], starts[i + 1] - starts[i], key)
