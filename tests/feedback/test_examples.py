"""Examples are the final outcomes of the plain join, in the order of the log, whatever the table held at a time."""

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from midstream.core.durations import Duration
from midstream.core.types import LogPosition
from midstream.feedback.examples import ExampleOptions, example_schema, outcome_examples
from midstream.feedback.rewards import rewards_of
from midstream.state.fold import Fold
from midstream.state.settings import EventType, FoldSettings, StateLimits
from tests.support.followed import LogShape
from tests.support.ids import hash_of
from tests.support.join import ReferenceJoin

SETTINGS = FoldSettings(
    outcome_window=Duration("2m"),
    limits=StateLimits(outcome_slates_max=500, outcome_items_max=4_000, outcomes_waiting_max=50, users_max=5_000),
)
LOG = LogShape(4_000, late_slates_max=1_000)
REWARDS = {"click": 1.0, "purchase": 5.0, "impression": -0.25}


def read(size=600):
    """Yield the events in batches, with the position before each."""
    first = 0
    for batch in LOG.batches(size):
        yield LogPosition(first), batch
        first += len(batch)


def expected():
    """Return all slates of the reference as they left or are held at the end."""
    twin, known = ReferenceJoin(SETTINGS), set()
    for position, event in enumerate(LOG.events()):
        twin.pass_time(event.log_time_ms)
        if (name := event.event_id or event.request_id) not in known:
            known.add(name)
            twin.add(event, position, event.log_time_ms)
    return [*twin.left, *twin.slates.values()]


@pytest.mark.parametrize("since, before", [(0, 10**9), (3_000, 7_777)])
def test_examples_equal_the_plain_join(since, before):
    """Every position of every slate served between two positions, with rewards."""
    wanted = ExampleOptions(LogPosition(since), LogPosition(before), REWARDS)
    batches = outcome_examples(Fold(SETTINGS), read, wanted)
    rows = pa.Table.from_batches(batches, example_schema(SETTINGS.action_names())).to_pylist()
    slates = [slate for slate in expected() if since <= slate.log_position < before]
    assert len(rows) == sum(len(slate.positions) for slate in slates) > 1_000
    at = iter(rows)
    for slate in slates:
        for position, followed in enumerate(slate.positions):
            row = next(at)
            assert (hash_of(row["request_id"]), row["log_position"]) == (slate.request, slate.log_position)
            assert (row["placement"], row["plan"], row["tier"]) == slate.group
            assert (row["position"], hash_of(row["item_id"])) == (position, followed.item)
            came = {name for name in SETTINGS.action_names() if row[f"outcome_{name}"]}
            assert came | ({"impression"} if row["impression"] else set()) == followed.actions
            assert (row["count"], row["value"]) == (followed.count, followed.value)
            assert (row["seen_after_ms"], row["acted_after_ms"]) == (followed.seen_after_ms, followed.acted_after_ms)
            assert row["reward"] == np.float32(sum(REWARDS.get(name, 0.0) for name in followed.actions))
            assert row["propensity"] == 1.0
    assert Counter(math.isnan(row["value"]) for row in rows)[True] == 0


def test_slates_from_before_the_log_begins_give_no_example():
    """A base holds them and their events are gone: the others come as they are, whatever was asked for."""
    begin = 3_000
    wanted = ExampleOptions(LogPosition(0), LogPosition(10**9), REWARDS)

    def cut_off():
        return ((first, batch) for first, batch in read() if first >= begin)

    fold = Fold(SETTINGS)
    for first, batch in read():
        if first < begin:
            fold.apply(first, batch)
    found = [row for batch in outcome_examples(fold, cut_off, wanted) for row in batch.to_pylist()]
    every = [row for batch in outcome_examples(Fold(SETTINGS), read, wanted) for row in batch.to_pylist()]
    assert found == [row for row in every if row["log_position"] >= begin]
    assert 0 < len(found) < len(every)


def test_rewards_are_those_configured_or_the_weights_of_the_types():
    """Once anything is configured, what is not named is worth nothing."""
    types = {"click": EventType(weight=2.0), "dismiss": EventType(weight=-1.0)}
    assert rewards_of({}, types) == {"click": 2.0, "dismiss": -1.0}
    assert rewards_of({"click": 9.0}, types) == {"click": 9.0}
