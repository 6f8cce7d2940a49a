"""The fold gives one state for one log: however it is cut, whenever, wherever and in whatever process it is folded."""

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition, Models, Query, TimestampMs
from midstream.engine.snapshots.snapshots import FORMAT_VERSION
from midstream.events.schema import Event, build, cut, event_at, pick
from midstream.state.fold import Fold
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.online.online_models import OnlineModels
from midstream.state.outcomes.outcomes import Outcomes
from midstream.state.outcomes.requests import Requests
from midstream.state.pairs.covisitation import Pairs
from midstream.state.segments.segments import Segments
from midstream.state.sessions.session_index import SessionIndex
from midstream.state.sessions.sessions import Sessions
from midstream.state.settings import KERNEL_VERSION, FoldSettings, StateLimits
from midstream.state.steps import part, parts, step_of
from tests.support.events import (
    START_MS,
    Stream,
    blanked_erase,
    cuts,
    event_batches,
    indexed,
    random_erasures,
    random_event_list,
    random_events,
    stamp,
    tiny_settings,
)

COUNT = 25_000
STEP_MS = 16_000
"""Between events: three months in all, so landmarks move and days leave the longest window."""
SEED = 4
ERASURE_LOGS = 100
LAYOUT = (22, "d537c51f4f8fa1e6", 3)
"""The kernel version, a hash of the names and types of all arrays, and the format of snapshots."""
HAND_OVER = """
from midstream.state.fold import Fold
from tests.support.events import random_events, tiny_settings
fold = Fold(tiny_settings())
fold.apply(0, random_events(3_000, seed=4))
print(fold.digest())
"""


def roomy_settings():
    """Return settings under which nothing is evicted, with the attributes of the streams."""
    limits = StateLimits(
        users_max=1_000, items_max=1_000, click_items_max=500, event_ids_max=50_000, index_sessions_max=9_000
    )
    return FoldSettings(attributes=tiny_settings().attributes, segment="context.page", limits=limits)


def fold_in(settings, batch, edges):
    """Return the fold of a log cut at the edges."""
    fold = Fold(settings)
    for start, stop in pairwise(edges):
        fold.apply(LogPosition(start), cut(batch, start, stop))
    return fold


def every(size, count):
    """Return the edges of batches of one size."""
    return [*range(0, count, size), count]


def mixed(count, seed):
    """Return the edges of batches of all sizes from 1 to 3,000."""
    rng = np.random.default_rng(seed)
    edges = np.cumsum(np.floor(3_000 ** rng.random(count)).astype(np.int64))
    return [0, *edges[edges < count].tolist(), count]


def differences(first, second):
    """Return the names of arrays in which two folds differ."""
    left, right = first.arrays(), second.arrays()
    assert left.keys() == right.keys()
    return [name for name in left if not same(left[name], right[name])]


def same(left, right):
    """Say whether two arrays have the same type, shape and bytes."""
    return (left.dtype, left.shape) == (right.dtype, right.shape) and left.tobytes() == right.tobytes()


@pytest.fixture(scope="module")
def log():
    """Return events with duplicates, late, future and shuffled ones, with users that are merged and erased."""
    batch = random_events(COUNT, SEED, Stream(people_share=0.01, step_ms=STEP_MS))
    kinds = Counter(batch.rows["kind"].tolist())
    assert set(kinds) == {Kind.INTERACTION, Kind.IMPRESSION, Kind.ITEM, Kind.USER, Kind.SERVED, Kind.TICK, Kind.ERASE}
    assert Operation.MERGE in batch.rows["operation"]
    return batch


@pytest.fixture(scope="module", params=[tiny_settings, roomy_settings])
def settings(request):
    """Return settings under which everything is evicted, and such under which nothing is."""
    return request.param()


