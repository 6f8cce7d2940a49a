"""Positions counted by what followed them, against dictionaries: the same floats to the bit, however a log is cut."""

import math
from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.types import LogPosition
from midstream.engine.erasure.redaction import Blanker, find_erased
from midstream.events.schema import Event, build, cut, event_at
from midstream.state.cells.cells import CellOwners
from midstream.state.expressions.program import Cell
from midstream.state.fold import Fold
from midstream.state.ids.compacted_items import Dropped
from midstream.state.outcomes.outcomes import Outcomes
from midstream.state.settings import FoldSettings, StateLimits
from tests.support.events import START_MS, Stream, cuts, indexed, random_events, served_body, tiny_settings
from tests.support.ids import KEY, hash_of
from tests.support.join import CountingJoin

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
CELLS = tuple(
    sorted(
        (
            Cell(scope, actions, half_life_ms=half_life, placement=placement)
            for scope in ("item_outcomes", "outcomes")
            for actions in ((IMPRESSION,), ("click",), ("cart", "click", "purchase"))
            for half_life in (0, 3_001, HOUR)
            for placement in ("", "home", "cart")
        ),
        key=msgspec.json.encode,
    )
)
BESIDE = (Cell("item", ("click",)), Cell("global", ("view",), half_life_ms=HOUR), Cell("user", ("view",)))
"""Cells of events, which nothing here may change."""
SETTINGS = FoldSettings(
    outcome_window=Duration("5m"),
    cells=tuple(sorted((*CELLS, *BESIDE), key=msgspec.json.encode)),
    limits=StateLimits(
        outcome_slates_max=5, outcome_items_max=12, outcomes_waiting_max=3, items_max=9, click_items_max=9, users_max=9
    ),
)
CLICKED, SEEN = (Cell("item_outcomes", (name,), half_life_ms=HOUR) for name in ("click", IMPRESSION))


def plainly(settings, batch):
    """Return the reference after a batch."""
    twin = CountingJoin(settings)
    whole = indexed(batch, settings)
    for place in range(len(whole)):
        twin.pass_time(int(whole.log_time_ms[place]))
        if whole.folded[place]:
            time_ms, item = int(whole.event_time_ms[place]), int(whole.item_index[place])
            twin.add(event_at(whole.source, place), whole.first + place, time_ms, item)
    return twin


def rows_of(fold):
    """Return log time and sums of each row that was written, as the reference has them."""
    found = {}
    for group in fold.cells.groups:
        if group.scope in {"outcomes", "item_outcomes"}:
            for row in np.flatnonzero(group.rows[:, 0]).tolist():
                then, *sums = group.rows[row, : 1 + len(group.cells)].tolist()
                found[group.scope, row] = (
                    int(then),
                    {cell: each for cell, each in zip(group.cells, sums, strict=True) if each != 0.0},
                )
    return found


def fold_in(settings, batch, edges):
    """Return the fold of a log cut at the edges."""
    fold = Fold(settings)
    for start, stop in pairwise(edges):
        fold.apply(LogPosition(start), cut(batch, start, stop))
    return fold


def drafts():
    """Return slates and outcomes over so few ids that everything meets everything."""
    slate = st.builds(
        lambda request, ids, placement: Event(
            Kind.SERVED, request_id=request, body=served_body(request, ids, placement)
        ),
        st.sampled_from("rstu"),
        st.lists(st.sampled_from("abcd"), max_size=4),
        st.sampled_from(["home", "cart", "home@colour.blue", "other"]),
    )
    outcome = st.builds(
        lambda action, request, item: Event(
            Kind.IMPRESSION if action == IMPRESSION else Kind.INTERACTION,
            action="" if action == IMPRESSION else action,
            request_id=request,
            item_id=item,
        ),
        st.sampled_from([IMPRESSION, IMPRESSION, "click", "view", "purchase", "wave"]),
        st.sampled_from(["", *"rrstu"]),
        st.sampled_from("abcd"),
    )
    item = st.builds(lambda each: Event(Kind.ITEM, item_id=each, body=b"{}"), st.sampled_from("ab"))
    event = st.one_of(slate, outcome, outcome, outcome, outcome, item)
    step = st.sampled_from([0, 0, 1, 1_000, 60_000, 299_999, 300_001, 40 * HOUR])
    return st.lists(st.tuples(step, event), max_size=60)


def stamped(drawn):
    """Return drawn events as a batch; each is an event of its own."""
    found, now = [], START_MS
    for number, (step, event) in enumerate(drawn):
        now += step
        found.append(event._replace(event_id=f"e{number}", log_time_ms=now))
    return build(found)


