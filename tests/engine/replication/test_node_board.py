"""Nodes are compared at equal positions of one fold version, and a difference is named with both nodes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.engine.replication.node_board import (
    GONE_MS,
    HEARTBEAT_BYTES_MAX,
    Heartbeat,
    Mark,
    compared,
    disagreements,
    heartbeats_of,
    is_gone,
)

MARKS = (Mark(30, "c"), Mark(20, "b"), Mark(10, "a"))


def node(name: str, **changes: object) -> Heartbeat:
    beat = Heartbeat(name, "", "log", 35, "v1", 0, None, 0, 0, 0, MARKS)
    return msgspec.structs.replace(beat, **changes)


def test_equal_marks_agree():
    """Also where one node is behind by some of them."""
    nodes = [node("a"), node("b", marks=MARKS[1:]), node("c")]
    assert not disagreements(nodes)
    assert compared(nodes) == 3


@pytest.mark.parametrize("position", [10, 20, 30])
def test_a_different_digest_at_any_common_mark_is_found(position):
    """Both nodes and the position are named."""
    marks = tuple(Mark(each.log_position, "x" if each.log_position == position else each.digest) for each in MARKS)
    (found,) = disagreements([node("a"), node("b", marks=marks), node("d", fold_version="v2", marks=marks)])
    assert found.log_position == position
    assert set(found.digests) == {"a", "b"}
    assert "a has " in str(found)
    assert f"log position {position}" in str(found)


@pytest.mark.parametrize(
    "change",
    [
        {"fold_version": "v2"},
        {"counts_from": 5},
        {"log": "other"},
        {"marks": (Mark(31, "x"),)},
        {"marks": ()},
        {"marks": (Mark(30, "x", "an erasure that was carried out"),)},
    ],
)
def test_what_is_not_comparable_is_not_compared(change):
    """Another version, another beginning of counts, another log, no common position, other erasures."""
    other = {"marks": tuple(Mark(each.log_position, "x") for each in MARKS)} | change
    assert not disagreements([node("a"), node("b", **other)])


@given(st.binary(max_size=100))
def test_foreign_messages_are_left_out(message):
    """Whatever stands in the topic, what is readable is shown."""
    good = msgspec.json.encode(node("a"))
    messages = {"a": good, "b": message, "c": good, "d": b" " * HEARTBEAT_BYTES_MAX + good}
    assert [each.node for each in heartbeats_of(messages, "log")] == ["a"]
    assert not heartbeats_of(messages, "another log")


def test_a_field_of_a_later_release_is_passed_by():
    """Nodes of two releases stand on one board during an upgrade."""
    message = msgspec.json.encode({**msgspec.to_builtins(node("a")), "later": 1})
    assert heartbeats_of({"a": message}, "log") == [node("a")]


def test_a_silent_node_is_gone():
    """After its last message got old."""
    assert not is_gone(node("a", said_ms=0), GONE_MS)
    assert is_gone(node("a", said_ms=0), GONE_MS + 1)
