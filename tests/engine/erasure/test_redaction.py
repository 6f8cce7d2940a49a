"""Blanking a log: nothing of an erased user is left, and nothing else is changed."""

import json
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition
from midstream.engine.erasure.log_rewrite import Receipt
from midstream.engine.erasure.redaction import (
    NEUTRAL,
    STAYS,
    Blanker,
    ErasedIds,
    Hidden,
    decided_at,
    find_erased,
    told_apart,
)
from midstream.engine.ingest.log_reader import batches
from midstream.engine.snapshots.compactions import acts_taken_back
from midstream.engine.tokens import RequestIds
from midstream.engine.types import Ask
from midstream.events.schema import TIME_SENT, Event, build, cut, event_at
from midstream.ranking.record.served import decode_served
from midstream.state.control.placements import PlacementControl
from midstream.state.control.promotions import PromotionBody
from midstream.state.fold import Fold
from midstream.state.ids.erased_users import blanked_body
from midstream.state.ids.retraction_event import retraction_of
from midstream.state.settings import FoldSettings, StateLimits
from tests.support.events import START_MS, cuts, event_lists
from tests.support.ids import KEY, hash_of
from tests.support.rig import Rig, view

DAY_MS = 86_400_000
ROOMY = FoldSettings(
    attributes={"category": "category"},
    limits=StateLimits(
        users_max=90, items_max=90, click_items_max=90, event_ids_max=999, requests_max=99, hot_items_max=9,
        sessions_max=99, index_sessions_max=99,
    ),
)  # fmt: skip


OWN_EVENT_IDS = ("e1", "e3")
"""Made a user's own; the others several users may send."""


def named(event):
    """Return an event whose user ids are found in nothing else, and in its body too, and in every second event id."""
    if event.kind == Kind.USER and event.operation == Operation.MERGE:
        other = json.loads(event.body).get("from", "")
        event = event._replace(body=json.dumps({"from": f"[{other}]" if other else ""}).encode())
    if event.kind == Kind.ERASE and not event.user_id:  # one that an earlier rewrite left
        return event._replace(body=blanked_body([hash_of("[a]")]))
    if not event.user_id:
        return event
    user = f"[{event.user_id}]"
    body = event.body or b'{"who":"%s"}' % user.encode()
    event_id = f"{event.event_id}-{user}" if event.event_id in OWN_EVENT_IDS else event.event_id
    if event.kind in {Kind.ERASE, Kind.ITEM}:
        body = event.body if event.kind == Kind.ITEM else b""  # an item's attributes say nothing of users
    return event._replace(user_id=user, event_id=event_id, body=body)


LOGS = event_lists(50, people=True).map(lambda events: [named(event) for event in events])


def blanked(events, edges=None, event_ids_max=ROOMY.limits.event_ids_max):
    """Return the events of a blanked log, and who was erased."""
    batch = build(events)
    pieces = [
        (LogPosition(start), cut(batch, start, stop)) for start, stop in pairwise([0, *(edges or []), len(events)])
    ]
    erased = find_erased(lambda: pieces, event_ids_max, KEY)
    blanker = Blanker(erased)
    found = [blanker.blank(first, piece) for first, piece in pieces]
    return [event_at(piece, place) for piece in found for place in range(len(piece))], erased


def erased_in(batch):
    """Return who was erased in a log of one batch."""
    return find_erased(lambda: [(LogPosition(0), batch)], ROOMY.limits.event_ids_max, KEY)


def hidden_in(batch, event_ids_max=ROOMY.limits.event_ids_max):
    """Return what says of a log of one batch which events are hidden."""
    return Hidden(lambda: [(LogPosition(0), batch)], event_ids_max, KEY)


def folded(events):
    """Return the state of a log."""
    fold = Fold(ROOMY)
    fold.apply(LogPosition(0), build(events))
    return fold


def key(event):
    """Return an event in a form that compares: its bytes."""
    batch = build([event])
    return batch.rows.tobytes(), batch.text


def with_neutral_id(event, erased):
    """Return an event with the event id that stands where a blanked event was told apart by the same."""
    known = erased.prints.get(int(told_apart(build([event]), KEY)[0]))
    return event if known is None else event._replace(event_id=f"{NEUTRAL}{known.position}")


def is_late_copy(event, erase):
    """Return whether an event was sent before its user was erased and came within a day of that."""
    is_sent_before = event.event_time_ms is not None and event.event_time_ms <= erase.log_time_ms
    return is_sent_before and event.log_time_ms - erase.log_time_ms <= DAY_MS


