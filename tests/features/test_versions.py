"""Rows by key and time, against plain dictionaries."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.features.versions import versions_of
from midstream.state.structures.hashing import hashes_of
from tests.support.ids import KEY, hash_of

KEYS = st.one_of(st.integers(1, 6), st.integers(2**63, 2**63 + 5), st.just(2**64 - 1), st.integers(1, 2**64 - 1))
ROWS = st.lists(st.tuples(KEYS, st.integers(-3, 12)), max_size=30)


def made(rows):
    keys = np.array([key for key, _ in rows], dtype=np.uint64)
    times = np.array([time for _, time in rows], dtype=np.int64)
    values = np.array([[number, -number] for number in range(len(rows))], dtype=np.float64).reshape(len(rows), 2)
    return versions_of(keys, times, values)


def newest(rows, key, now_ms, ttl_ms):
    """Return the number of the row that counts, None = there is none: as the promise says it, row by row."""
    best = None
    for number, (each, time) in enumerate(rows):
        if each == key and time < now_ms and (best is None or time >= rows[best][1]):
            best = number
    if best is not None and ttl_ms and now_ms - rows[best][1] >= ttl_ms:
        return None
    return best


@given(ROWS, st.lists(KEYS, max_size=5), st.integers(-4, 14), st.integers(0, 6))
def test_the_newest_row_before_now_is_read(rows, others, now_ms, ttl_ms):
    """Nothing at now or after it, of equal times the later row, nothing that is too old, NaN where there is no row."""
    asked = [*{key for key, _ in rows}, *others, 0]
    found = made(rows).read(np.array(asked, dtype=np.uint64), now_ms, ttl_ms, np.array([1, 0], dtype=np.int64))
    for at, key in enumerate(asked):
        best = newest(rows, key, now_ms, ttl_ms) if key else None
        if best is None:
            assert np.isnan(found[:, at]).all()
        else:
            assert found[:, at].tolist() == [-best, best]


def test_a_row_of_this_very_time_is_not_there_yet():
    """Strictly before now; a millisecond later it counts, and at the age of the ttl no more."""
    rows = [(7, 100), (7, 50)]
    versions, one, first = made(rows), np.array([7], dtype=np.uint64), np.array([0], dtype=np.int64)
    assert [versions.read(one, now, 0, first)[0, 0] for now in (51, 100, 101)] == [1.0, 1.0, 0.0]
    assert versions.read(one, 109, 10, first)[0, 0] == 0.0
    assert math.isnan(versions.read(one, 110, 10, first)[0, 0])
    assert math.isnan(versions.read(one, 50, 0, first)[0, 0])


@given(st.lists(st.text(max_size=5), max_size=10))
def test_texts_are_hashed_as_ids_are(texts):
    """The kernel's hash of a text in a column is that of the id in an event."""
    encoded = [text.encode("utf-8", "replace") for text in texts]
    text = np.frombuffer(b"".join(encoded) or b"\0", dtype=np.uint8)
    starts = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    assert hashes_of(text, starts, KEY).tolist() == [hash_of(each.decode()) for each in encoded]
