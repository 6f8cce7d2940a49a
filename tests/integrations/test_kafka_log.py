"""The log of librdkafka goes to the logger of the package, whichever client writes it, and repeats itself rarely."""

import ast
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midstream.core.errors import MidstreamError
from midstream.integrations.kafka import consumer, library, node_board, producer, shared_topic
from midstream.integrations.kafka.client_options import KafkaClientOptions
from midstream.integrations.kafka.library import LOGGER, REPEAT_S, RepeatFilter
from tests.support import libraries

FOLDER = Path(library.__file__).parent
WAIT_S = 0.5
CLIENTS = {"Producer", "Consumer", "AdminClient"}


@pytest.fixture
def options(monkeypatch):
    """Options of a connection to a broker that is not there, of which nothing is waited for long."""
    libraries.library("confluent_kafka")
    for module, name in ((shared_topic, "REQUEST_S_MAX"), (node_board, "WAIT_S_MAX"), (producer, "WAIT_S_MAX")):
        monkeypatch.setattr(module, name, WAIT_S)
    monkeypatch.setattr(consumer, "REQUEST_S_MAX", WAIT_S)
    (own,) = LOGGER.filters
    monkeypatch.setattr(own, "_passed_s", {})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return KafkaClientOptions(f"127.0.0.1:{port}")


def _topic(options: KafkaClientOptions) -> None:
    shared_topic.KafkaSharedTopic(shared_topic.SharedTopicOptions(options, "log"), {}).open()


def _board(options: KafkaClientOptions) -> None:
    node_board.KafkaNodeBoard(options, "log", {}).write("node", b"x")


def _output(options: KafkaClientOptions) -> None:
    producer.KafkaOutputProducer(options, "out", "key", {}).resume()


def _input(options: KafkaClientOptions) -> None:
    consumer.KafkaConsumer(consumer.KafkaTopicOptions(options, "in", "group"), {}).open("", {})


@pytest.mark.parametrize("use", [_topic, _board, _output, _input])
def test_nothing_is_written_to_the_standard_error(options, use: Callable[[KafkaClientOptions], None], capfd):
    """Lines of a library between those of the server would be no JSON, and have no level."""
    with pytest.raises(MidstreamError):
        use(options)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("make", [library.kafka_producer, library.kafka_consumer, library.kafka_admin])
def test_what_a_client_says_is_a_line_of_the_logger(options, make: Callable[[Any], Any], caplog, capfd):
    """With its level, once of a kind."""
    client = make({"bootstrap.servers": options.servers, "group.id": "g"} if make is library.kafka_consumer else
                  {"bootstrap.servers": options.servers})  # fmt: skip
    with caplog.at_level(logging.WARNING, LOGGER.name):
        with pytest.raises(libraries.library("confluent_kafka").KafkaException):
            client.list_topics(timeout=WAIT_S)
        client.poll(WAIT_S)
    lines = [each for each in caplog.records if each.name == LOGGER.name]
    assert any("FAIL" in each.getMessage() and each.levelno == logging.ERROR for each in lines)
    assert len(lines) <= 3
    assert capfd.readouterr().err == ""


def test_a_line_that_repeats_itself_is_left_out_for_a_while():
    """Another one is not, and nothing is remembered without an end."""
    now_s = 0.0
    own = RepeatFilter(lambda: now_s)

    def passes(text: str) -> bool:
        return own.filter(logging.LogRecord("n", logging.ERROR, "p", 1, text, None, None))

    assert passes("failed after 3 ms")
    assert not passes("failed after 17 ms")
    assert passes("refused")
    now_s = REPEAT_S
    assert passes("failed after 5 ms")
    for number in range(2 * library.LINES_MAX):
        assert passes("x" * (number + 1))
    assert len(own._passed_s) <= library.LINES_MAX


def test_no_client_is_made_without_the_logger():
    """They are made in one place."""
    made = {
        path.name
        for path in FOLDER.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLIENTS
    }
    assert made == {"library.py"}
