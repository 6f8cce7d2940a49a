"""What followed each slate, against dictionaries: late and early ones joined, counted once, held for so long."""

import math
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine.erasure.redaction import Blanker, find_erased
from midstream.events.schema import Event, build, cut, event_at
from midstream.events.served_body import RECORD_VERSION, decode_body, encode_body
from midstream.state.fold import Fold
from midstream.state.ids.compacted_items import Dropped
from midstream.state.outcomes import outcomes as outcomes_module
from midstream.state.outcomes.outcomes import LEAVING_SLATES, Outcomes, Slates
from midstream.state.outcomes.slate_groups import GROUPS_MAX, OTHER, SlateGroup, SlateGroups
from midstream.state.settings import FoldSettings, StateLimits
from midstream.state.steps import part, step_of
from tests.support.events import START_MS, Stream, cuts, indexed, random_events, served_body, tiny_settings
from tests.support.followed import LogShape
from tests.support.ids import KEY, hash_of
from tests.support.join import Followed, ReferenceJoin, slates_as_told

SETTINGS = FoldSettings(
    outcome_window=Duration("5m"),
    limits=StateLimits(outcome_slates_max=5, outcome_items_max=12, outcomes_waiting_max=3),
)


def fold_plainly(twin, batch):
    """Fold the events of a batch into the reference."""
    for place in range(len(batch)):
        twin.pass_time(int(batch.log_time_ms[place]))
        if batch.folded[place]:
            twin.add(event_at(batch.source, place), batch.first + place, int(batch.event_time_ms[place]))


def plain(outcomes, slates):
    """Return slates as the reference has them."""
    return list(slates_as_told(outcomes, slates, outcomes._names))


def held(outcomes):
    """Return all slates that are held."""
    return [each for some in outcomes.held() for each in plain(outcomes, some)]


def check(outcomes, twin):
    """Compare all that can be read."""
    assert held(outcomes) == list(twin.slates.values())
    assert len(outcomes) == len(twin.slates)
    assert outcomes.waiting_count == len(twin.waiting)
    assert outcomes.arrays()["waiting_item"].tolist() == [each.item for each in twin.waiting]
    assert outcomes.totals == {name: twin.totals[name] for name in outcomes.totals}
    found = {tuple(each.group): each for each in outcomes.counts()}
    assert [each for each in twin.groups if twin.counts[each, "slates"]] == list(found)
    for group, each in found.items():
        assert each.slates == twin.counts[group, "slates"]
        assert each.positions == twin.counts[group, "positions"]
        assert each.impressions == twin.counts[group, "impression"]
        assert each.acted == {name: twin.counts[group, name] for name in outcomes._names}


def outcome_count(batch):
    """Return how many events name a request that a slate may have."""
    acts = (batch.kind == Kind.IMPRESSION) | ((batch.kind == Kind.INTERACTION) & (batch.action >= 0))
    return int((acts & batch.folded & (batch.request_hash != 0)).sum())


def of_version(version):
    """Return the body of a served event as another release writes it."""
    return encode_body(msgspec.structs.replace(decode_body(served_body("r", "ab")), version=version))


def drafts():
    """Return slates and outcomes over so few ids that everything meets everything."""
    slate = st.builds(
        lambda request, ids, placement, user: Event(
            Kind.SERVED, user_id=user, request_id=request, body=served_body(request, ids, placement)
        ),
        st.sampled_from("rstuvwx"),
        st.lists(st.sampled_from("abcdé"), max_size=6),
        st.sampled_from(["home", "cart"]),
        st.sampled_from(["", "ann", "bob"]),
    )
    odd = st.builds(
        lambda request, body: Event(Kind.SERVED, request_id=request, body=body),
        st.sampled_from("rs"),
        st.sampled_from(
            [b"", b"?", served_body("r", "abcdefghijklm"), of_version(RECORD_VERSION + 1), served_body("r", "a")[:-1]]
        ),
    )
    outcome = st.builds(
        lambda kind, action, request, item, user, value, quantity: Event(
            kind, action=action, request_id=request, item_id=item, user_id=user, value=value, quantity=quantity
        ),
        st.sampled_from([Kind.INTERACTION, Kind.INTERACTION, Kind.IMPRESSION]),
        st.sampled_from(["click", "view", "purchase", "wave"]),
        st.sampled_from(["", *"rstuvwx"]),
        st.sampled_from(["", *"abcdé"]),
        st.sampled_from(["", "ann"]),
        st.sampled_from([math.nan, 2.5, -1.0]),
        st.sampled_from([math.nan, 3.0]),
    )
    event = st.one_of(slate, slate, outcome, outcome, outcome, odd, st.just(Event(Kind.TICK)))
    step = st.sampled_from([0, 0, 1, 1_000, 60_000, 299_999, 300_000, 300_001])
    shift = st.none() | st.sampled_from([-1, -90_000, 1_000, -(2**40)])
    return st.lists(st.tuples(step, shift, event), max_size=60)


