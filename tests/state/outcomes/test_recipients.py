"""What was served to whom lately, against plain lists, however the log is cut, merged, erased and restored."""

import json
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition
from midstream.engine.erasure.redaction import Blanker, find_erased
from midstream.events.schema import Event, build, cut
from midstream.events.served_body import decode_body
from midstream.state.fold import Fold
from midstream.state.outcomes.recipients import (
    RECENT_ITEMS_MAX,
    RECENT_SLATES_MAX,
    RECENT_STEPS_MAX,
    placement_hash,
    session_asker,
)
from midstream.state.settings import FoldSettings, StateLimits
from tests.support.events import START_MS, cuts, served_body, tiny_settings
from tests.support.ids import KEY, hash_of

USERS = ("", "ann", "bob", "s")
SESSIONS = ("", "s", "t")
PLACEMENTS = ("home", "cart")
SETTINGS = msgspec.structs.replace(
    tiny_settings(),
    outcome_window=Duration("5m"),
    limits=msgspec.structs.replace(tiny_settings().limits, outcome_slates_max=6, outcome_items_max=14, users_max=50),
)


@dataclass
class Slate:
    """One slate as a list keeps it."""

    asker: object
    placement: str
    ids: str
    time_ms: int


class Plain:
    """The slates that are held, oldest first, in plain Python."""

    def __init__(self, settings):
        self.settings = settings
        self.slates: list[Slate] = []
        self.requests: list[str] = []
        """Each is answered once: a record that comes again is a duplicate."""
        self.into: dict[str, str] = {}

    def resolve(self, user):
        """Return the user that an id stands for."""
        return self.into.get(user, user)

    def add(self, event):
        """Take one event after another."""
        limits, now = self.settings.limits, event.log_time_ms
        while self.slates and now - self.slates[0].time_ms > self.settings.outcome_window.ms:
            self._leave()
        user = self.resolve(event.user_id)
        if event.kind == Kind.SERVED and event.request_id not in self.requests:
            told = json.loads(event.event_id)
            while (
                len(self.slates) == limits.outcome_slates_max
                or sum(len(each.ids) for each in self.slates) + len(told[1]) > limits.outcome_items_max
            ):
                self._leave()
            asker = ("user", user) if user else ("session", event.session_id) if event.session_id else None
            self.slates.append(Slate(asker, told[0], told[1], now))
            self.requests.append(event.request_id)
        elif event.kind == Kind.USER and event.operation == Operation.MERGE:
            other = self.resolve(json.loads(event.body)["from"])
            if other != user:
                self.into = {each: user if stands == other else stands for each, stands in self.into.items()}
                self.into[other] = user
                self._rename(other, ("user", user))
        elif event.kind in (Kind.USER, Kind.ERASE):
            self._rename(user, None)
            if event.kind == Kind.ERASE:
                self.into = {each: stands for each, stands in self.into.items() if stands != user}

    def recent(self, asker, placement=""):
        """Return items and times, the newest slate first."""
        found = [each for each in reversed(self.slates) if asker == each.asker and placement in ("", each.placement)]
        return [(hash_of(item), each.time_ms) for each in found for item in each.ids]

    def _rename(self, user, asker):
        for each in self.slates:
            if each.asker == ("user", user):
                each.asker = asker

    def _leave(self):
        self.slates.pop(0)


def check(fold, plain):
    """Compare what anybody was served, at each placement and at all."""
    for placement in ("", *PLACEMENTS):
        for kind, names in (("user", USERS[1:]), ("session", SESSIONS[1:])):
            for name in names:
                key = fold.vocabulary.user_hash_of(name) if kind == "user" else session_asker(hash_of(name))
                found = fold.outcomes.recent((key,), placement_hash(placement, KEY))
                who = (kind, plain.resolve(name) if kind == "user" else name)
                told = list(zip(found.item_hash.tolist(), found.log_time_ms.tolist(), strict=True))
                assert told == plain.recent(who, placement), (who, placement)


