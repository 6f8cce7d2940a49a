"""The served record: all of it comes back, and it is small."""

from dataclasses import replace
from typing import get_args, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import NotFound
from midstream.core.types import (
    Candidates,
    Failure,
    FeatureFrame,
    LogPosition,
    Proposal,
    Query,
    Selection,
    Served,
    TimestampMs,
)
from midstream.events.served_body import RECORD_VERSION, TOOK_US_MAX, ServedBody, decode_body, encode_body, microseconds
from midstream.ranking.record.served import STAYS, blank_served, decode_served, encode_served
from midstream.retrieval.approximate import approximate_of, with_approximate

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
    answer = Served(
        query=draw(queries),
        log_position=LogPosition(draw(st.integers(0, 2**40))),
        candidates=candidates,
        scorer=draw(ids),
        score=np.array(draw(floats), dtype=np.float32),
        selection=Selection(chosen, np.array(propensity, dtype=np.float32)[: len(chosen)]),
        retrieved=draw(counts),
        retrieved_count=draw(st.integers(0, 2_000)),
        removed=draw(counts),
        failures=tuple(draw(st.lists(st.builds(Failure, ids, ids), max_size=3))),
        config_hash="c0ffee",
        tier=draw(st.sampled_from(("full", "reduced", "floor"))),
        fold_version="f01d",
        features=frame if columns else None,
        logs_features=draw(st.booleans()),
        took_us=draw(st.none() | st.integers(0, TOOK_US_MAX)),
    )
    kept = {name: Proposal(rank[:, 0], rank[:, 0].astype(np.float32)) for name in names[: draw(st.integers(0, 2))]}
    return with_approximate(answer, kept)


def test_a_time_takes_five_bytes_at_most():
    """Whole microseconds, rounded; what is below 0 or beyond 32 bits is the nearest that can be held."""
    times = (-1.0, 0.0, 1.4e-6, 1.6e-6, 0.0213, 5_000.0)
    assert [microseconds(each) for each in times] == [0, 0, 1, 2, 21_300, TOOK_US_MAX]
    sizes = [len(msgspec.msgpack.encode(microseconds(each))) for each in times]
    assert max(sizes) == 5
    assert sizes[4] == 3


def names_of(item_index) -> list[str]:
    """Ids of items."""
    return [f"item-{index}" for index in item_index.tolist()]


@given(served())
def test_what_was_served_comes_back(given):
    """Every field, numbers bit by bit."""
    record = decode_served(encode_served(given, names_of(given.candidates.item_index[given.selection.chosen])))
    assert record.approximate.keys() == approximate_of(given).keys()
    for name, proposal in record.approximate.items():
        assert proposal.item_index.tobytes() == approximate_of(given)[name].item_index.tobytes()
        assert proposal.score.tobytes() == approximate_of(given)[name].score.tobytes()
    chosen = given.selection.chosen
    assert record.query == given.query
    assert [item.id for item in record.items] == names_of(given.candidates.item_index[chosen])
    assert np.array([item.score for item in record.items], np.float32).tobytes() == given.score[chosen].tobytes()
    propensity = np.array([item.propensity for item in record.items], np.float32)
    assert propensity.tobytes() == given.selection.propensity.tobytes()
    for item, row in zip(record.items, chosen.tolist(), strict=True):
        ranks = dict(zip(given.candidates.source_names, given.candidates.source_rank[row].tolist(), strict=True))
        assert item.sources == tuple(name for name, rank in ranks.items() if rank >= 0)
    for name in (
        "took_us",
        "log_position",
        "scorer",
        "tier",
        "config_hash",
        "fold_version",
        "retrieved",
        "retrieved_count",
    ):
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
        query=query,
        log_position=LogPosition(10**9),
        candidates=candidates,
        scorer="blend",
        score=rng.random(300).astype(np.float32),
        selection=Selection(np.arange(20), np.ones(20, np.float32)),
        retrieved=dict.fromkeys(names, 200),
        retrieved_count=612,
        removed=dict.fromkeys(filters, 123),
        failures=(Failure("session_knn", "x" * 120),),
        config_hash="0123456789abcdef",
        tier="reduced",
        fold_version="0123456789abcdef",
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
    plain = Served(
        query=query,
        log_position=LogPosition(1),
        candidates=candidates,
        scorer="blend",
        score=score,
        selection=chosen,
        retrieved={},
        retrieved_count=0,
        removed={},
        failures=(),
        config_hash="c",
        tier="full",
        fold_version="f",
        features=frame,
    )
    item_ids = names_of(candidates.item_index)
    logged = encode_served(replace(plain, logs_features=True), item_ids)
    assert len(logged) <= len(encode_served(plain, item_ids)) + 3_200 + 40 * 12


@pytest.mark.parametrize("body", [b"", b"{}", b"\x90", b"\xff" * 9])
def test_what_is_no_record_is_not_found(body):
    """Other bytes are an expected error, whatever they are."""
    with pytest.raises(NotFound):
        decode_served(body)