@given(LOGS)
def test_no_byte_of_an_erased_id_is_left_before_its_last_erase(events):
    """Nor in late copies after it; as many events, at the same log times."""
    found, erased = blanked(events)
    assert [event.log_time_ms for event in found] == [event.log_time_ms for event in events]
    for user, erases in erased.ids.items():
        text = b"".join(build([event]).text for event in found[: erases[-1].position + 1])
        assert user.encode() not in text
        last = erases[-1]
        for event, left in list(zip(events, found, strict=True))[last.position + 1 :]:
            if event.user_id == user and event.kind == Kind.INTERACTION:
                is_late = is_late_copy(event, last)
                assert (left.kind == Kind.TICK) == is_late
                assert is_late or key(left) == key(with_neutral_id(event, erased))


@given(LOGS)
def test_events_of_others_are_as_they_were(events):
    """Each that names no erased id, in its user, its body or its session, but for event ids that a blanked one had."""
    found, erased = blanked(events)
    for place, (event, left) in enumerate(zip(events, found, strict=True)):
        names = (
            {event.user_id, json.loads(event.body or b"{}").get("from")} if event.kind == Kind.USER else {event.user_id}
        )
        others = not names & erased.ids.keys() and event.session_id not in erased.sessions and event.kind != Kind.ERASE
        # A rewrite before has blanked what these users did; a late copy or retraction of that goes as well.
        before = [each for name in names - {"", None} for each in erased.refused.get(hash_of(name), ())]
        is_blanked = left.kind == Kind.TICK and any(is_late_copy(event, each) for each in before)
        is_blanked |= any(decided_at(event, place) < each.position < place for each in before)
        assert not others or is_blanked or key(with_neutral_id(event, erased)) == key(left)


@given(LOGS, st.data())
def test_a_blanked_log_is_the_same_however_it_is_cut_and_when_it_is_blanked_again(events, data):
    """To the byte."""
    once, _ = blanked(events)
    again, erased = blanked(events, data.draw(cuts(len(events))))
    assert list(map(key, once)) == list(map(key, again))
    twice, erased = blanked(once)
    assert list(map(key, twice)) == list(map(key, once))
    assert not erased.ids


@given(LOGS)
def test_sums_over_items_are_exactly_what_they_were(events):
    """Counters, windows, heat and attributes of every item, and their clock; copies of events count once as before."""
    found, _ = blanked(events)
    before, after = folded(events).arrays(), folded(found).arrays()
    names = {name for name in before if name.startswith("items.")} | {"vocabulary.item_hash", "fold.place"}
    assert {name for name in names if before[name].tobytes() != after[name].tobytes()} == set()


@given(LOGS)
def test_the_state_knows_the_others_and_the_new_starts_as_before(events):
    """Rows and profiles; nothing is pending any more, and late copies are still refused for a day."""
    found, erased = blanked(events)
    before, after = folded(events), folded(found)
    assert list(after.vocabulary.erasures.pending) == []
    assert before.vocabulary.user_count == after.vocabulary.user_count
    users = {event.user_id for event in events} - {""}
    for user in users:
        left, right = before.vocabulary.user_index(user), after.vocabulary.user_index(user)
        assert (left < 0) == (right < 0)
        if left >= 0:
            assert before.users.counts(left) == after.users.counts(right)
            assert before.users.recent(left).event_time_ms.tolist() == after.users.recent(right).event_time_ms.tolist()
            assert before.users.document(left) == after.users.document(right)
    for user, erases in erased.ids.items():
        time = erases[-1].log_time_ms
        late = Event(
            Kind.INTERACTION,
            action="view",
            user_id=user,
            item_id="late",
            event_time_ms=time,
            log_time_ms=after.log_time_ms,
        )
        counts = []
        for fold in (before, after):
            fold.apply(fold.log_position, build([late]))
            counts.append(fold.vocabulary.item_index("late") >= 0)
        assert counts[0] == counts[1]


def test_an_erase_keeps_hashes_for_a_day_and_then_nothing():
    """As long as late copies are refused."""
    merge = Event(Kind.USER, Operation.MERGE, user_id="[b]", body=b'{"from":"[a]"}', log_time_ms=START_MS)
    erase = Event(Kind.ERASE, user_id="[a]", log_time_ms=START_MS)
    found, _ = blanked([merge, erase, Event(Kind.TICK, log_time_ms=START_MS + DAY_MS)])
    assert json.loads(found[1].body) == {"erased": sorted(f"{hash_of(each):016x}" for each in ("[a]", "[b]"))}
    end = Event(Kind.TICK, log_time_ms=START_MS + DAY_MS + 1)
    found, _ = blanked([*found, end])
    assert [event.kind for event in found] == [Kind.TICK] * 4
    assert [event.kind for event in blanked([merge, erase, end])[0]] == [Kind.TICK] * 3