@given(drafts(), st.data())
def test_rows_are_those_of_dictionaries_however_the_log_is_cut(drawn, data):
    """Every row, in both ways of folding; restored on the way."""
    batch = stamped(drawn)
    twin = plainly(SETTINGS, batch)
    edges = [0, *data.draw(cuts(len(batch))), len(batch)]
    for is_general in (False, True):
        fold = Fold(SETTINGS)
        fold.is_general = is_general
        for start, stop in pairwise(edges):
            fold.apply(LogPosition(start), cut(batch, start, stop))
            if data.draw(st.booleans()):
                fresh = Fold(SETTINGS)
                fresh.restore({name: array.copy() for name, array in fold.arrays().items()})
                fold, fold.is_general = fresh, is_general
        assert rows_of(fold) == twin.written()
        assert fold.digest() == fold_in(SETTINGS, batch, [0, len(batch)]).digest()


FEEDBACK = Stream(feedback_share=0.6, step_ms=500)


@pytest.mark.parametrize("limits", [{"outcome_slates_max": 5_000, "outcome_items_max": 30_000}, {}])
def test_a_long_stream_gives_the_same_in_batches_of_any_size(limits):
    """With duplicates, late outcomes and those of slates that have left; landmarks move."""
    tiny = tiny_settings()
    limits = msgspec.structs.replace(tiny.limits, items_max=200, click_items_max=200, **limits)
    cells = tuple(each for each in SETTINGS.cells if each.placement != "cart")
    settings = msgspec.structs.replace(tiny, cells=cells, limits=limits)
    batch = random_events(12_000, 5, FEEDBACK)
    whole, twin = fold_in(settings, batch, [0, len(batch)]), plainly(settings, batch)
    assert rows_of(whole) == twin.written()
    assert len(twin.rows) > 50
    assert max(sums.get(CLICKED, 0.0) for _, sums in twin.rows.values()) > 1
    people = random_events(12_000, 5, replace(FEEDBACK, people_share=0.004))  # merges and erasures among them
    short = cut(people, 0, 3_000)
    one, other = (fold_in(settings, short, [*range(0, 3_000, size), 3_000]) for size in (1, 700))
    assert one.digest() == other.digest()
    one, other = (fold_in(settings, people, [*range(0, 12_000, size), 12_000]) for size in (5_000, 12_000))
    assert one.digest() == other.digest()


def shop(*events, settings=SETTINGS, dropped=None):
    """Return a fold of events, each so many milliseconds after the first."""
    roomy = msgspec.structs.replace(
        settings,
        outcome_window=Duration("7d"),
        limits=StateLimits(outcome_slates_max=99, outcome_items_max=999, items_max=99, click_items_max=99),
    )
    fold = Fold(roomy) if dropped is None else Fold(roomy, dropped)
    log = [event._replace(event_id=f"e{place}", log_time_ms=START_MS + at) for place, (at, event) in enumerate(events)]
    fold.apply(LogPosition(0), build(log))
    return fold


def known(*ids):
    """Return item events."""
    return [(0, Event(Kind.ITEM, item_id=each, body=b"{}")) for each in ids]


def slate(request, ids, placement="home", at=0):
    """Return a served event."""
    return at, Event(Kind.SERVED, request_id=request, body=served_body(request, ids, placement))


def seen(request, item, at=1):
    """Return an impression."""
    return at, Event(Kind.IMPRESSION, request_id=request, item_id=item)


def acted(request, item, action="click", at=2):
    """Return an act."""
    return at, Event(Kind.INTERACTION, action=action, request_id=request, item_id=item)


def counted(fold, item, *, placement="", half_life=0, now=None, actions=("click",)):
    """Return acts and impressions of an item, as of a time."""
    cells = [
        Cell("item_outcomes", each, half_life_ms=half_life, placement=placement) for each in (actions, SEEN.actions)
    ]
    keys = CellOwners(fold.vocabulary.item_indices([item]))
    return fold.cells.read(cells, keys, fold.log_time_ms if now is None else now)[0].tolist()


def test_a_position_counts_once_and_only_where_it_was_seen():
    """However often it is seen and acted on; an act of a position that nobody saw waits for its impression."""
    events = [*known("a", "b"), slate("r", "ab"), acted("r", "a"), acted("r", "b")]
    assert counted(shop(*events), "a") == [0, 0]
    events += [seen("r", "a"), seen("r", "a"), acted("r", "a"), acted("r", "a", "purchase")]
    fold = shop(*events)
    assert counted(fold, "a") == [1, 1]
    assert counted(fold, "b") == [0, 0]
    assert counted(fold, "a", actions=("cart", "click", "purchase")) == [1, 1]
    assert counted(shop(*events, slate("s", "a"), seen("s", "a")), "a") == [1, 2]


@pytest.mark.parametrize("delay", [0, HOUR, 3 * DAY])
def test_an_act_weighs_what_its_impression_weighs_however_late_it_comes(delay):
    """So a rate is not raised by delay: the position was seen once, and acted on once."""
    events = [*known("a", "b"), slate("r", "ab"), seen("r", "a"), seen("r", "b", at=5)]
    fold = shop(*events, acted("r", "a", at=10 + delay))
    clicks, views = counted(fold, "a", half_life=HOUR, now=START_MS + 4 * DAY)
    assert clicks == views == pytest.approx(2.0 ** (-4 * 24), rel=1e-3)


