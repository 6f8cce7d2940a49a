"""User rows against plain dictionaries: rings, counts, impressions, affinities, profiles, slots that change hands."""

import json
import math
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition
from midstream.events.schema import TIME_SENT, Event, build, texts_of
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.settings import EventType, FoldSettings, StateLimits
from midstream.state.steps import part, step_of
from midstream.state.structures.decay import TABLE
from midstream.state.users import user_rows
from midstream.state.users.affinities import AFFINITIES_MAX, AFFINITY_HALF_LIFE_MS
from midstream.state.users.user_fold import SEEN_COUNT_MAX
from midstream.state.users.user_rows import ACTIONS_MAX, COUNTS
from midstream.state.users.users import Users
from tests.state.users.row_checks import check_packed
from tests.support.events import Stream, cuts, event_batches, indexed, random_events

DAY_MS = 86_400_000
ITEMS_MAX = 2_000
CODES = {
    "brand": (np.arange(ITEMS_MAX) * 7 % 41 - 1).astype(np.int32),
    "category": (np.arange(ITEMS_MAX) % 4 - 1).astype(np.int32),
}
COLUMNS = (
    "kind",
    "operation",
    "action",
    "folded",
    "user_index",
    "user_is_new",
    "item_index",
    "event_time_ms",
    "log_time_ms",
)


def settings_of(users_max=3, user_ring_max=3):
    """Return settings with small maxima and two category attributes."""
    limits = StateLimits(
        users_max=users_max, user_ring_max=user_ring_max, items_max=ITEMS_MAX, click_items_max=ITEMS_MAX
    )
    return FoldSettings(attributes={"category": "category", "price": "number", "brand": "category"}, limits=limits)


def users_of(settings):
    """Return an empty table that reads the fixed codes."""
    return Users(settings, CODES.__getitem__)


