"""The one pass gives the state of the general way, to the bit: alone, in runs, and among events that are not usual."""

import math
import os
from concurrent.futures import Future
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition
from midstream.events.schema import Event, build, cut, pick
from midstream.state import one_pass
from midstream.state import one_pass_kernels as kernels
from midstream.state.cells.fold import CellRows
from midstream.state.expressions.program import Cell, ScopeName
from midstream.state.fold import Fold
from midstream.state.ids.compacted_items import Dropped
from midstream.state.one_pass import BESIDE_MIN, ROOMS, RUN_EVENTS
from midstream.state.outcomes.outcomes import Outcomes
from midstream.state.pairs.covisitation import Pairs
from midstream.state.settings import FoldSettings
from midstream.state.users.affinities import AffinityRows
from tests.support.events import (
    START_MS,
    Stream,
    cuts,
    event_batches,
    random_erasures,
    random_events,
    stamp,
    tiny_settings,
)
from tests.support.forked import HOLDS, status_of_a_copy

COUNT = 6_000
USUAL = (Kind.INTERACTION, Kind.IMPRESSION, Kind.SERVED, Kind.TICK)


def plain_settings() -> FoldSettings:
    """Return those of which the kernel folds everything: nothing is declared that makes tables of its own."""
    return msgspec.structs.replace(tiny_settings(), attributes={}, segment="")


def counting_settings() -> FoldSettings:
    """Return those with cells in every scope, of values of a category and of tags too."""
    scopes: list[tuple[ScopeName, str]] = [
        ("user", ""), ("item", ""), ("session", ""), ("user_item", ""), ("global", ""), ("attribute", "category"),
        ("attribute", "tags"), ("user_attribute", "brand"),
    ]  # fmt: skip
    cells = tuple(
        Cell(scope, actions, attribute=attribute, window_ms=window_ms)
        for scope, attribute in scopes
        for actions, window_ms in ((("impression",), 3_600_000), (("cart", "view"), 0))
    )
    limits = msgspec.structs.replace(tiny_settings().limits, feature_user_items_max=9, feature_user_values_max=7)
    ordered = tuple(sorted(cells, key=msgspec.json.encode))
    return msgspec.structs.replace(tiny_settings(), segment="", cells=ordered, limits=limits)


def both(settings, dropped=None):
    """Return a fold of each way."""
    folds = [Fold(settings, dropped) if dropped else Fold(settings) for _ in range(2)]
    folds[1].is_general = True
    return folds


def apply_all(fold, batch, edges):
    """Fold a batch cut at the edges."""
    for start, stop in pairwise(edges):
        fold.apply(LogPosition(start), cut(batch, start, stop))


def every(size, count):
    """Return the edges of batches of one size."""
    return [*range(0, count, size), count]


def acts(count):
    """Return usual events."""
    return [
        Event(
            Kind.INTERACTION,
            event_id=f"e{n}",
            action="view",
            user_id=f"u{n % 50}",
            item_id=f"i{n % 20}",
            session_id=f"s{n % 9}",
            log_time_ms=START_MS + n,
        )
        for n in range(count)
    ]


def usual_part(batch):
    """Return the events of a batch that are usual."""
    return pick(batch, np.flatnonzero(np.isin(batch.rows["kind"], USUAL)))


@pytest.fixture(scope="module")
def log():
    """Return events of all kinds, with merges and erasures."""
    return random_events(COUNT, 4, Stream(people_share=0.01, feedback_share=0.2))


@pytest.mark.parametrize("settings", [plain_settings, tiny_settings, counting_settings])
@pytest.mark.parametrize("size", [1, 5, 65, 1_000, COUNT])
def test_a_log_of_all_kinds_gives_one_state_by_both_ways(log, settings, size):
    """However it is cut: the one pass takes what it can, and the general way the rest."""
    one, general = both(settings())
    apply_all(one, log, every(size, COUNT))
    apply_all(general, log, [0, COUNT])
    assert one.digest() == general.digest()
    assert (one.log_position, one.log_time_ms) == (general.log_position, general.log_time_ms)


