"""Positions of inputs: what the newest control event says by partition, however the log is cut or restated."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.events.schema import Event, build, concat, cut
from midstream.state import restate
from midstream.state.control import input_positions
from midstream.state.control.input_positions import InputPosition, encode_input_position, input_position_of
from midstream.state.fold import Fold
from midstream.state.restate import restated
from tests.support.events import cuts, event_batches, tiny_settings

SETTINGS = tiny_settings()
MOVES = st.builds(
    InputPosition,
    input=st.sampled_from(("shop", "app")),
    topic=st.just("events"),
    topic_id=st.sampled_from(("one", "one", "one", "two")),
    next=st.dictionaries(st.sampled_from("0123"), st.integers(0, 99).map(str), min_size=1),
)


def moved(body: InputPosition) -> Event:
    """Return the control event of a poll."""
    return Event(Kind.CONTROL, body=encode_input_position(body), log_time_ms=1_000)


def in_time(batch: EventBatch) -> EventBatch:
    """Return events whose log time never goes back, as no log's does."""
    rows = batch.rows.copy()
    rows["log_time_ms"] = np.maximum.accumulate(rows["log_time_ms"])
    return EventBatch(rows, batch.text)


def folded(batch: EventBatch, at: list[int] | None = None) -> Fold:
    """Fold a batch, in pieces."""
    fold = Fold(SETTINGS)
    for start, stop in pairwise([0, *(at or []), len(batch)]):
        fold.apply(LogPosition(start), cut(batch, start, stop))
    return fold


def plain(moves: list[InputPosition]) -> dict[str, tuple[str, dict[str, str]]]:
    """The same in plain Python: the twin."""
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for move in moves:
        topic, positions = found.get(move.input, ("", {}))
        found[move.input] = (move.topic_id, {**(positions if topic == move.topic_id else {}), **move.next})
    return found


def held(fold: Fold) -> dict[str, tuple[str, dict[str, str]]]:
    """Return the positions of a fold in the form of the twin."""
    return {row.input: (row.topic_id, dict(row.next)) for row in fold.inputs.rows}


@given(st.data())
def test_the_newest_position_of_each_partition_holds(data: st.DataObject) -> None:
    """Rows equal those of plain Python in any pieces; restored from arrays they have the same digest.

    Positions of a topic of another identity are forgotten, those of other partitions stay.
    """
    moves = data.draw(st.lists(MOVES, min_size=1, max_size=8))
    between = data.draw(event_batches(people=True))
    batch = in_time(concat([each for move in moves for each in (between, build([moved(move)]))]))
    fold = folded(batch, data.draw(cuts(len(batch))))
    assert held(fold) == plain(moves)
    again = Fold(SETTINGS)
    again.restore(fold.arrays())
    assert again.inputs.rows == fold.inputs.rows
    assert again.digest() == fold.digest() == folded(batch).digest()


@given(st.lists(MOVES, min_size=1, max_size=8))
def test_positions_outlive_the_events_that_moved_them(moves: list[InputPosition]) -> None:
    """A fold that begins with restated events goes on from the same positions: nothing is read twice."""
    batch = build([moved(move) for move in moves])
    fold = folded(batch)
    again = Fold(SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restate, "PARTITIONS_EACH", 2)
        again.apply(LogPosition(0), restated(fold, [batch]).events)
    assert held(again) == held(fold)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"change":"input_position"}',
        b'{"change":"input_position","input":"","topic":"t","topic_id":"i","next":{"0":"1"}}',
        b'{"change":"input_position","input":"a","topic":"t","topic_id":"i","next":{}}',
        b'{"change":"input_position","input":"a","topic":"t","topic_id":"i","next":{"0":1}}',
        b'{"change":"input_position","input":"a","topic":"t","topic_id":"i","next":{"0":"1"},"more":1}',
        encode_input_position(InputPosition("a" * 600, "t", "i", {"0": "1"})),
        encode_input_position(InputPosition("a", "t", "i", {"0": "1" * 600})),
    ],
)
def test_a_body_that_cannot_be_read_moves_nothing(body: bytes) -> None:
    """What is no such body is not folded; one that says that it is, is counted."""
    assert input_position_of(body) is None
    fold = folded(build([Event(Kind.CONTROL, body=body, log_time_ms=1_000)]))
    assert held(fold) == {}
    assert fold.inputs.refused_count == (1 if b'"change":"input_position"' in body else 0)


def test_what_finds_no_room_is_known_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """``takes`` says for each event what folding it does; a refused one is counted and leaves the rows as they are."""
    monkeypatch.setattr(input_positions, "INPUTS_MAX", 2)
    monkeypatch.setattr(input_positions, "PARTITIONS_MAX", 3)
    fold = Fold(SETTINGS)
    moves = [
        (InputPosition("a", "t", "i", {"0": "1", "1": "1"}), True),
        (InputPosition("b", "t", "i", {"0": "1"}), True),
        (InputPosition("c", "t", "i", {"0": "1"}), False),
        (InputPosition("b", "t", "i", {"1": "1"}), False),
        (InputPosition("a", "t", "i", {"0": "2"}), True),
        (InputPosition("a", "t", "j", {"0": "0"}), True),
        (InputPosition("b", "t", "i", {"1": "1"}), True),
    ]
    for place, (move, is_taken) in enumerate(moves):
        assert fold.inputs.takes(move) is is_taken
        before = held(fold)
        fold.apply(LogPosition(place), build([moved(move)]))
        assert is_taken or held(fold) == before
    assert fold.inputs.refused_count == 2
    assert held(fold) == {"a": ("j", {"0": "0"}), "b": ("i", {"0": "1", "1": "1"})}
    assert 0 < fold.inputs.bytes_now <= fold.inputs.bytes_max
