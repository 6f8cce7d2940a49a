"""Open sessions against an ordered dictionary, with few places and short memory."""

from collections import OrderedDict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.events.schema import Event, build
from midstream.state.sessions.sessions import Sessions
from midstream.state.settings import FoldSettings, StateLimits
from midstream.state.steps import part
from tests.support.events import Stream, cuts, event_batches, indexed, random_events, tiny_settings
from tests.support.ids import hash_of

GAP_MS = 30 * 60_000
IDS = ("", "a", "b", "c", "d", "é", "a-longer-identifier-of-more-than-32-bytes")


def settings_of(sessions_max=3, session_items_max=2):
    """Return settings with small maxima and the usual gap."""
    return FoldSettings(limits=StateLimits(sessions_max=sessions_max, session_items_max=session_items_max))


class Twin:
    """Sessions by name, least recently used first: number, last log time, user, items."""

    def __init__(self, settings):
        """Start empty."""
        self.settings = settings
        self.open = OrderedDict()
        self.next_number = self.expired = self.evicted = 0

    def number(self, row):
        """Return the session number of one event."""
        now, limits = row["log_time_ms"], self.settings.limits
        for name in [name for name, each in self.open.items() if now - each["last"] > self.settings.session_gap.ms]:
            del self.open[name]
            self.expired += 1
        names = self.settings.action_names()
        if not row["folded"] or row["kind"] != Kind.INTERACTION or row["action"] < 0 or row["item_index"] < 0:
            return -1
        if self.settings.types[names[row["action"]]].weight <= 0 or now - row["event_time_ms"] > 86_400_000:
            return -1
        name = self.name_of(row["session_hash"], row["user_hash"])
        if name is None:
            return -1
        if name not in self.open:
            if len(self.open) == limits.sessions_max:
                self.open.popitem(last=False)
                self.evicted += 1
            self.open[name] = {"number": self.next_number, "user": 0, "items": []}
            self.next_number += 1
        session = self.open[name]
        self.open.move_to_end(name)
        session["last"] = now
        session["user"] = session["user"] or row["user_hash"]
        session["items"] = [*session["items"], row["item_index"]][-limits.session_items_max :]
        return session["number"]

    def merge(self, into, other):
        """Let one user's sessions be another's; the one without an id too unless that user has one."""
        for each in self.open.values():
            if each["user"] == other:
                each["user"] = into
        if ("user", other) in self.open and ("user", into) not in self.open:
            self.open = OrderedDict(
                (("user", into) if name == ("user", other) else name, each) for name, each in self.open.items()
            )

    def forget(self, user):
        """Drop a user's sessions."""
        self.open = OrderedDict((name, each) for name, each in self.open.items() if each["user"] != user)

    @staticmethod
    def name_of(session_hash, user_hash):
        """Return what names a session, None = nothing."""
        if session_hash:
            return ("session", session_hash)
        return ("user", user_hash) if user_hash else None

    def find(self, session_hash, user_hash, now):
        """Return number and items of the session that goes on now, None when it would be a new one."""
        session = self.open.get(self.name_of(session_hash, user_hash))
        if session is None or now - session["last"] > self.settings.session_gap.ms:
            return None
        return session["number"], session["items"]

    def open_of_user(self, user_hash, now):
        """Return the numbers of a user's open sessions, newest first."""
        gap = self.settings.session_gap.ms
        mine = [each for each in self.open.values() if each["user"] == user_hash and now - each["last"] <= gap]
        return sorted((each["number"] for each in mine), reverse=True)


COLUMNS = (
    "kind",
    "action",
    "folded",
    "item_index",
    "user_hash",
    "session_hash",
    "event_time_ms",
    "log_time_ms",
)