@pytest.mark.parametrize("settings", [plain_settings, tiny_settings, counting_settings])
@pytest.mark.parametrize("size", [1, RUN_EVENTS - 1, RUN_EVENTS + 1, 3 * RUN_EVENTS])
def test_usual_events_after_people_and_items_never_take_the_general_way(log, settings, size, monkeypatch):
    """Runs longer than their room too; aliases, erased users and a catalogue are there from before."""
    usual = usual_part(random_events(2 * COUNT, 5, Stream(people_share=0.01, feedback_share=0.2)))
    assert len(usual) > 3 * RUN_EVENTS
    one, general = both(settings())
    for fold in (one, general):
        fold.apply(LogPosition(0), log)
    assert len(one.vocabulary.aliases)
    assert len(one.vocabulary.erasures.refused_hash)
    usual.rows["log_time_ms"] = np.maximum(usual.rows["log_time_ms"], one.log_time_ms)
    general.apply(LogPosition(COUNT), usual)
    monkeypatch.setattr(Fold, "_apply_steps", None)
    for start, stop in pairwise(every(size, len(usual))):
        one.apply(LogPosition(COUNT + start), cut(usual, start, stop))
    assert one.digest() == general.digest()


def with_a_short_table(fold):
    """Give the ids of a fresh fold a table of eight entries, which has its whole length with the fifth id."""
    ids = fold.event_ids
    ids._ring.table = np.zeros(8, dtype=np.int32)
    ids.rows = ids._rows()


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize(
    "sizes", [(4, 1), (1, 4), (4, 3 * BESIDE_MIN), (3 * BESIDE_MIN, 4), (1, 1, 2, 1, 1, BESIDE_MIN)]
)
@pytest.mark.parametrize("general", [(), (1,)])
def test_ids_whose_table_grows_give_one_state(sizes, cores, general, monkeypatch):
    """Before a batch of any length, by both ways; copies after it are known for what they are."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    events = acts(sum(sizes))
    batch = build([*events, *(each._replace(log_time_ms=START_MS + len(events)) for each in events)])
    one, plain = both(plain_settings())
    with_a_short_table(one)
    edges = np.cumsum([0, *sizes, sum(sizes)]).tolist()
    for number, (start, stop) in enumerate(pairwise(edges)):
        one.is_general = number in general
        one.apply(LogPosition(start), cut(batch, start, stop))
    apply_all(plain, batch, edges)
    assert len(one.event_ids.rows.table) > 8
    assert one.digest() == plain.digest()


@pytest.mark.parametrize("settings", [plain_settings, tiny_settings, counting_settings])
@pytest.mark.parametrize("cores, rooms", [(1, ROOMS), (2, 1), (2, 3), (2, ROOMS)])
def test_long_runs_give_one_state_on_one_core_and_on_two(log, settings, cores, rooms, monkeypatch):
    """Each table is folded by one thread, run after run; what is left to the general way comes between two runs.

    With fewer rooms than runs, each room is given back and taken again.
    """
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(one_pass, "ROOMS", rooms)
    usual = usual_part(random_events(2 * COUNT, 5, Stream(people_share=0.01, feedback_share=0.2)))
    one, general = both(settings())
    for fold in (one, general):
        fold.apply(LogPosition(0), log)
    usual.rows["log_time_ms"] = np.maximum(usual.rows["log_time_ms"], one.log_time_ms)
    prints = one.event_ids.fingerprints(usual)
    assert len(usual) > 2 * BESIDE_MIN
    cuts = [0, BESIDE_MIN, 2 * BESIDE_MIN + 1, len(usual)]
    for start, stop in pairwise(cuts):
        taken = prints[start:stop] if start else None
        one.apply(LogPosition(COUNT + start), cut(usual, start, stop), taken)
    general.apply(LogPosition(COUNT), usual)
    assert one.digest() == general.digest()
    longest = max(stop - start for start, stop in pairwise(cuts) if stop - start >= BESIDE_MIN)
    assert len(one._one_pass._rooms) == (min(rooms, math.ceil(longest / RUN_EVENTS)) if cores > 1 else 1)
    for half_life in settings().half_lives:  # hot lists are no part of the state
        told, expected = (fold.items.hottest(half_life.ms, 1_000) for fold in (one, general))
        assert [each.tolist() for each in told] == [each.tolist() for each in expected]


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("count", [BESIDE_MIN, *(ROOMS * RUN_EVENTS + n for n in (-1, 0, 1)), 40 * RUN_EVENTS + 7])
def test_no_run_of_a_batch_is_left_out(count):
    """Of as many as there are rooms, of one more and of many more, the last one short."""
    batch = build(acts(count))
    one, general = both(plain_settings())
    for fold in (one, general):
        fold.apply(LogPosition(0), batch)
    assert one.digest() == general.digest()


@pytest.mark.parametrize("settings", [plain_settings, counting_settings, tiny_settings])
@pytest.mark.parametrize("left", [(), (Pairs, Outcomes)])
def test_two_cores_have_about_as_much_to_do(settings, left):
    """Dear tables go to the core with less; items go where segments are folded, which read what is available."""
    fold = Fold(settings())
    fold.leave_out(left)
    one = fold._one_pass
    first, cells = one._split(), len(settings().cells)
    spent = {
        kernels.IDS: one_pass.IDS_NS,
        kernels.ITEMS: one_pass.ITEMS_NS,
        kernels.USERS: one_pass.USERS_NS + one_pass.AFFINITY_NS * len(fold.users.affinity_rows.at),
        kernels.CELLS: one_pass.CELL_NS * cells,
        kernels.PAIRS: one_pass.PAIRS_NS * (Pairs not in left),
        kernels.SESSION_INDEX: one_pass.SESSION_INDEX_NS,
        kernels.OUTCOMES: one_pass.OUTCOMES_NS,
    }
    ours = sum(ns for bit, ns in spent.items() if bit & first)
    assert first & kernels.IDS
    assert not first & (kernels.USERS | kernels.REQUESTS | kernels.OUTCOMES)
    assert not (first & kernels.ITEMS and settings().segment)
    assert abs(2 * ours - sum(spent.values())) <= max(one_pass.SESSION_INDEX_NS, one_pass.IDS_NS // 2)


@pytest.mark.parametrize("size", [2, 500, RUN_EVENTS, RUN_EVENTS + 1, 2 * BESIDE_MIN])
@pytest.mark.parametrize("kind", [Kind.USER, Kind.ITEM, Kind.CONTROL])
def test_a_batch_with_one_event_that_is_not_usual_takes_the_general_way_as_a_whole(size, kind, monkeypatch):
    """Cut at that event it would be up to twice as dear: what is around it are steps of their own then."""
    events = acts(size)
    events[size // 2] = Event(kind, Operation.PATCH, user_id="u1", item_id="i1", body=b"{}", log_time_ms=START_MS)
    taken, apply_steps = [], Fold._apply_steps

    def noted(fold, first, batch, prints):
        taken.append((first, len(batch)))
        apply_steps(fold, first, batch, prints)

    monkeypatch.setattr(Fold, "_apply_steps", noted)
    monkeypatch.setattr(one_pass.OnePass, "_fold_rest", None)
    Fold(plain_settings()).apply(LogPosition(0), build(events))
    assert taken == [(0, size)]


@pytest.fixture(name="two_cores")
def _two_cores(monkeypatch):
    """Let this process use two cores, whatever the machine has."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


