"""Since when events are counted and when the last one was, beside plain dictionaries."""

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.types import LogPosition
from midstream.events.schema import Event, build, cut
from midstream.state.cells.coverage import CountCoverage
from midstream.state.expressions.program import Cell
from midstream.state.fold import Fold
from tests.support.frozen_shop import SMALL, START_MS

SETTINGS = msgspec.structs.replace(SMALL, cells=(Cell("item", ("view",)),))
ACTIONS = (*SETTINGS.action_names(), IMPRESSION)
acts = st.lists(st.tuples(st.sampled_from((*ACTIONS, "item", "unheard")), st.integers(0, 4)), min_size=1, max_size=30)


def events_of(acted, time_ms=START_MS):
    """Events in order, each some time after the one before, some with an id that came before."""
    found = []
    for name, number in acted:
        time_ms += 1_000
        kind = {"item": Kind.ITEM, IMPRESSION: Kind.IMPRESSION}.get(name, Kind.INTERACTION)
        action = name if kind == Kind.INTERACTION else ""
        event_id = f"{name}-{number}" if number else ""
        found.append(
            Event(
                kind,
                action=action,
                event_id=event_id,
                user_id="ann",
                item_id=f"i{number}",
                event_time_ms=time_ms,
                log_time_ms=time_ms,
                body=b"{}" if kind == Kind.ITEM else b"",
            )
        )
    return found


@given(acts, st.integers(1, 7), st.sampled_from((START_MS, -1_000)))
def test_the_times_are_those_of_the_events_that_were_counted(acted, size, began_ms):
    """Of each action the log time of its last event that is no duplicate, however the log is cut; kept by a restart.

    Log time 0 is a time as any other.
    """
    every = events_of(acted, began_ms)
    expected = dict.fromkeys(ACTIONS, 0)
    ids = set()
    for event in every:
        if event.event_id in ids:
            continue
        ids |= {event.event_id} - {""}
        name = IMPRESSION if event.kind == Kind.IMPRESSION else event.action
        if name in expected:
            expected[name] = event.log_time_ms
    batch = build(every)
    fold = Fold(SETTINGS)
    for start in range(0, len(batch), size):
        fold.apply(LogPosition(start), cut(batch, start, min(start + size, len(batch))))
    restored = CountCoverage(SETTINGS)
    restored.restore(fold.counted.arrays())
    for table in (fold.counted, restored):
        assert {name: table.last_ms((name,)) for name in ACTIONS} == expected
        assert table.last_ms(("view", IMPRESSION)) == max(expected["view"], expected[IMPRESSION])
        assert (table.begin, table.since_ms) == (0, began_ms + 1_000)


def test_what_stands_for_events_that_are_gone_is_not_counted():
    """Counting begins at the first event behind the documents, and is not known while there is none."""
    documents = build(events_of([("item", 1), ("item", 2)]))
    fold = Fold(SETTINGS)
    fold.begin_with(LogPosition(100), 2, [documents])
    assert (fold.counted.begin, fold.counted.since_ms) == (100, None)
    later = build([each._replace(log_time_ms=START_MS + 9_000) for each in events_of([("view", 1)])])
    fold.apply(LogPosition(100), later)
    assert (fold.counted.begin, fold.counted.since_ms) == (100, START_MS + 9_000)
    assert fold.counted.last_ms(("view",)) == START_MS + 9_000


def test_nothing_is_kept_of_actions_where_no_feature_counts():
    """So that such a state pays nothing for it."""
    fold = Fold(SMALL)
    fold.apply(LogPosition(0), build(events_of([("view", 1)])))
    assert fold.counted.last_ms(ACTIONS) == 0
    assert np.count_nonzero(fold.counted.arrays()["since"]) == 1
