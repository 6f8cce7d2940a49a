"""Ids are hashed by SipHash under a key, as its authors' vectors say; XXH64 is what the library says."""

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from midstream.events.siphash import sip_begin, sip_text, sip_word
from midstream.state.structures.hashing import NO_KEY, combine, hash_id, hashes_of, id_hash, id_key_of, mix, xxh64
from midstream.state.structures.kernel import kernel
from tests.support.collisions import ID_BYTES, twin_of, twins
from tests.support.ids import KEY

HASHES = st.integers(0, 2**64 - 1)
KEYS = st.binary(min_size=16, max_size=16)
MASK = 2**64 - 1
COUNTED = bytes(range(64))
"""Key and messages of the authors' vectors are the first bytes of this."""
SHORT = {
    0: "310e0edd47db6f72",
    1: "fd67dc93c539f874",
    7: "37d1018bf50002ab",
    8: "6224939a79f5f593",
    15: "e545be4961ca29a1",
}
LONG = {0: "a3817f04ba25a8e66df67214c7550293", 1: "da87c1d86b99af44347659119b22fc45"}


class Twin:
    """SipHash-2-4 in whole numbers, over a message that is there in one piece."""

    def __init__(self, key, *, wide=False):
        """Begin under a key."""
        low, high = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
        self.words = [low ^ 0x736F6D6570736575, high ^ 0x646F72616E646F6D]
        self.words += [low ^ 0x6C7967656E657261, high ^ 0x7465646279746573]
        self.words[1] ^= 0xEE if wide else 0
        self.wide = wide

    def digest(self, message):
        """Return the hash as whole numbers, one or two."""
        padded = message + b"\0" * (7 - len(message) % 8) + bytes([len(message) & 0xFF])
        for at in range(0, len(padded), 8):
            word = int.from_bytes(padded[at : at + 8], "little")
            self.words[3] ^= word
            self.rounds(2)
            self.words[0] ^= word
        self.words[2] ^= 0xEE if self.wide else 0xFF
        self.rounds(4)
        found = [self.folded()]
        if self.wide:
            self.words[1] ^= 0xDD
            self.rounds(4)
            found.append(self.folded())
        return found

    def folded(self):
        """Return the four words as one."""
        return self.words[0] ^ self.words[1] ^ self.words[2] ^ self.words[3]

    def rounds(self, count):
        """Mix the words."""
        for _ in range(count):
            for one, other, bits, then in ((0, 1, 13, 32), (2, 3, 16, 0), (0, 3, 21, 0), (2, 1, 17, 32)):
                self.words[one] = (self.words[one] + self.words[other]) & MASK
                self.words[other] = turned(self.words[other], bits) ^ self.words[one]
                self.words[one] = turned(self.words[one], then) if then else self.words[one]


def turned(value, bits):
    """Return 64 bits turned to the left."""
    return ((value << bits) | (value >> (64 - bits))) & MASK


@kernel
def wide(arena, start, length, words, key):
    """Return the hash of 128 bits of words and then bytes of an arena."""
    a, b, c, d = sip_begin(key)
    for i in range(len(words)):
        a, b, c, d = sip_word(a, b, c, d, words[i])
    first, second = sip_text((a, b, c, d), 8 * len(words), arena, start, length)
    return np.array([first, second], dtype=np.uint64)


@pytest.mark.parametrize("length", SHORT)
def test_the_authors_vectors_of_64_bits(length):
    """Of their reference code; that of 15 bytes stands in the paper."""
    key, arena = id_key_of(COUNTED[:16].hex()), np.frombuffer(COUNTED, dtype=np.uint8)
    expected = int.from_bytes(bytes.fromhex(SHORT[length]), "little")
    assert Twin(COUNTED[:16]).digest(COUNTED[:length]) == [expected]
    assert hash_id(arena, 0, length, key) == (expected if length else 0)


@pytest.mark.parametrize("length", LONG)
def test_the_authors_vectors_of_128_bits(length):
    """Two words, the lower one first."""
    arena = np.frombuffer(COUNTED, dtype=np.uint8)
    found = wide(arena, 0, length, np.empty(0, dtype=np.uint64), id_key_of(COUNTED[:16].hex()))
    assert found.tobytes().hex() == LONG[length]