def test_acts_without_a_user_in_an_erased_users_session_go_too():
    """Where nobody else came with that session; a shared one stays where no user was named."""
    act = Event(Kind.INTERACTION, action="view", item_id="x", log_time_ms=START_MS)
    events = [
        act._replace(session_id="own"),
        act._replace(session_id="own", user_id="[a]"),
        act._replace(session_id="shared"),
        act._replace(session_id="shared", user_id="[a]"),
        act._replace(session_id="shared", user_id="[b]"),
        Event(Kind.ERASE, user_id="[a]", log_time_ms=START_MS),
        act._replace(session_id="own"),
    ]
    found, _ = blanked(events)
    assert [event.session_id for event in found] == ["", "", "shared", "", "shared", "", "own"]
    assert [event.user_id for event in found] == ["", "", "", "", "[b]", "", ""]


def test_an_act_keeps_what_is_counted_and_learned_from():
    """Type, item, value, quantity, position, times, request; the event id is a neutral one, the same for copies."""
    act = Event(
        Kind.INTERACTION, event_id="[a]-1", action="view", user_id="[a]", item_id="x", session_id="s", request_id="r",
        body=b'{"page":"[a]"}', event_time_ms=START_MS - 1, value=2.5, quantity=3.0, position=4, log_time_ms=START_MS,
    )  # fmt: skip
    nameless = act._replace(event_id="")
    erase = Event(Kind.ERASE, user_id="[a]", log_time_ms=START_MS)
    found, _ = blanked([act, act, nameless, nameless, nameless._replace(value=1.0), erase])
    left = act._replace(user_id="", session_id="", body=b"", event_id=f"{NEUTRAL}0", request_id="")
    assert key(found[0]) == key(found[1]) == key(left)
    assert [event.event_id for event in found[2:5]] == [f"{NEUTRAL}2", f"{NEUTRAL}2", f"{NEUTRAL}4"]
    undated, _ = blanked([nameless._replace(event_time_ms=None), erase])
    assert undated[0].event_id == ""


FIELDS = {
    "kind": "stays",
    "operation": "stays",
    "event_id": "blanked",
    "action": "stays",
    "user_id": "blanked",
    "item_id": "stays",
    "session_id": "blanked",
    "request_id": "stays where the engine made it",
    "body": "blanked, but for a catalogue's and what of a served record may stay",
    "event_time_ms": "stays",
    "value": "stays",
    "quantity": "stays",
    "position": "stays",
    "log_time_ms": "stays",
}
"""What becomes of each field of an erased user's act, impression or served record: whoever adds one says it here."""
KINDS = {
    Kind.INTERACTION: "as FIELDS say",
    Kind.IMPRESSION: "as FIELDS say",
    Kind.ITEM: "as FIELDS say",
    Kind.SERVED: "as FIELDS say",
    Kind.USER: "a tick",
    Kind.TICK: "as it was: it says nothing but its time",
    Kind.ERASE: "hashes, then a tick",
    Kind.CONTROL: "as it was: what operators say, their names and notes",
    Kind.RETRACTION: "as FIELDS say",  # and of its body the log position of the act
}
MADE_HERE = RequestIds(bytes(32), lambda count: bytes(range(count))).make()[0]


def test_each_field_and_kind_stays_or_goes_with_its_user():
    """All that an event has is classified, and the code keeps what may stay."""
    assert set(FIELDS) == set(Event._fields)
    assert set(KINDS) == set(Kind)
    assert {name for name, becomes in FIELDS.items() if becomes.startswith("stays")} == set(STAYS)
    assert set(PlacementControl.__struct_fields__) == {
        *("change", "name", "version", "content", "sha256"),  # of the configuration
        *("author", "note"),  # of whoever runs the shop: documented, and never a visitor's
    }
    assert set(PromotionBody.__struct_fields__) == {
        *("change", "model", "alias", "version", "manifest"),
        "online",  # sums over the rows of many users, as the files of a version have them
    }
    assert set(Receipt.__struct_fields__) == {
        *("generation_before", "generation", "log_position", "erasures", "events", "history_files", "dead_letters"),
        *("import_rejected", "snapshots", "digest", "time_ms"),  # positions, numbers, times
        *("ids", "salt"),  # salted hashes
        *("sinks", "outside", "topic"),  # numbers by names of the configuration, and those names
    }


