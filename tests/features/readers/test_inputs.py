"""What comes with the question: what is missing or of another kind is NaN, and nobody else's is read."""

import json
import math
from datetime import date
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind, Operation
from midstream.core.types import Candidates, LogPosition, Models, Query, TimestampMs
from midstream.events.schema import Event, build
from midstream.features.declared import declared
from midstream.features.kinds.kinds import (
    Boolean,
    CandidateDiversity,
    Category,
    Computed,
    FieldMatch,
    ItemAge,
    ItemField,
    KnnScore,
    LastItems,
    LocalTime,
    Match,
    Number,
    PairScore,
    Position,
    Random,
    Vector,
    WordCount,
)
from midstream.features.readers.lists import Reduction, reduced, reduced_rows
from midstream.features.readers.texts import COMPARED_CHARACTERS_MAX
from midstream.state.attributes.attributes import value_hash
from midstream.state.fold import Fold
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.pairs.covisitation_query import PairQuery
from midstream.state.sessions.session_query import SessionQuery
from midstream.state.settings import FoldSettings
from tests.support.events import START_MS, tiny_settings

SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000
NOW = START_MS + DAY


def roomy() -> FoldSettings:
    """The attributes of a small shop, with room."""
    tiny = tiny_settings()
    limits = msgspec.structs.replace(
        tiny.limits, users_max=99, items_max=99, click_items_max=50, session_items_max=20, user_ring_max=20,
        event_ids_max=999, attribute_values_max=99, document_bytes_max=99_999, index_sessions_max=99, pair_items_max=9,
        pair_neighbours_max=9, index_items_max=9, index_entries_max=9,
    )  # fmt: skip
    return msgspec.structs.replace(tiny, limits=limits)


def item(name, at=0, **attributes):
    """An item event."""
    body = json.dumps(attributes).encode()
    return Event(Kind.ITEM, Operation.PUT, item_id=name, body=body, log_time_ms=START_MS + at)


def act(item_id, at, action="view", user="u", session="s"):
    """An interaction."""
    log_time_ms = START_MS + at
    return Event(
        Kind.INTERACTION, action=action, user_id=user, session_id=session, item_id=item_id, log_time_ms=log_time_ms
    )


def profile(user, **attributes):
    """A user event."""
    return Event(Kind.USER, Operation.PUT, user_id=user, body=json.dumps(attributes).encode(), log_time_ms=START_MS)


def read(features, events, candidate_ids, **told):
    """Return the columns of features by name, each a list by item, after these events."""
    fold = Fold(roomy())
    fold.apply(LogPosition(0), build(sorted(events, key=lambda each: each.log_time_ms)))
    asked = {"user_id": "u", "session_id": "s", "now_ms": TimestampMs(NOW), "seed": 5, **told}
    moment = fold.moment(Query(request_id="r", placement="home", slate_size=3, **asked), Models({}))
    item_index = fold.vocabulary.item_indices(candidate_ids)
    count = len(candidate_ids)
    candidates = Candidates(item_index, (), np.empty((count, 0), np.float32), np.empty((count, 0), np.int32))
    block = declared(features, fold.settings.attributes)
    return dict(zip(block.names, block.read(moment, candidates).T.tolist(), strict=True))


def same(found, expected):
    np.testing.assert_array_equal(np.array(found), np.array(expected, dtype=np.float32))


def test_attributes_of_items():
    """What was not sent, was sent as another kind, or is of an item that no one named, is NaN."""
    events = [item("a", price=3, fresh=True, available=False), item("b", price="3", fresh=1), act("c", 5)]
    features = (Number(name="price"), Boolean(name="fresh"), Boolean(name="available"))
    found = read(features, events, ("a", "b", "c", "unknown"))
    same(found["price"], [3, math.nan, math.nan, math.nan])
    same(found["fresh"], [1, math.nan, math.nan, math.nan])
    same(found["available"], [0, 1, 1, math.nan])