def people():
    """Return slates for few users and sessions, merges, deletions and erasures of users, and silence."""
    slate = st.builds(
        lambda request, ids, placement, user, session: Event(
            Kind.SERVED,
            event_id=json.dumps([placement, ids]),
            user_id=user,
            session_id=session,
            request_id=request,
            body=served_body(request, ids, placement),
        ),
        st.sampled_from("rstuvwxyz"),
        st.text("abcd", max_size=5),
        st.sampled_from(PLACEMENTS),
        st.sampled_from(USERS),
        st.sampled_from(SESSIONS),
    )
    merge = st.builds(
        lambda into, other: Event(Kind.USER, Operation.MERGE, user_id=into, body=json.dumps({"from": other}).encode()),
        st.sampled_from(USERS[1:]),
        st.sampled_from(USERS[1:]),
    )
    user = st.sampled_from(USERS[1:])
    gone = st.builds(lambda name: Event(Kind.USER, Operation.DELETE, user_id=name), user)
    erased = st.builds(lambda name: Event(Kind.ERASE, user_id=name), user)
    event = st.one_of(slate, slate, slate, slate, merge, gone, erased, st.just(Event(Kind.TICK)))
    return st.lists(st.tuples(st.sampled_from([0, 1, 1_000, 60_000, 299_999, 300_001]), event), max_size=40)


def stamped(drawn):
    """Return drawn events with log times; a slate is told from each other one by more than its request."""
    now, found = START_MS, []
    for step, event in drawn:
        now += step
        found.append(event._replace(log_time_ms=now))
    return found


def plainly(events):
    """Return the events as the log has them: a served one has no id, so that a repeated one is no duplicate."""
    return build([event._replace(event_id="") for event in events])


@given(people(), st.data())
def test_what_was_served_to_whom_is_that_of_plain_lists_however_the_log_is_cut(drawn, data):
    """By user and by session, at one placement and at all; restored on the way; equal states at the end."""
    events = stamped(drawn)
    batch, plain = plainly(events), Plain(SETTINGS)
    whole, fold = Fold(SETTINGS), Fold(SETTINGS)
    whole.apply(LogPosition(0), batch)
    for start, stop in pairwise([0, *data.draw(cuts(len(batch))), len(batch)]):
        fold.apply(fold.log_position, cut(batch, start, stop))
        for event in events[start:stop]:
            plain.add(event)
        check(fold, plain)
        if data.draw(st.booleans()):
            fresh = Fold(SETTINGS)
            fresh.restore({name: array.copy() for name, array in fold.arrays().items()})
            fold = fresh
            check(fold, plain)
    assert fold.digest() == whole.digest()


def served(request, ids, *, user="", session="", placement="home", time_ms=START_MS):
    """Return a served event."""
    body = served_body(request, ids, placement)
    return Event(Kind.SERVED, user_id=user, session_id=session, request_id=request, body=body, log_time_ms=time_ms)


def test_a_session_is_not_the_user_of_the_same_id():
    """And a slate for a user in a session is the user's alone."""
    fold = Fold(SETTINGS)
    fold.apply(LogPosition(0), build([served("q", "ab", session="s"), served("r", "cd", user="s", session="t")]))
    assert fold.outcomes.recent((session_asker(hash_of("s")),)).item_hash.tolist() == [hash_of("a"), hash_of("b")]
    assert fold.outcomes.recent((hash_of("s"),)).item_hash.tolist() == [hash_of("c"), hash_of("d")]
    assert len(fold.outcomes.recent((session_asker(hash_of("t")),)).item_hash) == 0
    both = fold.outcomes.recent((hash_of("s"), session_asker(hash_of("s"))))
    assert both.item_hash.tolist() == [hash_of(each) for each in "cdab"]
    assert len(fold.outcomes.recent((0, session_asker(0))).item_hash) == 0


