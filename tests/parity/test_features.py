"""Every kind of feature: the same at every place in the log, however it came there, and what its formula says.

One shop of 30,000 events: duplicates, late and shuffled ones, catalogue changes, merges of users and erasures. What is
read at 150 places of a state that was given the log in large pieces is what is read where it came one event after
another, and after a restart. The cells are compared with formulas over the raw events, in dictionaries: in a shop
without merges and erasures, which ``tests/state/cells/test_cells.py`` compares to the bit.
"""

import json
import math
from collections import defaultdict
from itertools import pairwise
from typing import get_args

import msgspec
import numpy as np
import pytest

from midstream.core.durations import Duration
from midstream.core.kinds import Kind, Operation
from midstream.core.types import Candidates, LogPosition, Models, Query, TimestampMs
from midstream.events.schema import build, cut
from midstream.features.checking import feature_faults
from midstream.features.declared import declared
from midstream.features.kinds import kinds
from midstream.features.readers.external import External
from midstream.state.fold import Fold
from midstream.state.ids.event_ids import EventAdmission, EventIds
from tests.support.events import Stream, random_event_list, tiny_settings
from tests.support.ids import KEY

DAY, HOUR, MINUTE = 86_400_000, 3_600_000, 60_000
EVENTS, QUESTIONS = 30_000, 150
ACTS = ("cart", "click", "view")
GOOD = ("cart", "click", "purchase", "view")
GAP = 10 * MINUTE
COUNTED = (
    kinds.Count(name="acts", actions=ACTS),
    kinds.Count(name="views", actions=("view",), windows=(Duration("1h"), Duration("2d")), half_life=(Duration("6h"),)),
    kinds.Count(name="worth", actions=(*ACTS, "dismiss"), weighted=True, scope="user"),
    kinds.Count(name="lately", actions=("click",), ttl=Duration("12h")),
    kinds.Count(name="everybody", actions=("impression", "view"), scope="global", windows=(Duration("30m"),)),
    kinds.Count(name="session_acts", actions=GOOD, scope="session"),
    kinds.Count(name="pair_acts", actions=ACTS, scope="user_item"),
    kinds.Count(name="kind_acts", actions=ACTS, scope="attribute", attribute="category"),
    kinds.Count(name="my_kind_acts", actions=ACTS, scope="user_attribute", attribute="tags"),
    kinds.Rate(name="rate", actions=("click",), per=("impression", "view"), half_life=Duration("1d"), smoothing=5.0),
    kinds.Rate(name="brand_rate", actions=("click",), per=("view",), scope="attribute", attribute="brand"),
    kinds.UniqueCount(name="visitors", actions=ACTS, of="user"),
    kinds.Statistic(name="mean", actions=ACTS, statistic="mean"),
    kinds.Statistic(name="least", actions=ACTS, statistic="min", scope="user"),
    kinds.Statistic(name="most", actions=ACTS, statistic="max", ttl=Duration("3h")),
    kinds.Statistic(name="newest", actions=ACTS, statistic="last"),
    kinds.Statistic(name="deviation", actions=ACTS, statistic="deviation"),
    kinds.Since(name="since", actions=("view",)),
    kinds.Since(name="since_mine", actions=ACTS, scope="user"),
    kinds.Affinity(name="leaning", actions=GOOD, attribute="category", half_life=Duration("2d")),
    kinds.Affinity(name="tag_leaning", actions=ACTS, attribute="tags", weighted=False, ttl=Duration("2d")),
)
OTHER = (
    kinds.OutcomeCount(name="clicked", actions=("click", "purchase"), half_life=(Duration("1h"), Duration("3d"))),
    kinds.OutcomeCount(name="seen_at_home", actions=("impression",), placement="home"),
    kinds.OutcomeRate(name="rate_of_views", actions=("view",), half_life=Duration("1d")),
    kinds.Number(name="price"),
    kinds.Number(name="budget", scope="request"),
    kinds.Boolean(name="fresh"),
    kinds.Category(name="category", values=("shoes", "coats", "hats")),
    kinds.Category(name="tag", attribute="tags", form="one_hot", values=("red", "sale")),
    kinds.Category(name="brand", form="hashed", buckets=999),
    kinds.Category(name="plan_code", scope="user", attribute="plan", values=("0", "1", "2")),
    kinds.Vector(name="taste", length=2),
    kinds.Vector(name="look", scope="item", length=3),
    kinds.Number(name="brightest", attribute="look", reduce="max"),
    kinds.Number(name="light", attribute="look", reduce="mean"),
    kinds.ItemAge(name="age"),
    kinds.WordCount(name="words", attribute="title"),
    kinds.FieldMatch(name="text", context="q", attribute="title"),
    kinds.CandidateDiversity(name="odd", attribute="price"),
    kinds.CandidateDiversity(name="odd_tags", attribute="tags"),
    kinds.Match(name="same", attribute="category"),
    kinds.Match(name="same_tags", attribute="tags", scope="user", last=20),
    kinds.LastItems(name="last", last=3),
    kinds.LastItems(name="kinds", last=2, scope="user", attribute="category", form="index", values=("shoes", "hats")),
    kinds.PairScore(name="beside"),
    kinds.KnnScore(name="alike"),
    kinds.LocalTime(name="hour"),
    kinds.Device(name="device"),
    kinds.Referrer(name="came"),
    kinds.ItemField(name="stock"),
    kinds.Relevancy(name="relevancy"),
    kinds.Position(name="place"),
    kinds.Random(name="chance"),
    kinds.Computed(name="computed", text="log(acts) * if_nan(item.price, 1) - max(rate, 0.1) / context.budget"),
    kinds.Computed(name="again", text="computed > 0"),
)
FEATURES = (*COUNTED, *OTHER)
STREAM = Stream(users=300, items=120, sessions=60, step_ms=6_700, people_share=0.004, feedback_share=0.2)


