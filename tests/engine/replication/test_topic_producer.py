"""Producer of a node: messages in the order of submission, each once, and every entry comes back once."""

from collections.abc import Callable
from typing import Any

import pytest

from midstream.core.errors import AppendFailed, Overloaded
from midstream.core.kinds import Kind
from midstream.engine.ingest.writer import QueueEntry
from midstream.engine.replication.topic_message import Events, decode_events, shared_log_id
from midstream.engine.replication.topic_producer import TopicProducer
from midstream.events.schema import Event, build, event_at
from tests.support.shared_topics import FakeTopic, FakeTopicServer

LOG_ID = shared_log_id(b"k" * 32, "cluster/topic")
PROCESS = b"p" * 16


def made(fault: Callable[[], str] = str) -> tuple[FakeTopicServer, TopicProducer]:
    """Return a server and a producer that takes turns instead of a thread."""
    server = FakeTopicServer()
    return server, TopicProducer(FakeTopic(server, fault), LOG_ID, PROCESS, keeps_event_time=False)


def entry(*ids: str, ticket: Any = None) -> QueueEntry:
    """Return an entry of some events."""
    return QueueEntry(build([Event(Kind.INTERACTION, 0, each, "view", "ann", "lamp") for each in ids]), ticket)


def messages(server: FakeTopicServer) -> list[Events]:
    """Return the messages as events."""
    found = [decode_events(each.value, LOG_ID, "topic", each.offset) for each in server.messages]
    return [each for each in found if each is not None]


def test_what_is_queued_shares_a_message_and_comes_back_with_it() -> None:
    """Entries keep their order; the message that is read back has them, and only once."""
    server, producer = made()
    entries = [entry("a"), entry("b", "c"), entry("d")]
    producer.submit(tuple(entries))
    assert producer.turn()
    assert not producer.turn()
    (message,) = messages(server)
    assert [event_at(message.batch, row).event_id for row in range(4)] == list("abcd")
    assert producer.queued_events == 4
    sent = producer.read_back(message.process, message.number)
    assert sent is not None
    assert list(sent.entries) == entries
    assert producer.read_back(message.process, message.number) is None
    assert producer.is_idle


def test_a_message_of_another_process_brings_no_entries() -> None:
    """Numbers are those of a process: after a restart those of the one before mean nothing."""
    server, producer = made()
    producer.submit((entry("a"),))
    producer.turn()
    assert producer.read_back(b"q" * 16, messages(server)[0].number) is None
    assert producer.queued_events == 1


def test_an_unconfirmed_message_comes_back_once_and_no_other_time() -> None:
    """It is given back as uncertain, and read after all it brings no entries a second time."""
    server, producer = made(lambda: "unheard")
    producer.submit((entry("a"),))
    producer.turn()
    ((sent, error),) = producer.unconfirmed()
    assert sent.events == 1
    assert "may be durable later" in str(error)
    assert producer.unconfirmed() == []
    assert producer.read_back(PROCESS, messages(server)[0].number) is None


def test_giving_up_returns_all_that_is_left_and_refuses_the_rest() -> None:
    """What was sent and what was queued come back; later entries fail with the reason."""
    _, producer = made()
    producer.submit((entry("a"),))
    producer.turn()
    producer.submit((entry("b"),))
    failure = AppendFailed("the disk")
    assert sum(sent.events for sent in producer.give_up(failure)) == 2
    with pytest.raises(AppendFailed, match="the disk"):
        producer.submit((entry("c"),))
    assert not producer.turn()


def test_a_closing_producer_sends_what_it_has_and_takes_nothing_more() -> None:
    """The thread ends by itself when all is sent."""
    server, producer = made()
    producer.start()
    producer.submit((entry("a"),))
    producer.close()
    producer.join()
    assert len(server.messages) == 1
    with pytest.raises(Overloaded):
        producer.submit((entry("b"),))
