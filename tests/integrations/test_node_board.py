"""Nodes find each other's heartbeats in a real Kafka, and go on after it was away."""

from collections.abc import Callable

import pytest

from midstream.engine.replication.shared_topic import TopicUnavailable
from midstream.integrations.kafka import node_board
from midstream.integrations.kafka.client_options import KafkaClientOptions
from midstream.integrations.kafka.node_board import KafkaNodeBoard
from tests.support.libraries import library
from tests.support.patience import wait_until
from tests.support.services.server import Server

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]


def succeeds(call: Callable[[], object]) -> bool:
    """Whether the broker answers it now."""
    try:
        call()
    except TopicUnavailable:
        return False
    return True


def test_the_newest_message_of_each_node_is_read(kafka: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a node that was there, by one that comes later, and through an outage of the broker."""
    library("confluent_kafka")
    options = KafkaClientOptions(kafka.address)
    first, second = (KafkaNodeBoard(options, "shop-board", {}) for _ in range(2))
    for number in range(3):
        first.write("a", b"a%d" % number)
        second.write("b", b"b%d" % number)
    assert dict(first.read()) == dict(second.read()) == {"a": b"a2", "b": b"b2"}
    kafka.kill()
    monkeypatch.setattr(node_board, "WAIT_S_MAX", 1.0)
    with pytest.raises(TopicUnavailable, match="shop-board-nodes at"):
        first.write("a", b"lost")
    monkeypatch.undo()
    kafka.up()
    wait_until(lambda: succeeds(lambda: second.write("b", b"again")))
    wait_until(lambda: succeeds(first.read))
    assert first.read()["b"] == b"again"
    third = KafkaNodeBoard(options, "shop-board", {})
    assert third.read()["b"] == b"again"
    for each in (first, second, third):
        each.close()


def test_a_broker_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bounded time."""
    library("confluent_kafka")
    monkeypatch.setattr(node_board, "WAIT_S_MAX", 0.5)
    board = KafkaNodeBoard(KafkaClientOptions("127.0.0.1:9"), "shop", {})
    with pytest.raises(TopicUnavailable, match=r"127\.0\.0\.1:9"):
        board.read()
    board.close()