def settings_of(features):
    """Room for all of the shop, so that nothing is evicted."""
    tiny = tiny_settings()
    limits = msgspec.structs.replace(
        tiny.limits, users_max=500, items_max=200, click_items_max=200, sessions_max=5_000, session_items_max=30,
        index_sessions_max=500, index_items_max=10, index_entries_max=50, user_ring_max=30, event_ids_max=200_000,
        pair_neighbours_max=16, attribute_values_max=64, item_tags_max=8, document_bytes_max=9_999_999,
        feature_user_items_max=60_000, feature_user_values_max=9_999, aliases_max=999, erased_max=999,
    )  # fmt: skip
    cells = kinds.cells_of(features, tiny.attributes)
    return msgspec.structs.replace(tiny, cells=cells, limits=limits, session_gap=Duration(f"{GAP // MINUTE}m"))


SETTINGS = settings_of(FEATURES)
BLOCK = declared(FEATURES, SETTINGS.attributes)


def questions(seed):
    """Places in the log, in order, each with somebody's request and the items that it is about."""
    rng = np.random.default_rng(seed)
    found = []
    for place in np.sort(rng.integers(0, EVENTS + 1, QUESTIONS)).tolist():
        items = tuple(f"item-{each}" for each in rng.choice(125, 6, replace=False))
        told = {
            "request_id": "r", "placement": "home", "slate_size": 5, "seed": int(rng.integers(1 << 62)),
            "user_id": f"user-{int(301 ** rng.random()) - 1}" if rng.random() < 0.9 else None,
            "session_id": None if rng.random() < 0.6 else f"session-0-{int(rng.integers(60))}",
            "items": items[:2] if rng.random() < 0.3 else (),
            "context": {"budget": float(rng.integers(1, 99)), "q": f"no {rng.integers(99)}", "user_agent": "curl/8"},
            "item_fields": {each: {"stock": 3.0, "relevancy": float(rng.random())} for each in items[:3]},
        }  # fmt: skip
        found.append((place, told, items, int(rng.choice([0, 1_000, 20 * MINUTE, 5 * HOUR]))))
    return found


def ask(fold, told, items, later):
    """Return what a request reads of a state."""
    query = Query(now_ms=TimestampMs(fold.log_time_ms + later), **told)
    item_index = fold.vocabulary.item_indices(items)
    count = len(items)
    candidates = Candidates(item_index, (), np.empty((count, 0), np.float32), np.empty((count, 0), np.int32))
    return BLOCK.read(fold.moment(query, Models({})), candidates)