@given(st.binary(min_size=1, max_size=200), st.integers(0, 9), KEYS)
def test_any_bytes_at_any_place_hash_as_in_plain_numbers(text, start, key):
    """Every length takes its own path through words and single bytes."""
    arena = np.frombuffer(b"#" * start + text + b"#" * 9, dtype=np.uint8)
    assert [hash_id(arena, start, len(text), id_key_of(key.hex()))] == [each or 1 for each in Twin(key).digest(text)]


@given(st.lists(HASHES, max_size=5), st.binary(max_size=99), st.integers(0, 9), KEYS)
def test_words_before_a_text_are_the_first_bytes_of_the_message(words, text, start, key):
    """What fingerprints are made of."""
    numbers = np.array(words, dtype=np.uint64)
    arena = np.frombuffer(b"#" * start + text + b"#" * 9, dtype=np.uint8)
    found = wide(arena, start, len(text), numbers, id_key_of(key.hex())).tolist()
    assert found == Twin(key, wide=True).digest(numbers.astype("<u8").tobytes() + text)


@given(st.lists(st.text(), max_size=9), KEYS)
def test_an_id_has_the_same_hash_alone_in_an_arena_and_among_many(texts, key):
    """Requests hash one text, the fold hashes bytes in an arena, models and tables many at once."""
    words = id_key_of(key.hex())
    encoded = [each.encode() for each in texts]
    starts = np.cumsum([0, *map(len, encoded)])
    arena = np.frombuffer(b"".join(encoded) + b"#", dtype=np.uint8)
    alone = [id_hash(each, words) for each in texts]
    assert hashes_of(arena, starts, words).tolist() == alone
    assert [hash_id(arena, int(at), len(each), words) for at, each in zip(starts, encoded, strict=False)] == alone


def test_no_id_has_the_hash_that_stands_for_none():
    """An empty text is 0 both ways."""
    assert id_hash("", KEY) == 0
    assert hash_id(np.zeros(1, dtype=np.uint8), 0, 0, KEY) == 0


def test_a_key_has_16_bytes():
    """What is none is refused: a key of zeros in its place would be everybody's."""
    assert id_key_of(NO_KEY).tolist() == [0, 0]
    for wrong in ("", "00", NO_KEY + "00", "g" * 32):
        with pytest.raises(ValueError, match="hex"):
            id_key_of(wrong)


def test_ids_of_one_hash_without_a_key_have_different_ones_under_each_key():
    """Two printable ids that anybody makes, and a hundred of one: XXH64 cannot tell them, SipHash does."""
    ids = ["anna@example.com", *twins("anna@example.com", 20)]
    assert len({xxhash.xxh64_intdigest(each.encode()) for each in ids}) == 1
    for key in (KEY, id_key_of("01" * 16)):
        assert len({id_hash(each, key) for each in ids}) == len(ids)
    assert len(twin_of("item-00000000001")) == ID_BYTES


@given(st.text(min_size=1), KEYS)
def test_another_key_gives_another_hash(text, key):
    """So what was found out in one shop says nothing in the next."""
    assert (id_hash(text, id_key_of(key.hex())) == id_hash(text, KEY)) == (key == bytes(16))


@given(st.binary(max_size=200), st.integers(0, 9), HASHES)
def test_xxh64_of_any_bytes_is_that_of_the_library(text, start, seed):
    """Every length takes its own path through stripes, words and single bytes."""
    arena = np.frombuffer(b"#" * start + text + b"#" * 9, dtype=np.uint8)
    assert xxh64(arena, start, len(text), np.uint64(seed)) == xxhash.xxh64_intdigest(text, seed)


@given(HASHES, HASHES)
def test_mixing_keeps_different_values_different(first, second):
    """One to one: no two values meet."""
    assert (mix(np.uint64(first)) == mix(np.uint64(second))) == (first == second)


@given(HASHES, HASHES)
def test_combining_depends_on_the_order(first, second):
    """A pair and its reverse are two different things."""
    forward = combine(np.uint64(first), np.uint64(second))
    backward = combine(np.uint64(second), np.uint64(first))
    assert (forward == backward) == (first == second)