@pytest.fixture(scope="module")
def whole(log, settings):
    """Return the fold of the log in one batch."""
    fold = fold_in(settings, log, [0, COUNT])
    counts = fold.counts()
    names = ("future", "late", "too_late", "duplicate", "conflict", "unknown_action", "erased", "merge_void")
    assert all(counts[name] > 0 for name in names)
    assert (counts["alias_evicted"] > 0) == (settings.limits.users_max < 100)
    assert (counts["user_evicted"] > 0) == (settings.limits.users_max < 100)
    return fold


@pytest.mark.parametrize("edges", [every(7, COUNT), every(1_000, COUNT), mixed(COUNT, 1), mixed(COUNT, 2)])
def test_batches_of_any_size_give_the_same_state(log, settings, whole, edges):
    """To the last bit, in every array."""
    fold = fold_in(settings, log, edges)
    assert differences(whole, fold) == []
    assert fold.digest() == whole.digest()


def test_one_by_one_gives_the_same_state(log, settings):
    """The result after each event depends on the events up to it alone."""
    count = 5_000
    short = cut(log, 0, count)
    assert differences(fold_in(settings, short, [0, count]), fold_in(settings, short, every(1, count))) == []


@pytest.mark.parametrize("stop", [1, 4_321, 19_999])
def test_a_restarted_fold_goes_on_as_if_it_had_not_stopped(log, settings, whole, stop):
    """The arrays are all there is: nothing that matters lies outside them."""
    before = fold_in(settings, log, [0, stop])
    held = {name: array.copy() for name, array in before.arrays().items()}
    fold = Fold(settings)
    fold.restore(held)
    assert fold.digest() == before.digest()
    assert (fold.log_position, fold.log_time_ms) == (before.log_position, before.log_time_ms)
    fold.apply(fold.log_position, cut(log, stop, COUNT))
    assert differences(whole, fold) == []


def test_a_used_fold_becomes_the_one_it_restores(log, settings, whole):
    """Nothing of what was there before shows through, then or later."""
    fold = fold_in(settings, random_events(3_000, seed=77), [0, 3_000])
    start = fold_in(settings, log, [0, 2_000])
    fold.restore({name: array.copy() for name, array in start.arrays().items()})
    fold.apply(LogPosition(2_000), cut(log, 2_000, COUNT))
    assert differences(whole, fold) == []


@given(event_batches(people=True), st.data())
def test_small_nasty_logs_fold_the_same_however_they_are_cut(batch, data):
    """Very few ids, so that everything meets everything; a restart at each cut."""
    settings = tiny_settings()
    edges = [0, *data.draw(cuts(len(batch))), len(batch)]
    fold = Fold(settings)
    for start, stop in pairwise(edges):
        fold.apply(LogPosition(start), cut(batch, start, stop))
        fresh = Fold(settings)
        fresh.restore(fold.arrays())
        fold = fresh
    assert differences(fold_in(settings, batch, [0, len(batch)]), fold) == []


def test_who_was_erased_is_forgotten_at_the_same_time_however_a_log_is_cut():
    """Users who are erased again, before and after a rewrite; what is remembered of the first time goes after a day."""
    settings = tiny_settings()
    for seed in range(ERASURE_LOGS):
        batch = random_erasures(seed)
        alone, whole = (fold_in(settings, batch, every(size, len(batch))) for size in (1, len(batch)))
        assert differences(alone, whole) == [], seed


def test_what_an_earlier_erase_left_goes_at_its_own_time_in_one_batch_and_in_two():
    """One user at 0 h, another at 1 h and again at 2 h, and what comes 24.5 h and 25.5 h after the first."""
    hours = (0, 1, 2, 24.5, 25.5)
    events = [blanked_erase("a"), blanked_erase("b"), blanked_erase("b"), Event(Kind.TICK), Event(Kind.TICK)]
    batch = stamp(events, [START_MS + int(each * 3_600_000) for each in hours])
    alone, together = (fold_in(tiny_settings(), batch, edges) for edges in ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 5]))
    assert differences(alone, together) == []
    assert alone.vocabulary.erasures.arrays()["position"].tolist() == [2]


