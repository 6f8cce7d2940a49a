"""Faults of answers and of events over HTTP, in a shop in process: each makes exactly its alerts fire."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from unittest.mock import patch

import pytest

from midstream.engine.ingest import writer
from tests.support.alerts.parts import ORDERS
from tests.support.alerts.shop import Shop, opened, story
from tests.support.alerts.tape import Tape, firing
from tests.support.model_servers.models import OipHttpModel
from tests.support.model_servers.servers import HttpServer, running

pytestmark = pytest.mark.integration
ORDERED = """
[server]
answers_max = 1
answers_waiting_max = 0

[[placements]]
name = "ordered"
deadline = "10s"
scorers = [{ kind = "custom", path = "tests.support.alerts.parts:Ordered" }]
"""


@pytest.fixture(autouse=True)
def _orders() -> Generator[None]:
    """Leave no order behind."""
    yield
    ORDERS.clear()


async def ask_together(shop: Shop, good: int) -> None:
    """Ask two questions at once where one may be answered at a time, and others one after another."""
    waits = asyncio.Event()

    async def wait() -> None:
        await waits.wait()

    ORDERS["ordered"] = wait
    first = asyncio.ensure_future(shop.ask(placement="ordered"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert await shop.ask() == {503}
    waits.set()
    assert await first == {200}
    ORDERS.clear()
    assert await shop.ask(good) == {200}


@story
async def test_an_overload(tmp_path: Path) -> Tape:
    """One of fifty questions is refused, as another one is being answered."""
    tape = Tape()
    async with opened(tmp_path, ORDERED) as shop:
        await shop.ask(2)
        tape.repeat(await shop.scrape(), lasts="5m")
        tape.check()
        await ask_together(shop, 48)
        tape.repeat(await shop.scrape(), lasts="18m")
        tape.check(
            firing("MidstreamAnswerErrorsFast"), firing("MidstreamAnswerErrorsSlow"), firing("MidstreamRefusals")
        )
        await shop.ask(400)
        tape.repeat(await shop.scrape(), lasts="55m")
        tape.check()
    return tape


@story
async def test_few_questions_that_fail(tmp_path: Path) -> Tape:
    """One of two hundred and fifty is refused, for a quarter of an hour."""
    tape = Tape()
    async with opened(tmp_path, ORDERED) as shop:
        await shop.ask(2)
        tape.repeat(await shop.scrape(), lasts="5m")
        tape.check()
        await ask_together(shop, 248)
        tape.repeat(await shop.scrape(), lasts="18m")
        tape.check(firing("MidstreamAnswerErrorsSlow"))
        await shop.ask(500)
        tape.repeat(await shop.scrape(), lasts="35m")
        tape.check()
    return tape


@story
async def test_events_without_room(tmp_path: Path) -> Tape:
    """No event is acknowledged while the disk is full."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        await shop.act(8)
        tape.repeat(await shop.scrape(), lasts="5m")
        tape.check()
        shop.hands.disk.is_full = True
        assert await shop.act() == {507}
        tape.repeat(await shop.scrape(), lasts="18m")
        tape.check(
            firing("MidstreamAppendFailures", cause="disk_full"),
            firing("MidstreamEventErrorsFast"),
            firing("MidstreamEventErrorsSlow"),
            firing("MidstreamEventsRefused"),
        )
        shop.hands.disk.is_full = False
        assert await shop.act(400) == {200}
        tape.repeat(await shop.scrape(), lasts="60m")
        tape.check()
    return tape