def restarted(fold):
    """Return the state as it is after a restart from a snapshot."""
    again = Fold(SETTINGS)
    again.restore({name: array.copy() for name, array in fold.arrays().items()})
    return again


def answers(batch, asked, step, *, restarts=0):
    """Return what each question reads, of a state that is given ``step`` events at a time."""
    fold, found = Fold(SETTINGS), []
    for number, (place, told, items, later) in enumerate(asked):
        for start, stop in pairwise([*range(fold.log_position, place, step), place]):
            fold.apply(LogPosition(start), cut(batch, start, stop))
        if restarts and number % (len(asked) // restarts) == 1:
            fold = restarted(fold)
        found.append(ask(fold, told, items, later))
    return np.concatenate(found)


def test_every_kind_takes_part():
    """But what is read from files, which no event changes; and is declared as it should be."""
    assert {type(each) for each in FEATURES} == set(get_args(kinds.AnyFeature)) - {External}
    assert list(feature_faults(FEATURES, SETTINGS.attributes, SETTINGS.types)) == []


@pytest.fixture(scope="module")
def whole():
    """The log, questions, and what they read of a state that was given it in large pieces."""
    batch = build(random_event_list(EVENTS, 5, STREAM))
    asked = questions(6)
    return batch, asked, answers(batch, asked, 1_000)


@pytest.mark.long
def test_columns_say_something(whole):
    """Each has numbers, most have more than one, and few are all NaN."""
    _, _, found = whole
    values = dict(zip(BLOCK.names, found.T, strict=True))
    known = {name: np.unique(each[~np.isnan(each)]) for name, each in values.items()}
    silent = {"taste_0", "taste_1", *(name for name in BLOCK.names if name.startswith("came_"))}
    assert {name for name, each in known.items() if not len(each)} == silent
    fixed = {name for name, each in known.items() if len(each) == 1}
    assert fixed == {"stock", "words", *(name for name in BLOCK.names if name.startswith("device_"))}


@pytest.mark.parametrize("step,share", [(7, 0.3), (1, 0.05), pytest.param(7, 1.0, marks=pytest.mark.slow)])
def test_values_do_not_depend_on_how_events_came(whole, step, share):
    """In sevens or one by one, with restarts on the way."""
    batch, asked, expected = whole
    asked = [each for each in asked if each[0] <= share * EVENTS]
    found = answers(batch, asked, step, restarts=3)
    assert found.tobytes() == expected[: len(found)].tobytes()


Document = tuple[float, dict[str, tuple[float, object]]]
"""Of an item: from which time on nothing older counts, and of each attribute the time and the value."""


class Formulas:
    """The events that count, by key, and what each feature is by its formula."""

    def __init__(self):
        self.now = 0
        self.by_key = defaultdict(list)
        self.sessions = {}
        self.numbers = 0
        self.documents: defaultdict[str, Document] = defaultdict(lambda: (-math.inf, {}))
        self.known = set()

    def fold(self, event, *, is_new):
        """Take one raw event, in the order of the log."""
        self.now = event.log_time_ms
        if event.kind == Kind.ITEM or (event.kind == Kind.INTERACTION and event.action in SETTINGS.types):
            self.known.add(event.item_id)
        sent = event.event_time_ms
        time = self.now if sent is None or sent > self.now + 5 * MINUTE else sent
        if is_new and event.kind == Kind.ITEM and event.item_id:
            self.change(event, time)
        elif is_new and event.kind == Kind.USER and event.operation == Operation.DELETE:
            for key in [key for key in self.by_key if key[0].startswith("user") and key[1] == event.user_id]:
                del self.by_key[key]
        elif is_new and event.kind in {Kind.INTERACTION, Kind.IMPRESSION}:
            name = event.action if event.kind == Kind.INTERACTION else "impression"
            if name in SETTINGS.types or name == "impression":
                self.count(event, name, time)

    def change(self, event, time):
        """Keep the newest of each attribute; a change without a time wins over all before it."""
        floor, fields = self.documents[event.item_id]
        if event.event_time_ms is None:
            time = max([time, floor, *(at for at, _ in fields.values())])
        if time < floor:
            return
        sent = json.loads(event.body or b"{}")
        if event.operation in {Operation.PUT, Operation.DELETE}:
            floor, fields = time, {name: field for name, field in fields.items() if field[0] > time}
        for name, value in sent.items() if event.operation != Operation.DELETE else ():
            if name not in fields or fields[name][0] <= time:
                fields[name] = (time, value)
        self.documents[event.item_id] = (floor, fields)

    def values(self, item, attribute):
        """The values of an attribute that an item has now."""
        value = self.documents[item][1].get(attribute, (0, None))[1]
        return list(dict.fromkeys(value)) if isinstance(value, list) else [] if value is None else [value]

    def count(self, event, name, time):
        """Put an event to each key that it counts for."""
        weight = SETTINGS.types[name].weight if name != "impression" else 0.0
        late = self.now - time > DAY
        row = (name, time, self.now, weight, event.value, event.user_id, late)
        user, item = event.user_id, event.item_id if event.item_id in self.known else ""  # seen before it was named
        keys = [("global",), ("user", user), ("item", item), ("user_item", user, item)]
        keys += [("session", self.session(event))] if weight > 0 and item and not late else []
        for attribute in ("category", "brand", "tags"):
            for value in self.values(item, attribute) if item else ():
                keys += [("attribute", attribute, value), ("user_attribute", user, attribute, value)]
        for key in keys:
            if "" not in key:
                self.by_key[key].append(row)

    def session(self, event):
        """The number of the session that an act goes on with."""
        name = (event.session_id, "") if event.session_id else ("", event.user_id)
        if name == ("", ""):
            return ""
        number, last = self.sessions.get(name, (0, -math.inf))
        if self.now - last > GAP:
            self.numbers += 1
            number = self.numbers
        self.sessions[name] = (number, self.now)
        return number

    def keys(self, scope, attribute, told, item):
        """Whose events a candidate reads: of several tags those of each; nobody's where it has no value."""
        user, values = told["user_id"], self.values(item, attribute) if attribute else []
        name = (told["session_id"], "") if told["session_id"] else ("", user)
        number, last = self.sessions.get(name, (None, -math.inf))
        return {
            "global": [("global",)],
            "item": [("item", item)],
            "user": [("user", user)],
            "session": [("session", number)] if self.asked - last <= GAP else [],
            "user_item": [("user_item", user, item)],
            "attribute": [("attribute", attribute, value) for value in values],
            "user_attribute": [("user_attribute", user, attribute, value) for value in values],
        }[scope]

    asked = 0
    """Time of the question."""

    def ask(self, feature, told, item, later):
        """Return the columns of a feature for a candidate, NaN where its key is not known."""
        self.asked = self.now + later
        scope = getattr(feature, "scope", "user_attribute")
        keys = self.keys(scope, feature.attribute, told, item)
        counted = {*feature.actions, *getattr(feature, "per", ())}
        rows = [each for key in keys for each in self.by_key[key] if each[0] in counted]
        found = self.columns(feature, rows, keys, told) if keys else [math.nan]
        newest = max((each[1] for each in rows if not each[6]), default=-math.inf)
        is_old = feature.ttl is not None and not self.asked - newest < feature.ttl.ms
        return [math.nan for _ in found] if is_old else found

    def columns(self, feature, rows, keys, told):
        """Return the columns from the events of the keys."""
        inside = [each for each in rows if not each[6]]
        match feature:
            case kinds.Count(windows=windows, half_life=half_lives, weighted=weighted):
                found = [self.window(inside, each.ms) for each in windows]
                found += [self.fading(rows, each.ms) for each in half_lives]
                return found or [sum(each[3] if weighted else 1.0 for each in inside)]
            case kinds.Rate(actions=actions, per=per, half_life=half_life, smoothing=k):
                a, p = (
                    self.fading([each for each in rows if each[0] in some], half_life.ms) for some in (actions, per)
                )
                every = self.by_key[("global",)]
                big = [
                    self.fading([each for each in every if each[0] in some], half_life.ms) for some in (actions, per)
                ]
                return [(a + k * big[0] / big[1]) / (p + k) if big[1] else math.nan]
            case kinds.UniqueCount():
                return [float(len({each[5] for each in inside} - {""}))]
            case kinds.Statistic(statistic=statistic):
                return [self.statistic(statistic, [each for each in inside if not math.isnan(each[4])])]
            case kinds.Since():
                return [(self.asked - max(each[1] for each in inside)) / 1_000 if inside else math.nan]
            case _:
                return [self.affinity(feature, rows, keys, told)]

    def window(self, rows, length):
        """Those in the last twelve buckets, if their bucket was held when they came."""
        width = -(-length // 12)
        buckets = [(min(time // width, log // width + 1), log // width) for _, time, log, *_ in rows]
        return sum(bucket > head - 12 and bucket > self.asked // width - 12 for bucket, head in buckets)

    def fading(self, rows, half_life, *, weighted=False):
        """Each times 2^(-age / half-life)."""
        return math.fsum((each[3] if weighted else 1.0) * 2.0 ** ((each[1] - self.asked) / half_life) for each in rows)

    def statistic(self, name, rows):
        """Of the values that events carried."""
        values = [each[4] for each in rows]
        if not values:
            return math.nan
        if name == "last":
            return [each[4] for each in rows if each[1] == max(row[1] for row in rows)][-1]
        return float(getattr(np, "std" if name == "deviation" else name)(values))

    def affinity(self, feature, rows, keys, told):
        """The user's share, pulled to everybody's."""
        user, everybody = self.by_key[("user", told["user_id"])], self.by_key[("global",)]
        of_value = [each for key in keys for each in self.by_key[("attribute", *key[2:])]]
        wanted = [[each for each in some if each[0] in feature.actions] for some in (rows, user, of_value, everybody)]
        sums = [self.fading(each, feature.half_life.ms, weighted=feature.weighted) for each in wanted]
        prior = sums[2] / sums[3] if sums[3] else math.nan
        return (sums[0] + feature.smoothing * prior) / (sums[1] + feature.smoothing)


def test_values_are_those_of_the_formulas():
    """At places of a log without merges and erasures, whose users and sessions the raw events tell."""
    events = random_event_list(6_000, 8, Stream(users=60, items=50, step_ms=20_000))
    batch = build(events)
    ids = EventIds(SETTINGS.limits.event_ids_max, KEY)
    is_new = ids.admit(ids.fingerprints(batch), batch.rows["log_time_ms"].copy()) == EventAdmission.NEW
    fold, formulas, differences = Fold(SETTINGS), Formulas(), defaultdict(list)
    rng = np.random.default_rng(1)
    for stop in range(300, 6_001, 300):
        for place in range(fold.log_position, stop):
            formulas.fold(events[place], is_new=bool(is_new[place]))
        fold.apply(fold.log_position, cut(batch, fold.log_position, stop))
        for _, told, items, later in questions(stop)[:8]:
            acted = [events[place] for place in rng.integers(max(0, stop - 900), stop, 40).tolist()]
            told["user_id"] = next(each.user_id for each in acted if each.kind == Kind.INTERACTION and each.user_id)
            told["session_id"] = next(each.session_id for each in events[stop - 1 :: -1] if each.session_id)
            known = fold.vocabulary.item_indices(items) >= 0
            values = dict(zip(BLOCK.names, ask(fold, told, items, later).T.tolist(), strict=True))
            for feature in COUNTED:
                expected = [formulas.ask(feature, told, item, later) for item in items]
                for column, name in enumerate(feature.expressions()):
                    for item in np.flatnonzero(known).tolist():
                        want = expected[item][column % len(expected[item])]
                        differences[name].append((values[name][item], want))
    for name, pairs in differences.items():
        found, want = np.array(pairs).T
        if name == "visitors":  # HyperLogLog
            assert np.abs(found - want).max() <= 0.45 * np.nanmax(want)
        else:  # weights are exact to a 4,096th of a half-life at either end
            np.testing.assert_allclose(found, want, rtol=2e-3, atol=2e-3, err_msg=name)
        assert np.isfinite(want).sum() > 50, name
