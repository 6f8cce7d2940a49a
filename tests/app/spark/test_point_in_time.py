"""Answers and examples that tasks give are those of one process, to the bit."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import midstream
from midstream.app.spark import point_in_time
from midstream.core.errors import Invalid, LogRewritten
from midstream.events.segments.log_identity import identity_of
from tests.app.point_in_time import test_lookup, test_served_examples

asked_folder = test_lookup.folder
served_folder = test_served_examples.folder


def in_shares(table, shares, key):
    """Return the rows of a table in some shares by a key, as a cluster hands them to tasks."""
    order = np.argsort(table.column(key).to_numpy(zero_copy_only=False), kind="stable")
    return [table.take(pa.array(each)).to_batches(max_chunksize=9) for each in np.array_split(order, shares)]


def same(found, told, names):
    """The columns have the same bits, NaN included."""
    for name in names:
        one, other = found.column(name).combine_chunks(), told.column(name).combine_chunks()
        if pa.types.is_floating(other.type):
            assert one.to_numpy().tobytes() == other.to_numpy().tobytes(), name
        else:
            assert one.cast(other.type).to_pylist() == other.to_pylist(), name


@pytest.mark.parametrize("shares", [1, 4])
def test_features_are_those_of_one_pass(asked_folder, shares):
    """Of one user, of all the shop, of sessions and of pairs; whichever task answers."""
    questions = pa.Table.from_pylist(test_lookup.asked(200, seed=3)).append_column("number", pa.array(range(200)))
    told = midstream.features_as_of(asked_folder, questions).sort_by(
        [("number", "ascending"), ("position", "ascending")]
    )
    place, past = point_in_time.place_of(asked_folder)
    schema = point_in_time.features_schema(past, questions.slice(0, 1).to_batches(), None)
    batches = [
        batch
        for share in (*in_shares(questions, shares, "log_position"), [])
        for batch in point_in_time.features_of(place, None, share)
    ]
    found = pa.Table.from_batches(batches, schema=schema).sort_by([("number", "ascending"), ("position", "ascending")])
    assert found.schema.names == [name for name in told.schema.names if name != "row"]
    same(found, told, found.schema.names)


@pytest.mark.parametrize("tasks", [1, 5])
def test_examples_are_those_of_one_pass(served_folder, tasks):
    """Each slate once, with the outcomes of the whole log."""
    folder = served_folder[0]
    told = midstream.examples(folder)
    place, past = point_in_time.place_of(folder)
    pieces = point_in_time.example_pieces(past, "..", tasks)
    assert len(pieces) == tasks
    batches = [batch for piece in pieces for batch in point_in_time.examples_of(place, None, piece)]
    found = pa.Table.from_batches(batches, schema=point_in_time.example_columns(past, None))
    assert found.num_rows == told.num_rows > 40
    same(found, told, told.schema.names)


def test_a_job_sees_the_log_as_it_was_when_it_began(served_folder):
    """A task that starts later, behind more events, gives the same outcomes."""
    folder, _ = served_folder
    place, past = point_in_time.place_of(folder)
    (piece,) = point_in_time.example_pieces(past, "..", 1)
    before = pa.Table.from_batches(list(point_in_time.examples_of(place, None, piece)))
    first = before.to_pylist()[0]
    with midstream.open(folder) as shop:
        shop.record(
            [{"type": "purchase", "user_id": "u1", "item_id": first["item_id"], "request_id": first["request_id"]}]
        )
    after = pa.Table.from_batches(list(point_in_time.examples_of(place, None, piece)))
    same(after, before, before.schema.names)
    place, _ = point_in_time.place_of(folder)
    assert not pa.Table.from_batches(list(point_in_time.examples_of(place, None, piece))).equals(before)


def test_a_task_that_begins_or_ends_with_another_writing_of_the_log_fails(served_folder, monkeypatch):
    """As an erasure makes one in mid-job: no table has rows of both."""
    folder, _ = served_folder
    place, past = point_in_time.place_of(folder)
    (piece,) = point_in_time.example_pieces(past, "..", 1)
    questions = pa.Table.from_pylist([{"user_id": "u1", "items": ["i1"], "log_position": 5}]).to_batches()
    other = replace(place, log=replace(place.log, generation=7))
    for begun in (point_in_time.examples_of(other, None, piece), point_in_time.features_of(other, None, questions)):
        with pytest.raises(LogRewritten, match=r"generation 0 .* began with generation 7"):
            next(begun)
    for begun in (point_in_time.examples_of(place, None, piece), point_in_time.features_of(place, None, questions)):
        with monkeypatch.context() as patch:
            assert len(next(begun))
            rewrite = identity_of(bytes.fromhex(place.log.log_id), 8)
            patch.setattr(point_in_time, "read_identity", lambda *_, made=rewrite: made)
            with pytest.raises(LogRewritten, match=r"generation 8 .* began with generation 0"):
                list(begun)


def test_questions_need_a_place_in_the_log():
    """A position or a time; the position decides where both are there."""
    assert point_in_time.question_key(["time", "log_position"]) == "log_position"
    assert point_in_time.question_key(["user_id", "time"]) == "time"
    with pytest.raises(Invalid, match="A log_position, or a time"):
        point_in_time.question_key(["user_id"])