def test_texts_of_items():
    """By place, by column and by hash, never by the order in which the state met them."""
    events = [item("a", tags=["x", "red"], category="hats"), item("b", tags=["blue"]), item("c", category="coats")]
    features = (
        Category(name="category", values=("coats", "never", "hats")),
        Category(name="tag", attribute="tags", form="one_hot", values=("red", "blue", "never")),
        Category(name="first", attribute="tags", form="hashed", buckets=97),
        Category(name="place", attribute="tags", values=("blue",)),
    )
    for order in (events, events[::-1]):
        found = read(features, order, ("a", "b", "c", "unknown"))
        same(found["category"], [2, math.nan, 0, math.nan])
        same(found["tag_red"], [1, 0, 0, math.nan])
        same(found["tag_blue"], [0, 1, 0, math.nan])
        same(found["tag_never"], [0, 0, 0, math.nan])
        same(found["first"], [value_hash("x") % 97, value_hash("blue") % 97, math.nan, math.nan])
        same(found["place"], [1, 0, math.nan, math.nan])


def test_profiles_and_contexts():
    """Of the asking user and the request; of nobody, or of another kind, NaN."""
    features = (
        Number(name="age", scope="user"),
        Number(name="best", scope="user", attribute="scores", reduce="max"),
        Number(name="scores", scope="user"),
        Boolean(name="member", scope="user"),
        Vector(name="taste", length=3),
        Vector(name="short", attribute="taste", length=2),
        WordCount(name="motto", scope="user"),
        Category(name="plan", scope="user", values=("a", "b")),
        Number(name="budget", scope="request"),
        Boolean(name="gift", scope="request"),
        Category(name="page", scope="request", form="one_hot", values=("home", "cart")),
    )
    told = {
        "age": 30,
        "scores": [3, "x", 9],
        "member": False,
        "taste": [1, None, 2.5],
        "motto": " to  be ",
        "plan": "b",
    }
    events = [profile("u", **told), item("a")]
    context = {"budget": 7.5, "gift": True, "page": "cart"}
    found = read(features, events, ("a",), context=context)
    expected = {
        "age": 30, "best": 9, "scores": math.nan, "member": 0, "taste_0": 1, "taste_1": math.nan, "taste_2": 2.5,
        "short_0": math.nan, "short_1": math.nan, "motto": 2, "plan": 1, "budget": 7.5, "gift": 1, "page_home": 0,
        "page_cart": 1,
    }  # fmt: skip
    assert set(found) == set(expected)
    for name, value in expected.items():
        same(found[name], [value])
    wrong = {"budget": "7.5", "gift": 1.0}
    for other in (
        read(features, events, ("a",), user_id="v", context=wrong),
        read(features, events, ("a",), user_id=None),
    ):
        assert all(math.isnan(value) for (value,) in other.values())


def test_numbers_beyond_float32():
    """What no scorer could read is not known: sent, kept or computed, positive or negative."""
    features = (
        Number(name="price"),
        Number(name="budget", scope="request"),
        Computed(name="times", text="item.price * 1e39"),
        Computed(name="over", text="item.price * 1e299 * 1e299"),
        Computed(name="back", text="budget / 1e298"),
    )
    found = read(features, [item("a", price=1e39), item("b", price=-2)], ("a", "b"), context={"budget": 1e300})
    same(found["price"], [math.nan, -2])
    same(found["budget"], [math.nan, math.nan])
    same(found["times"], [math.nan, math.nan])
    same(found["over"], [math.nan, math.nan])
    same(found["back"], [100, 100])


def test_ages():
    """Since the first item event by log time, whatever came after; or since a time that is told."""
    events = [item("a", 0, price=START_MS + 2 * DAY), item("a", 9 * HOUR, price=START_MS), act("b", 0), item("b", HOUR)]
    features = (ItemAge(name="age"), ItemAge(name="since", attribute="price"))
    found = read(features, [*events, act("c", 0)], ("a", "b", "c"))
    same(found["age"], [DAY / SECOND, (DAY - HOUR) / SECOND, math.nan])
    same(found["since"], [DAY / SECOND, math.nan, math.nan])


