"""Signals that ask a server to stop are heard from the moment its engine is open, and end it gracefully."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from midstream.engine.ingest.ingest_service import IngestService
from midstream.events.dead_letters.dead_letters import DeadLetters
from midstream.events.disk import RealDisk
from midstream.monitoring.facts import Facts
from midstream.serving.options import ServerOptions
from midstream.serving.run import OpenedEngine, StopSignals, serve_until_stopped
from tests.support.fakes.engine import FakeEngine

if TYPE_CHECKING:
    from midstream.engine.engine import Engine
    from midstream.events.wire import Accept

STOPS = (signal.SIGTERM, signal.SIGINT)


@pytest.mark.parametrize("number", STOPS)
def test_a_stop_that_is_asked_for_while_the_address_is_announced(tmp_path: Path, number: signal.Signals) -> None:
    """It neither kills the process nor is lost: the server stops as it does later, and its log names the signal."""
    seen: list[str] = []
    engine = FakeEngine()
    before = [signal.getsignal(each) for each in STOPS]

    def opening(_signals: StopSignals) -> AbstractAsyncContextManager[OpenedEngine]:
        @asynccontextmanager
        async def opened() -> AsyncGenerator[OpenedEngine]:
            seen.append("open")
            ingest = IngestService(engine, dead_letters=DeadLetters(tmp_path / "dead", RealDisk()))
            yield OpenedEngine(cast("Engine", engine), lambda: cast("Accept", None), ingest)
            ingest.close()
            seen.append("closed")

        return opened()

    def ready(url: str) -> None:
        seen.append(url[:17])
        os.kill(os.getpid(), number)

    asyncio.run(serve_until_stopped(opening, ServerOptions(port=0), ready))
    assert seen == ["open", "http://127.0.0.1:", "closed"]
    noted = [(each.event, each.fields) for each in engine.facts.due(all_of_them=True)]
    assert noted == [("stop_asked", {"signal": number.name})]
    assert [signal.getsignal(each) for each in STOPS] == before


class _Server:
    should_exit = False


def test_a_stop_that_is_asked_for_before_and_after_there_is_a_server() -> None:
    """Kept until there is a server, noted once however often it comes, and never noted in the handler."""
    facts = Facts(lambda: 0.0)
    for comes_early in (True, False):
        server = _Server()
        with StopSignals() as signals, signals.noted(facts.note):
            if comes_early:
                os.kill(os.getpid(), signal.SIGTERM)
            signals.ending(cast("object", server))  # type: ignore[arg-type]
            assert server.should_exit == comes_early
            os.kill(os.getpid(), signal.SIGTERM)
            assert server.should_exit
            assert not facts.due(all_of_them=True)
        assert len(facts.due(all_of_them=True)) == 1


def test_outside_the_main_thread_no_signal_is_taken() -> None:
    """A server in a thread leaves the handlers of its process alone."""

    def enter() -> object:
        with StopSignals():
            return signal.getsignal(signal.SIGTERM)

    async def beside() -> object:
        return await asyncio.to_thread(enter)

    assert asyncio.run(beside()) == signal.getsignal(signal.SIGTERM)