@pytest.mark.parametrize("kind", [kind for kind, becomes in KINDS.items() if becomes != KINDS[Kind.CONTROL]])
@pytest.mark.parametrize("request_id", ["[a]", "of-[a]", "", MADE_HERE])
def test_an_event_that_is_full_of_a_user_is_of_nobody(kind, request_id):
    """In every field that may hold text of a client's; its numbers, item and times are as they were."""
    event = Event(
        kind,
        Operation.PATCH if kind in {Kind.USER, Kind.ITEM} else Operation.NONE,
        event_id="[a]-1",
        action="view" if kind == Kind.INTERACTION else "",
        user_id="[a]",
        item_id="x",
        session_id="[a]-session",
        request_id=request_id,
        body=b"" if kind == Kind.ITEM else b'{"[a]":"[a]"}',
        event_time_ms=START_MS - 5,
        value=7.0,
        quantity=2.0,
        position=3,
        log_time_ms=START_MS,
    )
    found, _ = blanked([event, Event(Kind.ERASE, user_id="[a]", log_time_ms=START_MS)])
    left = found[0]._replace(request_id="") if kind == Kind.SERVED else found[0]  # which is the engine's own
    assert b"[a]" not in build([left]).text
    if KINDS[kind] == KINDS[Kind.INTERACTION]:
        keeps = set(STAYS) - (set() if request_id == MADE_HERE or kind == Kind.SERVED else {"request_id"})
        assert all(getattr(found[0], name) == getattr(event, name) for name in keeps)


def test_a_request_id_of_the_right_form_that_is_the_users_own_goes():
    """Be it the user's, another of its ids, or the session's."""
    user, other, session = "u" * 32, "o" * 32, "s" * 32
    act = Event(Kind.INTERACTION, action="view", user_id=user, item_id="x", session_id=session, log_time_ms=START_MS)
    acts = [act._replace(request_id=each) for each in (user, other, session, MADE_HERE)]
    erase = Event(Kind.ERASE, user_id=user, log_time_ms=START_MS)
    found, _ = blanked([merge(user, other), *acts, erase])
    assert [event.request_id for event in found[1:5]] == ["", "", "", MADE_HERE]


def test_a_served_record_keeps_its_slate():
    """And no longer who asked and with what; it is shown as no request any more."""

    async def work(rig):
        await rig.engine.record(rig.batch(view("lamp", user="[a]"), view("bulb", user="[b]")))
        ask = Ask(user_id="[a]", session_id="[s]", items=("bulb",), exclude=("rug",), context={"who": "[a]"})
        answer = await rig.engine.recommend(ask)
        rig.engine.flush_served()
        await rig.engine.erase("[a]")
        pairs = list(batches(rig.engine.log.read, LogPosition(0), rig.engine.log.end))
        return answer, [event_at(batch, place) for _, batch in pairs for place in range(len(batch))]

    answer, events = Rig().run(work)
    (record,) = [event for event in events if event.kind == Kind.SERVED]
    found, _ = blanked(events)
    (left,) = [event for event in found if event.kind == Kind.SERVED]
    assert b"[" not in b"".join(build([event]).text for event in found if event.user_id != "[b]").replace(
        b'{"erased":[', b""
    )
    assert left.request_id == answer.request_id
    told, before = decode_served(left.body), decode_served(record.body)
    assert (told.items, told.scorer, told.retrieved) == (before.items, before.scorer, before.retrieved)
    query = told.query
    assert (query.request_id, query.user_id, query.session_id) == ("", None, None)
    assert (query.items, query.exclude, query.context, query.filter) == ((), (), {}, None)


def test_a_log_without_erasures_is_left_as_it_is():
    """The same objects."""
    batch = build([Event(Kind.INTERACTION, action="view", user_id="a", item_id="x", log_time_ms=START_MS)])
    assert Blanker(erased_in(batch)).blank(LogPosition(0), batch) is batch


def test_rows_that_are_left_keep_every_byte():
    """Flags and fields that no event has, such as those of a later schema."""
    events = [
        Event(Kind.INTERACTION, action="view", user_id=user, item_id="x", event_time_ms=START_MS, log_time_ms=START_MS)
        for user in ("[a]", "[b]")
    ]
    batch = build([*events, Event(Kind.ERASE, user_id="[a]", log_time_ms=START_MS)])
    rows = batch.rows.copy()
    rows["unused"] = 7
    rows["flags"] |= 2
    batch = type(batch)(rows, batch.text)
    found = Blanker(erased_in(batch)).blank(LogPosition(0), batch)
    assert (found.rows["unused"][1], found.rows["flags"][1]) == (7, 2 | TIME_SENT)
    assert np.array_equal(found.rows["log_time_ms"], rows["log_time_ms"])