def test_texts_in_common():
    """By words and by pieces; nothing to compare with is NaN."""
    events = [item("a", title="Wool Hat, wool!"), item("b", title=7), item("c", title="???")]
    features = (
        FieldMatch(name="words", context="q", attribute="title"),
        FieldMatch(name="pieces", context="q", attribute="title", letters=2),
        WordCount(name="count", attribute="title"),
    )
    found = read(features, events, ("a", "b", "c"), context={"q": "wool hat x"})
    same(found["words"], [2 / 3, math.nan, 0])
    same(found["pieces"], [5 / 6, math.nan, 0])  # wo oo ol ha at, and x
    same(found["count"], [3, math.nan, 1])
    assert all(math.isnan(value) for value in read(features, events, ("a",))["words"])


def test_the_beginning_of_a_long_text_is_compared():
    """A request waits for no item with a long text: what comes after is as if it were not there."""
    feature = FieldMatch(name="words", context="q", attribute="title")
    short = "hat " * (COMPARED_CHARACTERS_MAX // 4)
    found = read(
        (feature,), [item("a", title=short + "coat"), item("b", title=short)], ("a", "b"), context={"q": "hat"}
    )
    same(found["words"], [1, 1])


def test_differences():
    """Of numbers to the median; of values to those of all others; alone there is nothing to differ from."""
    events = [item("a", price=1, tags=["x", "y"]), item("b", price=5, tags=["x"]), item("c", price=100), item("d")]
    features = (CandidateDiversity(name="price"), CandidateDiversity(name="tags"))
    found = read(features, events, ("a", "b", "c", "d"))
    same(found["price"], [4, 0, 95, math.nan])
    same(found["tags"], [0.5, 0, math.nan, math.nan])
    same(read(features, events, ("a",))["tags"], [math.nan])


def test_what_was_done_last():
    """Distinct, the newest first, of this session with what the request sends along, or of this user's acts."""
    events = [item(name, category=kind) for name, kind in (("a", "hats"), ("b", "coats"), ("c", "hats"), ("d", None))]
    at = DAY - 30 * SECOND
    events += [act("a", 0, session="old"), act("c", 1, "purchase", session="old"), act("d", 2, user="v", session="x")]
    events += [act("a", at), act("b", at + 1), act("a", at + 2), act("b", at + 3, "dismiss")]
    features = (
        LastItems(name="session", last=4, buckets=1_000),
        LastItems(name="user", scope="user", last=4, buckets=1_000),
        LastItems(name="bought", scope="user", actions=("purchase",), last=1, buckets=1_000),
        LastItems(name="kind", scope="user", attribute="category", last=4, form="index", values=("hats", "coats")),
        Match(name="in_session", attribute="category"),
        Match(name="of_user", scope="user", attribute="category"),
        Match(name="of_one", scope="user", attribute="category", last=1),
        Match(name="disliked", scope="user", attribute="category", actions=("dismiss",)),
    )
    found = read(features, events, ("a", "b", "d"), items=("d", "nobody"))

    def columns(name, count):
        return [found[f"{name}_{place}"][0] for place in range(count)]

    bucket = {name: value_hash(name) % 1_000 for name in "abcd"}
    same(columns("session", 4), [bucket["d"], bucket["a"], bucket["b"], math.nan])
    same(columns("user", 4), [bucket["a"], bucket["b"], bucket["c"], math.nan])
    same(columns("bought", 1), [bucket["c"]])
    same(columns("kind", 4), [0, 1, 0, math.nan])
    same(found["in_session"], [0.5, 0.5, math.nan])  # d has no category
    same(found["of_user"], [2 / 3, 1 / 3, math.nan])
    same(found["of_one"], [1, 0, math.nan])
    same(found["disliked"], [0, 1, math.nan])
    unknown = read(features, events, ("a",), user_id="nobody", session_id="none")
    assert all(math.isnan(values[0]) for values in unknown.values())


def test_scores_of_sources():
    """Those of the query itself, looked up; NaN beyond its answer."""
    events = [
        act(name, number * SECOND, session=f"s{number // 3}", user="") for number, name in enumerate("abcabdbcdcad")
    ]
    features = (PairScore(name="pairs"), PairScore(name="best", limit=1), KnnScore(name="knn"))
    fold = Fold(roomy())
    fold.apply(LogPosition(0), build(events))
    names = ("a", "b", "c", "d")
    found = read(features, events, names, items=("a",), user_id=None)
    recent = fold.vocabulary.item_indices(("a",))
    items, scores = fold.pairs.score(PairQuery(exclude_last_item=False, limit=1_000), recent, NOW)
    pairs = dict(zip(fold.vocabulary.item_ids(items), scores.tolist(), strict=True))
    same(found["pairs"], [pairs.get(name, math.nan) for name in names])
    same(found["best"], [value if value == max(pairs.values()) else math.nan for value in found["pairs"]])
    items, scores = fold.session_index.score(SessionQuery(exclude_last_item=False, limit=1_000), recent)
    knn = dict(zip(fold.vocabulary.item_ids(items), scores.tolist(), strict=True))
    assert knn
    same(found["knn"], [knn.get(name, math.nan) for name in names])


@pytest.mark.parametrize(
    "part,offset,context,expected",
    [
        ("hour", 0, {}, 22),
        ("hour", 60, {}, 23),
        ("hour", 120, {}, 0),
        ("hour", 60, {"minutes": -60}, 21),
        ("hour", 60, {"minutes": 9_000}, 23),
        ("hour", 60, {"minutes": "x"}, 23),
        ("time_of_day", 30, {}, 22.5 + 13 / 60 + 20 / 3_600),
        ("weekday", 0, {}, 1),
        ("weekday", 120, {}, 2),
        ("day", 120, {}, 15),
        ("month", 120, {}, 11),
        ("year", 0, {}, 2023),
    ],
)
def test_times(part, offset, context, expected):
    """Of 2023-11-14, a Tuesday, 22:13:20 UTC."""
    feature = LocalTime(name="time", part=part, utc_offset=offset, offset="minutes")
    same(read((feature,), [item("a")], ("a",), context=context, now_ms=TimestampMs(START_MS))["time"], [expected])


def test_vectors_of_items():
    """A column for each place as float32, one number of them, and NaN where there is none."""
    events = [item("a", look=[1, -2.5, 0.1]), item("b", look=[1, 2]), item("c", look=[7, 8, 9]), act("d", 5)]
    reductions: tuple[Reduction, ...] = ("min", "max", "mean", "sum", "first", "last")
    numbers = [Number(name=each, attribute="look", reduce=each) for each in reductions]
    features = (Vector(name="l", scope="item", attribute="look", length=3), *numbers)
    found = read(features, events, ("a", "b", "unknown", "c", "d"))
    vectors = {0: [1, -2.5, float(np.float32(0.1))], 3: [7.0, 8.0, 9.0]}
    for place in range(3):
        same(found[f"l_{place}"], [vectors[at][place] if at in vectors else math.nan for at in range(5)])
    for name in reductions:
        same(found[name], [reduced(vectors[at], name) if at in vectors else math.nan for at in range(5)])


@given(st.lists(st.lists(st.floats(width=32), min_size=4, max_size=4), min_size=1, max_size=5))
def test_lists_side_by_side_are_reduced_as_one(rows):
    """In float64, from the first number to the last; a NaN anywhere makes it NaN, but for first and last."""
    places = np.ascontiguousarray(np.array(rows).T)
    with np.errstate(all="ignore"):
        plain_ones: dict[Reduction, Any] = {
            "min": min,
            "max": max,
            "sum": sum,
            "mean": lambda row: sum(row) / 4,
        }
        for name, plain in plain_ones.items():
            expected = [math.nan if any(map(math.isnan, row)) else plain(row) for row in rows]
            np.testing.assert_array_equal(reduced_rows(places, name), expected)
        np.testing.assert_array_equal(reduced_rows(places, "first"), [row[0] for row in rows])
        np.testing.assert_array_equal(reduced_rows(places, "last"), [row[-1] for row in rows])


_SENT = st.dictionaries(
    st.sampled_from("abcdefgh"), st.dictionaries(st.sampled_from("xyz"), st.floats(-9, 9), max_size=3), max_size=8
)


@given(_SENT, st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1))
def test_fields_that_are_read_together_are_those_of_each(said, names):
    """One lookup for all of them, each with its own numbers, for items in any order, known ones and others."""
    features = tuple(ItemField(name=f"f{each}", field=each) for each in "xyz")
    found = read(features, [item(name) for name in "abcd"], tuple(names), item_fields=said)
    for each in "xyz":
        same(
            found[f"f{each}"],
            [said.get(name, {}).get(each, math.nan) if name in "abcd" else math.nan for name in names],
        )


