"""Faults of a follower, in a server of two processes: it stands still, and it is killed again and again."""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.alerts.promtool import promtool
from tests.support.alerts.scrapes import scraped
from tests.support.alerts.shop import LIMITS
from tests.support.alerts.tape import Tape, firing
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.served_shop import served_shop

pytestmark = pytest.mark.integration
CONFIG = LIMITS + "[server]\nfollowers = 1\n"
OF_ONE = {"process": "leader", "follower": "1"}


def follower_of(leader: int) -> int:
    """Return the process that follows another one."""
    children = Path(f"/proc/{leader}/task/{leader}/children").read_text("ascii").split()
    (found,) = (pid for pid in map(int, children) if b"follower" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return found


@contextmanager
def standing(pid: int) -> Generator[None]:
    """Stop a process, which goes on then."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_follower_in_trouble(tmp_path: Path) -> None:
    """Eleven thousand events come while it stands; later it is killed once, again each minute for Prometheus."""
    promtool()
    tape = Tape(interval_s=60)
    with served_shop(tmp_path, CONFIG) as url, httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        wait_until(lambda: is_level(client))
        follower = follower_of(client.get("/health/live").json()["pid"])
        tape.hold(scraped(url), lasts="5m")
        tape.check()
        with standing(follower):
            events = {"events": [{"type": "view", "session_id": "s1", "item_id": "i1"}] * 500}
            for _ in range(22):
                assert client.post("/v1/events", json=events).status_code == 200
            tape.hold(scraped(url), lasts="7m")
        tape.check(firing("MidstreamFollowerBehind", **OF_ONE))
        wait_until(lambda: is_level(client))
        tape.hold(scraped(url), lasts="3m")
        tape.check()
        os.kill(follower, signal.SIGKILL)
        wait_until(lambda: view(client)["restarts"] == 1)
        wait_until(lambda: is_level(client))
        tape.repeat(scraped(url), lasts="6m")
        tape.check(firing("MidstreamFollowerRestarts", **OF_ONE))
        tape.hold(scraped(url), lasts="60m")
        tape.check()
    tape.play(tmp_path)


def is_level(client: httpx.Client) -> bool:
    """Return whether the follower takes connections and has all events."""
    found = view(client)
    return (found["state"], found["behind_events"]) == ("serving", 0)


def view(client: httpx.Client) -> dict[str, Any]:
    """Return how the follower is."""
    (found,) = client.get("/health/ready").json()["followers"]
    return dict(found)
