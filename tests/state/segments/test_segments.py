"""Heat by segment against a plain model: who and what has which value, what is added, what is hottest."""

import json
import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition
from midstream.events.schema import TIME_SENT, Event, cut, texts_of
from midstream.state.attributes.attributes import VALUE_BYTES_MAX, text_of
from midstream.state.attributes.documents import Documents
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings
from midstream.state.structures.decay import TABLE
from tests.support.events import Stream, cuts, event_batches, indexed, random_events, tiny_settings
from tests.support.frozen_shop import SMALL, StillShop

BY_USER = tiny_settings()
BY_CONTEXT = replace(BY_USER, segment="context.page")
USED = random_events(300, 9, Stream(users=20, catalogue_share=0.25))
WITHOUT = replace(BY_USER, segment="")


def weight_at(time_ms, landmark_ms, half_life_ms):
    """Return the decay weight in plain arithmetic."""
    steps = (time_ms - landmark_ms) * 4_096 // half_life_ms
    return float(TABLE[steps % 4_096]) * math.ldexp(1.0, steps // 4_096)


@dataclass
class Plain:
    """The same table in dictionaries, event by event."""

    settings: FoldSettings
    values: list[str] = field(default_factory=list)
    refused: int = 0
    landmark: int = 0
    heat: dict[tuple[int, int], float] = field(default_factory=dict)
    totals: dict[int, float] = field(default_factory=dict)
    user_value: dict[int, int] = field(default_factory=dict)
    documents: Documents = field(default_factory=lambda: Documents(1 << 30))

    def code(self, value):
        text = text_of(value)
        if not text:
            return -1
        if text not in self.values:
            if len(self.values) == self.settings.limits.segment_values_max or len(text.encode()) > VALUE_BYTES_MAX:
                self.refused += 1
                return -1
            self.values.append(text)
        return self.values.index(text)

    def apply(self, batch, event):
        half_life = min(each.ms for each in self.settings.half_lives)
        now = int(batch.log_time_ms[event])
        landmark = now // (32 * half_life) * 32 * half_life
        steps = (self.landmark - landmark) // half_life
        factor = math.ldexp(1.0, steps) if steps >= -1_022 else 0.0
        self.landmark = landmark
        self.heat = {key: each * factor for key, each in self.heat.items()}
        self.totals = {key: each * factor for key, each in self.totals.items()}
        if not batch.folded[event]:
            return
        self._profile(batch, event)
        action, item = int(batch.action[event]), int(batch.item_index[event])
        if batch.kind[event] != Kind.INTERACTION or action < 0 or item < 0:
            return
        weight = self.settings.types[self.settings.action_names()[action]].weight
        if weight <= 0:
            return
        added = weight * weight_at(int(batch.event_time_ms[event]), landmark, half_life)
        code = self._asking(batch, event)
        self.totals[-1] = self.totals.get(-1, 0.0) + added
        if code >= 0:
            self.totals[code] = self.totals.get(code, 0.0) + added
            self.heat[code, item] = self.heat.get((code, item), 0.0) + added

    def _profile(self, batch, event):
        user = int(batch.user_index[event])
        if user < 0:
            return
        is_delete = batch.kind[event] == Kind.USER and batch.operation[event] == 3
        if batch.user_is_new[event]:
            self.user_value.pop(user, None)
            if not is_delete:
                self.documents.drop(user)
        if batch.kind[event] == Kind.USER:
            body = texts_of(batch.source, event)[6]
            timed = bool(batch.source.rows["flags"][event] & TIME_SENT)
            operation = int(batch.operation[event])
            self.documents.apply(user, operation, body, int(batch.event_time_ms[event]), is_timed=timed)
            if self.settings.segment.startswith("user."):
                value = self.documents.get(user).get(self.settings.segment.removeprefix("user."))
                self.user_value[user] = self.code(value)

    def _asking(self, batch, event):
        if self.settings.segment.startswith("user."):
            return self.user_value.get(int(batch.user_index[event]), -1)
        body = texts_of(batch.source, event)[6]
        if not body:
            return -1
        return self.code(json.loads(body).get(self.settings.segment.removeprefix("context.")))


def assert_same(fold, plain):
    """Every number to the last bit, and every list in its order."""
    segments, items = fold.segments, fold.items
    arrays = segments.arrays()
    assert list(segments.values) == plain.values
    assert segments.refused_values_count == plain.refused
    found = zip(arrays["heat_code"].tolist(), arrays["heat_item"].tolist(), arrays["heat"].tolist(), strict=True)
    assert {(code, item): heat for code, item, heat in found} == {key: each for key, each in plain.heat.items() if each}
    expected = [plain.totals.get(code, 0.0) for code in (*range(len(plain.values)), -1)]
    assert arrays["totals"].tolist() == expected
    users = dict(zip(arrays["user"].tolist(), arrays["user_code"].tolist(), strict=True))
    assert users == {user: code for user, code in plain.user_value.items() if code >= 0}
    most = fold.settings.limits.hot_items_max
    item_hash = fold.vocabulary.item_hash
    for code in range(len(plain.values)):
        hot = [(-heat, int(item_hash[item]), item) for (of, item), heat in plain.heat.items() if of == code and heat]
        best = [item for _, _, item in sorted(hot) if items.available[item]][:most]
        assert segments.hottest(code, 99).tolist() == best


def folded(settings, batch, edges):
    """Return the fold of a log cut at the edges, restored at each of them onto one that was used for something else."""
    fold, other = Fold(settings), Fold(settings)
    for start, stop in pairwise(edges):
        other.apply(other.log_position, USED)
        other.restore({name: array.copy() for name, array in fold.arrays().items()})
        other.apply(LogPosition(start), cut(batch, start, stop))
        fold, other = other, fold
    return fold


@pytest.mark.parametrize("settings", [BY_USER, BY_CONTEXT], ids=["user", "context"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_table_equals_its_plain_model(settings, seed):
    """Over streams in which users are evicted, items go and come, values run out and landmarks move."""
    batch = random_events(6_000, seed, Stream(users=20, catalogue_share=0.25))
    whole = indexed(batch, settings)
    plain = Plain(settings)
    fold = Fold(settings)
    for start in range(0, len(batch), 500):
        fold.apply(LogPosition(start), cut(batch, start, start + 500))
        for event in range(start, min(start + 500, len(batch))):
            plain.apply(whole, event)
        assert_same(fold, plain)
    assert plain.refused > 0
    assert len(plain.heat) > 20
    assert plain.landmark > START_LANDMARK


START_LANDMARK = 1_700_000_000_000 // (32 * 600_000) * 32 * 600_000


@given(event_batches(), st.sampled_from([BY_USER, BY_CONTEXT]), st.data())
def test_short_nasty_logs_fold_as_the_plain_model(batch, settings, data):
    """However they are cut, and restored at each cut."""
    plain = Plain(settings)
    whole = indexed(batch, settings)
    for event in range(len(batch)):
        plain.apply(whole, event)
    assert_same(folded(settings, batch, [0, *data.draw(cuts(len(batch))), len(batch)]), plain)


@given(event_batches(people=True))
def test_the_segment_of_every_user_is_that_of_the_profile(batch):
    """After merges, erasures, deletions and evictions too, a code is what a reading of the profile gives."""
    fold = Fold(replace(BY_USER, limits=replace(BY_USER.limits, segment_values_max=99)))
    fold.apply(LogPosition(0), batch)
    for user in range(BY_USER.limits.users_max):
        text = text_of(fold.users.watched_value(user))
        code = fold.segments.asking(user, {})
        assert (fold.segments.values[code] if code >= 0 else None) == (text or None)


def test_merged_users_are_in_one_segment():
    """The known user's, or the one that the anonymous visitor told before; erased ones are in none."""
    shop = StillShop(replace(SMALL, segment="user.country"))
    shop.set_user("ann", name="Ann")
    shop.set_user("visitor", country="nl")
    segments, vocabulary = shop.fold.segments, shop.fold.vocabulary
    shop.record((Event(Kind.USER, Operation.MERGE, user_id="ann", body=b'{"from":"visitor"}'),))
    assert segments.asking(vocabulary.user_index("ann"), {}) == 0
    assert segments.arrays()["user"].tolist() == [vocabulary.user_index("ann")]
    shop.record((Event(Kind.ERASE, user_id="ann"),))
    assert segments.arrays()["user"].tolist() == []


def test_without_an_attribute_nothing_is_held():
    """No memory, no arrays with anything in them, and the rest of the state is the same."""
    batch = random_events(2_000, 3)
    fold, other = Fold(WITHOUT), Fold(BY_USER)
    fold.apply(LogPosition(0), batch)
    other.apply(LogPosition(0), batch)
    assert fold.segments.bytes_max == fold.segments.bytes_now == 0
    left, right = fold.arrays(), other.arrays()
    assert all(not array.any() for name, array in left.items() if name.startswith("segments."))
    for name, array in left.items():
        assert name.startswith("segments.") or np.array_equal(array, right[name], equal_nan=array.dtype.kind == "f")


def test_who_asks_is_in_the_segment_of_the_profile():
    """From the change of the profile on, until the next; acts of before stay where they were counted."""
    shop = StillShop(replace(SMALL, segment="user.country"))
    shop.put("a")
    shop.put("b")
    shop.set_user("ann", country="nl")
    shop.act("view", "ann", "a")
    shop.set_user("ann", country="be")
    shop.act("view", "ann", "b")
    segments, vocabulary = shop.fold.segments, shop.fold.vocabulary
    assert segments.values == ("nl", "be")
    assert segments.asking(vocabulary.user_index("ann"), {"country": "nl"}) == 1
    assert [shop.ids(segments.hottest(code, 9).tolist()) for code in (0, 1)] == [["a"], ["b"]]
    assert segments.asking(-1, {}) == -1
    shop.act("view", "bob", "b")
    assert segments.asking(vocabulary.user_index("bob"), {}) == -1


@pytest.mark.parametrize(
    "sent, value", [(b'{"device":"tv"}', "tv"), (b'{"device":7.0}', "7"), (b'{"device":true}', "true")]
)
def test_numbers_and_truths_are_read_as_text(sent, value):
    """In an act as in a question."""
    shop = StillShop(replace(SMALL, segment="context.device"))
    shop.act_in(sent, "view", "ann", "a")
    assert shop.fold.segments.values == (value,)
    assert shop.fold.segments.asking(-1, {"device": json.loads(sent)["device"]}) == 0
    assert shop.fold.segments.asking(-1, {"device": "radio"}) == -1


@pytest.mark.parametrize(
    "sent",
    [b"", b"{}", b'{"device":null}', b'{"device":""}', b'{"device":["tv"]}', b'{"device":{}}', b'{"devices":"tv"}'],
)
def test_what_is_no_value_makes_no_segment(sent):
    """It counts for the whole shop alone, and is no value refused."""
    shop = StillShop(replace(SMALL, segment="context.device"))
    shop.act_in(sent, "view", "ann", "a")
    assert shop.fold.segments.values == ()
    assert shop.fold.segments.refused_values_count == 0
    assert shop.fold.segments.total(-1) > 0.9


def test_a_value_too_many_is_unknown_and_counted():
    """What has a code keeps it; no count of the fold hides the others."""
    settings = replace(SMALL, segment="context.device", limits=replace(SMALL.limits, segment_values_max=2))
    shop = StillShop(settings)
    for name in ("tv", "phone", "watch", "tv", "watch"):
        shop.act_in(b'{"device":"%s"}' % name.encode(), "view", "ann", "a")
    assert shop.fold.segments.values == ("tv", "phone")
    assert shop.fold.counts()["segment_value_refused"] == 2
    assert shop.fold.segments.asking(-1, {"device": "watch"}) == -1


def test_what_was_available_before_a_restore_is_not_after_it():
    """A list built from the arrays knows the availability that came with them."""
    shops = [StillShop(replace(SMALL, segment="context.device")) for _ in range(2)]
    for shop in shops:
        shop.act_in(b'{"device":"tv"}', "view", "ann", "a", "b")
    shops[0].put("a", available=False)
    shops[1].fold.restore({name: array.copy() for name, array in shops[0].fold.arrays().items()})
    for shop in shops:
        assert shop.ids(shop.fold.segments.hottest(0, 9).tolist()) == ["b"]