def merge(into, other, **more):
    """Return a merge."""
    body = json.dumps({"from": other}).encode()
    return Event(Kind.USER, Operation.MERGE, user_id=into, body=body, log_time_ms=START_MS, **more)


def test_every_id_that_was_one_user_when_it_was_erased_goes():
    """Over chains in either order, whichever id is named; what is merged later is another user's."""
    act = Event(Kind.INTERACTION, action="view", item_id="x", log_time_ms=START_MS)
    acts = [act._replace(user_id=f"[{each}]") for each in "abcde"]
    merges = [merge("[b]", "[a]"), merge("[c]", "[b]"), merge("[c]", "[d]")]
    for user in "abcd":
        erase = Event(Kind.ERASE, user_id=f"[{user}]", log_time_ms=START_MS)
        found, erased = blanked([*acts, *merges, acts[0], erase, acts[0], merge("[e]", "[a]")])
        assert [event.user_id for event in found[:5]] == ["", "", "", "", "[e]"]
        assert {event.kind for event in found[5:8]} == {Kind.TICK}
        assert [event.user_id for event in found[8:]] == ["", "", "[a]", "[e]"]
        assert set(erased.groups[9]) == {"[a]", "[b]", "[c]", "[d]"}


def test_late_copies_become_ticks_and_a_new_start_stays():
    """Acts, profiles and merges in either role, as the fold passes them by; a day later nothing is a late copy."""
    act = Event(Kind.INTERACTION, action="view", user_id="[a]", item_id="x", log_time_ms=START_MS)
    late = [
        act._replace(event_time_ms=START_MS),
        Event(Kind.USER, Operation.PUT, user_id="[a]", body=b"{}", event_time_ms=START_MS, log_time_ms=START_MS),
        merge("[a]", "[b]", event_time_ms=START_MS),
        merge("[b]", "[a]", event_time_ms=START_MS),
    ]
    fresh = [act._replace(event_time_ms=START_MS + 1), act, merge("[b]", "[a]")]
    after = [act._replace(event_time_ms=START_MS, log_time_ms=START_MS + DAY_MS + 1)]
    erase = Event(Kind.ERASE, user_id="[a]", log_time_ms=START_MS)
    found, erased = blanked([erase, *late, *fresh, *after])
    assert [event.kind for event in found[1:5]] == [Kind.TICK] * 4
    assert list(map(key, found[5:-1])) == list(map(key, fresh))
    assert key(found[-1]) == key(after[0]._replace(event_id=f"{NEUTRAL}1"))  # a copy of the first, which was passed by
    assert set(erased.ids) == {"[a]"}


def act_at(minute, user="", session="", **more):
    """Return an act some minutes after the beginning."""
    time_ms = START_MS + minute * 60_000
    return Event(
        Kind.INTERACTION, action="view", user_id=user, session_id=session, item_id="x", log_time_ms=time_ms, **more
    )


def erase_at(minute, user, **more):
    """Return an erase some minutes after the beginning."""
    return Event(Kind.ERASE, user_id=user, log_time_ms=START_MS + minute * 60_000, **more)


@pytest.mark.parametrize(
    "again_minute, event_ids_max, is_copy",
    [(2, 99, True), (1_440, 99, True), (1_442, 99, False), (2, 2, True), (2, 1, False)],
)
def test_a_copy_of_a_merge_makes_nobody_one(again_minute, event_ids_max, is_copy):
    """As long as the fold tells it for one, by time and by number; training takes the same users as the fold."""
    united = merge("[a]", "[b]", event_id="m")
    events = [
        united,
        erase_at(1, "[a]"),
        act_at(1, "[c]", event_id="e"),
        united._replace(log_time_ms=START_MS + again_minute * 60_000),
        act_at(1_500, "[a]"),
        act_at(1_500, "[b]"),
        erase_at(1_501, "[b]"),
    ]
    found, erased = blanked(events, event_ids_max=event_ids_max)
    assert set(erased.groups[6]) == ({"[b]"} if is_copy else {"[a]", "[b]"})
    assert [event.user_id for event in found[4:6]] == ["[a]" if is_copy else "", ""]
    settings = msgspec.structs.replace(ROOMY, limits=msgspec.structs.replace(ROOMY.limits, event_ids_max=event_ids_max))
    for log in (events, found):
        fold = Fold(settings)
        fold.apply(LogPosition(0), build(log))
        assert [fold.vocabulary.user_index(each) >= 0 for each in ("[a]", "[b]", "[c]")] == [is_copy, False, True]
    batch = build(events)
    hidden = hidden_in(batch, event_ids_max)
    assert hidden.of(LogPosition(0), batch)[4:6].tolist() == [not is_copy, True]


