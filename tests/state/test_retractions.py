"""Acts that are taken back: at once in the rows of their owner, and from a rebuild on as if they had never come."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.events.schema import Event, build, cut, event_at
from midstream.state.control.retractions import RETRACTIONS_MAX, Retractions, retracted_act
from midstream.state.fold import Fold
from midstream.state.ids.compacted_items import Dropped
from midstream.state.ids.retraction_event import retraction_of
from midstream.state.settings import FoldSettings
from tests.support.events import START_MS, Stream, random_events, tiny_settings

PEOPLE = Stream(users=30, items=40, sessions=20, people_share=0.03, feedback_share=0.1, retraction_share=0.08)
DAY_MS = 86_400_000


def act(action, item, *, user="ann", session="", at=0, kind=Kind.INTERACTION, **more):
    """Return an act or an impression ``at`` seconds after the start."""
    log_time_ms = START_MS + 1_000 * at
    return Event(kind, action=action, item_id=item, user_id=user, session_id=session, log_time_ms=log_time_ms, **more)


def item(name, category, at=0):
    """Return the event of an item of the catalogue."""
    body = msgspec.json.encode({"category": category})
    return Event(Kind.ITEM, 1, item_id=name, body=body, log_time_ms=START_MS + 1_000 * at)


def taken_back(events, *places, at=1_000):
    """Return events, and behind them the retractions of some of them."""
    told = [retraction_of(LogPosition(place), events[place]) for place in places]
    return [*events, *(each._replace(log_time_ms=START_MS + 1_000 * at) for each in told)]


def folded(events, settings=None, dropped=None):
    """Return the fold of events."""
    settings = settings or FoldSettings(attributes={"category": "category"})
    if dropped is not None:
        settings = msgspec.structs.replace(settings, compaction=dropped.name)
    fold = Fold(settings, *(() if dropped is None else (dropped,)))
    fold.apply(LogPosition(0), build(events))
    return fold


def row_of(fold, user="ann"):
    """Return what the row of a user says."""
    slot = fold.vocabulary.user_index(user)
    recent, seen = fold.users.recent(slot), fold.users.impressions(slot)
    names = fold.settings.action_names()
    codes, weights = fold.users.affinities(slot, "category", fold.log_time_ms)
    return {
        "acts": [
            (fold.vocabulary.item_id(index), names[number], time)
            for index, number, time in zip(
                recent.item_index.tolist(), recent.action.tolist(), recent.event_time_ms.tolist(), strict=True
            )
        ],
        "seen": dict(zip(fold.vocabulary.item_ids(seen.item_index), seen.count.tolist(), strict=True)),
        "counts": {name: count for name, count in fold.users.counts(slot).items() if count},
        "affinities": dict(zip(codes.tolist(), np.round(weights, 4).tolist(), strict=True)),
    }


LAMPS = [item("lamp", "light"), item("sofa", "seat"), item("chair", "seat")]


def test_the_row_is_as_if_the_act_had_never_come():
    """Recent interactions, counts and affinities; the act of another kind on the same item stays."""
    acts = [
        *LAMPS,
        act("view", "sofa", at=1),
        act("view", "lamp", at=2),
        act("cart", "sofa", at=3),
        act("view", "chair", at=4),
        act("purchase", "lamp", at=5),
    ]
    without = [each for each in acts if (each.action, each.item_id) != ("cart", "sofa")]
    found = row_of(folded(taken_back(acts, 5)))
    ticks = [*without, Event(Kind.TICK, log_time_ms=START_MS + 1_000_000)]
    assert found == row_of(folded(ticks))
    assert found["counts"] == {"view": 3, "purchase": 1}
    assert found != row_of(folded([*acts, Event(Kind.TICK, log_time_ms=START_MS + 1_000_000)]))


def test_what_was_all_of_an_affinity_takes_it_away():
    """The value is not kept with a weight of nothing."""
    found = row_of(folded(taken_back([*LAMPS, act("view", "sofa", at=1), act("cart", "lamp", at=2)], 4)))
    assert list(found["affinities"]) == [1]
    assert row_of(folded(taken_back([*LAMPS, act("view", "sofa", at=1)], 3)))["affinities"] == {}


def test_an_impression_is_seen_once_less():
    """And no longer at all when it was the only one."""
    seen = [act("", "lamp", kind=Kind.IMPRESSION, at=at) for at in (2, 3)]
    other = act("", "sofa", kind=Kind.IMPRESSION, at=4)
    events = [*LAMPS, act("view", "chair", at=1), *seen, other]
    assert row_of(folded(taken_back(events, 4)))["seen"] == {"lamp": 1, "sofa": 1}
    assert row_of(folded(taken_back(events, 4, 5)))["seen"] == {"sofa": 1}
    assert row_of(folded(taken_back(events, 6)))["seen"] == {"lamp": 2}


def test_of_the_ring_that_is_full_the_oldest_does_not_come_back():
    """What was pushed out is not known any more: one act less, the others in their order."""
    settings = FoldSettings()
    settings = msgspec.structs.replace(settings, limits=msgspec.structs.replace(settings.limits, user_ring_max=20))
    events = [act("view", f"i{number}", at=number) for number in range(33)]
    fold = folded(taken_back(events, 20, 31), settings)
    recent = fold.users.recent(fold.vocabulary.user_index("ann"))
    left = [f"i{number}" for number in range(13, 33) if number not in (20, 31)]
    assert fold.vocabulary.item_ids(recent.item_index) == left
    more = [act("view", f"j{number}", at=2_000 + number) for number in range(5)]
    fold.apply(fold.log_position, build(more))
    recent = fold.users.recent(fold.vocabulary.user_index("ann"))
    assert fold.vocabulary.item_ids(recent.item_index) == [*left[3:], *(f"j{number}" for number in range(5))]


def test_the_open_session_goes_on_without_it():
    """With a session id alone, too; a session that began after the act keeps its items."""
    now = START_MS + 60_000
    events = [act("view", each, user="", session="s", at=1) for each in ("a", "b", "a", "c")]
    fold = folded(taken_back(events, 1, 2, at=10))
    session = fold.sessions.find(hash_of(fold, "s"), 0, now)
    assert fold.vocabulary.item_ids(session.item_index) == ["a", "c"]
    later = [*events, *(act("view", each, user="", session="s", at=7_200) for each in ("b", "d"))]
    fold = folded(taken_back(later, 1, at=7_300))
    session = fold.sessions.find(hash_of(fold, "s"), 0, START_MS + 7_300_000)
    assert fold.vocabulary.item_ids(session.item_index) == ["b", "d"]
    fold = folded(taken_back(events, 0, 1, 2, 3, at=10))
    assert fold.sessions.find(hash_of(fold, "s"), 0, now).item_index.tolist() == []


def hash_of(fold, text):
    """Return the hash of an id as a fold has it."""
    from midstream.state.structures.hashing import id_hash

    return id_hash(text, fold.vocabulary.id_key)


def test_an_act_is_taken_back_once():
    """A second retraction of it changes nothing, nor does one of an act to come."""
    events = [*LAMPS, act("view", "lamp", at=1), act("view", "lamp", at=1), act("view", "lamp", at=1)]
    once, twice = folded(taken_back(events, 3)), folded(taken_back(events, 3, 3))
    assert row_of(once) == row_of(twice)
    assert row_of(once)["counts"] == {"view": 2}
    assert once.is_taken_back(3)
    assert not once.is_taken_back(4)
    early = retraction_of(LogPosition(9), events[3])
    assert row_of(folded([*events, early]))["counts"] == {"view": 3}


def test_the_row_of_a_user_who_began_anew_is_left_alone():
    """The act was of the row before."""
    began = [
        act("view", "lamp", at=1),
        Event(Kind.USER, 3, user_id="ann", log_time_ms=START_MS + 2_000),
        act("view", "lamp", at=3),
    ]
    assert row_of(folded(taken_back(began, 0)))["counts"] == {"view": 1}


def test_it_follows_a_merge():
    """The act of an id that was merged since is taken from the user that it became."""
    merge = Event(Kind.USER, 4, user_id="ann", body=b'{"from":"anon"}', log_time_ms=START_MS + 5_000)
    events = [act("view", "lamp", user="anon", at=1), act("cart", "sofa", at=2), merge]
    assert row_of(folded(taken_back(events, 0)))["counts"] == {"cart": 1}


def test_what_came_a_day_late_moves_affinities_alone():
    """So its retraction changes no count and no ring."""
    late = act("view", "lamp", at=100, event_time_ms=START_MS - 2 * DAY_MS)
    events = [*LAMPS, act("view", "lamp", at=1), late]
    found = row_of(folded(taken_back(events, 4)))
    assert found["counts"] == {"view": 1}
    assert len(found["acts"]) == 1


def test_there_is_room_for_so_many():
    """Beyond it a retraction counts as refused, and changes nothing."""
    full = Retractions()
    full.restore({"position": np.arange(RETRACTIONS_MAX), "refused": np.array([0])})
    assert full.is_full
    assert not full.takes(LogPosition(RETRACTIONS_MAX + 7))
    assert full.refused_count == 1


def acts_of(log):
    """Return the log positions of all acts that a log takes back."""
    bodies = (event_at(log, at).body for at in np.flatnonzero(log.rows["kind"] == Kind.RETRACTION).tolist())
    told = (retracted_act(body) for body in bodies)
    return np.array(sorted({each.log_position for each in told if each is not None}), dtype=np.int64)


def without(log, positions):
    """Return a log in which acts, and the retractions of acts, are ticks."""
    events = [event_at(log, at) for at in range(len(log))]
    gone = {*positions.tolist(), *np.flatnonzero(log.rows["kind"] == Kind.RETRACTION).tolist()}
    return build(
        [Event(Kind.TICK, log_time_ms=each.log_time_ms) if at in gone else each for at, each in enumerate(events)]
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_rebuild_is_a_fold_in_which_the_acts_never_came(seed):
    """In every table but the ids by which copies are known; no event has an id here, so that none is a copy."""
    log = random_events(900, seed, replace(PEOPLE, duplicate_share=0.0))
    log = build([event_at(log, at)._replace(event_id="") for at in range(len(log))])
    log = build(
        [
            each._replace(event_time_ms=None) if each.kind in (Kind.INTERACTION, Kind.IMPRESSION) else each
            for each in (event_at(log, at) for at in range(len(log)))
        ]
    )
    positions = acts_of(log)
    assert len(positions) > 20
    settings = tiny_settings()
    dropped = Dropped(LogPosition(len(log)), np.empty(0, dtype=np.uint64), positions)
    rebuilt = folded([], settings, dropped)
    rebuilt.apply(LogPosition(0), log)
    never = folded([], settings)
    never.apply(LogPosition(0), without(log, positions))
    theirs = never.arrays()
    different = [name for name, array in rebuilt.arrays().items() if array.tobytes() != theirs[name].tobytes()]
    assert different == []
    assert len(rebuilt.vocabulary.retractions) == 0
    assert all(rebuilt.is_taken_back(position) for position in positions.tolist())
    lived = folded([], settings)
    lived.apply(LogPosition(0), log)
    assert lived.digest() != never.digest()


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("is_rebuilt", [False, True])
def test_the_state_does_not_depend_on_how_the_log_is_cut(seed, is_rebuilt):
    """One by one, in any pieces, and from a snapshot in the middle."""
    log = random_events(700, seed, PEOPLE)
    settings = tiny_settings()
    dropped = Dropped(LogPosition(len(log)), np.empty(0, dtype=np.uint64), acts_of(log)) if is_rebuilt else None
    whole = folded([], settings, dropped)
    whole.apply(LogPosition(0), log)
    for size in (1, 7, 113):
        fold = folded([], settings, dropped)
        for first in range(0, len(log), size):
            fold.apply(LogPosition(first), cut(log, first, first + size))
            if first == 3 * size:
                other = folded([], settings, dropped)
                other.restore({name: array.copy() for name, array in fold.arrays().items()})
                assert other.digest() == fold.digest()
                fold = other
        assert fold.digest() == whole.digest()


@given(st.sets(st.integers(0, 40)), st.integers(0, 50), st.integers(0, 20))
def test_the_acts_of_a_piece_are_those_of_the_log(positions, first, count):
    """By their number within it."""
    acts = np.array(sorted(positions), dtype=np.int64)
    dropped = Dropped(LogPosition(0), np.empty(0, dtype=np.uint64), acts)
    expected = [each - first for each in sorted(positions) if first <= each < first + count]
    assert dropped.acts_within(LogPosition(first), count).tolist() == expected
    assert dropped.concerns(LogPosition(first), count) == bool(expected)
    assert [each for each in range(60) if dropped.has(each)] == sorted(positions)