def test_only_the_newest_slates_of_one_asker_are_looked_at():
    """Who asks without end makes no question slow: so many slates, or so many positions, whichever is less."""
    limits = StateLimits(outcome_slates_max=900, outcome_items_max=90_000, users_max=9)
    fold = Fold(FoldSettings(limits=limits))
    letters = "abcdefghijklmnopqrstuvwxyzABCDEF"
    short = [served(f"r{each}", letters[each % 32], user="ann") for each in range(RECENT_SLATES_MAX + 5)]
    long = [served(f"l{each}", letters, user="bob") for each in range(RECENT_SLATES_MAX)]
    fold.apply(LogPosition(0), build(short + long))
    found = fold.outcomes.recent((hash_of("ann"),)).item_hash.tolist()
    assert found == [hash_of(letters[each % 32]) for each in range(RECENT_SLATES_MAX + 4, 4, -1)]
    assert len(fold.outcomes.recent((hash_of("bob"),)).item_hash) == RECENT_ITEMS_MAX // 32 * 32


def test_slates_of_other_placements_push_none_out():
    """Of a placement its newest slates are read, however many of others came after, within the reach of the chain."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    limits = StateLimits(outcome_slates_max=3_000, outcome_items_max=90_000, users_max=9)
    fold = Fold(FoldSettings(limits=limits))
    home = [served(f"h{each}", letters[each], user="ann", placement="home") for each in range(5)]
    cart = [served(f"c{each}", "z", user="ann", placement="cart") for each in range(RECENT_STEPS_MAX - 5)]
    fold.apply(LogPosition(0), build(home + cart))
    asker, name = (hash_of("ann"),), placement_hash("home", KEY)
    assert fold.outcomes.recent(asker, name).item_hash.tolist() == [hash_of(each) for each in "edcba"]
    assert len(fold.outcomes.recent(asker, placement_hash("cart", KEY)).item_hash) == RECENT_SLATES_MAX
    fold.apply(LogPosition(RECENT_STEPS_MAX), build([served("late", "z", user="ann", placement="cart")]))
    assert fold.outcomes.recent(asker, name).item_hash.tolist() == [hash_of(each) for each in "edcb"]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_log_of_many_slates_is_remembered_the_same_in_batches_of_any_size(size):
    """The ring goes round many times; each user's chain breaks where its oldest slate left."""
    rng = np.random.default_rng(5)
    events = [
        served(f"r{each}", "abcd"[: rng.integers(1, 5)], user=USERS[rng.integers(0, 4)], time_ms=START_MS + each)
        for each in range(400)
    ]
    batch, plain, fold = build(events), Plain(SETTINGS), Fold(SETTINGS)
    for start in range(0, len(batch), size):
        fold.apply(LogPosition(start), cut(batch, start, min(start + size, len(batch))))
    for event in events:
        plain.add(event._replace(event_id=json.dumps(["home", "".join(decode_body(event.body).ids)])))
    check(fold, plain)


def test_the_log_without_the_erased_gives_the_memory_that_the_erasure_left():
    """Under each id that stood for the user; a session without a user is nobody's and stays."""
    merge = Event(Kind.USER, Operation.MERGE, user_id="ann", body=b'{"from":"visitor"}')
    events = [
        served("q", "ab", user="visitor", session="v"),
        served("r", "cd", user="ann"),
        served("s", "a", session="s"),
        served("t", "b", user="bob"),
        merge,
        Event(Kind.ERASE, user_id="ann"),
        served("u", "cd", user="ann"),
    ]
    batch = build([event._replace(log_time_ms=START_MS + place) for place, event in enumerate(events)])
    erased = find_erased(lambda: iter([(LogPosition(0), batch)]), SETTINGS.limits.event_ids_max, KEY)
    live, again = Fold(SETTINGS), Fold(SETTINGS)
    live.apply(LogPosition(0), batch)
    again.apply(LogPosition(0), Blanker(erased).blank(LogPosition(0), batch))
    one, other = live.outcomes.arrays(), again.outcomes.arrays()
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    assert live.outcomes.recent((hash_of("ann"),)).item_hash.tolist() == [hash_of("c"), hash_of("d")]
    assert np.count_nonzero(one["asker"]) == 3
