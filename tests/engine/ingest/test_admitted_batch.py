"""From rows to the events they are of: what is judged, named and counted, against plain loops."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Fault
from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition
from midstream.engine.ingest.admitted_batch import AdmittedBatch, RecordedBatch, admit, column
from midstream.engine.types import Outcome, Recorded
from midstream.events.json.decode import Decoded, Rejected, SingleEvent
from midstream.events.schema import TEXTS, Event, build

OUTCOMES = (Outcome.RECORDED, Outcome.DUPLICATE, Outcome.CONFLICT, Outcome.REFUSED)
OWN, FORGED = "ours", ("forged-a", "forged-b")
NAMES = st.sampled_from(["", "a", "é", "日本", "x" * 40])


def row(request_id="", **more):
    """One view."""
    return Event(Kind.INTERACTION, action="view", user_id="ann", item_id="mug", request_id=request_id, **more)


def unnamed(number):
    """Every event was named before."""
    raise AssertionError(number)


def fault(index):
    """An event that could not be read."""
    return Rejected(index, Fault(f"/{index}", "It came.", "Another.", "/docs/events.md"), b"{}")


@given(st.lists(st.tuples(*(NAMES for _ in range(4))), max_size=5))
def test_a_column_is_the_text_of_each_row(ids):
    """Whatever the texts before it in a row, of however many bytes a character."""
    fields = ("event_id", "user_id", "item_id", "session_id")
    batch = build([Event(Kind.INTERACTION, action="view", **dict(zip(fields, each, strict=True))) for each in ids])
    for number, name in enumerate(TEXTS):
        expected = [dict(zip(fields, each, strict=True)).get(name, "view" if name == "action" else "") for each in ids]
        assert column(batch, number) == expected


@given(st.lists(st.tuples(st.sampled_from(["", OWN, *FORGED]), st.integers(1, 3)), max_size=6), st.booleans())
def test_an_event_with_a_request_id_of_nobodys_goes_as_a_whole(events, has_fault):
    """With all of its rows, named once, in the order of the request among what was rejected before; the rest stays."""
    numbers = [number + has_fault for number in range(len(events))]
    rows = [(number, each) for number, (each, count) in zip(numbers, events, strict=True) for _ in range(count)]
    batch = build([row(each, event_id=f"{at}") for at, (_, each) in enumerate(rows)])
    index = np.array([number for number, _ in rows], np.int32)
    before = (fault(0),) if has_fault else ()
    taken = admit(
        Decoded(batch, index, before, len(events) + has_fault),
        lambda number: SingleEvent(f"/{number}", b"raw", None),
        lambda request_id: request_id == OWN,
    )
    foreign = [number for number, (each, _) in zip(numbers, events, strict=True) if each in FORGED]
    kept = [at for at, (number, _) in enumerate(rows) if number not in foreign]
    assert column(taken.batch, TEXTS.index("event_id")) == [str(at) for at in kept]
    assert taken.event_index.tolist() == [rows[at][0] for at in kept]
    assert taken.event_count == len(events) + has_fault
    assert [each.index for each in taken.rejected] == sorted([*(each.index for each in before), *foreign])
    for each in taken.rejected[has_fault:]:
        said = dict(zip(numbers, events, strict=True))[each.index][0]
        assert (each.fault.where, said in each.fault.came, each.raw) == (f"/{each.index}/request_id", True, b"raw")


RESERVED = ("midstream-probe", "midstream-probe-follower-2", "midstream-probe-0123456789ab-follower-1")
FREE = ("midstream-probes", "midstream-probe-", "my-midstream-probe", "midstream-probe-ann")


def merge(user_id, other):
    """One merge."""
    body = f'{{"from":"{other}"}}'.encode()
    return Event(Kind.USER, operation=Operation.MERGE, user_id=user_id, body=body)


@pytest.mark.parametrize("probe", RESERVED)
def test_nobody_writes_the_user_of_a_probe(probe):
    """No act, no profile, and no merge of one or into one; the events beside them stay, and so do the probe's own."""
    events = [
        row(),
        Event(Kind.INTERACTION, action="view", user_id=probe, item_id="mug"),
        Event(Kind.USER, operation=Operation.PUT, user_id=probe, body=b'{"probe":1}'),
        merge("ann", probe),
        merge(probe, "ann"),
        *(merge("ann", each) for each in FREE),
        *(Event(Kind.USER, operation=Operation.PUT, user_id=each) for each in FREE),
        Event(Kind.USER, operation=Operation.PUT, user_id="ann", body=f'{{"from":"{probe}"}}'.encode()),
    ]
    decoded = Decoded(build(events), np.arange(len(events), dtype=np.int32), (), len(events))

    def taken(**more):
        return admit(decoded, lambda number: SingleEvent(f"/{number}", b"raw", None), lambda _: True, **more)

    found = taken()
    assert [each.fault.where for each in found.rejected] == [
        "/1/user_id",
        "/2/user_id",
        "/3/attributes/from",
        "/4/user_id",
    ]
    assert all(probe in each.fault.came and each.fault.page == "/docs/observability.md" for each in found.rejected)
    assert found.event_index.tolist() == [0, *range(5, len(events))]
    assert taken(takes_reserved=True).rejected == ()


@given(
    st.lists(st.lists(st.sampled_from(OUTCOMES), max_size=3), max_size=6),
    st.lists(st.booleans(), min_size=18, max_size=18),
    st.lists(st.booleans(), min_size=18, max_size=18),
)
def test_every_event_has_one_fate(events, named, timed):
    """Recorded where one of its rows was, else a conflict where one was, else a duplicate; rejected where none stands
    for it. They add up to what came; rows without an id and a time are counted beside it.
    """
    rows = [(number, each) for number, outcomes in enumerate(events) for each in outcomes]
    batch = build(
        [row(event_id="e" if named[at] else "", event_time_ms=1 if timed[at] else None) for at in range(len(rows))]
    )
    rejected = [n for n, outcomes in enumerate(events) if not {*outcomes} - {Outcome.REFUSED}]
    index = np.array([n for n, _ in rows], np.int32)
    taken = AdmittedBatch(batch, index, tuple(map(fault, rejected)), len(events), unnamed)
    found = RecordedBatch(taken, Recorded(LogPosition(0), np.array([each for _, each in rows], np.uint8))).counts()

    def fate(outcomes):
        known = (Outcome.RECORDED, "recorded"), (Outcome.CONFLICT, "conflicts"), (Outcome.DUPLICATE, "duplicates")
        return next((name for each, name in known if each in outcomes), "rejected")

    expected = Counter(map(fate, events))
    assert {name: getattr(found, name) for name in ("recorded", "conflicts", "duplicates", "rejected")} == {
        name: expected[name] for name in ("recorded", "conflicts", "duplicates", "rejected")
    }
    assert found.recorded + found.duplicates + found.conflicts + found.rejected == len(events)
    assert found.without_dedupe == sum(not named[at] and not timed[at] for at in range(len(rows)))
