"""Outputs to a real Pulsar: each record once, whatever is killed between records and position, and in log order."""

import asyncio
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from midstream.core.types import LogPosition, TimestampMs
from midstream.engine.outbox.log_destination import DeliveredPosition, DestinationFenced, DestinationUnavailable
from midstream.engine.outbox.output_destination import OutputDestination
from midstream.engine.outbox.output_records import OutputRecord, RecordOptions
from midstream.integrations.pulsar import output_topics
from midstream.integrations.pulsar import producer as producer_module
from midstream.integrations.pulsar.client_options import PulsarClientOptions
from midstream.integrations.pulsar.library import pulsar as pulsar_library
from midstream.integrations.pulsar.producer import PulsarOutputProducer
from tests.support.destinations import check_destination
from tests.support.patience import wait_until
from tests.support.services.server import Server
from tests.support.topics.pulsar_outputs import admin_url, ask, client_options, log_positions, make_topic, received

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
LOG = "f" * 32


def producer(server: Server, topic: str, name: str = "shop") -> PulsarOutputProducer:
    """Return a producer."""
    return PulsarOutputProducer(client_options(server), topic, f"{LOG}-{name}", os.environ)


def destination(server: Server, topic: str, name: str = "shop") -> OutputDestination:
    """Return a destination of all events."""
    return OutputDestination(name, RecordOptions("events", LOG), producer(server, topic, name), _nothing, _nothing)


def _nothing() -> Any:
    raise AssertionError


def records(first: int, count: int) -> list[OutputRecord]:
    """Return records of some events, some of which have no key."""
    return [
        OutputRecord(LogPosition(at), f"u{at}" if at % 5 else "", b"{}", (("log_position", str(at)),))
        for at in range(first, first + count)
    ]


def upto(position: int) -> DeliveredPosition:
    """Return a position."""
    return DeliveredPosition(LOG, LogPosition(position), TimestampMs(10))