def test_duplicates_touch_nothing_but_their_count(settings):
    """A log without a silence of a day, in which events come again, folds to the state of one in which they do not."""
    events = random_event_list(3_000, 7, Stream(people_share=0.01))
    assert max(later.log_time_ms - event.log_time_ms for event, later in pairwise(events)) < 86_400_000
    once = [event._replace(event_id=event.event_id or f"own-{place}") for place, event in enumerate(events)]
    once = list({event.event_id: event for event in reversed(once)}.values())[::-1]
    rng = np.random.default_rng(6)
    twice = []
    for place, event in enumerate(once):
        twice.append(event)
        for back in rng.integers(0, 30, size=int(rng.integers(0, 3))).tolist():
            again = once[max(0, place - back)]
            twice.append(again._replace(log_time_ms=event.log_time_ms))
    first = fold_in(settings, build(once), [0, len(once)])
    second = fold_in(settings, build(twice), every(50, len(twice)))
    free = {"fold.place", "vocabulary.counts", "requests.position", "erasures.position", "outcomes.position"}
    if settings.limits.event_ids_max > len(once):
        assert set(differences(first, second)) <= free
        assert second.counts()["duplicate"] == len(twice) - len(once)


@pytest.mark.long
def test_counters_are_those_of_the_distinct_events():
    """A dictionary over the distinct events of the log agrees with every counter of every user since a delete."""
    settings, log = roomy_settings(), random_events(COUNT, SEED, Stream(step_ms=STEP_MS))
    fold = fold_in(settings, log, every(333, COUNT))
    batch = indexed(log, settings)
    users: Counter[tuple[str, str]] = Counter()
    is_delete = (batch.kind == Kind.USER) & (batch.operation == Operation.DELETE)
    for index in np.flatnonzero(batch.folded & ((batch.action >= 0) | is_delete)).tolist():
        event = event_at(log, index)
        if is_delete[index]:
            users = Counter({key: count for key, count in users.items() if key[0] != event.user_id})
        elif event.log_time_ms - int(batch.event_time_ms[index]) <= 86_400_000:
            users[event.user_id, event.action] += 1
    for user_id in {event_at(log, index).user_id for index in range(2_000)} - {""}:
        slot = fold.vocabulary.user_index(user_id)
        for action, count in fold.users.counts(slot).items():
            assert count == users[user_id, action]
    assert sum(users.values()) > COUNT / 20


def test_the_clock_of_this_machine_does_not_matter(log, monkeypatch):
    """Whatever it says, the state is the same: time comes from the log."""
    settings = tiny_settings()
    short = cut(log, 0, 3_000)
    digests = set()
    for shift_s in (0, 10**9, -(10**9)):
        now_ns = time.time_ns() + shift_s * 10**9
        with monkeypatch.context() as patch:
            for name in ("time", "monotonic", "perf_counter"):
                patch.setattr(time, name, lambda now=now_ns / 1e9: now)
                patch.setattr(time, f"{name}_ns", lambda now=now_ns: now)
            digests.add(fold_in(settings, short, every(500, 3_000)).digest())
    assert len(digests) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [{"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"}, {"PYTHONHASHSEED": "3", "NUMBA_CPU_NAME": "generic"}],
    ids=["hash-seed-1", "hash-seed-2", "hash-seed-3-generic-cpu"],
)
def test_another_process_gets_the_same_state(environment):
    """Under any order of sets and for a CPU without any of this one's extras."""
    here = fold_in(tiny_settings(), random_events(3_000, seed=4), every(100, 3_000)).digest()
    there = subprocess.run(
        [sys.executable, "-c", HAND_OVER], env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )
    assert there.stdout.strip() == here


