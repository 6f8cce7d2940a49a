"""Faults of a node of a shared log, in a shop in process whose topic is in memory."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from midstream.app.replicas import node_services, shared_log
from tests.support.alerts.shop import Shop, opened, story
from tests.support.alerts.tape import Tape, firing
from tests.support.fakes.node_boards import MemoryBoard
from tests.support.patience import wait_on_loop
from tests.support.shared_topics import FakeTopic, FakeTopicServer

pytestmark = pytest.mark.integration
CONFIG = """
[log]
kind = "kafka"
servers = "127.0.0.1:1"
topic = "shop-log"
"""
TOPIC = "shop-log at the fake"


@contextmanager
def connected(topic: FakeTopic) -> Generator[None]:
    """Have nodes reach a topic in memory."""
    with (
        patch.object(shared_log, "KafkaSharedTopic", lambda *_: topic),
        patch.object(node_services, "board_of", lambda *_: MemoryBoard()),
    ):
        yield


def lag_ms(shop: Shop) -> int | None:
    """Return how far the copy is behind."""
    found = shop.running.shared_log
    assert found is not None
    return found.lag_ms


def copy_of(shop: Shop) -> tuple[bool, bool]:
    """Return whether the broker is gone, and whether the copy ended."""
    found = shop.running.shared_log
    assert found is not None
    return found.is_unreachable, bool(found.ended)


@story
async def test_a_copy_that_stands(tmp_path: Path) -> Tape:
    """The broker does not give out messages for some seconds, then not even answers, and then lacks the next one."""
    tape = Tape()
    server, goes_on = FakeTopicServer(), threading.Event()
    topic = FakeTopic(server)
    goes_on.set()

    def wait_at(call: str) -> None:
        if call == "read":
            goes_on.wait()

    topic.called = wait_at
    with connected(topic):
        async with opened(tmp_path, CONFIG) as shop:
            tape.hold(await shop.scrape(), lasts="5m")
            tape.check()
            goes_on.clear()
            shop.hands.pass_by(8.0)
            tape.hold(await shop.scrape(), lasts="2m")
            tape.check()
            shop.hands.pass_by(6.0)
            tape.hold(await shop.scrape(), lasts="7m")
            tape.check(firing("MidstreamSharedLogLag", topic=TOPIC), firing("MidstreamNotReady"))
            goes_on.set()
            await shop.act()
            await wait_on_loop(lambda: lag_ms(shop) == 0)
            tape.hold(await shop.scrape(), lasts="2m")
            tape.check()
            server.is_down = True
            await wait_on_loop(lambda: copy_of(shop) == (True, False))
            tape.hold(await shop.scrape(), lasts="7m")
            tape.check(firing("MidstreamSharedLogDisconnected", topic=TOPIC))
            server.is_down = False
            await wait_on_loop(lambda: copy_of(shop) == (False, False))
            await shop.act()
            await wait_on_loop(lambda: lag_ms(shop) == 0)
            tape.hold(well := await shop.scrape(), lasts="2m")
            tape.check()
            server.first = len(server.messages) + 1
            await wait_on_loop(lambda: copy_of(shop) == (False, True))
            tape.hold(await shop.scrape(), lasts="7m")
            tape.check(
                firing("MidstreamSharedLogEnded", topic=TOPIC),
                firing("MidstreamNotReady"),
                firing("MidstreamEventsRefused"),
            )
            tape.hold(well, lasts="2m")
            tape.check()
    return tape
