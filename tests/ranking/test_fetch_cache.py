"""The cache of fetched columns: no older than is stated, never more than its maximum, each fetch by itself."""

from types import MappingProxyType

from midstream.ranking.fetch_cache import FetchCache
from midstream.ranking.fetched_columns import DeclaredFetch

ROW = MappingProxyType({"stock": 1.0})


class Nobody:
    """Is never asked."""

    async def fetch(self, ids):
        raise AssertionError(ids)


def fetch(key="stock", age_ms=1_000):
    """Return a fetch with an age."""
    return DeclaredFetch("stock", "item", {"stock": "number"}, Nobody(), age_ms, 1.0, key)


def test_a_row_is_believed_as_long_as_is_stated():
    """To the millisecond; a clock that went back is not believed, and an age of 0 keeps nothing."""
    cache = FetchCache()
    cache.put(fetch(), {"a": ROW}, 5_000)
    found = [now_ms for now_ms in (4_999, 5_000, 6_000, 6_001) if cache.known(fetch(), ("a", "b"), now_ms)]
    assert found == [5_000, 6_000]
    assert cache.known(fetch(), ("a", "b"), 5_000) == {"a": ROW}
    assert cache.known(fetch("prices"), ("a",), 5_000) == {}
    cache.put(fetch("now", 0), {"a": ROW}, 5_000)
    assert (len(cache), cache.known(fetch("now", 0), ("a",), 5_000)) == (1, {})


def test_there_are_never_more_rows_than_the_maximum_and_the_oldest_go_first():
    """What was asked for again is young again."""
    cache = FetchCache(3)
    cache.put(fetch(), dict.fromkeys("abc", ROW), 1_000)
    cache.put(fetch(), {"a": ROW}, 1_500)
    cache.put(fetch("prices"), dict.fromkeys("xy", ROW), 1_600)
    assert len(cache) == 3
    assert cache.known(fetch(), "abc", 1_600) == {"a": ROW}
    assert set(cache.known(fetch("prices"), "xy", 1_600)) == {"x", "y"}
    assert cache.oldest_ms() == 1_500
    assert FetchCache().oldest_ms() is None
