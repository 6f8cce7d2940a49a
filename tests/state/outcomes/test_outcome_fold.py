"""What one outcome adds to its position of a slate: worth, first times, and rings that begin anew at their end."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.core.kinds import Kind
from midstream.events.schema import Event, build, event_at
from midstream.state.cells.fold import SENT_MAX
from midstream.state.outcomes.outcome_fold import NEVER, _sooner, _worth
from midstream.state.outcomes.outcomes import Outcomes
from midstream.state.settings import FoldSettings, StateLimits
from midstream.state.steps import step_of
from tests.support.events import START_MS, indexed, served_body
from tests.support.join import ReferenceJoin, slates_as_told

SETTINGS = FoldSettings(
    outcome_window=Duration("5m"), limits=StateLimits(outcome_slates_max=3, outcome_items_max=7, outcomes_waiting_max=2)
)
NUMBERS = st.just(math.nan) | st.floats(-1e18, 1e18) | st.sampled_from([2e18, -math.inf, 0.0])


@given(NUMBERS, NUMBERS)
@example(3.0, math.nan)
@example(SENT_MAX, SENT_MAX)
def test_an_act_is_worth_its_value_times_its_quantity(value, quantity):
    """One piece where no quantity came, NaN where no value did; what is too large did not come."""
    known, pieces = (each if abs(each) <= SENT_MAX else math.nan for each in (value, quantity))
    np.testing.assert_array_equal(_worth(value, quantity), known * (1.0 if math.isnan(pieces) else pieces))


@pytest.mark.parametrize(
    "known, after, first", [(NEVER, 5, 5), (NEVER, -5, -5), (7, 5, 5), (5, 7, 5), (NEVER + 1, 0, NEVER + 1)]
)
def test_the_first_time_stays(known, after, first):
    """Also one before the slate; nothing is sooner than something that did not come."""
    assert _sooner(known, after) == first


AFTER_MS = st.sampled_from([0, 40, -(2**31), -(2**31) - 9, 2**31 - 1, 2**31 + 9])


@settings(max_examples=15)  # a state of its own takes 50 ms
@given(st.lists(st.tuples(st.integers(1, 4), AFTER_MS), max_size=8))
def test_positions_are_found_wherever_the_ring_begins_anew(slates):
    """Slates of all lengths one after another in seven places, with outcomes at each position, early and late."""
    events = []
    for number, (length, after_ms) in enumerate(slates):
        now = START_MS + number
        ids = "abcd"[:length]
        request = f"q{number}"
        events.append(Event(Kind.SERVED, request_id=request, body=served_body(request, ids), log_time_ms=now))
        for item in (*reversed(ids), "z"):
            shown = {"event_time_ms": now + after_ms, "log_time_ms": now, "request_id": request, "item_id": item}
            events.append(Event(Kind.IMPRESSION, **shown))
            events.append(Event(Kind.INTERACTION, action="click", value=2.0, **shown))
    batch = build([each._replace(event_id=f"e{number}") for number, each in enumerate(events)])
    outcomes, twin, whole = Outcomes(SETTINGS), ReferenceJoin(SETTINGS), indexed(batch, SETTINGS)
    outcomes.apply(step_of(whole))
    for place in range(len(batch)):
        twin.pass_time(int(whole.log_time_ms[place]))
        twin.add(event_at(batch, place), place, int(whole.event_time_ms[place]))
    held = [each for some in outcomes.held() for each in slates_as_told(outcomes, some, outcomes._names)]
    assert held == list(twin.slates.values())
    assert outcomes.totals == {name: twin.totals[name] for name in outcomes.totals}