def stamped(drawn):
    """Return drawn events as a batch with log and event times; each is an event of its own."""
    found, now = [], START_MS
    for number, (step, shift, event) in enumerate(drawn):
        now += step
        time = None if shift is None else now + shift
        found.append(event._replace(event_id=f"e{number}", log_time_ms=now, event_time_ms=time))
    return build(found)


@given(drafts(), st.data())
def test_outcomes_are_those_of_dictionaries_however_the_log_is_cut(drawn, data):
    """Each slate, each position, what waits, all sums; restored on the way. No outcome is lost from the totals."""
    batch = stamped(drawn)
    outcomes, twin = Outcomes(SETTINGS), ReferenceJoin(SETTINGS)
    whole = indexed(batch, SETTINGS)
    for start, stop in pairwise([0, *data.draw(cuts(len(batch))), len(batch)]):
        piece = part(whole, start, stop)
        outcomes.apply(step_of(piece))
        fold_plainly(twin, piece)
        check(outcomes, twin)
        fresh = Outcomes(SETTINGS)
        fresh.restore({name: array.copy() for name, array in outcomes.arrays().items()})
        check(fresh, twin)
        outcomes = fresh if data.draw(st.booleans()) else outcomes
    ends = ("outcome_joined", "outcome_elsewhere", "outcome_unattributed")
    assert sum(outcomes.totals[each] for each in ends) + outcomes.waiting_count == outcome_count(whole)
    assert outcomes.totals["slate_evicted"] + outcomes.totals["slate_expired"] + len(outcomes) == len(twin.left) + len(
        twin.slates
    )


@given(drafts(), st.data())
def test_who_watches_slates_leave_sees_each_once_and_changes_nothing(drawn, data):
    """In the order of the log, as they are when they leave; the state is that of one whom nobody watches."""
    batch = indexed(stamped(drawn), SETTINGS)
    watched, alone, twin, seen = Outcomes(SETTINGS), Outcomes(SETTINGS), ReferenceJoin(SETTINGS), []
    alone.apply(step_of(batch))
    watched.leaving = lambda some: seen.extend(plain(watched, some))
    fold_plainly(twin, batch)
    for start, stop in pairwise([0, *data.draw(cuts(len(batch))), len(batch)]):
        if stop > start:
            watched.apply(step_of(part(batch, start, stop)))
    assert seen == twin.left
    assert held(watched) == held(alone)
    same = watched.arrays(), alone.arrays()
    assert all(same[0][name].tobytes() == same[1][name].tobytes() for name in same[0])


def test_more_slates_leave_at_once_than_there_is_room_for():
    """A silence longer than the window: all of them leave before one event, handed over some at a time."""
    count = LEAVING_SLATES * 2 + 7
    settings = msgspec.structs.replace(SETTINGS, limits=StateLimits(outcome_slates_max=count + 1))
    events = [
        Event(Kind.SERVED, request_id=f"r{each}", body=served_body(f"r{each}", "abc"), log_time_ms=START_MS + each)
        for each in range(count)
    ]
    events.append(Event(Kind.TICK, log_time_ms=START_MS + 10**9))
    outcomes = Outcomes(settings)
    left: list[Slates] = []
    outcomes.leaving = left.append
    outcomes.apply(step_of(indexed(build(events), settings)))
    calls, seen = [len(some) for some in left], [each for some in left for each in some.slate["log_position"]]
    assert seen == list(range(count))
    assert len(outcomes) == 0
    assert len(calls) > 2
    assert max(calls) <= LEAVING_SLATES


def long_settings(**limits):
    """Return settings for a long stream: some room, or a little."""
    return msgspec.structs.replace(tiny_settings(), limits=msgspec.structs.replace(tiny_settings().limits, **limits))


FEEDBACK = Stream(feedback_share=0.6, people_share=0.004, step_ms=500)