def test_what_came_before_its_slate_counts_when_the_slate_comes():
    """With the weight of the slate, in the order in which it came; an item that was not known then counts for none."""
    events = [*known("a"), acted("r", "a", at=0), seen("r", "a", at=1), seen("r", "b", at=2), *known("b")]
    fold = shop(*events, slate("r", "ab", at=HOUR))
    clicks, views = counted(fold, "a", half_life=HOUR)
    assert clicks == views == pytest.approx(1, rel=1e-3)
    assert counted(fold, "b") == [0, 0]


def test_an_act_on_an_item_that_no_impression_knew_counts_for_none():
    """Else its acts would be more than its impressions: the click makes the item, the impression before it did not."""
    fold = shop(slate("r", "ab"), seen("r", "a"), acted("r", "a"))
    assert fold.vocabulary.item_index("a") >= 0
    assert counted(fold, "a") == [0, 0]
    again = shop(slate("r", "ab"), seen("r", "a"), acted("r", "a"), seen("r", "a", at=3))
    assert counted(again, "a") == [1, 1]


def test_slates_of_a_variant_count_for_its_placement():
    """For it and for none other; a cell that names no placement has each."""
    names = ("home", "home@colour.blue", "cart", "elsewhere", "homes")
    events = [*known("a"), *(slate(name, "a", name) for name in names), *(seen(name, "a") for name in names)]
    fold = shop(*events, acted("home@colour.blue", "a"))
    assert counted(fold, "a") == [1, 5]
    assert counted(fold, "a", placement="home") == [1, 2]
    assert counted(fold, "a", placement="cart") == [0, 1]


def test_an_erasure_leaves_the_counts_and_so_does_the_log_without_the_erased():
    """They name nobody; an act that comes after it is still counted, in the state and in the rewritten log."""
    user = {"user_id": "ann"}
    at, served = slate("r".ljust(32, "-"), "ab")
    request = served.request_id
    events = [*known("a", "b"), (at, served._replace(**user)), (1, seen(request, "a")[1]._replace(**user))]
    events += [(2, acted(request, "a")[1]._replace(**user)), seen(request, "b")]
    before = rows_of(shop(*events))
    events += [(3, Event(Kind.ERASE, user_id="ann"))]
    erased = shop(*events)
    assert rows_of(erased) == before
    events += [acted(request, "b", at=4)]
    log = [event._replace(event_id=f"e{place}", log_time_ms=START_MS + at) for place, (at, event) in enumerate(events)]
    batch = build(log)
    found = find_erased(lambda: iter([(LogPosition(0), batch)]), SETTINGS.limits.event_ids_max, KEY)
    rewritten, live = Fold(erased.settings), shop(*events)
    rewritten.apply(LogPosition(0), Blanker(found).blank(LogPosition(0), batch))
    assert rows_of(rewritten) == rows_of(live)
    assert counted(live, "b") == counted(rewritten, "b") == [1, 1]


def test_items_that_a_compaction_dropped_are_counted_for_none():
    """The slate has them, and the state has no row for them."""
    dropped = Dropped(LogPosition(10), np.array([hash_of("b")], dtype=np.uint64))
    settings = msgspec.structs.replace(SETTINGS, compaction=dropped.name)
    fold = shop(*known("a", "b"), slate("r", "ab"), seen("r", "b"), acted("r", "b"), settings=settings, dropped=dropped)
    assert fold.outcomes.totals["outcome_joined"] == 2
    assert rows_of(fold) == {}


def test_what_a_reader_of_slates_is_given_has_no_mark():
    """Bits are those of actions: that a position was counted is a matter of the table."""
    fold = shop(*known("a"), slate("r", "a"), seen("r", "a"), acted("r", "a"))
    slates = fold.outcomes.slate(hash_of("r"))
    assert slates is not None
    assert slates.outcome["bits"].tolist() == [fold.outcomes.action_bit(IMPRESSION) | fold.outcomes.action_bit("click")]


def test_the_join_is_no_leaf_where_cells_count_what_it_joins():
    """A fold that left it out would have other cells."""
    fold = Fold(SETTINGS)
    assert Outcomes not in fold.leaves
    with pytest.raises(ValueError, match="Outcomes"):
        fold.leave_out({Outcomes})
    assert Outcomes in Fold(FoldSettings(cells=BESIDE, limits=SETTINGS.limits)).leaves


def test_settings_without_such_cells_have_the_arrays_of_before():
    """Nothing is added to their snapshots, and no bit to their positions."""
    events = [*known("a"), slate("r", "a"), seen("r", "a"), acted("q", "a")]
    fold = shop(*events, settings=msgspec.structs.replace(SETTINGS, cells=BESIDE))
    arrays = fold.arrays()
    assert not {"outcomes.counted", "outcomes.waiting_item_index"} & arrays.keys()
    assert not math.isnan(arrays["outcomes.value"][0])
    assert int(arrays["outcomes.bits"][0]) == fold.outcomes.action_bit(IMPRESSION)