@pytest.mark.usefixtures("two_cores")
def test_a_copy_of_the_process_has_a_thread_of_its_own():
    """A fork copies no threads: what the child waits for is none that its parent has started."""
    batch = build(acts(2 * BESIDE_MIN))
    fold, whole = Fold(plain_settings()), Fold(plain_settings())
    fold.apply(LogPosition(0), cut(batch, 0, BESIDE_MIN))
    whole.apply(LogPosition(0), batch)
    digest = whole.digest()

    def folds_on():
        fold.apply(LogPosition(BESIDE_MIN), cut(batch, BESIDE_MIN, len(batch)))
        return fold.digest() == digest

    assert status_of_a_copy(folds_on) == HOLDS
    assert folds_on()


def test_the_other_thread_is_not_waited_for_without_end(monkeypatch):
    """A process that was stopped finds a time that is over, and asks again."""
    monkeypatch.setattr(one_pass, "WAIT_S_MAX", 0.01)
    with pytest.raises(RuntimeError, match="no end of a run"):
        one_pass._end(Future())
    with pytest.raises(RuntimeError, match="no end of a run"):
        one_pass._next(SimpleQueue())


def end_in_the_middle(fold, batch, error, monkeypatch):
    """Fold a batch in whose third run, or after whose step, an exception comes."""
    calls = iter((None, None, error))

    def rest(*_):
        if (raised := next(calls)) is not None:
            raise raised

    def step(*_):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(one_pass.OnePass, "_fold_rest", rest)
        patched.setattr(fold.requests, "apply", step)
        with pytest.raises(type(error)):
            fold.apply(fold.log_position, batch)


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a reader")], ids=["interrupt", "reader"])
@pytest.mark.parametrize("is_general", [False, True], ids=["one_pass", "general"])
@pytest.mark.parametrize("count", [BESIDE_MIN - 1, 2 * BESIDE_MIN, (ROOMS + 8) * RUN_EVENTS])
def test_a_state_in_the_middle_of_a_batch_is_neither_folded_on_nor_written(count, is_general, error, monkeypatch):
    """Some of its tables are further than others: who went on from its log position would count events twice."""
    batch = build(acts(count + 1))
    fold, whole = Fold(plain_settings()), Fold(plain_settings())
    for each in (fold, whole):
        each.is_general = is_general
        each.apply(LogPosition(0), cut(batch, 0, 1))
    state = {name: array.copy() for name, array in fold.arrays().items()}
    end_in_the_middle(fold, cut(batch, 1, len(batch)), error, monkeypatch)
    for use in (fold.digest, fold.arrays, lambda: fold.apply(LogPosition(1), cut(batch, 1, len(batch)))):
        with pytest.raises(RuntimeError, match="a part of a batch"):
            use()
    fold.restore(state)
    for each in (fold, whole):
        each.apply(LogPosition(1), cut(batch, 1, len(batch)))
    assert fold.digest() == whole.digest()