@pytest.mark.parametrize("slates, items, waiting", [(40, 200, 15), (5_000, 30_000, 500)])
def test_a_long_stream_with_duplicates_late_and_shuffled_outcomes_agrees_too(slates, items, waiting):
    """The rings go round many times, or never; 5 % of the events come twice."""
    settings = long_settings(outcome_slates_max=slates, outcome_items_max=items, outcomes_waiting_max=waiting)
    batch = indexed(random_events(20_000, 5, FEEDBACK), settings)
    outcomes, twin = Outcomes(settings), ReferenceJoin(settings)
    outcomes.apply(step_of(batch))
    fold_plainly(twin, batch)
    check(outcomes, twin)
    assert all(outcomes.totals[name] > 0 for name in ("slate_unread", "outcome_joined", "outcome_elsewhere"))
    assert outcomes.totals["slate_expired"] > 0
    assert (outcomes.totals["outcome_waiting_evicted"] > 0) == (waiting == 15)


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_batches_of_any_size_and_restarts_give_the_same_join(size):
    """In the whole fold, with merges and erasures, to the bit; restored every 700 events."""
    settings = long_settings(outcome_slates_max=40, outcome_items_max=200, outcomes_waiting_max=15)
    count = 3_000 if size == 1 else 20_000
    batch = random_events(count, 6, FEEDBACK)
    whole, fold = Fold(settings), Fold(settings)
    whole.apply(LogPosition(0), batch)
    for number, start in enumerate(range(0, count, size)):
        fold.apply(LogPosition(start), cut(batch, start, min(start + size, count)))
        if number % max(1, 700 // size) == 3:
            fresh = Fold(settings)
            fresh.restore({name: array.copy() for name, array in fold.arrays().items()})
            fold = fresh
    assert fold.digest() == whole.digest()
    assert whole.counts()["outcome_joined"] > 100


def shop(settings=SETTINGS, events=()):
    """Return a fold of events a second apart."""
    fold = Fold(settings)
    add(fold, events)
    return fold


def add(fold, events):
    """Fold events a second apart."""
    now = max(START_MS, fold.log_time_ms)
    stamped = [event._replace(log_time_ms=now + 1_000 * (place + 1)) for place, event in enumerate(events)]
    fold.apply(LogPosition(fold.log_position), build(stamped))


def slate_of(request, ids, user=""):
    """Return a served event."""
    return Event(Kind.SERVED, user_id=user, request_id=request, body=served_body(request, ids))


def click_of(request, item, user=""):
    """Return a click on an item of a slate."""
    return Event(Kind.INTERACTION, action="click", user_id=user, request_id=request, item_id=item)


def people():
    """Return slates and clicks of people, two of whom are one, some of which wait."""
    return [
        slate_of("r1", "ab", "visitor"),
        slate_of("r2", "cd", "bob"),
        slate_of("r3", "ef", "ann"),
        click_of("r1", "a", "visitor"),
        click_of("r9", "a", "visitor"),
        click_of("r8", "a", "bob"),
        Event(Kind.USER, 4, user_id="ann", body=b'{"from":"visitor"}'),
    ]


def test_a_merge_of_users_changes_who_remembers_and_an_erasure_makes_the_slates_of_all_their_ids_nobodys():
    """Slates, positions and sums stay, and what comes later is still joined; only the names go."""
    fold = shop(events=people()[:-1])
    before = fold.outcomes.arrays()
    add(fold, people()[-1:])
    after = fold.outcomes.arrays()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before if name != "asker")
    assert before["asker"].tolist() == [hash_of(each) for each in ("visitor", "bob", "ann")]
    assert after["asker"].tolist() == [hash_of(each) for each in ("ann", "bob", "ann")]
    add(fold, [Event(Kind.ERASE, user_id="ann")])
    erased = fold.outcomes.arrays()
    assert erased["user"].tolist() == erased["asker"].tolist() == [0, hash_of("bob"), 0]
    assert erased["waiting_user"].tolist() == [0, hash_of("bob")]
    stays = [name for name in after if not name.endswith(("user", "asker"))]
    assert all(after[name].tobytes() == erased[name].tobytes() for name in stays)
    add(fold, [click_of("r3", "e"), slate_of("r9", "a")])
    assert fold.outcomes.totals["outcome_joined"] == 3
    assert fold.outcomes.waiting_count == 1


def test_the_log_without_the_erased_gives_the_state_that_the_erasure_left():
    """So no sum jumps when the log has been rewritten, whatever comes between."""
    more = [Event(Kind.ERASE, user_id="ann"), click_of("r3", "f"), slate_of("r9", "a", "ann"), click_of("r1", "b")]
    events = [
        event._replace(
            event_id=f"e{place}" if event.kind == Kind.INTERACTION else "",
            request_id=event.request_id and event.request_id.ljust(32, "-"),  # as the engine makes them: others go
            log_time_ms=START_MS + place,
        )
        for place, event in enumerate([*people(), *more])
    ]
    batch = build(events)
    erased = find_erased(lambda: iter([(LogPosition(0), batch)]), SETTINGS.limits.event_ids_max, KEY)
    rewritten = Blanker(erased).blank(LogPosition(0), batch)
    live, again = Fold(SETTINGS), Fold(SETTINGS)
    live.apply(LogPosition(0), batch)
    again.apply(LogPosition(0), rewritten)
    one, other = live.outcomes.arrays(), again.outcomes.arrays()
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    assert live.outcomes.totals["outcome_joined"] == 4