def test_a_batch_out_of_place_is_refused(log):
    """A gap or a repetition in the log would be a wrong state, silently."""
    fold = Fold(tiny_settings())
    fold.apply(LogPosition(0), cut(log, 0, 10))
    for first in (0, 9, 11):
        with pytest.raises(ValueError, match=str(first)):
            fold.apply(LogPosition(first), cut(log, 10, 20))
    fold.apply(LogPosition(10), cut(log, 10, 10))
    assert fold.log_position == 10


def test_another_layout_has_another_kernel_version():
    """A start would else take a snapshot of the layout before for one of its own, and end there. Whoever changes an
    array raises the version, or the format of snapshots where the digest stays as it is, and puts all of them here.
    """
    told = [f"{name} {array.dtype.descr}" for name, array in sorted(Fold(tiny_settings()).arrays().items())]
    assert (KERNEL_VERSION, sha256("\n".join(told).encode()).hexdigest()[:16], FORMAT_VERSION) == LAYOUT


@given(event_batches(), event_batches(size_max=3))
def test_the_digest_tells_states_apart(batch, more):
    """It is equal exactly when the arrays are."""
    settings = tiny_settings()
    first = fold_in(settings, batch, [0, len(batch)])
    before, digest = {name: array.copy() for name, array in first.arrays().items()}, first.digest()
    first.apply(first.log_position, more)
    after = first.arrays()
    assert (digest == first.digest()) == all(same(before[name], after[name]) for name in before)


@given(event_batches())
def test_reading_a_moment_changes_nothing(batch):
    """A request leaves the state as it was, and names what it read."""
    fold = fold_in(tiny_settings(), batch, [0, len(batch)])
    digest = fold.digest()
    now = TimestampMs(fold.log_time_ms)
    moment = fold.moment(query_of(now, user_id="a", session_id=None, items=("b", "nothing")), Models({}))
    assert fold.digest() == digest
    assert moment.log_position == len(batch)
    assert moment.table(Vocabulary) is fold.vocabulary
    session = fold.sessions.find(0, moment.user_hash, now)
    sent = [] if fold.vocabulary.item_index("b") < 0 else [fold.vocabulary.item_index("b")]
    held = [] if session is None else session.item_index.tolist()
    assert moment.recent_item_index.tolist() == held + sent


def query_of(now_ms, user_id, session_id, items=()):
    """Return a query of one moment."""
    return Query("r", "default", user_id, session_id, 10, now_ms, 0, items)


def test_a_moment_sees_the_last_click():
    """The asking session is there with everything up to the event before the request."""
    fold = Fold(tiny_settings())
    click = Event(Kind.INTERACTION, action="click", user_id="ann", session_id="s", log_time_ms=START_MS)
    fold.apply(LogPosition(0), build([click._replace(item_id=item) for item in ("x", "y", "x")]))
    moment = fold.moment(query_of(START_MS + 1, "ann", "s"), Models({}))
    assert moment.recent_item_index.tolist() == [0, 1, 0]
    assert moment.user_index == 0
    unknown = fold.moment(query_of(START_MS + 1, None, None), Models({}))
    assert (unknown.user_index, unknown.user_hash, unknown.session_hash) == (-1, 0, 0)
    assert len(unknown.recent_item_index) == 0


@given(event_batches())
def test_parts_are_the_batch_and_keep_the_catalogue_ahead(batch):
    """No event of another kind is followed by an item event in its part."""
    whole = indexed(batch, tiny_settings())
    step = step_of(whole, Sessions(tiny_settings()).number(whole))
    found = [each.events for each in parts(step)]
    assert sum(len(each) for each in found) == len(batch)
    at = 0
    for each in found:
        is_item = (each.kind == Kind.ITEM).tolist()
        assert is_item == sorted(is_item, reverse=True)
        assert each.first == at
        assert same(each.item_hash, whole.item_hash[at : at + len(each)])
        at += len(each)


