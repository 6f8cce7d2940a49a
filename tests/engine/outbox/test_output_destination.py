"""Destination of an output: the producer's thread takes what is slow, and never holds up the end of the process."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from midstream.core.kinds import Kind
from midstream.core.types import LogPosition, TimestampMs
from midstream.engine.outbox import output_destination
from midstream.engine.outbox.log_destination import DeliveredPosition
from midstream.engine.outbox.output_destination import OutputDestination
from midstream.engine.outbox.output_records import OutputRecord, RecordOptions, requests_in
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, build
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig


class FakeProducer:
    """A producer that keeps the records, or waits for a broker that does not answer."""

    def __init__(self) -> None:
        self.records: list[OutputRecord] = []
        self.is_let_go = threading.Event()
        self.is_waiting = threading.Event()
        self.is_closed = threading.Event()

    def resume(self) -> str | None:
        """Wait for a broker."""
        self.is_waiting.set()
        self.is_let_go.wait(PATIENCE_S)
        return None

    def deliver(self, records: Sequence[OutputRecord], upto: DeliveredPosition) -> None:
        """Keep the records."""
        assert upto.log_position
        self.records += records

    def close(self) -> None:
        """Be closed."""
        self.is_closed.set()


def destination(producer: FakeProducer) -> OutputDestination:
    """Return a destination of outcomes."""
    fold = Rig().engine.fold
    log: Any = MemoryLog()
    return OutputDestination("shop", RecordOptions("outcomes", "log"), producer, lambda: fold, lambda: log)


def threads() -> list[threading.Thread]:
    """Return the threads of outputs."""
    return [each for each in threading.enumerate() if each.name.startswith("midstream-output-shop")]


def test_a_broker_that_does_not_answer_holds_up_no_end_of_the_process() -> None:
    """Python waits for threads that are no daemons; this one ends when its call does, behind a close."""
    producer = FakeProducer()

    async def work() -> None:
        one = destination(producer)
        asked = asyncio.ensure_future(one.resume())
        await asyncio.to_thread(producer.is_waiting.wait, PATIENCE_S)
        asked.cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await one.close()

    asyncio.run(work())
    held = threads()
    assert [each.daemon for each in held] == [True]
    producer.is_let_go.set()
    held[0].join(PATIENCE_S)
    assert not held[0].is_alive()


def test_outcomes_are_looked_through_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 5,000 of them it takes tens of milliseconds, in which no slate would be answered."""
    seen: list[str] = []

    def noted(*given: object) -> frozenset[str]:
        seen.append(threading.current_thread().name)
        return requests_in(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(output_destination, "requests_in", noted)
    producer = FakeProducer()
    act = Event(Kind.INTERACTION, action="view", user_id="ann", item_id="lamp", request_id="r1")

    async def work() -> None:
        one = destination(producer)
        await one.deliver(LogPosition(0), build((act,)), DeliveredPosition("log", LogPosition(1), TimestampMs(1)))
        await one.close()

    asyncio.run(work())
    assert seen == ["midstream-output-shop"]
    assert [each.key for each in producer.records] == ["r1"]
    assert producer.is_closed.is_set()