def test_a_value_that_no_sum_holds_was_not_sent():
    """Two that would make infinity, and then nothing that is a number."""
    acts = [
        click_of("r", "a")._replace(value=value, quantity=quantity)
        for value, quantity in ((1e300, 3e38), (-1e300, 3e38), (2.0, 3.0), (math.nextafter(1e18, 2e18), 1.0))
    ]
    fold = shop(events=[slate_of("r", "ab"), *acts])
    ((slate,),) = [plain(fold.outcomes, some) for some in fold.outcomes.held()]
    assert slate.positions[0] == Followed(hash_of("a"), {"click"}, 4, 6.0, acted_after_ms=1_000)


def test_records_of_earlier_releases_are_read_and_those_of_later_ones_are_not():
    """Fields are only ever added behind the others, so what an old log says of a slate is still there."""
    bodies = [of_version(version) for version in range(RECORD_VERSION + 2)]
    roomy = msgspec.structs.replace(SETTINGS, limits=StateLimits(outcome_slates_max=99, outcome_items_max=999))
    events = [Event(Kind.SERVED, request_id=f"r{number}", body=body) for number, body in enumerate(bodies)]
    fold = shop(roomy, events)
    assert [each.request for each in held(fold.outcomes)] == [hash_of(f"r{each}") for each in range(1, len(bodies) - 1)]
    assert fold.outcomes.totals["slate_unread"] == 2


def test_items_that_a_compaction_dropped_are_still_acted_on():
    """An outcome is known by what it names, not by whether the state has a slot for it."""
    events = [slate_of("r", "ab"), click_of("r", "b")]
    dropped = Dropped(LogPosition(10), np.array([hash_of("b")], dtype=np.uint64))
    fold = Fold(msgspec.structs.replace(SETTINGS, compaction=dropped.name), dropped)
    add(fold, events)
    assert fold.vocabulary.item_index("b") == -1
    assert fold.outcomes.totals["outcome_joined"] == 1


def test_a_slate_at_the_edge_of_the_window_is_held_and_one_beyond_it_is_not():
    """To the millisecond of log time, whatever event it is that comes."""
    window_ms = SETTINGS.outcome_window.ms
    for late, joined in ((window_ms, 1), (window_ms + 1, 0)):
        fold = Fold(SETTINGS)
        events = [slate_of("r", "a"), click_of("r", "a")]
        times = (START_MS, START_MS + late)
        fold.apply(
            LogPosition(0),
            build([event._replace(log_time_ms=time) for event, time in zip(events, times, strict=True)]),
        )
        assert fold.outcomes.totals["outcome_joined"] == joined
        assert fold.outcomes.totals["slate_expired"] == 1 - joined


def test_reading_a_slate_by_its_request():
    """What is known so far, in memory of its own; nothing of a request that is not held."""
    fold = shop(events=[slate_of("r", "ab"), click_of("r", "b"), click_of("r", "b")])
    slates = fold.outcomes.slate(hash_of("r"))
    assert slates is not None
    (slate,) = plain(fold.outcomes, slates)
    assert slate.positions == [Followed(hash_of("a")), Followed(hash_of("b"), {"click"}, 2, acted_after_ms=1_000)]
    assert fold.outcomes.slate(hash_of("s")) is None
    assert fold.outcomes.slate(0) is None