def test_fields_are_looked_up_once(monkeypatch):
    """However many features read them."""
    asked = []
    plain = Vocabulary.item_indices

    def noted(self, ids):
        asked.append(ids)
        return plain(self, ids)

    monkeypatch.setattr(Vocabulary, "item_indices", noted)
    features = tuple(ItemField(name=each) for each in ("stock", "score", "rank"))
    read(features, [item("a")], ("a",), item_fields={"a": {"stock": 1, "rank": 2}, "b": {"score": 3}})
    assert asked == [("a",), ("a", "b")]


@pytest.mark.parametrize("part,expected", [("hour", 0), ("weekday", 5), ("year", math.nan), ("day", math.nan)])
def test_times_beyond_the_calendar(part, expected):
    """After the year 9999 there are hours and weekdays, and no dates."""
    after = (date(9999, 12, 31).toordinal() + 1 - date(1970, 1, 1).toordinal()) * DAY
    feature = LocalTime(name="time", part=part)
    same(read((feature,), [item("a")], ("a",), now_ms=TimestampMs(after))["time"], [expected])


def test_what_the_caller_says_of_items():
    """Of the items that it names; what it does not name is NaN, and where an item stands is known in three ways."""
    features = (ItemField(name="stock"), ItemField(name="bm25", field="score"), Position(name="place", otherwise=9.0))
    said = {"gone": {"stock": 1}, "a": {"stock": 3, "position": 4}, "b": {"score": 0.5}}
    found = read(features, [item(name) for name in "abcd"], tuple("abcd"), item_fields=said, items=("c", "x", "b", "c"))
    same(found["stock"], [3, math.nan, math.nan, math.nan])
    same(found["bm25"], [math.nan, 0.5, math.nan, math.nan])
    same(found["place"], [4, 2, 0, 9])
    same(read(features, [item("a")], ("a",))["place"], [9])


def test_chance():
    """The same for the same seed, whichever other candidates there are; another for another; even over 0 to 1."""
    names = tuple(f"i{number}" for number in range(90))
    events = [item(name) for name in names]
    features = (Random(name="one"), Random(name="two"))
    found = read(features, events, names, seed=2**64 - 1)
    assert read(features, events, names[:1], seed=2**64 - 1)["one"] == found["one"][:1]
    assert read(features, events, names, seed=1)["one"] != found["one"] != found["two"]
    assert min(found["one"]) >= 0.0
    assert max(found["one"]) < 1.0
    assert 0.35 < np.mean(found["one"]) < 0.65