def test_a_copy_of_an_erase_erases_nobody_and_becomes_a_tick():
    """The fold drops it: who began anew stays. Of its user it says no more."""
    erase = erase_at(1, "[a]", event_id="e")
    events = [act_at(0, "[a]"), erase, act_at(2, "[a]"), erase._replace(log_time_ms=START_MS + 180_000)]
    found, erased = blanked(events)
    assert [event.kind for event in found] == [Kind.INTERACTION, Kind.ERASE, Kind.INTERACTION, Kind.TICK]
    assert [event.user_id for event in found] == ["", "", "[a]", ""]
    assert list(erased.groups) == [1]
    for log in (events, found):
        fold = folded(log)
        assert fold.vocabulary.user_index("[a]") >= 0
        assert len(fold.vocabulary.erasures) == 1
    again, _ = blanked(found)
    assert list(map(key, again)) == list(map(key, found))


@pytest.mark.parametrize("rewritten_at", [None, 3, 4, 6])
def test_a_session_is_the_erased_users_by_what_came_before_the_erase(rewritten_at):
    """Others who were erased before are nobody, whether a rewrite blanked them or not, and late copies never count."""
    late = act_at(3, "[a]", "s", event_time_ms=START_MS)
    events = [act_at(0, "[a]", "s"), act_at(0, "", "s"), erase_at(2, "[a]"), late, act_at(4, "", "s"),
              act_at(5, "[b]", "s"), erase_at(6, "[b]"), act_at(7, "[c]", "s"), act_at(7, "", "s")]  # fmt: skip
    if rewritten_at is not None:
        once, _ = blanked(events[:rewritten_at])
        events = [*once, *events[rewritten_at:]]
    found, _ = blanked(events)
    assert [event.session_id for event in found] == ["", "", "", "", "", "", "", "s", "s"]


def test_a_new_start_is_somebody_for_whom_a_session_stays():
    """When the next user of it is erased; what lies before the first erase is gone all the same."""
    events = [act_at(0, "[a]", "s"), act_at(0, "", "s"), erase_at(1, "[a]"), act_at(2, "[a]", "s"), act_at(2, "", "s"),
              act_at(3, "[b]", "s"), erase_at(4, "[b]")]  # fmt: skip
    found, _ = blanked(events)
    assert [event.session_id for event in found] == ["", "", "", "s", "s", "", ""]
    once_more, _ = blanked([*events, erase_at(5, "[a]")])
    assert [event.session_id for event in once_more] == [""] * 8


