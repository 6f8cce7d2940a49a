"""Reading on from a position: the events of the log, whatever its commits are."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import LogDamaged
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.ingest import log_reader
from midstream.engine.ingest.log_reader import Read, batches
from midstream.events.schema import concat, cut
from tests.support.events import random_events

Found = Sequence[tuple[LogPosition, EventBatch]]
EVENTS = random_events(120, seed=3)


def reader(sizes: list[int]) -> Read:
    """Return what reads a log of commits of some sizes, whole ones, as ``EventLog.read`` does."""
    ends = np.cumsum(sizes).tolist()

    def read(after: LogPosition, limit: int) -> Found:
        found, count, begin = [], 0, 0
        for end in ends:
            if end > after and count < limit:
                start = max(begin, after)
                found.append((LogPosition(start), cut(EVENTS, start, end)))
                count += end - start
            begin = end
        return found

    return read


@given(
    st.lists(st.integers(1, 10), min_size=1, max_size=12),
    st.integers(0, 120),
    st.integers(0, 120),
    st.integers(1, 900),
    st.sampled_from([7, 1_000]),
)
def test_events_come_in_order_in_few_batches(
    sizes: list[int], start: int, length: int, byte_count: int, limit: int
) -> None:
    """All between two positions, each once; of those read at once a batch takes as many commits as it has room for."""
    after = min(start, sum(sizes))
    upto = min(after + length, sum(sizes))
    read = reader(sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_reader, "READ_EVENTS", limit)
        patch.setattr(log_reader, "JOINED_BYTES_MAX", byte_count)
        found = list(batches(read, LogPosition(after), LogPosition(upto)))
    whole, wanted = concat([each for _, each in found]), cut(EVENTS, after, upto)
    assert (whole.rows.tobytes(), bytes(whole.text)) == (wanted.rows.tobytes(), bytes(wanted.text))
    assert [first for first, _ in found] == (after + np.cumsum([0, *(len(each) for _, each in found)]))[:-1].tolist()
    for number, (first, batch) in enumerate(found):
        commit = len(read(first, 1)[0][1].text)
        assert len(batch.text) <= max(byte_count, commit)
        if number and limit == 1_000:
            assert len(found[number - 1][1].text) + commit > byte_count


def test_single_events_are_joined() -> None:
    """A log of commits of one event each is read as one batch, cut at where it is to end."""
    ((first, batch),) = batches(reader([1] * 120), LogPosition(7), LogPosition(100))
    assert (first, len(batch)) == (7, 93)
    assert batch.rows["log_time_ms"].tolist() == EVENTS.rows["log_time_ms"][7:100].tolist()


def test_a_log_that_ends_before_is_damaged() -> None:
    """What should be there and is not ends the reading, loudly."""
    with pytest.raises(LogDamaged, match="from position 120 to 130"):
        list(batches(reader([60, 60]), LogPosition(0), LogPosition(130)))
