"""The pairs against plain dictionaries, with so few neighbours a row that they are pushed out all the time."""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.core.fold_step import SessionColumns
from midstream.state.pairs.covisitation import Pairs, row_words
from midstream.state.pairs.covisitation_query import SMOOTHING, PairQuery
from midstream.state.sessions.sessions import Sessions
from midstream.state.settings import FoldSettings, StateLimits
from midstream.state.steps import part, step_of
from midstream.state.structures.decay import TABLE
from midstream.state.structures.exact_math import fading as of_engine
from midstream.state.structures.prefetch import LINE_BYTES
from tests.support.events import Stream, cuts, event_batches, indexed, random_events, tiny_settings
from tests.support.frozen_shop import SMALL, StillShop

if TYPE_CHECKING:
    from midstream.core.types import IndexedBatch
    from midstream.state.ids.vocabulary import Vocabulary

ITEMS, ROW, BEFORE = 9, 3, 4
HALF_LIFE_MS = 60_000
START_MS = 1_700_000_000_000
SETTINGS = FoldSettings(
    pair_half_life=Duration("1m"),
    limits=StateLimits(items_max=ITEMS, pair_neighbours_max=ROW, pair_items_max=BEFORE),
)
# Hashes of which some are equal, so that ties are broken by hash and by index.
HASHES = np.array([5, 3, 3, 8, 1, 8, 8, 2, 3], dtype=np.uint64)
FADES = [math.exp(-0.5 * place) for place in range(BEFORE)]


def power(exponent):
    """Return 2^exponent, 0 below what a normal float64 holds."""
    return 2.0**exponent if exponent >= -1022 else 0.0