def lose_positions(each: PulsarOutputProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a producer die behind its records, before it stores their position."""
    session = each._session
    assert session is not None

    class Dead:
        def send(self, _: bytes) -> None:
            raise ConnectionResetError

    monkeypatch.setattr(session.positions, "producer", Dead())


def parts(server: Server, topic: str, count: int) -> list[list[int]]:
    """Return the log positions in each partition."""
    names = [f"{topic}-partition-{number}" for number in range(count)] or [topic]
    return [log_positions(received(server, name)) for name in names]


@pytest.mark.parametrize("partitions", [0, 1])
def test_a_topic_keeps_the_promises_of_a_destination(pulsar, partitions):
    """Position and records are there together, a process that was replaced is fenced, an operator may move it back."""
    topic = make_topic(pulsar, f"out-promises-{partitions}", partitions)

    async def found() -> list[int]:
        return parts(pulsar, topic, partitions)[0]

    asyncio.run(check_destination(lambda: destination(pulsar, topic), found))


def test_a_topic_that_is_not_there_is_named(pulsar):
    """No topic is made with settings that nobody chose."""
    make_topic(pulsar, "out-somewhere")
    with pytest.raises(DestinationUnavailable, match=r"topic persistent://public/outputs/out-nowhere: .*404"):
        asyncio.run(destination(pulsar, "persistent://public/outputs/out-nowhere").resume())


def test_a_namespace_without_deduplication_is_refused(pulsar):
    """With the command that turns it on; then the same output begins."""
    topic = make_topic(pulsar, "out-plain", namespace="public/plain")
    right = r"deduplication is Disabled.*`pulsar-admin namespaces set-deduplication public/plain --enable`"
    own = producer(pulsar, topic)
    with pytest.raises(DestinationUnavailable, match=right):
        own.resume()
    with pytest.raises(DestinationUnavailable, match="the delivery before failed"):
        own.deliver(records(0, 1), upto(1))
    ask(pulsar, "POST", "namespaces/public/plain/deduplication", body=True)
    wait_for_deduplication(own)
    own.close()


def wait_for_deduplication(own: PulsarOutputProducer) -> None:
    """Resume until a change of the namespace is in force."""
    for _ in range(100):
        try:
            own.resume()
        except DestinationUnavailable:
            continue
        return
    raise AssertionError


@pytest.mark.parametrize("partitions", [0, 3])
def test_records_whose_position_was_not_stored_are_there_once(pulsar, monkeypatch, partitions):
    """A process that died between the two is found out, also where the next one reads the log in other pieces."""
    topic = make_topic(pulsar, f"out-died-{partitions}", partitions)
    first = producer(pulsar, topic)
    assert first.resume() is None
    first.deliver(records(0, 50), upto(50))
    lose_positions(first, monkeypatch)
    with pytest.raises(ConnectionResetError):
        first.deliver(records(50, 120), upto(170))
    second = producer(pulsar, topic)
    assert second.resume() == upto(50).text
    second.deliver(records(50, 30), upto(80))
    assert second.resume() == upto(80).text
    second.deliver(records(80, 40), upto(120))
    second.deliver(records(120, 100), upto(220))
    second.close()
    third = producer(pulsar, topic)
    assert third.resume() == upto(220).text
    third.deliver(records(220, 5), upto(225))
    third.close()
    first.close()
    found = parts(pulsar, topic, partitions)
    assert sorted(itertools.chain(*found)) == [*range(225)]
    assert all(each == sorted(each) for each in found)
    assert all(found)


def test_a_move_back_delivers_again_what_was_found_too(pulsar, monkeypatch):
    """An operator's order is to have the events again, wherever their position was."""
    topic = make_topic(pulsar, "out-moved")
    first = producer(pulsar, topic)
    first.resume()
    first.deliver(records(0, 10), upto(10))
    lose_positions(first, monkeypatch)
    with pytest.raises(ConnectionResetError):
        first.deliver(records(10, 10), upto(20))
    first.resume()
    first.deliver([], upto(5))
    assert first.resume() == upto(5).text
    first.deliver(records(5, 15), upto(20))
    first.close()
    assert log_positions(received(pulsar, topic)) == [*range(20), *range(5, 20)]


def count_anew(topic: Any) -> None:
    """Have the producer of a topic give numbers that the broker has seen already, as one with a stale number does."""
    library = pulsar_library()
    topic.producer.close()
    topic.producer = topic._client.create_producer(
        topic._name,
        producer_name=topic._owner,
        access_mode=library.ProducerAccessMode.ExclusiveWithFencing,
        initial_sequence_id=1,
        batching_enabled=True,
    )


@pytest.mark.parametrize("which", ["records", "positions"])
def test_what_the_broker_takes_for_a_copy_is_looked_for(pulsar, which):
    """It goes by numbers alone: nothing counts as delivered that has no place, and the next delivery stores it."""
    topic = make_topic(pulsar, f"out-stale-{which}")
    own = producer(pulsar, topic)
    own.resume()
    for first in range(0, 40, 10):
        own.deliver(records(first, 10), upto(first + 10))
    session = own._session
    assert session is not None
    count_anew(session.positions if which == "positions" else session.partitions[0].topic)
    with pytest.raises(DestinationUnavailable, match="it had it already"):
        own.deliver(records(40, 20), upto(60))
    assert own.resume() == upto(40).text
    own.deliver(records(40, 20), upto(60))
    assert own.resume() == upto(60).text
    own.close()
    assert log_positions(received(pulsar, topic)) == [*range(60)]


def test_an_erased_user_is_a_key_without_a_value(pulsar):
    """A compacted topic forgets what has that key."""
    topic = make_topic(pulsar, "out-erased")
    own = producer(pulsar, topic)
    own.resume()
    own.deliver([OutputRecord(LogPosition(0), "u7", None, (("log_position", "0"),))], upto(1))
    own.close()
    (found,) = received(pulsar, topic)
    assert (found.partition_key(), found.has_null_value(), found.data()) == ("u7", True, b"")


def test_messages_that_a_start_reads_are_kept(pulsar):
    """Nobody else has the topic's messages kept: the last record and the position stay when the broker cleans up."""
    topic = make_topic(pulsar, "out-kept", namespace="public/brief")
    ask(pulsar, "POST", "namespaces/public/brief/deduplication", body=True)
    path = f"persistent/{topic.partition('://')[2]}"
    own = producer(pulsar, topic)
    own.resume()
    own.deliver(records(0, 10), upto(10))
    own.deliver(records(10, 1), upto(11))
    own.close()
    for place in (path, f"{path}-positions-{LOG}-shop"):
        wait_until(partial(is_remembered, pulsar, place))
        for _ in range(3):
            ask(pulsar, "PUT", f"{place}/unload")
            ask(pulsar, "GET", f"{place}/stats")
    again = producer(pulsar, topic)
    assert again.resume() == upto(11).text
    assert log_positions(received(pulsar, topic))[-1] == 10
    again.close()


def is_remembered(server: Server, path: str) -> bool:
    """Return whether deduplication needs no message of a topic any more."""
    found = ask(server, "GET", f"{path}/internalStats")
    return bool(found["cursors"]["pulsar.dedup"]["markDeletePosition"] == found["lastConfirmedEntry"])


@pytest.mark.parametrize("partitions", [0, 2])
def test_another_output_of_the_topic_is_refused_by_name(pulsar, partitions):
    """Two addresses of one cluster pass the configuration: the later one fences nobody, and delivers once alone."""
    topic = make_topic(pulsar, f"out-twice-{partitions}", partitions)
    one, two = producer(pulsar, topic), producer(pulsar, topic, "other")
    one.resume()
    for first in (0, 1):
        with pytest.raises(DestinationUnavailable, match='output "shop" of this shop delivers there: give each'):
            two.resume()
        one.deliver(records(first, 1), upto(first + 1))
    one.close()
    wait_until(lambda: is_resumed(two))
    two.deliver(records(0, 1), upto(1))
    with pytest.raises(DestinationUnavailable, match='output "other" of this shop'):
        one.resume()
    two.close()
    assert sorted(at for each in parts(pulsar, topic, partitions) for at in each) == [0, 0, 1]


def is_resumed(each: PulsarOutputProducer) -> bool:
    """Return whether a producer has taken its topic over: a broker hears of the end of another one a moment later."""
    try:
        each.resume()
    except DestinationUnavailable:
        return False
    return True


def test_outputs_of_other_shops_and_of_this_one_are_told_apart(pulsar):
    """A topic that another shop has is taken over, as one of a process before; its error says so."""
    topic = make_topic(pulsar, "out-shops")
    one = PulsarOutputProducer(client_options(pulsar), topic, f"{LOG}-shop", os.environ)
    two = PulsarOutputProducer(client_options(pulsar), topic, f"{'e' * 32}-shop", os.environ)
    one.resume()
    two.resume()
    with pytest.raises(DestinationFenced, match="another process delivers there, or another output"):
        one.deliver(records(0, 1), upto(1))
    one.close()
    two.close()
    assert received(pulsar, topic) == []


def test_two_outputs_that_fence_each_other_store_each_record_once(pulsar, monkeypatch):
    """As two that look at once make it, before either is there."""
    monkeypatch.setattr(PulsarOutputProducer, "_require_alone", _alone)
    topic = make_topic(pulsar, "out-turns")
    own = [producer(pulsar, topic, name) for name in ("one", "other")]
    for each in own:
        each.resume()
        each.deliver([], upto(0))
    for first in (0, 10):
        for each in own:
            with pytest.raises(DestinationFenced, match="another output"):
                each.deliver(records(first, 10), upto(first + 10))
            assert each.resume() == upto(first).text
            each.deliver(records(first, 10), upto(first + 10))
    for each in own:
        each.close()
    assert log_positions(received(pulsar, topic)) == [*range(10), *range(10), *range(10, 20), *range(10, 20)]


def _alone(_producer: PulsarOutputProducer, _names: Sequence[str]) -> None:
    """Find nobody."""


def test_what_does_not_come_in_time_is_an_error(pulsar, monkeypatch):
    """A record that cannot be stored is not passed by."""
    monkeypatch.setattr(output_topics, "SEND_MS_MAX", 1_000)
    topic = make_topic(pulsar, "out-big")
    own = producer(pulsar, topic)
    own.resume()
    with pytest.raises(DestinationUnavailable, match="MessageTooBig"):
        own.deliver([OutputRecord(LogPosition(0), "u", os.urandom(6_000_000), (("log_position", "0"),))], upto(1))
    assert own.resume() is None
    own.close()


def report_by(each: PulsarOutputProducer, called: Callable[[Callable[[], None]], None]) -> None:
    """Have what the broker has stored reported by another way than the client's threads."""
    session = each._session
    assert session is not None
    topic = session.partitions[0].topic
    usual = topic.producer

    class Reporting:
        def send_async(self, value: bytes, sent: Callable[..., None], **named: object) -> None:
            usual.send_async(value, lambda *found: called(partial(sent, *found)), **named)

        def flush(self) -> None:
            usual.flush()

    topic.producer = Reporting()


def test_a_report_that_comes_behind_the_flush_is_waited_for(pulsar, monkeypatch):
    """The client's threads report when they get the interpreter's lock; what is never reported on is not passed by."""
    topic = make_topic(pulsar, "out-late")
    own = producer(pulsar, topic)
    own.resume()
    report_by(own, lambda report: threading.Timer(0.3, report).start())
    own.deliver(records(0, 20), upto(20))
    monkeypatch.setattr(producer_module, "REPORT_S_MAX", 0.2)
    report_by(own, lambda _report: None)
    with pytest.raises(DestinationUnavailable, match="0 of 5 records were confirmed"):
        own.deliver(records(20, 5), upto(25))
    assert own.resume() == upto(20).text
    own.deliver(records(20, 5), upto(25))
    own.close()
    assert log_positions(received(pulsar, topic)) == [*range(25)]


def test_an_admin_interface_that_does_not_answer_is_an_error(pulsar):
    """It is named; nothing was taken over."""
    options = PulsarClientOptions(f"pulsar://{pulsar.address}", f"{admin_url(pulsar)}0")
    with pytest.raises(DestinationUnavailable, match="admin interface"):
        PulsarOutputProducer(options, "any", "k", os.environ).resume()
