"""The file of encoded texts: what was put comes back, up to a number of rows, and damage is an error of the disk."""

import numpy as np
import pytest

from midstream.engine.vectors.text_cache import TextCache


def vectors(*numbers):
    """A vector for each number."""
    return {bytes([number]): np.array([number, 0.5], dtype=np.float32) for number in numbers}


def test_what_was_put_comes_back(tmp_path):
    """Of several puts and from another object; nothing before the first."""
    cache = TextCache(tmp_path / "deep" / "texts.sqlite")
    assert cache.get([b"\x01"]) == {}
    cache.put(vectors(1, 2))
    cache.put({b"\x02": np.array([9, 9], dtype=np.float32)})
    found = TextCache(tmp_path / "deep" / "texts.sqlite").get([bytes([number]) for number in range(200)] * 5)
    assert {key: each.tolist() for key, each in found.items()} == {b"\x01": [1.0, 0.5], b"\x02": [9.0, 9.0]}


def test_the_oldest_go(tmp_path):
    """When there are more than there may be."""
    cache = TextCache(tmp_path / "texts.sqlite", rows_max=3)
    for number in range(6):
        cache.put(vectors(number))
    assert sorted(cache.get([bytes([number]) for number in range(6)])) == [b"\x03", b"\x04", b"\x05"]


def test_a_damaged_file_is_an_error_of_the_disk(tmp_path):
    """With its path; it is not taken for an empty one."""
    path = tmp_path / "texts.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(OSError, match=r"texts\.sqlite"):
        TextCache(path).get([b"\x01"])
    with pytest.raises(OSError, match=r"texts\.sqlite"):
        TextCache(path).put(vectors(1))


def test_a_file_without_its_table_is_an_empty_one(tmp_path):
    """As a kill or a full disk leaves it at the first ``put``: nothing is known, and what is put is kept."""
    path = tmp_path / "texts.sqlite"
    path.touch()
    cache = TextCache(path)
    assert cache.get([b"\x01"]) == {}
    cache.put(vectors(1))
    assert [*cache.get([b"\x01"])] == [b"\x01"]