def weight_at(time_ms, landmark_ms):
    """Return 2^((time - landmark) / half-life), the time rounded down to 1/4096 of a half-life."""
    steps = (time_ms - landmark_ms) * 4096 // HALF_LIFE_MS
    return float(TABLE[steps % 4096]) * power(steps // 4096)


@dataclass
class Plain:
    """Rows as dictionaries; ``row_max`` None = nothing is ever pushed out."""

    fades: list[float]
    row_max: int | None = ROW
    landmark_ms: int = 0
    rows: dict[int, dict[int, float]] = field(default_factory=dict)
    shares: dict[int, float] = field(default_factory=dict)

    def apply(self, item, before, event_time_ms, log_time_ms):
        """Fold one event."""
        if not before or item in before:
            return
        if log_time_ms - self.landmark_ms >= 32 * HALF_LIFE_MS:
            landmark = log_time_ms // (32 * HALF_LIFE_MS) * 32 * HALF_LIFE_MS
            factor = power((self.landmark_ms - landmark) // HALF_LIFE_MS)
            self.landmark_ms = landmark
            self.shares = {each: share * factor for each, share in self.shares.items()}
            for row in self.rows.values():
                row.update({each: weight * factor for each, weight in row.items()})
        for place, other in enumerate(before):
            weight = weight_at(event_time_ms, self.landmark_ms)
            self.add(other, item, weight * self.fades[place])
            self.add(item, other, weight * (0.5 * self.fades[place]))

    def add(self, owner, item, weight):
        """Add one pair to a row."""
        row = self.rows.setdefault(owner, {})
        if item not in row and len(row) == self.row_max:
            del row[min(row, key=lambda each: (row[each], -int(HASHES[each]), -each))]
        row[item] = row.get(item, 0.0) + weight
        self.shares[owner] = self.shares.get(owner, 0.0) + weight

    def score(self, query, recent):
        """Return items with their scores, best first, as of the landmark."""
        asked = [item for item in dict.fromkeys(reversed(recent)) if self.shares.get(item, 0.0) >= 1e-200]
        total: dict[int, float] = {}
        weight = 1.0
        for item in asked[: query.last_items_max]:
            if query.same_item > 0:
                total[item] = total.get(item, 0.0) + weight * query.same_item
            strength = weight / self.shares[item]
            for other, value in self.rows[item].items():
                total[other] = total.get(other, 0.0) + strength * value
            weight *= PLACE_FADE[query.position_decay]
        hidden = set(recent[-1:] if query.exclude_last_item else [])
        hidden |= set() if query.allow_session_items else set(recent)
        powered = {
            item: np.float32(score / self.raised(item, query.popularity))
            for item, score in total.items()
            if item not in hidden
        }
        order = sorted(powered, key=lambda item: (-powered[item], int(HASHES[item]), item))
        return [(item, powered[item]) for item in order if powered[item] > 0][: query.limit]

    def raised(self, item, popularity):
        """Return the share of an item to a power."""
        share = self.shares.get(item, 0.0) + SMOOTHING
        root = math.sqrt(share)
        return {
            "0": 1.0, "0.25": math.sqrt(root), "0.5": root, "0.75": root * math.sqrt(root), "1": share,
        }[popularity]  # fmt: skip


def fading(rate, length):
    """Return the fades of the engine, whose last bit is its own: their values are tested in test_logarithm."""
    return of_engine(rate, length).tolist()


PLACE_FADE = {rate: fading(rate, 2)[1] for rate in (0.0, 0.3, 1.0)}
EXACT = fading(0.5, BEFORE)


def new_pairs(settings=SETTINGS):
    """Make a table whose vocabulary is never asked for more than hashes."""
    return Pairs(settings, cast("Vocabulary", SimpleNamespace(item_hash=HASHES)))


def fold(pairs, events, size=1_000):
    """Fold (item, before, event time, log time) in batches of a size."""
    for start in range(0, len(events), size):
        items, earlier, event_times, log_times = zip(*events[start : start + size], strict=True)
        before = np.full((len(items), BEFORE), -1, dtype=np.int32)
        for row, each in zip(before, earlier, strict=True):
            row[: len(each)] = each
        batch = SimpleNamespace(
            first=0,
            source=None,
            item_index=np.array(items, dtype=np.int32),
            event_time_ms=np.array(event_times, dtype=np.int64),
            log_time_ms=np.array(log_times, dtype=np.int64),
        )
        nobody = np.zeros(len(items), dtype=np.int64)
        sessions = SessionColumns(nobody, before, nobody.view(np.uint64))
        pairs.apply(step_of(cast("IndexedBatch", batch), sessions))
    return pairs


def plain_of(events, row_max: int | None = ROW):
    """Fold the same events in dictionaries."""
    plain = Plain(EXACT, row_max)
    for event in events:
        plain.apply(*event)
    return plain


def rows_of(pairs):
    """Read the rows of a table as dictionaries, as of its landmark."""
    arrays = {name: each.tolist() for name, each in pairs.arrays().items()}
    found: dict[int, dict[int, float]] = {}
    start = 0
    for item, length in enumerate(arrays["length"]):
        if length:
            stop = start + length
            found[item] = dict(zip(arrays["neighbour"][start:stop], arrays["weight"][start:stop], strict=True))
            start = stop
    return found


def arrays_of(pairs):
    """Return the arrays in a form that compares bytes."""
    return {name: (each.dtype, each.shape, each.tobytes()) for name, each in pairs.arrays().items()}


@st.composite
def events_of(draw, start_ms=START_MS):
    """Draw acts with the distinct items before each; time stands still, goes on, or leaps over landmarks."""
    now = start_ms
    events = []
    for _ in range(draw(st.integers(0, 40))):
        now += draw(st.sampled_from((0, 0, 1, 999, HALF_LIFE_MS, 33 * HALF_LIFE_MS, 2_000 * HALF_LIFE_MS)))
        late = draw(st.sampled_from((0, 0, 0, -300_000, 50, 86_400_000)))
        before = draw(st.lists(st.integers(0, ITEMS - 1), max_size=BEFORE, unique=True))
        events.append((draw(st.integers(0, ITEMS - 1)), before, now - late, now))
    return events


def test_fades_are_those_of_the_page():
    """A place further apart weighs exp(-0.5) of the one before."""
    np.testing.assert_allclose(EXACT, FADES, rtol=1e-12)


@given(events_of())
def test_rows_and_shares_are_those_of_dictionaries(events):
    """To the last bit, after every event: who is a neighbour, who was pushed out, what each weighs."""
    pairs, plain = new_pairs(), Plain(EXACT)
    for event in events:
        fold(pairs, [event])
        plain.apply(*event)
        assert rows_of(pairs) == plain.rows
    arrays = pairs.arrays()
    used = max(plain.rows, default=-1) + 1
    assert arrays["share"].tolist() == [plain.shares.get(item, 0.0) for item in range(used)]
    assert arrays["clock"].tolist() == [used, plain.landmark_ms]


@given(events_of())
def test_no_weight_is_more_than_the_true_one(events):
    """A row is bounded, never holds its own item, and forgets but never makes up."""
    pairs, true = new_pairs(), plain_of(events, row_max=None)
    fold(pairs, events)
    for item, row in rows_of(pairs).items():
        assert len(row) <= ROW
        assert item not in row
        assert all(weight <= true.rows[item][other] * (1 + 1e-12) for other, weight in row.items())
        assert sum(row.values()) <= true.shares[item] * (1 + 1e-12)


@given(events_of())
def test_the_cut_of_the_log_does_not_show(events):
    """Batches of 1, 7 and all give the same arrays to the byte."""
    first, *others = [arrays_of(fold(new_pairs(), events, size)) for size in (1, 7, 1_000)]
    assert all(each == first for each in others)


@given(events_of(), events_of(), st.data())
def test_a_restored_table_goes_on_as_the_one_it_was_taken_from(others, before, data):
    """A table that held something else becomes the other, also in what it does and answers next."""
    pairs, restored = fold(new_pairs(), before), fold(new_pairs(), others)
    restored.restore(pairs.arrays())
    assert arrays_of(restored) == arrays_of(pairs)
    after = data.draw(events_of(start_ms=max([event[3] for event in before], default=START_MS)))
    fold(pairs, after, 3)
    fold(restored, after, 3)
    assert arrays_of(restored) == arrays_of(pairs)


queries = st.builds(
    PairQuery,
    last_items_max=st.integers(1, 4),
    position_decay=st.sampled_from((0.0, 0.3, 1.0)),
    same_item=st.sampled_from((0.0, 0.1, 2.0)),
    popularity=st.sampled_from(("0", "0.25", "0.5", "0.75", "1")),
    allow_session_items=st.booleans(),
    exclude_last_item=st.booleans(),
    limit=st.integers(1, ITEMS),
)


@given(events_of(), st.lists(queries, min_size=1, max_size=3), st.data())
def test_an_answer_is_the_one_that_dictionaries_give(events, asked, data):
    """Items, order and score, to the last bit; nothing of one query shows in the next; reading changes nothing."""
    pairs, plain = fold(new_pairs(), events), plain_of(events)
    before = arrays_of(pairs)
    for query in asked:
        recent = data.draw(st.lists(st.integers(0, ITEMS - 1), max_size=6))
        items, scores = pairs.score(query, np.array(recent, dtype=np.int32), plain.landmark_ms)
        assert list(zip(items.tolist(), scores, strict=True)) == plain.score(query, recent)
    assert arrays_of(pairs) == before


def test_unknown_items_are_passed_over():
    """-1 asks for nothing, hides nothing; without a known item nothing comes."""
    pairs = fold(new_pairs(), [(1, [0], START_MS, START_MS)])
    for recent, expected in (([-1], []), ([], []), ([0, -1], [1]), ([-1, 0, 8], [1])):
        assert pairs.score(PairQuery(same_item=0.0), np.array(recent, dtype=np.int32), START_MS)[0].tolist() == expected


def test_marks_that_run_out_begin_anew():
    """A query with the number of an earlier one does not take its marks for its own."""
    pairs = fold(new_pairs(), [(1, [0], START_MS, START_MS), (2, [0], START_MS, START_MS)])
    expected = pairs.score(PairQuery(), np.array([0], dtype=np.int32), START_MS)[0].tolist()
    pairs.epochs.last = 2**31 - 2
    for _ in range(2):
        assert pairs.score(PairQuery(), np.array([0], dtype=np.int32), START_MS)[0].tolist() == expected == [1, 2]


def test_what_weighs_more():
    """What came next more than what came before; near more than far; new more than old."""
    shop = StillShop()
    shop.act("view", "ann", "a", "b", "c", session_id="s1")
    pairs, index = shop.fold.pairs, shop.fold.vocabulary.item_index
    a, b, c = map(index, "abc")
    items, weights = pairs.neighbours(a, shop.now_ms)
    near, far = dict(zip(items.tolist(), weights, strict=True)).values()
    assert (items.tolist(), near > far) == ([b, c], True)
    back = dict(zip(*(each.tolist() for each in pairs.neighbours(b, shop.now_ms)), strict=True))
    assert back[c] == pytest.approx(2 * back[a], rel=1e-3)
    assert near == pytest.approx(1.0, rel=1e-3)
    shop.wait(SMALL.pair_half_life.ms)
    assert pairs.neighbours(a, shop.now_ms)[1][0] == pytest.approx(0.5, rel=1e-3)
    assert pairs.share(a, shop.now_ms) == pytest.approx((near + far) / 2, rel=1e-3)


@pytest.mark.parametrize("act", ["dismiss", "nothing of that name"])
def test_an_act_against_an_item_makes_no_pair(act):
    """Neither with what was before it nor with what comes after it."""
    shop = StillShop()
    shop.act("view", "ann", "a", session_id="s1")
    shop.act(act, "ann", "b", session_id="s1")
    shop.act("view", "ann", "c", session_id="s1")
    found = {item: shop.ids(row) for item, row in rows_of(shop.fold.pairs).items()}
    assert found == {shop.fold.vocabulary.item_index("a"): ["c"], shop.fold.vocabulary.item_index("c"): ["a"]}


def test_a_page_that_is_loaded_anew_says_nothing():
    """An item that the session had already among its last ones makes no pair again."""
    shop = StillShop()
    shop.act("view", "ann", "a", "b", session_id="s1")
    before = arrays_of(shop.fold.pairs)
    shop.act("view", "ann", "b", "b", "a", "b", session_id="s1")
    assert arrays_of(shop.fold.pairs) == before


def check_before(batch, edges):
    """Compare what each session had before with the whole list of its items; return how often items came again."""
    settings = tiny_settings()
    whole = indexed(batch, settings)
    sessions = Sessions(settings)
    held: dict[int, list[int]] = {}
    again = 0
    for start, stop in pairwise(edges):
        piece = part(whole, start, stop)
        numbered = sessions.number(piece)
        assert numbered.before.shape == (stop - start, settings.limits.pair_items_max)
        for number, item, before in zip(
            numbered.number.tolist(), piece.item_index.tolist(), numbered.before.tolist(), strict=True
        ):
            acts = held.setdefault(number, []) if number >= 0 else []
            kept = acts[-settings.limits.session_items_max :]
            expected = list(dict.fromkeys(reversed(kept)))[: settings.limits.pair_items_max]
            assert before == expected + [-1] * (len(before) - len(expected))
            again += len(set(kept)) < len(kept)
            acts.append(item)
    return again


@given(event_batches(), st.data())
def test_what_a_session_had_before_is_in_its_whole_list(batch, data):
    """The last distinct items, newest first, however the log is cut."""
    check_before(batch, [0, *data.draw(cuts(len(batch))), len(batch)])


def test_what_a_session_had_before_in_a_long_stream():
    """Also where sessions are longer than what is kept, and come back to items."""
    stream = Stream(users=4, items=6, sessions=4, step_ms=500)
    assert check_before(random_events(3_000, 5, stream), [0, 1, 700, 3_000]) > 100


def test_bytes_are_those_of_the_arrays():
    """What is said is what is reserved, and a used part is said in proportion."""
    pairs = new_pairs()
    line = 8 * (row_words(ROW) + 2)
    assert (pairs.bytes_now, pairs.bytes_max) == (0, ITEMS * line)
    fold(pairs, [(1, [0], START_MS, START_MS)])
    assert pairs.bytes_now == 2 * line


@pytest.mark.parametrize("row_max", [31, 32, 33, 37, 64])
def test_rows_of_many_neighbours_are_those_of_dictionaries(row_max, monkeypatch):
    """Rows shorter and longer than what is looked at together, full and with equal weights to choose between."""
    rng, items = np.random.default_rng(row_max), 3 * row_max
    hashes = rng.integers(0, 5, items).astype(np.uint64)
    monkeypatch.setitem(globals(), "HASHES", hashes)
    limits = StateLimits(items_max=items, pair_neighbours_max=row_max, pair_items_max=BEFORE)
    pairs, plain = new_pairs(msgspec.structs.replace(SETTINGS, limits=limits)), Plain(EXACT, row_max)
    assert pairs.rows.words.ctypes.data % LINE_BYTES == pairs.rows.words.strides[0] % LINE_BYTES == 0
    acts = []
    for number in range(800):
        item, *before = rng.permutation(items)[: 1 + rng.integers(1, BEFORE + 1)].tolist()
        item = item if number % 2 else 0  # one row fills, and lets the lightest of many equal ones go
        now = START_MS + number * (number % 50 == 0)
        acts.append((item, [each for each in before if each != item], now, now))
    fold(pairs, acts)
    for act in acts:
        plain.apply(*act)
    assert max(map(len, plain.rows.values())) == row_max
    assert rows_of(pairs) == plain.rows