CLASSES = {
    "version": ("int", "stays"),
    "log_position": ("int", "stays"),
    "request_id": ("str", "blanked"),
    "placement": ("str", "stays"),
    "user_id": ("str | None", "blanked"),
    "session_id": ("str | None", "blanked"),
    "slate_size": ("int", "stays"),
    "now_ms": ("int", "stays"),
    "seed": ("int", "stays"),
    "items": ("tuple[str, ...]", "blanked"),
    "exclude": ("tuple[str, ...]", "blanked"),
    "filter": ("str | None", "blanked"),
    "context": ("dict[str, str | float | bool]", "blanked"),
    "fetched": ("dict[str, bytes]", "blanked"),
    "config_hash": ("str", "stays"),
    "fold_version": ("str", "stays"),
    "scorer": ("str", "stays"),
    "tier": ("str", "stays"),
    "retrieved_count": ("int", "stays"),
    "candidate_count": ("int", "stays"),
    "source_names": ("tuple[str, ...]", "stays"),
    "retrieved": ("dict[str, int]", "stays"),
    "removed": ("dict[str, int]", "stays"),
    "failures": ("tuple[tuple[str, str], ...]", "first of each stays"),
    "ids": ("tuple[str, ...]", "stays"),
    "scores": ("bytes", "stays"),
    "propensities": ("bytes", "stays"),
    "source_bits": ("tuple[int, ...]", "stays"),
    "item_fields": ("dict[str, dict[str, float]]", "blanked"),
    "feature_names": ("tuple[str, ...]", "blanked"),
    "feature_values": ("bytes", "blanked"),
    "models": ("dict[str, str]", "stays"),
    "given": ("tuple[str, ...]", "blanked"),
    "taken": ("tuple[str, ...]", "blanked"),
    "spare": ("int", "stays"),
    "page_id": ("str", "blanked"),
    "trace_rules": ("tuple[str, ...]", "blanked"),
    "traces": ("bytes", "blanked"),
    "trace_ids": ("tuple[str, ...]", "blanked"),
    "order_max": ("int", "blanked"),
    "order_ids": ("tuple[str, ...]", "blanked"),
    "order_scores": ("bytes", "blanked"),
    "order_propensities": ("bytes", "blanked"),
    "order_bits": ("tuple[int, ...]", "blanked"),
    "order_lengths": ("tuple[int, ...]", "blanked"),
    "continues": ("str", "blanked"),
    "turn": ("int", "stays"),
    "first_position": ("int", "stays"),
    "fetched_ids": ("bytes", "blanked"),
    "fetched_context": ("tuple[str, ...]", "blanked"),
    "rerunnable": ("bool", "blanked"),
    "outside_scores": ("bytes", "blanked"),
    "proposed": ("dict[str, bytes]", "blanked"),
    "bins": ("tuple[bytes, ...]", "stays"),
    "took_us": ("int | None", "blanked"),
}
"""What becomes of each field of a served record, with its whole type: whoever adds a field, or something within one,
says here whether it may tell of a person."""
MARKER = "ann@example.com"
NUMBER = 7_418_529_630


def filled(kind, text, number):
    """Return a value of a type that has a text or a number in every place."""
    values = {
        "int": number,
        "int | None": number,
        "str": text,
        "bytes": text.encode(),
        "str | None": text,
        "tuple[str, ...]": (text, text),
        "tuple[bytes, ...]": (text.encode(),),
        "tuple[int, ...]": (number,),
        "tuple[tuple[str, str], ...]": (("crm", f"LookupError: no row of {text}"), ("ages", str(number))),
        "dict[str, int]": {text: number},
        "dict[str, str]": {text: text},
        "dict[str, bytes]": {text: text.encode()},
        "bool": False,
        "dict[str, str | float | bool]": {text: text, "age": float(number)},
        "dict[str, dict[str, float]]": {text: {text: float(number)}},
    }
    return values[kind]


def written(hint):
    """Return a type as it is written."""
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def test_each_field_of_a_record_stays_or_goes_with_its_user():
    """Fields and whole types are those that are classified here, and the code keeps those that may stay."""
    hints = {name: written(hint) for name, hint in get_type_hints(ServedBody).items()}
    assert hints == {name: kind for name, (kind, _) in CLASSES.items()}
    assert {name for name, (_, becomes) in CLASSES.items() if becomes == "stays"} == STAYS


@given(st.sets(st.sampled_from([name for name, (_, becomes) in CLASSES.items() if becomes != "stays"])))
def test_a_record_that_is_full_of_a_user_is_of_nobody_when_blanked(names):
    """Whatever fields the user stands in, but those that stay: no byte is left, and the others are as they were."""
    others = {name: filled(kind, "x", 7) for name, (kind, _) in CLASSES.items()}
    full = {name: filled(CLASSES[name][0], MARKER, NUMBER) for name in names}
    body = ServedBody(**others | full | {"version": RECORD_VERSION})
    left = blank_served(encode_body(body))
    assert MARKER.encode() not in left
    assert not any(msgspec.msgpack.encode(each) in left for each in (NUMBER, float(NUMBER), str(NUMBER)))
    kept = decode_body(left)
    assert kept.failures == (("crm", ""), ("ages", ""))
    assert all(getattr(kept, name) == getattr(body, name) for name in STAYS)
    assert blank_served(left) == left


@given(served())
def test_a_blanked_record_says_what_was_served(given):
    """Slate, scores, propensities, counts and names of the configuration, bit by bit."""
    body = encode_served(given, names_of(given.candidates.item_index[given.selection.chosen]))
    before, after = decode_body(body), decode_body(blank_served(body))
    assert all(getattr(after, name) == getattr(before, name) for name in STAYS)
    assert decode_served(blank_served(body)).query.user_id is None