@given(event_batches(people=True), st.data())
def test_small_nasty_logs_give_one_state_by_both_ways_at_each_cut(batch, data):
    """Very few ids, so that everything meets everything; with fingerprints taken before or not."""
    one, general = both(data.draw(st.sampled_from([plain_settings, tiny_settings, counting_settings]))())
    for start, stop in pairwise([0, *data.draw(cuts(len(batch))), len(batch)]):
        part = cut(batch, start, stop)
        prints = one.event_ids.fingerprints(part) if data.draw(st.booleans()) else None
        one.apply(LogPosition(start), part, prints)
        general.apply(LogPosition(start), part)
        assert one.digest() == general.digest()


@given(event_batches(people=True))
def test_nasty_logs_give_one_state_event_by_event(batch):
    """Each event alone, after each of which all that is held is the same."""
    one, general = both(plain_settings())
    for place in range(len(batch)):
        part = cut(batch, place, place + 1)
        one.apply(LogPosition(place), part)
        general.apply(LogPosition(place), part)
    assert one.digest() == general.digest()


@pytest.mark.parametrize("seed", range(20))
def test_late_copies_of_erased_users_are_refused_by_both_ways(seed):
    """``refuse_each`` is the twin of ``Erasures.refused``."""
    batch = random_erasures(seed)
    one, general = both(plain_settings())
    apply_all(one, batch, every(1, len(batch)))
    apply_all(general, batch, every(1, len(batch)))
    assert one.digest() == general.digest()


def test_late_copies_are_counted_as_erased():
    """Before the erase, at its time, after it and a day later; of a user who is not erased too."""
    act = Event(Kind.INTERACTION, action="view", user_id="a", item_id="i")
    sent = [act._replace(event_time_ms=START_MS + late, user_id=user) for late in (-1, 0, 1) for user in "ab"]
    events = [Event(Kind.ERASE, user_id="a"), *sent, act, act._replace(event_time_ms=START_MS - 1, event_id="late")]
    batch = stamp(events, [START_MS] * (len(events) - 1) + [START_MS + 86_400_001])
    one, general = both(plain_settings())
    apply_all(one, batch, every(1, len(batch)))
    apply_all(general, batch, [0, len(batch)])
    assert one.counts()["erased"] == general.counts()["erased"] > 0
    assert one.digest() == general.digest()