def weight_of(time_ms, landmark_ms):
    """Return the decay weight by integers and ``math.ldexp``."""
    exponent, place = divmod((time_ms - landmark_ms) * 4_096 // AFFINITY_HALF_LIFE_MS, 4_096)
    return float(TABLE[place]) * math.ldexp(1.0, exponent) if exponent >= -1_022 else 0.0


class Affinity:
    """Sixteen places of code and float32 weight."""

    def __init__(self):
        """Start empty."""
        self.landmark = 0
        self.places = []

    def add(self, code, weight, event_time_ms, log_time_ms):
        """Add the decayed weight of one act."""
        span = 32 * AFFINITY_HALF_LIFE_MS
        landmark = log_time_ms // span * span
        self.move(landmark)
        self.put(code, weight * weight_of(event_time_ms, landmark))

    def put(self, code, added):
        """Add a weight to the place of a code."""
        codes = [each for each, _ in self.places]
        if code in codes:
            place = codes.index(code)
            self.places[place] = (code, np.float32(float(self.places[place][1]) + added))
        elif len(self.places) < AFFINITIES_MAX:
            self.places.append((code, np.float32(added)))
        else:
            smallest = min(range(AFFINITIES_MAX), key=lambda place: abs(self.places[place][1]))
            if abs(np.float32(added)) >= abs(self.places[smallest][1]):
                self.places[smallest] = (code, np.float32(added))

    def move(self, landmark):
        """Bring the weights to another landmark."""
        if landmark != self.landmark:
            exponent = (self.landmark - landmark) // AFFINITY_HALF_LIFE_MS
            factor = math.ldexp(1.0, exponent) if exponent >= -1_022 else 0.0
            self.places = [(each, np.float32(float(held) * factor)) for each, held in self.places]
            self.landmark = landmark
        return self

    def merge(self, other):
        """Add those of another, in the order of its places."""
        landmark = max(self.landmark, other.landmark)
        self.move(landmark)
        factor = math.ldexp(1.0, max((other.landmark - landmark) // AFFINITY_HALF_LIFE_MS, -1_074))
        for code, weight in other.places:
            self.put(code, float(weight) * factor)

    def read(self, now_ms):
        """Return codes and weights, strongest first."""
        factor = weight_of(self.landmark, now_ms)
        found = [(code, np.float32(float(weight) * factor)) for code, weight in self.places]
        return sorted(found, key=lambda each: (-each[1], each[0]))


class Row:
    """What is known of one user."""

    def __init__(self, profile):
        """Start cold but for what was said of attributes."""
        self.recent = []
        self.counts = {}
        self.seen = {}
        self.first = self.last = 0
        self.affinities = {name: Affinity() for name in CODES}
        self.profile = profile


class Twin:
    """Rows by slot."""

    def __init__(self, settings):
        """Start empty."""
        self.settings = settings
        self.rows = {}

    def apply(self, batch):
        """Fold a batch, event by event."""
        columns = [getattr(batch, name).tolist() for name in COLUMNS]
        for place, row in enumerate(zip(*columns, strict=True)):
            event = dict(zip(COLUMNS, row, strict=True))
            if event["folded"] and event["user_index"] >= 0:
                is_timed = bool(batch.source.rows["flags"][place] & TIME_SENT)
                self.fold(event, texts_of(batch.source, place)[-1], is_timed=is_timed)

    def fold(self, event, body, *, is_timed):
        """Fold one event of a known user."""
        if event["user_is_new"]:
            deletes = event["kind"] == Kind.USER and event["operation"] == Operation.DELETE
            profile = self.rows[event["user_index"]].profile if deletes else []
            self.rows[event["user_index"]] = Row(profile)
        row, item, now = self.rows[event["user_index"]], event["item_index"], event["log_time_ms"]
        if event["kind"] == Kind.USER:
            time = event["event_time_ms"]
            if not is_timed:
                time = max(time, *(told for told, _, _ in row.profile), 0)
            row.profile.append((time, event["operation"], json.loads(body or b"{}")))
        acts = event["kind"] == Kind.INTERACTION and event["action"] >= 0
        if acts and item >= 0:
            self.lean(row, event)
        if not (acts or event["kind"] == Kind.IMPRESSION) or now - event["event_time_ms"] > DAY_MS:
            return
        row.first, row.last = row.first or now, now
        if acts:
            name = self.settings.action_names()[event["action"]]
            row.counts[name] = row.counts.get(name, 0) + 1
        ring_max = self.settings.limits.user_ring_max
        if acts and item >= 0:
            row.recent = [*row.recent, (item, event["action"], event["event_time_ms"])][-ring_max:]
        elif item >= 0:
            count, _ = row.seen.pop(item, (0, 0))
            if len(row.seen) == ring_max:
                del row.seen[next(iter(row.seen))]
            row.seen[item] = (count + 1, event["event_time_ms"] // 1_000 * 1_000)

    def merge(self, into, other):
        """Add one row to another by the rules of the docs."""
        row, gone, ring_max = self.rows[into], self.rows.pop(other), self.settings.limits.user_ring_max
        row.recent = sorted(gone.recent + row.recent, key=lambda act: act[2])[-ring_max:]
        for name, count in gone.counts.items():
            row.counts[name] = row.counts.get(name, 0) + count
        both = {item: [each.seen[item] for each in (gone, row) if item in each.seen] for item in gone.seen | row.seen}
        order = [item for item in gone.seen if item not in row.seen] + list(row.seen)
        merged = {item: (sum(count for count, _ in both[item]), max(time for _, time in both[item])) for item in order}
        newest = sorted(order, key=lambda item: merged[item][1])[-ring_max:]
        row.seen = {item: merged[item] for item in newest}
        row.first = min([each.first for each in (row, gone) if each.first], default=0)
        row.last = max(row.last, gone.last)
        for name, affinity in row.affinities.items():
            affinity.merge(gone.affinities[name])

    def lean(self, row, event):
        """Add an act to the affinities."""
        weight = self.settings.types[self.settings.action_names()[event["action"]]].weight
        for name, affinity in row.affinities.items():
            code = int(CODES[name][event["item_index"]])
            if code >= 0 and weight:
                affinity.add(code, weight, event["event_time_ms"], event["log_time_ms"])


def document_of(profile):
    """Return the fields of a profile: for each the newest event that says anything about it decides."""
    document = {}
    for name in {name for _, _, body in profile for name in body}:
        told = [
            (time, place)
            for place, (time, operation, body) in enumerate(profile)
            if operation != Operation.PATCH or name in body
        ]
        _, operation, body = profile[max(told)[1]]
        if operation != Operation.DELETE and body.get(name) is not None:
            document[name] = body[name]
    return document


def check(users, twin, now_ms):
    """Compare everything that can be read of every user."""
    for slot, row in twin.rows.items():
        recent, seen = users.recent(slot), users.impressions(slot)
        columns = (recent.item_index, recent.action, recent.event_time_ms)
        assert list(zip(*(column.tolist() for column in columns), strict=True)) == row.recent
        columns = (seen.item_index, seen.count, seen.event_time_ms)
        assert list(zip(*(column.tolist() for column in columns), strict=True)) == [
            (item, *each) for item, each in row.seen.items()
        ]
        names = twin.settings.action_names()
        assert users.counts(slot) == {name: row.counts.get(name, 0) for name in names}
        assert (users.first_seen_ms(slot), users.last_seen_ms(slot)) == (row.first, row.last)
        for number, name in enumerate(names):
            for since in (0, now_ms - 60_000):
                acted = {item for item, action, time in row.recent if action == number and time >= since}
                assert users.acted(slot, name, since).tolist() == sorted(acted)
        for name, affinity in row.affinities.items():
            code, weight = users.affinities(slot, name, now_ms)
            assert list(zip(code.tolist(), weight.tolist(), strict=True)) == affinity.read(now_ms)
        assert users.document(slot) == document_of(row.profile)
        newest = max((time, place, operation) for place, (time, operation, _) in enumerate(row.profile or [(0, 0, 0)]))
        assert users.exists(slot) == (bool(row.profile) and newest[2] != Operation.DELETE)


def heads_of(places):
    """Return a context in which a head has room for so many places of the ring, with the actions of these tests."""
    words = COUNTS + len(FoldSettings().action_names()) + 3 * places
    return patch.object(user_rows, "HEAD_BYTES", 4 * words)


@given(event_batches(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.data())
def test_rows_are_those_of_dictionaries_however_the_log_is_cut(batch, users_max, user_ring_max, inline, data):
    """Slots change hands in the middle of batches; in parts or whole, and restored on the way, wherever rings lie."""
    settings = settings_of(users_max, user_ring_max)
    with heads_of(inline):
        fold_cut_batches(batch, settings, data)


def fold_cut_batches(batch, settings, data):
    """Fold a batch in pieces, each into a table that was restored from the one before, and compare with the twin."""
    users, twin = users_of(settings), Twin(settings)
    whole = indexed(batch, settings)
    for start, stop in pairwise([0, *data.draw(cuts(len(batch))), len(batch)]):
        piece = part(whole, start, stop)
        users.apply(step_of(piece))
        twin.apply(piece)
        if stop > start:
            check(users, twin, int(piece.log_time_ms[-1]))
        check_packed(users)
        fresh = users_of(settings)
        fresh.restore({name: array.copy() for name, array in users.arrays().items()})
        users = fresh


@given(event_batches(), st.integers(1, 4), st.integers(1, 5), st.data())
def test_two_rows_become_one_as_dictionaries_do(batch, user_ring_max, inline, data):
    """Wherever in the log, and the one that is given up is left empty."""
    with heads_of(inline):
        fold_and_merge(batch, settings_of(4, user_ring_max), data)


def fold_and_merge(batch, settings, data):
    """Fold a batch in pieces, after some of which two rows become one, and compare with the twin."""
    users, twin = users_of(settings), Twin(settings)
    whole = indexed(batch, settings)
    for start, stop in pairwise([0, *data.draw(cuts(len(batch))), len(batch)]):
        piece = part(whole, start, stop)
        users.apply(step_of(piece))
        twin.apply(piece)
        for row in twin.rows.values():
            row.profile = []
        for slot in range(4):
            users._documents.drop(slot)
        if len(twin.rows) > 1 and data.draw(st.booleans()):
            into, other = data.draw(st.permutations(sorted(twin.rows)))[:2]
            users.merge(into, other)
            twin.merge(into, other)
            assert not users._bytes[other].any()
            check_packed(users)
            check(users, twin, int(whole.log_time_ms[stop - 1]) if stop else 0)
            twin.rows[other] = Row([])


def test_of_equal_times_the_acts_of_who_is_merged_come_first():
    """So do the items that were seen in the same second."""
    settings = settings_of(users_max=3, user_ring_max=3)
    acts = [
        Event(kind, action=action, user_id=user, item_id=f"{user}{number}", event_time_ms=1_000, log_time_ms=1_000)
        for kind, action in ((Kind.INTERACTION, "view"), (Kind.IMPRESSION, ""))
        for user in ("a", "b")
        for number in (1, 2)
    ]
    users = users_of(settings)
    users.apply(step_of(indexed(build(acts), settings)))
    users.merge(0, 1)
    assert users.recent(0).item_index.tolist() == [3, 0, 1]
    assert users.impressions(0).item_index.tolist() == [3, 0, 1]


def test_leanings_are_added_at_the_later_landmark():
    """Whichever of the two is the older: both decay as if one user had acted."""
    settings = settings_of(users_max=3)
    late = 40 * AFFINITY_HALF_LIFE_MS
    act = Event(Kind.INTERACTION, action="view", item_id="x", event_time_ms=late - 9, log_time_ms=late)
    old = act._replace(event_time_ms=1, log_time_ms=AFFINITY_HALF_LIFE_MS)
    before = act._replace(item_id="before")  # the first item has no value of either attribute
    for into, other in ((0, 1), (1, 0)):
        users = users_of(settings)
        events = [old._replace(user_id="a", item_id="before"), old._replace(user_id="a"), before._replace(user_id="b")]
        users.apply(step_of(indexed(build([*events, act._replace(user_id="b")]), settings)))
        alone = dict(zip(*(each.tolist() for each in users.affinities(1, "category", late)), strict=True))
        users.merge(into, other)
        found = dict(zip(*(each.tolist() for each in users.affinities(into, "category", late)), strict=True))
        assert found == alone
        assert found[0] == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("step_ms", [4_000, 30_000_000])
def test_long_rows_become_one_too(step_ms):
    """Rings that went round, lists and affinities that overflow, landmarks half a year apart; seen counts stop."""
    settings = settings_of(60, 7)
    batch = indexed(random_events(4_000, seed=22, stream=Stream(users=60, step_ms=step_ms)), settings)
    users, twin = users_of(settings), Twin(settings)
    users.apply(step_of(batch))
    twin.apply(batch)
    for row in twin.rows.values():
        row.profile = []
    for slot in range(60):
        users._documents.drop(slot)
    slots = sorted(twin.rows)
    for into, other in pairwise(slots[:40:2]):
        if into in twin.rows and other in twin.rows:
            users.merge(other, into)
            twin.merge(other, into)
    check(users, twin, int(batch.log_time_ms[-1]))
    assert len(twin.rows) < len(slots)


def test_merged_counts_of_impressions_stop_at_their_largest():
    """Two bytes do not overflow to 0 there either."""
    settings = settings_of()
    view = Event(Kind.INTERACTION, action="view", item_id="x", log_time_ms=10)
    acts = [view._replace(user_id=user) for user in ("a", "b")]
    seen = [each._replace(kind=Kind.IMPRESSION, action="") for each in acts]
    users = users_of(settings)
    users.apply(step_of(indexed(build([*acts, *seen * (SEEN_COUNT_MAX - 1)]), settings)))
    users.merge(0, 1)
    assert users.impressions(0).count.tolist() == [SEEN_COUNT_MAX]


@pytest.mark.parametrize("users_max, user_ring_max", [(5, 7), (400, 50)])
def test_a_long_stream_agrees_too(users_max, user_ring_max):
    """Rings go round, lists and affinities overflow; landmarks move, as steps are days."""
    settings = settings_of(users_max, user_ring_max)
    batch = indexed(random_events(6_000, seed=21, stream=Stream(users=60, step_ms=30_000_000)), settings)
    users, twin = users_of(settings), Twin(settings)
    for start in range(0, 6_000, 700):
        users.apply(step_of(part(batch, start, min(start + 700, 6_000))))
    twin.apply(batch)
    check(users, twin, int(batch.log_time_ms[-1]))
    check_packed(users)
    assert len(np.unique(batch.log_time_ms // (32 * AFFINITY_HALF_LIFE_MS))) > 1


@pytest.mark.parametrize("size", [1, 99])
def test_a_deleted_user_starts_cold(size):
    """Nothing of acts, impressions and attributes is left, another user keeps all, and what comes then counts."""
    settings = settings_of()
    event = Event(Kind.INTERACTION, action="view", user_id="ann", item_id="x", log_time_ms=10)
    events = [
        *(event._replace(user_id=user, item_id=item) for user in ("ann", "bob") for item in ("x", "y", "z")),
        event._replace(kind=Kind.IMPRESSION, action=""),
        Event(Kind.USER, Operation.PUT, user_id="ann", body=b'{"a": 1}', log_time_ms=10),
        Event(Kind.USER, Operation.DELETE, user_id="ann", log_time_ms=11),
        Event(Kind.USER, Operation.PATCH, user_id="ann", body=b'{"b": 1}', event_time_ms=9, log_time_ms=12),
    ]
    users, vocabulary = users_of(settings), Vocabulary(settings)

    def fold(wanted):
        for start in range(0, len(wanted), size):
            batch = build(wanted[start : start + size])
            users.apply(step_of(vocabulary.index(LogPosition(0), batch, np.ones(len(batch), dtype=np.bool_))))

    fold(events)
    assert not users._bytes[0].any()
    assert users.document(0) == {}
    assert users.recent(1).item_index.tolist() == [0, 1, 2]
    assert len(users.affinities(1, "brand", 20)[0]) == 2


def test_a_deleted_user_is_forgotten_until_it_acts():
    """So a lookup can say that nothing is known; a delete sent late takes away what came before it too."""
    settings = settings_of()
    users, vocabulary = users_of(settings), Vocabulary(settings)
    view = Event(Kind.INTERACTION, action="view", user_id="ann", item_id="x", log_time_ms=10)
    gone = Event(Kind.USER, Operation.DELETE, user_id="ann", event_time_ms=5, log_time_ms=11)
    found = []
    for event in (view, gone, view._replace(log_time_ms=12)):
        users.apply(step_of(vocabulary.index(LogPosition(0), build([event]), np.ones(1, dtype=np.bool_))))
        found.append((users.is_forgotten(0), users.counts(0)["view"]))
    assert found == [(False, 1), (True, 0), (False, 1)]


@given(event_batches())
def test_reading_changes_nothing(batch):
    """Not the row, and nothing else either."""
    settings = settings_of()
    users = users_of(settings)
    users.apply(step_of(indexed(batch, settings)))
    before = {name: array.tobytes() for name, array in users.arrays().items()}
    for slot in range(3):
        users.recent(slot).item_index[:] = 99
        users.impressions(slot).item_index[:] = 99
        users.affinities(slot, "brand", 2**45)
        users.document(slot)
    assert {name: array.tobytes() for name, array in users.arrays().items()} == before


def test_counts_of_impressions_stop_at_their_largest():
    """Two bytes do not overflow to 0."""
    settings = settings_of()
    one = Event(Kind.IMPRESSION, user_id="a", item_id="x", log_time_ms=10)
    first = Event(Kind.INTERACTION, action="view", user_id="a", item_id="x", log_time_ms=10)
    batch = build([first, *[one] * (SEEN_COUNT_MAX + 2)])
    users = users_of(settings)
    folded = np.ones(len(batch), dtype=np.bool_)
    users.apply(step_of(Vocabulary(settings).index(LogPosition(0), batch, folded)))
    assert users.impressions(0).count.tolist() == [SEEN_COUNT_MAX]


def test_more_actions_than_a_row_has_counts_for_are_refused():
    """The text says how many there may be."""
    types = {f"act-{number}": EventType() for number in range(ACTIONS_MAX + 1)}
    with pytest.raises(ValueError, match=str(ACTIONS_MAX)):
        Users(FoldSettings(types=types), CODES.__getitem__)


def test_bytes_are_those_of_the_arrays():
    """What is said is what is reserved."""
    settings = settings_of(users_max=1_000)
    users = users_of(settings)
    parts = sum(each.nbytes for each in users.rooms().values())
    assert users.bytes_max == parts + settings.limits.document_bytes_max
    assert users.bytes_now == 0