def test_groups_beyond_the_maximum_are_one():
    """Sums hold whatever names come; a name that no configuration can have is no group of its own."""
    groups = SlateGroups(1)
    assert groups.number(SlateGroup("home", "x" * 65, "full"), 0) == GROUPS_MAX - 1
    numbers = [groups.number(SlateGroup("home", f"plan-{each}", "full"), 0) for each in range(GROUPS_MAX + 5)]
    assert numbers == [*range(GROUPS_MAX - 1), *[GROUPS_MAX - 1] * 6]
    assert groups.named(GROUPS_MAX - 1) == OTHER
    again = SlateGroups(1)
    again.restore(groups.arrays())
    assert again.named(3) == groups.named(3) == SlateGroup("home", "plan-3", "full")
    assert again.numbers() == groups.numbers()
    assert again.number(SlateGroup("home", "plan-7", "full"), 0) == 7


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_a_group_that_is_out_of_use_makes_room_for_a_new_one(parts):
    """The one that served longest ago, none of whose slates is held any more; its sums go to ``other``."""
    window_ms = SETTINGS.outcome_window.ms
    names = [f"plan-{each}" for each in range(GROUPS_MAX + 1)]
    served = [(name, number, "a") for number, name in enumerate(names)]  # two too many: they are "other"
    served += [(names[0], 2_000, "a"), ("late", window_ms + 1, "ab"), ("new", window_ms + 2, "abc")]
    events = [
        Event(Kind.SERVED, request_id=f"r{number}", body=served_body("", ids, plan=name), log_time_ms=START_MS + after)
        for number, (name, after, ids) in enumerate(served)
    ]
    limits = StateLimits(outcome_slates_max=2_000, outcome_items_max=3_000)
    whole = indexed(build(events), msgspec.structs.replace(SETTINGS, limits=limits))
    outcomes = Outcomes(msgspec.structs.replace(SETTINGS, limits=limits))
    left: list[SlateGroup] = []
    outcomes.leaving = lambda some: left.extend(outcomes.group(each) for each in some.slate["group"].tolist())
    for piece in np.array_split(np.arange(len(whole)), parts):
        outcomes.apply(step_of(part(whole, int(piece[0]), int(piece[-1]) + 1)))
    sums = {each.group.plan: (each.slates, each.positions) for each in outcomes.counts()}
    assert "late" not in sums  # at that moment the oldest was plan-1, held to the millisecond
    assert sums["new"] == (1, 3)
    assert names[1] not in sums
    assert sums[names[0]] == (2, 2)
    assert sums["other"] == (4, 5)
    assert sum(slates for slates, _ in sums.values()) == len(events)
    assert [each.plan for each in left] == names[:2]
    fresh = Outcomes(msgspec.structs.replace(SETTINGS, limits=limits))
    fresh.restore({name: array.copy() for name, array in outcomes.arrays().items()})
    assert fresh.counts() == outcomes.counts()
    assert all(fresh.arrays()[name].tobytes() == array.tobytes() for name, array in outcomes.arrays().items())


@pytest.mark.parametrize("window, reason", [("2m", "slate_expired"), ("5m", "slate_evicted")])
def test_twenty_thousand_slates_with_late_and_repeated_outcomes_equal_the_plain_join(window, reason):
    """Every slate as it leaves or is held at the end, and every sum: 30 % of the events come again."""
    limits = StateLimits(outcome_slates_max=3_000, outcome_items_max=30_000, outcomes_waiting_max=200, users_max=5_000)
    settings = FoldSettings(outcome_window=Duration(window), limits=limits)
    log = LogShape(20_000, late_slates_max=6_000)
    fold, twin = Fold(settings), ReferenceJoin(settings)
    known, left = set(), []
    fold.outcomes.leaving = lambda some: left.extend(plain(fold.outcomes, some))
    for batch in log.batches(777):
        fold.apply(fold.log_position, batch)
    for position, event in enumerate(log.events()):
        twin.pass_time(event.log_time_ms)
        name = event.event_id or event.request_id
        if name not in known:
            known.add(name)
            twin.add(event, position, event.log_time_ms)
    assert left == twin.left
    check(fold.outcomes, twin)
    assert fold.counts()["duplicate"] > 0.2 * fold.log_position
    named = ("outcome_joined", "outcome_elsewhere", "outcome_unattributed", "outcome_waiting_evicted", reason)
    assert all(fold.outcomes.totals[name] > 0 for name in named)


def test_slates_are_copied_while_others_leave(monkeypatch):
    """Each held one comes once, but for those that left before their turn; it ends although others come."""
    monkeypatch.setattr(outcomes_module, "LEAVING_SLATES", 10)
    limits = StateLimits(outcome_slates_max=40, outcome_items_max=200, outcomes_waiting_max=3)
    fold, made = Fold(FoldSettings(outcome_window=Duration("5m"), limits=limits)), 0

    def serve(count):
        nonlocal made
        names = [f"r{number}" for number in range(made, made + count)]
        events = [Event(Kind.SERVED, request_id=name, body=served_body(name, ["a"], "home")) for name in names]
        fold.apply(LogPosition(made), build([each._replace(log_time_ms=START_MS) for each in events]))
        made += count

    serve(55)
    found = []
    for some in fold.outcomes.held():
        found += some.slate["log_position"].tolist()
        serve(25 if len(found) == 20 else 3)
    assert found == [*range(15, 35), *range(15 + 3 + 25, 63)]