def test_a_compaction_passes_items_by_in_both_ways(log):
    """Up to its log position the general way runs, which knows what was dropped."""
    first = Fold(plain_settings())
    first.apply(LogPosition(0), log)
    hashes = np.sort(first.vocabulary.item_hash[::2])
    dropped = Dropped(LogPosition(COUNT // 2), hashes)
    settings = msgspec.structs.replace(plain_settings(), compaction=dropped.name)
    one, general = both(settings, dropped)
    apply_all(one, log, [*every(1, COUNT // 2), COUNT])
    apply_all(general, log, [0, COUNT])
    assert one.digest() == general.digest() != first.digest()


def test_leaves_are_left_out_by_both_ways(log):
    """What is left out is not folded, and the rest as ever."""
    one, general = both(plain_settings())
    for fold in (one, general):
        fold.leave_out([Pairs, Outcomes])
    apply_all(one, log, every(1, COUNT))
    apply_all(general, log, [0, COUNT])
    for name, table in one.sizes().items():
        assert table == general.sizes()[name], name
    assert not one.pairs.arrays()["length"].size
    assert not len(one.outcomes)
    mine, others = one.session_index.arrays(), general.session_index.arrays()
    assert all(mine[name].tobytes() == others[name].tobytes() for name in mine)


def test_a_reader_of_leaving_slates_is_given_the_same_by_both_ways(log):
    """In the same order, whether slates leave at a served record or by time alone."""
    given_to: list[list[bytes]] = [[], []]
    folds = both(plain_settings())
    for fold, told in zip(folds, given_to, strict=True):
        fold.outcomes.leaving = lambda slates, told=told: told.extend(
            each.tobytes() for each in (*slates.slate[["request", "user", "log_position"]], slates.outcome)
        )
        apply_all(fold, log, every(1, COUNT))
    assert folds[0].digest() == folds[1].digest()
    assert given_to[0] == given_to[1]
    assert given_to[0]


def test_documents_of_evicted_users_go_with_their_slot():
    """The kernel says that a slot starts cold; the document of who was there before is dropped."""
    profile = Event(Kind.USER, Operation.PATCH, user_id="u0", body=b'{"plan":"a"}')
    acts = [Event(Kind.INTERACTION, action="view", user_id=f"u{n}", item_id="i") for n in range(1, 14)]
    batch = stamp([profile, *acts], [START_MS + n for n in range(14)])
    one, general = both(tiny_settings())
    apply_all(one, batch, every(1, len(batch)))
    apply_all(general, batch, [0, len(batch)])
    assert one.users.document_count == general.users.document_count == 0
    assert one.digest() == general.digest()


def handed_over(fold, monkeypatch):
    """Fold an event; return every array that the one pass holds and every address that it has, by where they begin."""
    given_rows, make = list[Any](), kernels.make_tables

    def noting(*rows):
        given_rows.extend(rows)
        return make(*rows)

    monkeypatch.setattr(kernels, "make_tables", noting)
    fold.apply(fold.log_position, build(acts(1)))
    monkeypatch.undo()
    tables = given_rows[1:]
    assert len(given_rows) == len(kernels._FIELDS)
    codes = [rows.codes for rows in tables if isinstance(rows, CellRows | AffinityRows)]
    assert [len(each) > 0 for each in codes] == [True, True]
    arrays = [array for rows in tables for array in arrays_in(rows) if array.size]
    return {address(array): array for array in arrays} | {int(row[0]): None for each in codes for row in each}


def arrays_in(rows):
    """Yield the arrays of a tuple and of the tuples in it."""
    for each in rows:
        if isinstance(each, np.ndarray):
            yield each
        elif isinstance(each, tuple):
            yield from arrays_in(each)


def address(array):
    """Return where an array begins."""
    return array.__array_interface__["data"][0]


def places(thing, path, seen):
    """Yield all arrays that an object of this package names, at any depth: where it names them, and where they lie."""
    if isinstance(thing, np.ndarray):
        yield path, (address(thing), thing.shape, thing.strides)
    elif id(thing) not in seen:
        seen[id(thing)] = thing
        if isinstance(thing, tuple | list):
            parts = list(enumerate(thing))
        elif isinstance(thing, dict):
            parts = list(thing.items())
        else:
            is_ours = type(thing).__module__.startswith("midstream.state")
            parts = list(getattr(thing, "__dict__", {}).items()) if is_ours else []
        for name, each in parts:
            yield from places(each, (*path, name), seen)


def test_cells_of_a_used_fold_are_those_it_restores(log):
    """Rows that the one pass wrote are empty again where the state that is restored has none."""
    usual = usual_part(log)
    used, first, fresh = (Fold(counting_settings()) for _ in range(3))
    apply_all(used, usual, every(1, len(usual)))
    first.apply(LogPosition(0), cut(log, 0, 3))
    for fold in (used, fresh):
        fold.restore({name: array.copy() for name, array in first.arrays().items()})
    assert used.cells._words.tobytes() == fresh.cells._words.tobytes()
    for fold in (used, first):
        fold.apply(LogPosition(3), cut(log, 3, COUNT))
    assert used.digest() == first.digest()


def test_no_table_puts_another_array_in_the_place_of_one_that_is_held(log, monkeypatch):
    """Whatever happens: wherever a table names memory that the kernel was given, it names the same after."""
    fold = Fold(counting_settings())
    held = handed_over(fold, monkeypatch)

    def named():
        every = places([fold._named[each] for each in sorted(fold._named)], (), {})
        return {path: place for path, place in every if path in before or not before}

    before = {}
    before = {path: place for path, place in named().items() if place[0] in held}
    by_attribute = {place[0] for path, place in before.items() if not {"rows", "affinity_rows"} & set(path)}
    assert held.keys() == {place[0] for place in before.values()}
    assert len(by_attribute) > 0.9 * len(held) > 70
    other = Fold(counting_settings())
    other.apply(LogPosition(0), random_events(500, 9, Stream(people_share=0.02)))
    fold.apply(LogPosition(1), log)
    fold.restore({name: array.copy() for name, array in other.arrays().items()})
    fold.apply(LogPosition(500), build([Event(Kind.ERASE, user_id="u1", log_time_ms=fold.log_time_ms)]))
    fold.forget([1, 2])
    assert named() == before
