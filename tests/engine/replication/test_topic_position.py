"""Positions in a shared topic: what is written reads back or is refused, and every later place finds a pair before."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Invalid
from midstream.core.types import LogPosition
from midstream.engine.replication.topic_position import (
    PAIRS_MAX,
    TopicPair,
    TopicPosition,
    read_topic_position,
    write_topic_position,
)

BEGIN = TopicPosition("shop-log", "cluster/topic", "00ff", (TopicPair(0, 0, {}),))


def test_what_was_written_reads_back(tmp_path: Path) -> None:
    """A file is read as it was written; where there is none there is no shared log."""
    path = tmp_path / "topic.json"
    assert read_topic_position(path) is None
    written = BEGIN.advanced(TopicPair(7, 1_000, {}))
    write_topic_position(path, written)
    found = read_topic_position(path)
    assert found is not None
    assert found.newest == TopicPair(7, 1_000, {})
    assert (found.topic, found.topic_id, found.key) == (written.topic, written.topic_id, written.key)


@given(data=st.data())
def test_a_changed_byte_is_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One changed byte anywhere, or a file that was cut short, is an error that names the file."""
    path = tmp_path_factory.mktemp("topic") / "topic.json"
    write_topic_position(path, BEGIN.advanced(TopicPair(7, 1_000, {})))
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(data.draw(st.sampled_from((bytes(changed), whole[:place]))))
    with pytest.raises(Invalid, match=r"topic\.json"):
        read_topic_position(path)


@given(steps=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 9)), min_size=1, max_size=400), data=st.data())
def test_every_position_has_a_pair_before_it(steps: list[tuple[int, int]], data: st.DataObject) -> None:
    """Pairs are true, few and ascending; oldest and newest stay, and each position finds one at or before it."""
    position, told = BEGIN, {0: 0}
    offset = at = 0
    for more, events in steps:
        offset, at = offset + more, at + events
        told[offset] = at
        position = position.advanced(TopicPair(offset, at, {}))
    pairs = position.pairs
    assert len(pairs) <= PAIRS_MAX
    assert pairs[0] == TopicPair(0, 0, {})
    assert pairs[-1] == TopicPair(offset, at, {})
    assert all(told[pair.offset] == pair.log_position for pair in pairs)
    assert [pair.offset for pair in pairs] == sorted({pair.offset for pair in pairs})
    wanted = LogPosition(data.draw(st.integers(0, at)))
    found = position.at_or_before(wanted)
    assert found is not None
    assert found.log_position <= wanted
    joined = position.joined_at(wanted)
    assert joined is not None
    assert joined.newest == found


def test_older_pairs_are_thinned_evenly_by_age() -> None:
    """After 10,000 pairs the gap before a place is at most a quarter of its age: a snapshot passes by few events."""
    position = BEGIN
    for n in range(1, 10_001):
        position = position.advanced(TopicPair(n, n, {}))
    offsets = [pair.offset for pair in position.pairs]
    for earlier, later in pairwise(offsets):
        assert later - earlier <= 1 + (10_000 - earlier) / 4


def test_tokens_of_two_topics_differ_and_hold_through_everything_else() -> None:
    """The generation in a token follows from the topic's identity alone."""
    other = TopicPosition("shop-log", "cluster/made-anew", "00ff", (TopicPair(0, 0, {}),))
    assert BEGIN.token_generation == BEGIN.advanced(TopicPair(7, 1_000, {})).token_generation
    assert BEGIN.token_generation != other.token_generation
    assert 0 <= BEGIN.token_generation < 2**32