@st.composite
def small_shops(draw):
    """Draw logs of three users and one session in which no event is a copy of another."""
    users = st.sampled_from(["[a]", "[b]", "[c]"])
    acts = st.builds(act_at, st.just(0), st.just("") | users, st.sampled_from(["s", "s", "s", ""]))
    merges = st.permutations(["[a]", "[b]", "[c]"]).map(lambda ids: merge(*ids[:2]))
    erases = st.builds(erase_at, st.just(0), users)
    drafts = draw(st.lists(acts | acts | acts | erases | erases | merges, min_size=6, max_size=14))
    found, now_ms = [], START_MS
    for place, event in enumerate(drafts):
        now_ms += draw(st.sampled_from([0, 1_000, DAY_MS // 2]))
        sent_ms = draw(st.sampled_from([None, None, now_ms, now_ms - 1_000, now_ms - DAY_MS // 2]))
        found.append(event._replace(event_id=f"u{place}", event_time_ms=sent_ms, log_time_ms=now_ms))
    return found


@given(small_shops(), st.integers(0, 14), st.integers(0, 14))
def test_rewrites_one_after_another_leave_what_a_single_one_does(events, first, second):
    """Of kinds, users and sessions, where there are no copies: what told those is gone with the first rewrite."""
    left = list(events)
    for place in sorted((first, second)):
        left[:place], _ = blanked(left[:place])
    left, _ = blanked(left)
    single, _ = blanked(events)
    told = [[(each.kind, each.user_id, each.session_id) for each in log] for log in (left, single)]
    assert told[0] == told[1]


def late_copies(log_time_ms):
    """Return what may still arrive of ``[a]``, who was erased at a log time, and ids by which it is told in a state."""
    act = Event(Kind.INTERACTION, action="view", user_id="[a]", item_id="late", event_time_ms=log_time_ms)
    copies = [
        act,
        act._replace(kind=Kind.IMPRESSION, action="", session_id="[s]"),
        Event(Kind.USER, Operation.PUT, user_id="[a]", body=b'{"plan":"x"}', event_time_ms=log_time_ms),
        merge("[a]", "[c]", event_time_ms=log_time_ms),
        merge("[b]", "[a]", event_time_ms=log_time_ms),
    ]
    return [each._replace(log_time_ms=log_time_ms + 1_000) for each in copies]


@pytest.mark.parametrize("after_ms", [DAY_MS, DAY_MS + 1, 30 * DAY_MS])
def test_a_late_copy_that_comes_after_a_rewrite_goes_with_the_next_one(after_ms):
    """The erase is known by hashes alone then, or is to be a tick: neither bytes nor a state show the user again."""
    act = Event(Kind.INTERACTION, action="view", user_id="[a]", item_id="x", log_time_ms=START_MS)
    erase = Event(Kind.ERASE, user_id="[a]", log_time_ms=START_MS)
    once, _ = blanked([act, erase])
    of_others = act._replace(user_id="[b]", log_time_ms=START_MS + 2_000)
    tick = Event(Kind.TICK, log_time_ms=START_MS + after_ms)
    events = [*once, *late_copies(START_MS), of_others, tick]
    live = folded(events)
    twice, erased = blanked(events)
    assert b"[a]" not in build(twice).text
    assert [event.kind for event in twice[2:-2]] == [Kind.TICK] * 5
    assert key(twice[-2]) == key(of_others)
    assert not erased.ids
    anew = folded(twice)
    assert anew.vocabulary.item_index("late") < 0
    assert [anew.vocabulary.user_index(each) >= 0 for each in ("[a]", "[b]", "[c]")] == [False, True, False]
    before, after = live.arrays(), anew.arrays()
    differing = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    # How many were refused, and what would tell copies of those apart.
    assert differing <= {"vocabulary.counts", "event_ids.id_hash", "event_ids.check", "event_ids.content"}


@given(LOGS, st.data())
def test_what_comes_between_two_rewrites_is_taken_as_if_there_had_been_one(events, data):
    """Late copies of who was erased before the first one go with the second, and items keep their sums."""
    place = data.draw(st.integers(0, len(events)))
    once, erased = blanked(events[:place])
    between = [*once, *events[place:]]
    twice, _ = blanked(between)
    for event, left in list(zip(events, twice, strict=True))[place:]:
        is_late = event.event_time_ms is not None and any(
            event.event_time_ms <= each.log_time_ms and event.log_time_ms - each.log_time_ms <= DAY_MS
            for each in erased.ids.get(event.user_id, ())
        )
        if is_late and event.kind != Kind.ERASE:
            assert left.kind == Kind.TICK
    before, after = folded(between).arrays(), folded(twice).arrays()
    names = {name for name in before if name.startswith("items.")} | {"vocabulary.item_hash", "fold.place"}
    assert {name for name in names if before[name].tobytes() != after[name].tobytes()} == set()


def test_a_merge_that_was_passed_by_gives_a_later_erase_nobody_else():
    """As the fold: who is erased is one user by what was merged, and a late copy merges nothing."""
    once, _ = blanked([Event(Kind.ERASE, user_id="[a]", log_time_ms=START_MS)])
    fresh = Event(Kind.INTERACTION, action="view", user_id="[a]", item_id="x", log_time_ms=START_MS + 1)
    erase = Event(Kind.ERASE, user_id="[b]", log_time_ms=START_MS + 1)
    found, erased = blanked([*once, merge("[b]", "[a]", event_time_ms=START_MS), fresh, erase])
    assert set(erased.ids) == {"[b]"}
    assert [event.user_id for event in found] == ["", "", "[a]", ""]


def test_events_that_follow_the_last_look_are_blanked_by_hashes_too():
    """What comes while the new log is made already."""
    once, _ = blanked([Event(Kind.ERASE, user_id="[a]", log_time_ms=START_MS)])
    batch = build(once)
    blanker = Blanker(erased_in(batch))
    left = blanker.blank(LogPosition(1), build(late_copies(START_MS)))
    assert left.rows["kind"].tolist() == [Kind.TICK] * 5
    assert blanker.blanked_counts == {"interaction": 1, "impression": 1, "user": 3}


def test_what_is_hidden_is_what_would_be_blanked():
    """Of who was erased and is named still, and of who is known by hashes; whether one is asked or a batch is."""
    erases = [Event(Kind.ERASE, user_id="[d]"), Event(Kind.ERASE, body=blanked_body([hash_of("[a]")]))]
    act = Event(Kind.INTERACTION, action="view", user_id="[d]", item_id="x")
    first = [each._replace(log_time_ms=START_MS) for each in (act, erases[1])]
    for erases_named in ((), (erases[0]._replace(log_time_ms=START_MS + 1_000),)):
        batch = build([*first, *late_copies(START_MS), *erases_named])
        hidden = hidden_in(batch)
        told = [hidden(event_at(batch, place), place) for place in range(len(batch))]
        assert told == [bool(erases_named), False, *[True] * 5, *[True] * len(erases_named)]
        assert hidden.of(LogPosition(0), batch).tolist() == told


@pytest.mark.parametrize("is_first", [True, False])
def test_an_event_id_that_others_sent_too_still_tells_copies_apart(is_first):
    """Whoever came first with it is counted, before and after; also when the copy comes once the log was looked at."""
    act = Event(Kind.INTERACTION, event_id="e", action="view", user_id="[a]", item_id="x", log_time_ms=START_MS)
    other = act._replace(user_id="[b]", item_id="y")
    erase = Event(Kind.ERASE, user_id="[a]", log_time_ms=START_MS)
    pair = [act, other] if is_first else [other, act]
    found, erased = blanked([*pair, erase])
    assert [event.event_id for event in found[:2]] == [f"{NEUTRAL}{pair.index(act)}"] * 2
    for events in ([*pair, erase], found):
        vocabulary = folded(events).vocabulary
        assert [vocabulary.item_index(each) >= 0 for each in "xy"] == [is_first, not is_first]
    tail = build([other, act._replace(event_id="late", event_time_ms=START_MS), other._replace(event_id="late")])
    later = ErasedIds(
        KEY, erased.ids, {}, erased.groups, erased.sessions, erased.recent_prints(), erased.end_log_time_ms
    )
    left = Blanker(later).blank(LogPosition(3), tail)
    assert [event_at(left, place).event_id for place in range(3)] == [found[0].event_id, f"{NEUTRAL}4", f"{NEUTRAL}4"]
    assert [event_at(left, place).user_id for place in range(3)] == ["[b]", "", "[b]"]


def test_an_act_that_was_taken_back_stays_so_when_its_user_is_erased():
    """Of the retraction the position of the act stays, and nothing that names somebody; a fold passes the act by."""
    act = Event(Kind.INTERACTION, event_id="mine-ann", action="view", user_id="ann", item_id="lamp", session_id="s-ann")
    taken_back = retraction_of(LogPosition(0), act)._replace(log_time_ms=START_MS)
    events = [act._replace(log_time_ms=START_MS), taken_back, Event(Kind.ERASE, user_id="ann", log_time_ms=START_MS)]
    found, _ = blanked(events)
    assert (found[1].kind, found[1].user_id, found[1].session_id) == (Kind.RETRACTION, "", "")
    assert json.loads(found[1].body) == {"log_position": 0}
    assert b"ann" not in build(found).text
    fold = Fold(ROOMY)
    fold.apply(LogPosition(0), build(found))
    assert fold.is_taken_back(0)
    assert acts_taken_back(build(found)) == {0}


ANN, HERS = {"user_id": "ann"}, {"session_id": "s-ann"}


@pytest.mark.parametrize(
    "owner, is_named",
    [(ANN, True), (ANN | HERS, True), (HERS, True), (ANN, False), (ANN | HERS, False)],
    ids=["user", "both", "session", "hash of the user", "hash, and session"],
)
def test_a_retraction_behind_the_erase_of_its_owner_is_blanked(owner, is_named):
    """It goes by the position of the act, wherever it stands; that of an act after the erase stays."""
    came = Event(Kind.INTERACTION, action="view", user_id="ann", item_id="x", session_id="s-ann", log_time_ms=START_MS)
    act = Event(Kind.INTERACTION, event_id="mine-ann", action="view", item_id="lamp", **owner, log_time_ms=START_MS)
    erase = Event(Kind.ERASE, user_id="ann", log_time_ms=START_MS)
    if not is_named:
        erase = Event(Kind.ERASE, body=blanked_body([hash_of("ann")]), log_time_ms=START_MS)
        came = act = Event(Kind.INTERACTION, action="view", item_id="lamp", log_time_ms=START_MS)
    sent = Event(Kind.INTERACTION, event_id="mine-ann", action="view", item_id="lamp", **owner, log_time_ms=START_MS)
    raced = retraction_of(LogPosition(1), sent)._replace(log_time_ms=START_MS)
    later = sent._replace(user_id="ann", event_id="new-ann", log_time_ms=START_MS + 1)
    kept = retraction_of(LogPosition(4), later)._replace(log_time_ms=START_MS + 1)
    found, _ = blanked([came, act, erase, raced, later, kept])
    assert (found[3].user_id, found[3].session_id, found[3].body) == ("", "", b'{"log_position":1}')
    assert build(found[4:]).text == build([later, kept]).text
    assert build(blanked(found)[0]).text == build(found).text