def test_an_affinity_is_to_what_the_item_was_when_it_was_acted_on():
    """A later change of the catalogue in the same batch does not reach back."""
    put = Event(Kind.ITEM, Operation.PUT, item_id="x", log_time_ms=START_MS)
    click = Event(Kind.INTERACTION, action="click", user_id="ann", item_id="x", log_time_ms=START_MS)
    events = [put._replace(body=b'{"category":"hats"}'), click, put._replace(body=b'{"category":"toys"}')]
    fold = Fold(tiny_settings())
    fold.apply(LogPosition(0), build(events))
    code, _ = fold.users.affinities(0, "category", START_MS)
    assert [fold.items.value_text("category", each) for each in code.tolist()] == ["hats"]


def test_sizes_are_those_of_what_is_reserved():
    """Every table is named; in use is never more than can be."""
    stream = Stream(people_share=0.05, retraction_share=0.02)
    fold = fold_in(tiny_settings(), random_events(500, seed=2, stream=stream), [0, 500])
    sizes = fold.sizes()
    assert {type(fold.tables[kind]) for kind in fold.tables} == set(fold.tables)
    assert len(sizes) == len(fold.tables)
    assert sizes.pop("cells").bytes_max == 0  # nothing is declared
    assert sizes.pop("promotions").bytes_now == 0  # no model was promoted
    assert sizes.pop("online").bytes_max == 0  # no model goes on learning
    assert sizes.pop("placements").bytes_now == 0  # no placement was set
    assert sizes.pop("inputs").bytes_now == 0  # no broker was read
    assert sizes.pop("text_index").bytes_max == 0  # nothing is searched
    for size in sizes.values():
        assert 0 < asdict(size)["bytes_now"] <= size.bytes_max


def test_a_shuffled_import_loses_nothing(log):
    """Events picked out of a log and folded in another order are still each folded once."""
    rng = np.random.default_rng(3)
    order = rng.permutation(2_000)
    picked = pick(log, order.tolist())
    rows = picked.rows.copy()
    rows["log_time_ms"] = np.sort(rows["log_time_ms"])
    fold = Fold(roomy_settings())
    fold.apply(LogPosition(0), type(picked)(rows, picked.text))
    assert fold.log_position == 2_000
    assert fold.counts()["duplicate"] > 0


def test_events_of_the_generator_are_the_same_for_a_seed():
    """A failure can be run again from its seed."""
    stream = Stream(users=5)
    assert build(random_event_list(50, 1, stream)).text == build(random_event_list(50, 1, stream)).text
    assert build(random_event_list(50, 1, stream)).text != build(random_event_list(50, 2, stream)).text


def test_a_part_shares_the_texts_of_the_whole(log):
    """Slicing copies nothing, and texts are found from the slice."""
    settings = tiny_settings()
    whole = indexed(cut(log, 0, 200), settings)
    piece = part(whole, 50, 90)
    assert piece.source.text is whole.source.text
    assert str(event_at(piece.source, 3)) == str(event_at(whole.source, 53))


def test_tables_that_no_other_reads_can_be_left_out():
    """All others come out the same; the fold is none to digest, and what others read cannot be left out."""
    batch = random_events(2_000, seed=4, stream=Stream(people_share=0.02))
    whole, less = Fold(tiny_settings()), Fold(tiny_settings())
    less.leave_out(less.leaves)
    whole.apply(LogPosition(0), batch)
    for first in range(0, 2_000, 100):
        less.apply(LogPosition(first), cut(batch, first, first + 100))
    leaves = {Segments, Pairs, SessionIndex, Requests, Outcomes, OnlineModels}
    assert whole.leaves == leaves
    assert set(whole.tables) - set(less.tables) == leaves
    for name, table in whole._named.items():
        if type(table) not in leaves:
            theirs = less._named[name].arrays()
            assert {key: each.tobytes() for key, each in table.arrays().items()} == {
                key: each.tobytes() for key, each in theirs.items()
            }
    with pytest.raises(ValueError, match="not the state"):
        less.digest()
    with pytest.raises(ValueError, match="read Items"):
        whole.leave_out({Items})
