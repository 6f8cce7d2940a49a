"""Signals that ask a server to stop are heard from the moment its engine is open, and end it gracefully."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import httpx
import pytest
import uvicorn

from midstream.core.durations import Duration
from midstream.engine.ingest.ingest_service import IngestService
from midstream.events.dead_letters.dead_letters import DeadLetters
from midstream.events.disk import RealDisk
from midstream.monitoring.facts import Facts
from midstream.serving.http.draining import AT_ONCE, DrainingServer
from midstream.serving.options import ServerOptions
from midstream.serving.run import OpenedEngine, StopAtStart, StopSignals, serve_until_stopped
from tests.support.fakes.engine import FakeEngine
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from midstream.engine.engine import Engine
    from midstream.events.wire import Accept

STOPS = (signal.SIGTERM, signal.SIGINT)


async def _app(*_: object) -> None:
    """Answer nothing: no request comes."""


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

    def handle_exit(self, *_: object) -> None:
        self.should_exit = True


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


@pytest.mark.parametrize("early", [1, 0])
def test_a_stop_before_the_server_hears_signals_itself_begins_the_drain(early: int) -> None:
    """While followers start, or between that and its first tick; a second one ends the drain."""
    server = DrainingServer(uvicorn.Config(_app, log_config=None), 5.0)
    with StopSignals() as signals:
        for _ in range(early):
            os.kill(os.getpid(), signal.SIGINT)
        signals.ending(server)
        for _ in range(1 - early):
            os.kill(os.getpid(), signal.SIGINT)
        assert (bool(server.wait()), server.should_exit) == (True, False)
        os.kill(os.getpid(), signal.SIGINT)
        assert (server.should_exit, server.force_exit) == (True, False)


def test_a_server_that_is_stopped_while_its_address_is_announced_answers_until_the_drain_is_over(
    tmp_path: Path,
) -> None:
    """As a balancer may know the address by then: health says 503, and the port is closed behind the drain."""
    engine, urls, seen = FakeEngine(), list[str](), list[int]()

    @asynccontextmanager
    async def opening(_signals: StopSignals) -> AsyncGenerator[OpenedEngine]:
        ingest = IngestService(engine, dead_letters=DeadLetters(tmp_path / "dead", RealDisk()))
        yield OpenedEngine(cast("Engine", engine), lambda: cast("Accept", None), ingest)
        ingest.close()

    def ready(url: str) -> None:
        urls.append(url)
        os.kill(os.getpid(), signal.SIGTERM)

    async def both() -> None:
        options = ServerOptions(port=0, drain=Duration("10m"))
        serving = asyncio.create_task(serve_until_stopped(opening, options, ready))
        async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient(timeout=PATIENCE_S) as client:
            while not urls:  # noqa: ASYNC110  an announcement has no event of its own
                await asyncio.sleep(0.005)
            seen.append((await client.get(f"{urls[0]}/health/live")).status_code)
            ready_now = await client.get(f"{urls[0]}/health/ready")
            seen.append(ready_now.status_code)
            assert "asked to stop" in ready_now.json()["reason"]
            os.kill(os.getpid(), signal.SIGTERM)
            await serving

    asyncio.run(both())
    assert seen == [200, 503]


def test_a_stop_that_came_before_the_start_ends_it() -> None:
    """What takes long is not begun, and a stop outside of it is kept for the server."""
    begun: list[bool] = []
    with StopSignals() as signals:
        with signals.at_start():
            begun.append(True)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopAtStart), signals.at_start():
            begun.append(False)
    assert begun == [True]


def test_what_is_left_to_be_done_behind_the_last_answer_is_ended_by_no_signal() -> None:
    """Of a follower: the leader's order to end may come after its own end has begun."""
    stops = (*STOPS, AT_ONCE)
    before = [signal.getsignal(each) for each in stops]
    try:
        with StopSignals((AT_ONCE,), is_last=True):
            pass
        for each in stops:
            os.kill(os.getpid(), each)
        assert [signal.getsignal(each) for each in stops] == [signal.SIG_IGN] * len(stops)
    finally:
        for each, handler in zip(stops, before, strict=True):
            signal.signal(each, handler)


def test_outside_the_main_thread_no_signal_is_taken() -> None:
    """A server in a thread leaves the handlers of its process alone."""

    def enter() -> object:
        with StopSignals():
            return signal.getsignal(signal.SIGTERM)

    async def beside() -> object:
        return await asyncio.to_thread(enter)

    assert asyncio.run(beside()) == signal.getsignal(signal.SIGTERM)