@story
async def test_few_events_that_fail(tmp_path: Path) -> Tape:
    """One of two hundred and fifty requests finds the queue full, for a quarter of an hour."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        await shop.act()
        tape.repeat(await shop.scrape(), lasts="5m")
        tape.check()
        with patch.object(writer, "QUEUE_EVENTS_MAX", 0):
            assert await shop.act() == {503}
        assert await shop.act(249) == {200}
        tape.repeat(await shop.scrape(), lasts="18m")
        tape.check(firing("MidstreamEventErrorsSlow"), firing("MidstreamQueueFull", queue="events"))
        await shop.act(500)
        tape.repeat(await shop.scrape(), lasts="35m")
        tape.check()
    return tape


@story
async def test_answers_that_are_slow(tmp_path: Path) -> Tape:
    """A part takes 60 ms, in one of five answers."""
    tape = Tape()
    async with opened(tmp_path, ORDERED) as shop:
        await ask_slowly(shop, 0, 5)
        tape.repeat(await shop.scrape(), lasts="5m")
        tape.check()
        await ask_slowly(shop, 1, 4)
        tape.repeat(await shop.scrape(), lasts="18m")
        tape.check(firing("MidstreamSlowAnswersFast"), firing("MidstreamSlowAnswersSlow"))
        await ask_slowly(shop, 0, 40)
        tape.repeat(await shop.scrape(), lasts="55m")
        tape.check()
    return tape


@story
async def test_few_answers_that_are_slow(tmp_path: Path) -> Tape:
    """A part takes 60 ms, in one of fifty answers, for a quarter of an hour."""
    tape = Tape()
    async with opened(tmp_path, ORDERED) as shop:
        await ask_slowly(shop, 0, 5)
        tape.repeat(await shop.scrape(), lasts="5m")
        tape.check()
        await ask_slowly(shop, 1, 49)
        tape.repeat(await shop.scrape(), lasts="18m")
        tape.check(firing("MidstreamSlowAnswersSlow"))
        await ask_slowly(shop, 0, 60)
        tape.repeat(await shop.scrape(), lasts="30m")
        tape.check()
    return tape


async def ask_slowly(shop: Shop, slow: int, quick: int) -> None:
    """Ask questions of which some take 60 ms, another one 20, and the others none."""

    def taking(seconds: float) -> Callable[[], Awaitable[None]]:
        async def take_time() -> None:
            shop.hands.pass_by(seconds)

        return take_time

    ORDERS["ordered"] = taking(0.06)
    assert await shop.ask(slow, placement="ordered") <= {200}
    ORDERS["ordered"] = taking(0.02)
    assert await shop.ask(placement="ordered") == {200}
    ORDERS.clear()
    assert await shop.ask(quick - 1, placement="ordered") == {200}


REMOTE = """
[[features]]
name = "views"
kind = "count"
actions = ["view"]

[[placements]]
name = "remote"
deadline = "10s"
features = ["views"]
scorers = [{{ kind = "remote", name = "triton", protocol = "oip", url = "{url}", model = "ranker" }}]
"""


@story
async def test_a_model_server_that_is_gone(tmp_path: Path) -> Tape:
    """Slates of a placement are reduced, and its scorer is left out after some failures; then the server is back."""
    tape = Tape()
    with running(HttpServer, OipHttpModel()) as server:
        async with opened(tmp_path, REMOTE.format(url=server.url)) as shop:
            for number in range(5):
                await shop.act(session_id=f"s{number + 2}", item_id=f"i{number}")
            await shop.ask(8, placement="remote")
            tape.repeat(await shop.scrape(), lasts="5m")
            tape.check()
            server.stop()
            await shop.ask(6, placement="remote")
            tape.hold(await shop.scrape(), lasts="15s")
            await shop.ask(2, placement="remote")
            tape.repeat(await shop.scrape(), lasts="18m")
            tape.check(
                firing("MidstreamDegradedAnswersFast"),
                firing("MidstreamDegradedAnswersSlow"),
                firing("MidstreamPartBenched", placement="remote", part="triton"),
            )
            server.start()
            await shop.act()  # behind it no write is under way, which time would make slow
            shop.hands.pass_by(5.0)
            await shop.ask(100, placement="remote")
            tape.repeat(await shop.scrape(), lasts="55m")
            tape.check()
    return tape


@story
async def test_few_slates_that_are_reduced(tmp_path: Path) -> Tape:
    """A scorer raises in one of fifty answers, for a quarter of an hour."""
    tape = Tape()

    async def fail() -> None:
        message = "a bug"
        raise ValueError(message)

    async with opened(tmp_path, ORDERED) as shop:
        await shop.ask(2, placement="ordered")
        tape.repeat(await shop.scrape(), lasts="5m")
        tape.check()
        ORDERS["ordered"] = fail
        await shop.ask(1, placement="ordered")
        ORDERS.clear()
        await shop.ask(49, placement="ordered")
        tape.repeat(await shop.scrape(), lasts="18m")
        tape.check(firing("MidstreamDegradedAnswersSlow"))
        await shop.ask(60, placement="ordered")
        tape.repeat(await shop.scrape(), lasts="30m")
        tape.check()
    return tape


@story
async def test_a_fold_that_ended(tmp_path: Path) -> Tape:
    """A bug ends the folding: nothing is answered and nothing taken. A restart mends it."""
    tape = Tape()

    def broken(*_: object) -> None:
        message = "a bug"
        raise ZeroDivisionError(message)

    async with opened(tmp_path) as shop:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        with patch.object(shop.running.engine.fold, "apply", broken):
            assert await shop.act() == {500}
        tape.hold(await shop.scrape(), lasts="8m")
        tape.check(firing("MidstreamNotReady"), firing("MidstreamEventsRefused"))
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape
