"""The items table against a plain model of it, over made-up events with every kind of lateness."""

import json
import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.core.errors import NotFound
from midstream.core.kinds import IMPRESSION, Kind, Operation
from midstream.core.types import IndexedBatch, LogPosition
from midstream.events.schema import Event, build
from midstream.state.items.items import Items
from midstream.state.settings import EventType, FoldSettings, StateLimits
from midstream.state.steps import step_of
from midstream.state.structures.decay import TABLE

if TYPE_CHECKING:
    from midstream.state.ids.vocabulary import Vocabulary

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
ACTIONS = ("buy", "dismiss", "view")
WEIGHTS = {"buy": 3.0, "dismiss": -2.0, "view": 1.0}
HALF_LIVES = (10 * MINUTE, 36 * HOUR)
WINDOWS = {HOUR: (5 * MINUTE, 12, 13), DAY: (HOUR, 24, 25), 7 * DAY: (DAY, 7, 31), 30 * DAY: (DAY, 30, 31)}
ITEMS = 9
START = 1_700_000_000_000
# Two pairs of equal hashes, so that the last rule for ties is needed too.
HASHES = np.array([5, 3, 2**64 - 1, 3, 9, 1, 7, 5, 2**63], dtype=np.uint64)


class Act(NamedTuple):
    """One event, as little of it as the table reads."""

    log_time: int
    event_time: int
    kind: Kind = Kind.INTERACTION
    item: int = 0
    action: str | None = "view"
    folded: bool = True
    operation: Operation = Operation.NONE
    body: dict[str, object] | None = None
    is_timed: bool = True


def settings(unknown_items="accept", hot_items_max=2):
    """Make settings with small maxima."""
    return FoldSettings(
        types={name: EventType(weight=weight) for name, weight in WEIGHTS.items()},
        attributes={"price": "number", "kind": "category", "new": "boolean", "marks": "tags", "look": "vector:2"},
        unknown_items=unknown_items,
        half_lives=tuple(Duration(f"{each}ms") for each in HALF_LIVES),
        limits=StateLimits(items_max=ITEMS, hot_items_max=hot_items_max, item_tags_max=2, attribute_values_max=3),
    )


def items_of(chosen):
    """Make a table over a vocabulary of which only the hashes matter."""
    return Items(chosen, cast("Vocabulary", SimpleNamespace(item_hash=HASHES)))


def batch_of(acts):
    """Make the batch that the vocabulary would make."""
    n = len(acts)
    number = {name: row for row, name in enumerate(ACTIONS)}
    source = build(
        [
            Event(
                act.kind,
                act.operation,
                body=b"" if act.body is None else json.dumps(act.body).encode(),
                event_time_ms=act.event_time if act.is_timed else None,
            )
            for act in acts
        ]
    )
    return IndexedBatch(
        first=LogPosition(0),
        kind=np.array([act.kind for act in acts], dtype=np.uint8),
        operation=np.array([act.operation for act in acts], dtype=np.uint8),
        action=np.array([number.get(act.action, -1) for act in acts], dtype=np.int16),
        folded=np.array([act.folded for act in acts], dtype=np.bool_),
        user_index=np.full(n, -1, dtype=np.int32),
        user_hash=np.zeros(n, dtype=np.uint64),
        user_is_new=np.zeros(n, dtype=np.bool_),
        item_index=np.array([act.item for act in acts], dtype=np.int32),
        item_hash=np.zeros(n, dtype=np.uint64),
        session_hash=np.zeros(n, dtype=np.uint64),
        request_hash=np.zeros(n, dtype=np.uint64),
        event_time_ms=np.array([act.event_time for act in acts], dtype=np.int64),
        log_time_ms=np.array([act.log_time for act in acts], dtype=np.int64),
        value=np.full(n, np.nan),
        quantity=np.full(n, np.nan, dtype=np.float32),
        source=source,
    )


def fold(table, acts, size):
    """Fold acts in batches of a size."""
    for start in range(0, len(acts), size):
        table.apply(step_of(batch_of(acts[start : start + size])))
    return table


def power(exponent):
    """Return 2^exponent, 0 where a normal float64 ends."""
    return 0.0 if exponent < -1022 else math.ldexp(1.0, exponent)


def weight_at(time, landmark, half_life):
    """Return the decay weight in plain arithmetic."""
    steps = (time - landmark) * 4096 // half_life
    return float(TABLE[steps % 4096]) * power(steps // 4096)


@dataclass
class Plain:
    """The same table in dictionaries and lists."""

    accepts: bool = True
    log_time: int = 0
    landmarks: list[int] = field(default_factory=lambda: [0] * len(HALF_LIVES))
    counters: dict[tuple[int, str, int], float] = field(default_factory=dict)
    heat: dict[tuple[int, int], float] = field(default_factory=dict)
    counted: dict[tuple[str, int], list[tuple[int, int]]] = field(default_factory=dict)
    changes: dict[int, list[Act]] = field(default_factory=dict)
    clicked: set[int] = field(default_factory=set)

    def apply(self, act):
        self.log_time = act.log_time
        for h, half_life in enumerate(HALF_LIVES):
            landmark = act.log_time // (32 * half_life) * (32 * half_life)
            factor = power((self.landmarks[h] - landmark) // half_life)
            self.landmarks[h] = landmark
            self.counters.update({key: value * factor for key, value in self.counters.items() if key[0] == h})
            self.heat.update({key: value * factor for key, value in self.heat.items() if key[0] == h})
        if act.item < 0 or not act.folded:
            return
        if act.kind == Kind.ITEM:
            earlier = self.changes.setdefault(act.item, [])
            newest = max((each.event_time for each in earlier), default=act.event_time)
            earlier.append(act if act.is_timed else act._replace(event_time=max(act.event_time, newest)))
        name = IMPRESSION if act.kind == Kind.IMPRESSION else act.action
        if act.kind not in {Kind.INTERACTION, Kind.IMPRESSION} or name is None:
            return
        if act.kind == Kind.INTERACTION:
            self.clicked.add(act.item)
        self.counted.setdefault((name, act.item), []).append((act.event_time, act.log_time))
        for h, half_life in enumerate(HALF_LIVES):
            weight = weight_at(act.event_time, self.landmarks[h], half_life)
            counter = (h, name, act.item)
            self.counters[counter] = self.counters.get(counter, 0.0) + weight
            if WEIGHTS.get(name, 0.0) > 0.0:
                key = (h, act.item)
                self.heat[key] = self.heat.get(key, 0.0) + WEIGHTS[name] * weight

    def document(self, item):
        """Fields from all changes of the item in the order of their times, and whether it is deleted."""
        document: dict[str, object] = {}
        deleted = False
        for act in sorted(self.changes.get(item, []), key=lambda act: act.event_time):
            deleted = act.operation == Operation.DELETE
            if act.operation != Operation.PATCH:
                document = {}
            document.update(act.body or {})
        return {name: value for name, value in document.items() if value is not None}, deleted

    def is_available(self, item):
        if item in self.changes:
            document, deleted = self.document(item)
            return not deleted and document.get("available", True) is True
        return item in self.clicked and self.accepts

    def hottest(self, h, limit):
        found = [(-self.heat.get((h, item), 0.0), int(HASHES[item]), item) for item in range(ITEMS)]
        best = sorted(each for each in found if each[0] < 0.0 and self.is_available(each[2]))[:limit]
        factor = weight_at(self.landmarks[h], self.log_time, HALF_LIVES[h])
        return [each[2] for each in best], [float(np.float32(-each[0] * factor)) for each in best]

    def window_count(self, action, window, now, item):
        width, buckets, size = WINDOWS[window]
        events = self.counted.get((action, item), [])
        held = [each for each in events if each[1] - each[0] <= DAY]
        newest = max((log_time // width + 1 for _, log_time in held), default=0)
        oldest = max(now // width - buckets, newest - size)
        return sum(event_time // width > oldest for event_time, _ in held)


STEPS = st.sampled_from((0, 0, 0, 1, 7 * MINUTE, 50 * MINUTE, 5 * HOUR, 7 * HOUR, 3 * DAY, 70 * DAY, 900 * DAY))
GOOD_LOOKS = ([1, 2.5], [-0.1, 3])
LATENESS = st.sampled_from((0, 0, 0, -5 * MINUTE, 6 * MINUTE, 3 * HOUR, DAY, DAY + 1, 40 * DAY, 4000 * DAY))
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "available": st.sampled_from((True, False, False, None)),
        "price": st.sampled_from((1, 2.5, None, "dear")),
        "kind": st.sampled_from(("a", "b", "c", "d", None, 7, ["a"])),
        "new": st.sampled_from((True, False, None, 1)),
        "look": st.sampled_from(([1, 2.5], [-0.1, 3], [1], [1, 2, 3], ["1", 2], [True, 1], [1e39, 0], None, 5)),
        "marks": st.sampled_from((["x"], ["y", "x", "y"], ["z", "x", "y"], "z", [], None, [None, "w"])),
    },
)


@st.composite
def acts_of(draw):
    """Draw a log in which anything may be late, early, folded before or unknown."""
    log_time = START
    acts = []
    for _ in range(draw(st.integers(0, 40))):
        log_time += draw(STEPS)
        kind = draw(st.sampled_from((Kind.INTERACTION,) * 5 + (Kind.IMPRESSION, Kind.ITEM, Kind.ITEM, Kind.TICK)))
        operation = Operation.NONE
        if kind == Kind.ITEM:
            operation = draw(st.sampled_from((Operation.PUT, Operation.PATCH, Operation.PATCH, Operation.DELETE)))
        lateness = draw(LATENESS)
        acts.append(
            Act(
                log_time,
                log_time - lateness,
                kind,
                draw(st.sampled_from((*range(ITEMS), -1))),
                draw(st.sampled_from((*ACTIONS, None))) if kind == Kind.INTERACTION else None,
                draw(st.sampled_from((True, True, True, True, False))),
                operation,
                draw(BODIES) if operation in {Operation.PUT, Operation.PATCH} else None,
                bool(lateness) or draw(st.booleans()),
            )
        )
    return acts


def assert_same_hottest(table, plain):
    """Compare both lists."""
    for h, half_life in enumerate(HALF_LIVES):
        items, scores = table.hottest(half_life, 2)
        assert (items.tolist(), scores.tolist()) == plain.hottest(h, 2)


def assert_same_reads(table, plain, now):
    """Compare all else that can be read."""
    everything = np.arange(-1, ITEMS, dtype=np.int32)
    for name in (*ACTIONS, IMPRESSION):
        for window in WINDOWS:
            counts = table.window_count(name, window, now, everything)
            assert math.isnan(counts[0])
            assert counts[1:].tolist() == [plain.window_count(name, window, now, item) for item in range(ITEMS)]
        for h, half_life in enumerate(HALF_LIVES):
            factor = weight_at(plain.landmarks[h], now, half_life)
            counts = table.decayed_count(name, half_life, now, everything)
            assert math.isnan(counts[0])
            expected = [plain.counters.get((h, name, item), 0.0) * factor for item in range(ITEMS)]
            assert counts[1:].tolist() == expected
    assert table.available.tolist() == [plain.is_available(item) for item in range(ITEMS)]
    looks = [plain.document(item)[0].get("look") for item in range(ITEMS)]
    rows = [[math.nan] * 2, *(each if each in GOOD_LOOKS else [math.nan] * 2 for each in looks)]
    np.testing.assert_array_equal(table.vectors("look", everything), np.array(rows, dtype=np.float32))
    assert [table.document(item) for item in range(ITEMS)] == [plain.document(item)[0] for item in range(ITEMS)]


def arrays_of(table):
    """Return the arrays in a form that compares bytes."""
    return {name: (each.dtype, each.shape, each.tobytes()) for name, each in table.arrays().items()}


@given(acts_of(), st.sampled_from(("accept", "hold")), st.sampled_from((0, 20 * MINUTE, 2 * DAY)))
def test_table_equals_its_plain_model_after_every_event(acts, unknown_items, later):
    """Counters, windows, availability, documents and hot lists are those of the plain model, to the bit."""
    table, plain = items_of(settings(unknown_items)), Plain(accepts=unknown_items == "accept")
    for act in acts:
        table.apply(step_of(batch_of([act])))
        plain.apply(act)
        assert_same_hottest(table, plain)
    assert_same_reads(table, plain, plain.log_time + later)


@given(acts_of())
def test_the_cut_of_the_log_does_not_show(acts):
    """Batches of 1, 7 and all give the same arrays to the byte, and the same hottest items."""
    tables = [fold(items_of(settings()), acts, size) for size in (1, 7, 1_000)]
    first, *others = [arrays_of(table) for table in tables]
    assert all(each == first for each in others)
    lists = [[table.hottest(half_life, 2)[0].tolist() for half_life in HALF_LIVES] for table in tables]
    assert all(each == lists[0] for each in lists)


@given(acts_of(), acts_of(), acts_of())
def test_a_restored_table_goes_on_as_the_one_it_was_taken_from(others, before, after):
    """A table that held something else becomes the other, also in what it does next."""
    last = before[-1].log_time if before else START
    after = [act._replace(log_time=act.log_time - START + last) for act in after]
    after = [act._replace(event_time=min(act.event_time, act.log_time)) for act in after]
    table = fold(items_of(settings()), before, 7)
    restored = fold(items_of(settings()), others, 7)
    restored.restore(table.arrays())
    assert arrays_of(restored) == arrays_of(table)
    plain = Plain()
    for act in before:
        plain.apply(act)
    for act in after:
        for each in (table, restored):
            each.apply(step_of(batch_of([act])))
        plain.apply(act)
        assert_same_hottest(restored, plain)
    assert arrays_of(restored) == arrays_of(table)


def put(item, body, time=START):
    """Make the event that puts an item."""
    return Act(time, time, Kind.ITEM, item, None, operation=Operation.PUT, body=body)


def test_columns_hold_what_was_declared_and_nothing_else():
    """A value of another kind is not known; a category keeps its code; tags keep their order, without repeats."""
    table = items_of(settings())
    bodies = [
        {"price": 2, "kind": "shoe", "new": True, "marks": ["red", "red", "wide", "old"], "free": 1},
        {"price": "2", "kind": ["shoe"], "new": 1, "marks": {"red": 1}},
        {"kind": "shoe", "marks": "wide"},
        {"price": -(10**400), "kind": 7.0, "new": False},
        {"price": 10**400, "kind": 7},
    ]
    fold(table, [put(item, body) for item, body in enumerate(bodies)], 100)
    assert np.array_equal(table.number("price")[:5], [2.0, np.nan, np.nan, np.nan, np.nan], equal_nan=True)
    assert table.boolean("new")[:5].tolist() == [1, -1, -1, 0, -1]
    assert [table.value_text("kind", code) for code in table.category("kind")[:5]] == ["shoe", None, "shoe", "7", "7"]
    red, wide = table.value_code("marks", "red"), table.value_code("marks", "wide")
    assert table.tags("marks")[:3].tolist() == [[red, wide], [-1, -1], [wide, -1]]
    assert table.document(0)["free"] == 1
    assert table.boolean("available")[:6].tolist() == [1, 1, 1, 1, 1, 0]


def test_the_longest_vectors_fit_a_document():
    """Of 1,024 numbers written as long as any can be, beside as much else as there may be without them."""
    chosen = settings()
    attributes = {"one": "vector:1024", "two": "vector:1024"}
    table = items_of(msgspec.structs.replace(chosen, attributes=attributes))
    longest = [-1.2345678901234567e-100 * (each + 1) for each in range(1_024)]
    fold(table, [put(0, {"one": longest, "two": longest, "text": "x" * 16_000})], 1)
    assert table.refused_documents_count == 0
    assert table.document(0)["one"] == longest
    assert not np.isnan(table.vectors("two", np.array([0]))).any()
    fold(table, [put(1, {"one": longest, "two": longest, "text": "x" * 70_000})], 1)
    assert table.refused_documents_count == 1


def test_values_beyond_their_maximum_are_not_known_and_counted():
    """The first three values have codes for ever; a fourth and one that is too long have none."""
    table = items_of(settings())
    values = ["a", "b", "c", "d", "x" * 257, "a"]
    fold(table, [put(item, {"kind": value}) for item, value in enumerate(values)], 100)
    assert table.category("kind")[:6].tolist() == [0, 1, 2, -1, -1, 0]
    assert table.refused_values_count == 2


def test_an_unavailable_item_leaves_at_once_and_comes_back_with_its_heat():
    """Also in one batch with the events around it."""
    table = items_of(settings())
    views = [Act(START, START, item=item) for item in (0, 0, 0, 1, 1, 2)]
    hide = put(0, {"available": False})._replace(operation=Operation.PATCH)
    table.apply(step_of(batch_of([*views, hide, Act(START, START, item=2)])))
    assert table.hottest(HALF_LIVES[0], 9)[0].tolist() == [1, 2]
    assert not table.available[0]
    table.apply(step_of(batch_of([hide._replace(body={"available": True})])))
    items, scores = table.hottest(HALF_LIVES[0], 9)
    assert items[0] == 0
    assert scores[0] == pytest.approx(3.0, rel=1e-3)


def test_a_deletion_that_cannot_be_kept_still_hides():
    """When documents have no room left, what may be served fails closed."""
    chosen = settings()
    small = FoldSettings(types=chosen.types, limits=StateLimits(items_max=ITEMS, document_bytes_max=0))
    for change in (
        Act(START, START, Kind.ITEM, 0, None, operation=Operation.DELETE),
        put(0, {"available": False}),
    ):
        table = items_of(small)
        table.apply(step_of(batch_of([Act(START, START)])))
        assert table.available[0]
        table.apply(step_of(batch_of([change])))
        assert not table.available[0]
        assert len(table.hottest(small.half_lives[0].ms, 9)[0]) == 0


def test_attributes_that_cannot_be_kept_do_not_hide():
    """An item is served without the attributes for which there was no room."""
    table = items_of(FoldSettings(limits=StateLimits(items_max=ITEMS, document_bytes_max=0)))
    table.apply(step_of(batch_of([put(0, {"price": 3})])))
    assert table.available[0]
    assert table.refused_documents_count == 1


def test_names_that_are_not_kept_are_refused():
    """An unknown half-life, action, window or attribute is an expected failure that says what there is."""
    table, none = items_of(settings()), np.zeros(0, dtype=np.int32)
    for call in (
        lambda: table.hottest(1, 1),
        lambda: table.window_count("share", HOUR, START, none),
        lambda: table.window_count("view", 2 * HOUR, START, none),
        lambda: table.decayed_count("view", 1, START, none),
        lambda: table.number("kind"),
        lambda: table.category("colour"),
        lambda: table.value_code("price", "1"),
        lambda: table.vectors("price", np.array([0])),
        lambda: table.number("look"),
        lambda: table.value_code("look", "1"),
    ):
        with pytest.raises(NotFound):
            call()


def test_reading_cannot_write():
    """Columns and masks come as views that refuse assignment."""
    table = items_of(settings())
    for column in (table.available, table.number("price"), table.boolean("available"), table.tags("marks")):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1


def test_an_item_arrived_when_the_log_first_named_it():
    """A date in the past makes nothing old that is new here; what comes later, or a restart, changes nothing of it."""
    table = items_of(settings())
    first = Act(START, START - 300 * DAY, Kind.ITEM, 4, None, operation=Operation.PUT, body={})
    again = Act(START + HOUR, START + HOUR, Kind.ITEM, 4, None, operation=Operation.PUT, body={"price": 1})
    click = Act(START + DAY, START, Kind.INTERACTION, 5)
    fold(table, [first, again, click], 1)
    restored = items_of(settings())
    restored.restore(table.arrays())
    for each in (table, restored):
        assert each.arrived_ms(np.array([4, 5], dtype=np.int32)).tolist() == [START, 0]
