"""Merges and erasures anywhere in a log, against plain dictionaries that share no code with the fold."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition, Models, Query, TimestampMs
from midstream.events.schema import Event, build, cut
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings, StateLimits
from tests.support.events import START_MS, cuts
from tests.support.ids import hash_of
from tests.support.reference import Reference

USERS = ("a", "b", "c", "d", "é")
ITEMS = ("x", "y", "z")
SESSIONS = ("", "", "s", "t")
GAP_MS = 120_000
DAY_MS = 86_400_000


def settings_of(**maxima):
    """Return settings of few actions, short sessions and rings."""
    small = {"users_max": 50, "items_max": 50, "click_items_max": 50, "user_ring_max": 4, "session_items_max": 3}
    small |= {"sessions_max": 99, "index_sessions_max": 99, "event_ids_max": 999, "requests_max": 9, "hot_items_max": 9}
    limits = StateLimits(**(small | maxima))
    return FoldSettings(session_gap=Duration("2m"), attributes={"category": "category"}, limits=limits)


def merge(into, other, log_time_ms=START_MS, event_time_ms=None):
    """Return the event that makes one user another."""
    body = json.dumps({"from": other}).encode()
    return Event(
        Kind.USER, Operation.MERGE, user_id=into, body=body, event_time_ms=event_time_ms, log_time_ms=log_time_ms
    )


def view(user, item, log_time_ms=START_MS, **more):
    """Return a view."""
    return Event(Kind.INTERACTION, action="view", user_id=user, item_id=item, log_time_ms=log_time_ms, **more)


def erase(user, log_time_ms=START_MS):
    """Return an erase."""
    return Event(Kind.ERASE, user_id=user, log_time_ms=log_time_ms)


def folded(*events, settings=None):
    """Return the fold of some events, one by one."""
    fold = Fold(settings or settings_of())
    for event in events:
        fold.apply(fold.log_position, build([event]))
    return fold


@st.composite
def logs(draw):
    """Draw logs of few users and sessions, within an hour, with merges and erasures among the acts."""
    now, events = START_MS, []
    for _ in range(draw(st.integers(0, 40))):
        now += draw(st.sampled_from((0, 0, 1, 1_000, 50_000, 130_000)))
        kind = draw(st.sampled_from(("act", "act", "act", "act", "merge", "merge", "erase")))
        user, behind = draw(st.sampled_from(USERS)), draw(st.none() | st.integers(0, 200_000))
        time = None if behind is None else now - behind
        if kind == "act":
            act = view(draw(st.sampled_from(("", *USERS))), draw(st.sampled_from(ITEMS)), now, event_time_ms=time)
            session = draw(st.sampled_from(SESSIONS)) or ("" if act.user_id else "s")
            action = draw(st.sampled_from(("view", "cart", "dismiss")))
            events.append(act._replace(session_id=session, action=action))
        elif kind == "merge":
            events.append(merge(user, draw(st.sampled_from(USERS)), now, time))
        else:
            events.append(erase(user, now))
    # Without ids those with equal content and time would be one.
    return [event._replace(event_id=f"e{place}") for place, event in enumerate(events)]


def reference_of(settings):
    """Return the oracle of the settings."""
    weights = {name: kind.weight for name, kind in settings.types.items()}
    limits = settings.limits
    return Reference(weights, settings.session_gap.ms, limits.user_ring_max, limits.session_items_max)


def check(fold, reference):
    """Compare all that both know."""
    names, vocabulary = fold.settings.action_names(), fold.vocabulary
    for user in USERS:
        index, who = vocabulary.user_index(user), reference.who(user)
        assert vocabulary.user_hash_of(user) == hash_of(who)
        counts = {action: count for (each, action), count in reference.user_counts.items() if each == who and count}
        assert (index >= 0) == bool(counts)
        if index < 0:
            continue
        assert {name: count for name, count in fold.users.counts(index).items() if count} == counts
        recent = fold.users.recent(index)
        columns = (vocabulary.item_ids(recent.item_index), recent.action.tolist(), recent.event_time_ms.tolist())
        acts = [(item, names[action], time) for item, action, time in zip(*columns, strict=True)]
        assert acts == reference.rings[who]
    known = {who for who, _ in reference.user_counts} - {""}
    assert vocabulary.user_count == len(
        {user for user in known if any(count for (each, _), count in reference.user_counts.items() if each == user)}
    )
    check_sessions(fold, reference)
    for item in ITEMS:
        index = vocabulary.item_index(item)
        beside = [] if index < 0 else vocabulary.item_ids(fold.pairs.neighbours(index, fold.log_time_ms)[0])
        assert set(beside) == reference.neighbours[item]
        for name in names:
            found = (
                0
                if index < 0
                else int(
                    fold.items.window_count(name, 30 * DAY_MS, fold.log_time_ms, np.array([index], dtype=np.int32))[0]
                )
            )
            assert found == reference.item_counts[item, name]


def check_sessions(fold, reference):
    """Compare open sessions under every name, and what the index holds."""
    now = fold.log_time_ms
    for session in {*SESSIONS}:
        for user in ("", *USERS):
            name = ("session", session) if session else ("user", reference.who(user))
            found = reference.sessions.get(name) if name[1] else None
            if found is not None and now - found.last_log_time_ms > GAP_MS:
                found = None
            open_session = fold.sessions.find(hash_of(session), fold.vocabulary.user_hash_of(user), now)
            assert (open_session is None) == (found is None)
            if found is not None:
                assert open_session.number == found.number
                assert fold.vocabulary.item_ids(open_session.item_index) == found.items
    arrays = fold.session_index.arrays()
    first = int(arrays["newest"][0]) - len(arrays["length"]) + 1
    stops = np.cumsum(arrays["length"], dtype=np.int64).tolist()
    items = fold.vocabulary.item_ids(arrays["item"])
    held = {}
    for place, (start, stop) in enumerate(pairwise([0, *stops])):
        if stop > start:
            held[first + place] = set(items[start:stop])
    assert held == reference.held
    for item in ITEMS:
        index = fold.vocabulary.item_index(item)
        if index >= 0:
            assert fold.session_index.item_session_count(index) == sum(item in each for each in held.values())


@pytest.mark.long
@given(logs(), st.data())
def test_merges_and_erasures_are_those_of_dictionaries_however_the_log_is_cut(events, data):
    """Users, sessions, the session index and item counts; restored at each cut; one batch gives the same bytes."""
    settings = settings_of()
    fold, reference = Fold(settings), reference_of(settings)
    batch = build(events)
    for start, stop in pairwise([0, *data.draw(cuts(len(events))), len(events)]):
        fold.apply(LogPosition(start), cut(batch, start, stop))
        reference.fold(events[start:stop])
        check(fold, reference)
        fresh = Fold(settings)
        fresh.restore(fold.arrays())
        assert fresh.digest() == fold.digest()
        fold = fresh
    whole = Fold(settings)
    whole.apply(LogPosition(0), batch)
    assert whole.digest() == fold.digest()


@given(logs(), st.sampled_from(USERS))
def test_what_is_left_of_others_when_one_is_erased_is_as_if_that_one_had_never_come(events, user):
    """Rows, affinities and sessions of everybody else, where nobody was merged; sums over items stay as they were."""
    events = [event for event in events if event.operation != Operation.MERGE and event.kind != Kind.ERASE]
    events.insert(0, Event(Kind.TICK, log_time_ms=START_MS))
    end = erase(user, events[-1].log_time_ms)
    fold = folded(*events)
    sums = {name: array.tobytes() for name, array in fold.arrays().items() if name.startswith("items.")}
    fold.apply(fold.log_position, build([end]))
    assert sums == {name: array.tobytes() for name, array in fold.arrays().items() if name.startswith("items.")}
    assert fold.vocabulary.user_index(user) == -1
    assert not len(fold.sessions.open_of_user(hash_of(user), fold.log_time_ms))
    without = folded(*(event for event in events if event.user_id != user))
    for other in set(USERS) - {user}:
        left, right = fold.vocabulary.user_index(other), without.vocabulary.user_index(other)
        assert (left >= 0) == (right >= 0)
        if left >= 0:
            assert fold.users.counts(left) == without.users.counts(right)
            assert fold.users.recent(left).event_time_ms.tolist() == without.users.recent(right).event_time_ms.tolist()


def test_an_alias_counts_for_the_user_it_was_merged_into():
    """Chains are resolved when they are made, in either order; self merges and circles are void and counted."""
    fold = folded(view("a", "x"), merge("b", "a"), merge("c", "b"), merge("a", "c"), merge("c", "c"), view("a", "y"))
    assert {fold.vocabulary.user_hash_of(each) for each in "abc"} == {hash_of("c")}
    assert fold.vocabulary.user_count == 1
    assert fold.users.counts(fold.vocabulary.user_index("b"))["view"] == 2
    assert fold.counts()["merge_void"] == 2
    query = Query("r", "default", "a", None, 10, TimestampMs(START_MS), 0)
    moment = fold.moment(query, Models({}))
    assert (moment.user_index, moment.user_hash) == (fold.vocabulary.user_index("c"), hash_of("c"))
    assert moment.recent_item_index.tolist() == [0, 1]


def test_merging_an_unknown_user_makes_the_alias_alone():
    """Neither of the two gets a row; what comes later counts for the known one."""
    fold = folded(merge("b", "a"))
    assert (fold.vocabulary.user_count, len(fold.vocabulary.aliases)) == (0, 1)
    fold.apply(fold.log_position, build([view("a", "x")]))
    assert fold.users.counts(fold.vocabulary.user_index("b"))["view"] == 1


def test_a_slot_that_was_given_up_is_taken_before_any_other():
    """Before growth and before eviction; the list of the least recently seen stays exact."""
    settings = settings_of()
    settings = FoldSettings(limits=StateLimits(users_max=3, items_max=9, click_items_max=9))
    fold = folded(view("a", "x"), view("b", "x"), view("c", "x"), merge("c", "b"), view("d", "x"), settings=settings)
    assert fold.vocabulary.user_index("d") == 1
    assert fold.counts()["user_evicted"] == 0
    assert fold.vocabulary.arrays()["user_order"].tolist() == [0, 2, 1]
    fold.apply(fold.log_position, build([erase("a"), view("e", "x"), view("f", "x")]))
    assert fold.vocabulary.user_index("e") == 0
    assert fold.vocabulary.user_index("f") == 2
    assert fold.counts()["user_evicted"] == 1
    assert fold.users.counts(0)["view"] == 1


def test_the_first_made_alias_goes_when_there_is_no_room():
    """Its id is a user of its own again; counted."""
    settings = settings_of(aliases_max=2)
    fold = folded(merge("x", "a"), merge("x", "b"), merge("x", "c"), settings=settings)
    assert fold.vocabulary.user_hash_of("a") == hash_of("a")
    assert {fold.vocabulary.user_hash_of(each) for each in "bc"} == {hash_of("x")}
    assert fold.counts()["alias_evicted"] == 1


def test_late_copies_of_an_erased_user_are_passed_by_for_a_day():
    """An event with a time up to the erase; one without a time or with a later one is a new start; aliases as well."""
    late = view("a", "x", START_MS + 5, event_time_ms=START_MS)
    fold = folded(view("a", "x"), merge("b", "a"), erase("b"), late, late._replace(user_id="b", item_id="y"))
    assert fold.counts()["erased"] == 2
    assert fold.counts()["duplicate"] == 0
    assert fold.vocabulary.user_count == 0
    assert fold.vocabulary.item_index("y") == -1
    fresh = view("a", "z", START_MS + 6, event_time_ms=START_MS + 1)
    fold.apply(fold.log_position, build([fresh, view("b", "z", START_MS + 7)]))
    assert fold.vocabulary.user_count == 2
    assert fold.vocabulary.user_hash_of("a") == hash_of("a")
    old = merge("c", "a", START_MS + 8, event_time_ms=START_MS)
    fold.apply(fold.log_position, build([old]))
    assert (fold.counts()["erased"], len(fold.vocabulary.aliases)) == (3, 0)
    edge = [late._replace(log_time_ms=START_MS + DAY_MS), late._replace(log_time_ms=START_MS + DAY_MS + 1)]
    fold.apply(fold.log_position, build([event._replace(value=place) for place, event in enumerate(edge)]))
    assert fold.counts()["erased"] == 4


def test_an_erase_stays_pending_until_the_log_is_rewritten():
    """With its place and every id; a blanked one refuses late copies for a day and is then gone without a trace."""
    fold = folded(merge("b", "a"), erase("a"), Event(Kind.TICK, log_time_ms=START_MS + 2 * DAY_MS))
    assert {(row.user_hash, row.position) for row in fold.vocabulary.erasures.pending} == {
        (hash_of(each), 1) for each in "ab"
    }
    assert fold.vocabulary.erasures.hides(hash_of("a"), LogPosition(0))
    assert not fold.vocabulary.erasures.hides(hash_of("a"), LogPosition(2))
    body = b'{"erased":["%016x"]}' % hash_of("a")
    blanked = folded(
        Event(Kind.ERASE, body=body, log_time_ms=START_MS), view("a", "x", START_MS + 1, event_time_ms=START_MS)
    )
    assert (blanked.counts()["erased"], list(blanked.vocabulary.erasures.pending)) == (1, [])
    assert len(blanked.vocabulary.erasures) == 1
    blanked.apply(blanked.log_position, build([Event(Kind.TICK, log_time_ms=START_MS + DAY_MS + 1)]))
    assert len(blanked.vocabulary.erasures) == 0


def test_erasures_have_a_maximum():
    """The oldest row goes, counted; what is to be blanked is read from the log."""
    fold = folded(erase("a"), erase("b"), erase("c"), settings=settings_of(erased_max=2))
    assert [row.user_hash for row in fold.vocabulary.erasures.pending] == [hash_of("b"), hash_of("c")]
    assert fold.counts()["erasure_forgotten"] == 1


def test_an_id_that_is_erased_again_takes_no_room_of_others():
    """Its first row goes before any other that waits, and one that does not wait before that."""
    hashes = b'{"erased":["%016x"]}' % hash_of("z")
    blanked = Event(Kind.ERASE, body=hashes, log_time_ms=START_MS)
    fold = folded(blanked, *map(erase, "abaaa"), settings=settings_of(erased_max=3))
    rows = fold.vocabulary.erasures.arrays()
    assert rows["user_hash"].tolist() == [hash_of("a"), hash_of("b"), hash_of("a")]
    assert rows["position"].tolist() == [1, 2, 5]
    fold.apply(fold.log_position, build([erase("c")]))
    rows = fold.vocabulary.erasures.arrays()
    assert rows["user_hash"].tolist() == [hash_of("b"), hash_of("a"), hash_of("c")]
    assert rows["position"].tolist() == [2, 5, 6]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"from":5}', b"\xff", b'{"from":""}'])
def test_a_merge_with_nobody_is_void(body):
    """Whatever a log holds, nothing breaks."""
    fold = folded(view("a", "x"), Event(Kind.USER, Operation.MERGE, user_id="a", body=body, log_time_ms=START_MS))
    assert (fold.counts()["merge_void"], fold.vocabulary.user_count) == (1, 1)