def rows_of(batch):
    """Return the columns that sessions read as one dictionary an event."""
    columns = [getattr(batch, name).tolist() for name in COLUMNS]
    return [dict(zip(COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]


def check_reads(sessions, twin, now):
    """Compare all that can be read now, at the last moment of the gap, and after it."""
    assert len(sessions) == len(twin.open)
    assert sessions.next_number == twin.next_number
    assert (sessions.expired_count, sessions.evicted_count) == (twin.expired, twin.evicted)
    hashes = [hash_of(each) for each in IDS]
    for moment in (now, now + GAP_MS, now + GAP_MS + 1):
        for user_hash in hashes:
            found = sessions.open_of_user(user_hash, moment).tolist()
            assert found == (twin.open_of_user(user_hash, moment) if user_hash else [])
            for session_hash in hashes:
                session = sessions.find(session_hash, user_hash, moment)
                read = None if session is None else (session.number, session.item_index.tolist())
                assert read == twin.find(session_hash, user_hash, moment)


@given(event_batches(), st.integers(1, 4), st.integers(1, 4), st.data())
def test_sessions_are_those_of_a_dictionary_however_the_log_is_cut(batch, sessions_max, session_items_max, data):
    """Closed by silence or for want of room; in parts or whole, and restored on the way."""
    settings = settings_of(sessions_max, session_items_max)
    sessions, twin = Sessions(settings), Twin(settings)
    whole = indexed(batch, settings)
    for start, stop in pairwise([0, *data.draw(cuts(len(batch))), len(batch)]):
        piece = part(whole, start, stop)
        assert sessions.number(piece).number.tolist() == [twin.number(row) for row in rows_of(piece)]
        if stop > start:
            check_reads(sessions, twin, int(piece.log_time_ms[-1]))
        fresh = Sessions(settings)
        fresh.restore(sessions.arrays())
        sessions = fresh


@pytest.mark.parametrize("sessions_max", [5, 60, 10_000])
def test_a_long_stream_agrees_too(sessions_max):
    """Thousands of sessions come and go without one lost or left over."""
    settings = settings_of(sessions_max, 3)
    batch = indexed(random_events(6_000, seed=3, stream=Stream(step_ms=20_000)), settings)
    sessions, twin = Sessions(settings), Twin(settings)
    assert sessions.number(batch).number.tolist() == [twin.number(row) for row in rows_of(batch)]
    assert sessions.next_number > 1_000


@given(event_batches())
def test_numbers_rise_with_the_order_of_first_events(batch):
    """A new session's number is the count of sessions before it."""
    settings = tiny_settings()
    numbers = Sessions(settings).number(indexed(batch, settings)).number
    numbers = numbers[numbers >= 0]
    newest = np.maximum.accumulate(np.concatenate([[-1], numbers]))
    assert (numbers <= newest[:-1] + 1).all()


@given(event_batches())
def test_reading_changes_nothing(batch):
    """Neither a hit nor a miss moves a session."""
    settings = settings_of()
    sessions = Sessions(settings)
    sessions.number(indexed(batch, settings))
    before = {name: array.tobytes() for name, array in sessions.arrays().items()}
    for each in IDS:
        sessions.find(hash_of(each), hash_of("a"), 2**50)
        sessions.open_of_user(hash_of(each), 0)
    assert {name: array.tobytes() for name, array in sessions.arrays().items()} == before


def test_a_session_without_an_id_is_not_the_one_of_that_id():
    """A user called ``a`` and a session called ``a`` have nothing in common."""
    sessions = Sessions(settings_of())
    click = Event(Kind.INTERACTION, action="view", item_id="x", log_time_ms=9)
    batch = build([click._replace(user_id="a"), click._replace(session_id="a")])
    assert sessions.number(indexed(batch, settings_of())).number.tolist() == [0, 1]


@pytest.mark.parametrize("more_ms, numbers", [(0, [0, 0]), (1, [0, 1])])
def test_a_session_goes_on_at_the_last_moment_of_its_gap(more_ms, numbers):
    """A millisecond later it is another one."""
    sessions = Sessions(settings_of())
    click = Event(Kind.INTERACTION, action="view", item_id="x", session_id="s", log_time_ms=9)
    batch = build([click, click._replace(log_time_ms=9 + GAP_MS + more_ms)])
    assert sessions.number(indexed(batch, settings_of())).number.tolist() == numbers
    assert sessions.expired_count == more_ms


def test_bytes_are_those_of_the_arrays():
    """What is said is what is reserved."""
    sessions = Sessions(settings_of(sessions_max=1_000))
    held = [each for each in vars(sessions).values() if isinstance(each, np.ndarray)]
    small = sessions._weights.nbytes + sessions._meta.nbytes
    assert sessions.bytes_max == sum(each.nbytes for each in held) - small
    assert sessions.bytes_now == 0


@given(event_batches(), st.integers(1, 5), st.data())
def test_merged_and_forgotten_sessions_are_those_of_a_dictionary(batch, sessions_max, data):
    """Between any two events; nothing of them is left over, and restored on the way."""
    settings = settings_of(sessions_max, 2)
    sessions, twin = Sessions(settings), Twin(settings)
    whole = indexed(batch, settings)
    ids = st.sampled_from(IDS[1:])
    for start, stop in pairwise([0, *data.draw(cuts(len(batch))), len(batch)]):
        piece = part(whole, start, stop)
        numbered = sessions.number(piece)
        numbers = [twin.number(row) for row in rows_of(piece)]
        assert numbered.number.tolist() == numbers
        assert [user for user, number in zip(numbered.user.tolist(), numbers, strict=True) if number < 0] == [
            0 for number in numbers if number < 0
        ]
        into, other = hash_of(data.draw(ids)), hash_of(data.draw(ids))
        if data.draw(st.booleans()) and into != other:
            sessions.merge(into, other)
            twin.merge(into, other)
        else:
            sessions.forget(into)
            twin.forget(into)
        if stop > start:
            check_reads(sessions, twin, int(piece.log_time_ms[-1]))
        fresh = Sessions(settings)
        fresh.restore(sessions.arrays())
        sessions = fresh


def test_each_event_says_whose_session_it_is_in():
    """The first user named in it, from then on."""
    click = Event(Kind.INTERACTION, action="view", item_id="x", session_id="s", log_time_ms=9)
    batch = build([click, click._replace(user_id="a"), click._replace(user_id="b"), click])
    found = Sessions(settings_of()).number(indexed(batch, settings_of()))
    assert found.user.tolist() == [0, hash_of("a"), hash_of("a"), hash_of("a")]


def number_of(session):
    """Return the number of a session that was found."""
    return None if session is None else session.number


def test_a_session_without_an_id_goes_on_under_the_other_name_where_that_is_free():
    """Else it stays where no later event finds it, and is its user's all the same."""
    settings = settings_of()
    click = Event(Kind.INTERACTION, action="view", item_id="x", log_time_ms=9)
    a, b, c = (hash_of(each) for each in "abc")
    sessions = Sessions(settings)
    sessions.number(indexed(build([click._replace(user_id="a"), click._replace(user_id="b")]), settings))
    sessions.merge(c, a)
    assert sessions.find(0, a, 9) is None
    assert [number_of(sessions.find(0, each, 9)) for each in (c, b)] == [0, 1]
    sessions.merge(c, b)
    assert number_of(sessions.find(0, c, 9)) == 0
    assert sessions.open_of_user(c, 9).tolist() == [1, 0]
    sessions.forget(c)
    assert (len(sessions), sessions.expired_count, sessions.evicted_count) == (0, 0, 0)
