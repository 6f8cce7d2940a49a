"""The served record: all of it comes back, and it is small."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import NotFound
from midstream.core.types import Candidates, Failure, FeatureFrame, LogPosition, Query, Selection, Served, TimestampMs
from midstream.ranking.served import decode_served, encode_served

ids = st.text(max_size=12)
values = st.one_of(st.text(max_size=8), st.booleans(), st.floats(allow_nan=False))
queries = st.builds(
    Query,
    request_id=ids,
    placement=ids,
    user_id=st.none() | ids,
    session_id=st.none() | ids,
    slate_size=st.integers(1, 100),
    now_ms=st.integers(0, 2**42).map(TimestampMs),
    seed=st.integers(0, 2**64 - 1),
    items=st.lists(ids, max_size=3).map(tuple),
    exclude=st.lists(ids, max_size=3).map(tuple),
    filter=st.none() | st.text(max_size=20),
    context=st.dictionaries(ids, values, max_size=3),
    fetched=st.dictionaries(ids, st.floats(allow_nan=False), max_size=3),
    item_fields=st.dictionaries(ids, st.dictionaries(ids, st.floats(allow_nan=False), max_size=2), max_size=3),
    given=st.lists(ids, max_size=3).map(tuple),
    taken=st.lists(ids, max_size=3).map(tuple),
    spare=st.integers(0, 1_500),
    page_id=ids,
)
counts = st.dictionaries(st.sampled_from(("popular", "trending", "available")), st.integers(0, 2_000))


@st.composite
def served(draw) -> Served:
    """Any answer."""
    count = draw(st.integers(0, 8))
    names = tuple(draw(st.lists(st.sampled_from(("a", "b", "c")), unique=True, min_size=1)))
    cells = st.lists(st.integers(-1, 300), min_size=count * len(names), max_size=count * len(names))
    rank = np.array(draw(cells), dtype=np.int32).reshape(count, len(names))
    floats = st.lists(st.floats(0, 1, width=32, exclude_min=True), min_size=count, max_size=count)
    chosen = np.array(draw(st.permutations(range(count))), dtype=np.intp)[: draw(st.integers(0, count))]
    candidates = Candidates(np.arange(count, dtype=np.int32), names, rank.astype(np.float32), rank)
    propensity = draw(st.sampled_from((np.ones(count), draw(floats))))
    columns = tuple(draw(st.lists(ids, unique=True, max_size=3)))
    known = st.lists(st.floats(width=32), min_size=count * len(columns), max_size=count * len(columns))
    frame = FeatureFrame(columns, np.array(draw(known), dtype=np.float32).reshape(count, len(columns)))
    return Served(
        draw(queries),
        LogPosition(draw(st.integers(0, 2**40))),
        candidates,
        draw(ids),
        np.array(draw(floats), dtype=np.float32),
        Selection(chosen, np.array(propensity, dtype=np.float32)[: len(chosen)]),
        draw(counts),
        draw(st.integers(0, 2_000)),
        draw(counts),
        tuple(draw(st.lists(st.builds(Failure, ids, ids), max_size=3))),
        "c0ffee",
        draw(st.sampled_from(("full", "reduced", "floor"))),
        "f01d",
        frame if columns else None,
        draw(st.booleans()),
    )


def names_of(item_index) -> list[str]:
    """Ids of items."""
    return [f"item-{index}" for index in item_index.tolist()]


@given(served())
def test_what_was_served_comes_back(given):
    """Every field, numbers bit by bit."""
    record = decode_served(encode_served(given, names_of(given.candidates.item_index[given.selection.chosen])))
    chosen = given.selection.chosen
    assert record.query == given.query
    assert [item.id for item in record.items] == names_of(given.candidates.item_index[chosen])
    assert np.array([item.score for item in record.items], np.float32).tobytes() == given.score[chosen].tobytes()
    propensity = np.array([item.propensity for item in record.items], np.float32)
    assert propensity.tobytes() == given.selection.propensity.tobytes()
    for item, row in zip(record.items, chosen.tolist(), strict=True):
        ranks = dict(zip(given.candidates.source_names, given.candidates.source_rank[row].tolist(), strict=True))
        assert item.sources == tuple(name for name, rank in ranks.items() if rank >= 0)
    for name in ("log_position", "scorer", "tier", "config_hash", "fold_version", "retrieved", "retrieved_count"):
        assert getattr(record, name) == getattr(given, name)
    assert (record.removed, record.failures) == (given.removed, given.failures)
    assert record.candidate_count == len(given.candidates)
    if given.features is None or not given.logs_features:
        assert record.features is None
    else:
        assert record.features is not None
        assert record.features.names == given.features.names
        assert record.features.values.tobytes() == given.features.values[chosen].tobytes()
        assert record.features.values.shape == (len(chosen), len(given.features.names))


def test_a_record_of_20_items_takes_at_most_1500_bytes():
    """With ids of 32 characters, four sources, seven filters, a failure and the longest names of the built-in parts."""
    rng = np.random.default_rng(7)
    names = ("session_knn", "trending", "popular", "catalogue")
    rank = rng.integers(0, 200, (300, 4)).astype(np.int32)
    candidates = Candidates(np.arange(300, dtype=np.int32), names, rank.astype(np.float32), rank)
    query = Query("r" * 48, "product-page-below", "u" * 32, "s" * 32, 20, TimestampMs(1_700_000_000_000), 2**64 - 1)
    filters = ("available", "excluded", "repeats", "acted", "filter", "in_stock", "request_filter")
    given = Served(
        query,
        LogPosition(10**9),
        candidates,
        "blend",
        rng.random(300).astype(np.float32),
        Selection(np.arange(20), np.ones(20, np.float32)),
        dict.fromkeys(names, 200),
        612,
        dict.fromkeys(filters, 123),
        (Failure("session_knn", "x" * 120),),
        "0123456789abcdef",
        "reduced",
        "0123456789abcdef",
    )
    assert len(encode_served(given, [f"{index:032d}" for index in range(20)])) <= 1_500


def test_the_values_of_20_items_take_4_bytes_each():
    """Those of 40 features are 3.2 kB and their names: why they are kept of a share of the requests."""
    count, names = 20, tuple(f"feature_{number:02d}" for number in range(40))
    query = Query("r" * 48, "home", "ann", "s1", count, TimestampMs(1_700_000_000_000), 1)
    candidates = Candidates(
        np.arange(count, dtype=np.int32), ("a",), np.ones((count, 1), np.float32), np.zeros((count, 1), np.int32)
    )
    chosen = Selection(np.arange(count), np.ones(count, np.float32))
    frame = FeatureFrame(names, np.ones((count, 40), np.float32))
    score = np.ones(count, np.float32)
    plain = Served(query, LogPosition(1), candidates, "blend", score, chosen, {}, 0, {}, (), "c", "full", "f", frame)
    item_ids = names_of(candidates.item_index)
    logged = encode_served(replace(plain, logs_features=True), item_ids)
    assert len(logged) <= len(encode_served(plain, item_ids)) + 3_200 + 40 * 12


@pytest.mark.parametrize("body", [b"", b"{}", b"\x90", b"\xff" * 9])
def test_what_is_no_record_is_not_found(body):
    """Other bytes are an expected error, whatever they are."""
    with pytest.raises(NotFound):
        decode_served(body)
