"""Rollback of a promoted version, on its whole path: a served shop trains, promotes, sees harm and takes it back.

Nothing is faked: training processes, promotions, experiments, looks and the clock are those of ``midstream serve``.
"""

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.patience import wait_until
from tests.support.served_shop import served_shop

pytestmark = [pytest.mark.service, pytest.mark.slow]
CONFIG = """
[events.types]
view = {}

[[models]]
name = "liked"
kind = "popular"

[[trainings]]
model = "liked"
every = "365d"
promote = "ask"
canary = { share = 0.5, units_min = 20 }

[trainings.gates]
baseline = false
unjudged = "pass"
shadow = false

[[placements]]
name = "home"
slate_size = 3
deadline = "10s"
sources = [{ kind = "als", model = "liked" }, { kind = "popular" }]
"""
ROLLBACK_S_MAX = 5.0
"""Of what is promised: from the acknowledgement of what breaks a guardrail to an answer of the version before."""
USERS = 800
VARIANTS = ("champion", "candidate")
UNITS_MIN = 20
LOOK_S = 1.0
"""Between two looks of the watch of experiments, and of that of trainings."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[httpx.Client]:
    """Serve a shop of a hundred users who liked some of ten items."""
    with served_shop(tmp_path, CONFIG) as url, httpx.Client(base_url=url, timeout=60.0) as client:
        views = [
            {"type": "view", "user_id": f"first-{user}", "item_id": f"item-{item}"}
            for user in range(100)
            for item in range(10)
            if (user * (item + 3)) % 10 < item
        ]
        sent(client, views)
        yield client


def sent(shop: httpx.Client, events: list[dict[str, Any]]) -> None:
    """Send events; they are acknowledged."""
    for start in range(0, len(events), 500):
        answer = shop.post("/v1/events", json={"events": events[start : start + 500]})
        assert answer.status_code == 200, answer.text


def asked(shop: httpx.Client, user: str) -> dict[str, Any]:
    """Return the slate of a user."""
    answer = shop.post("/v1/recommendations", json={"placement": "home", "user_id": user})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def decision(shop: httpx.Client) -> dict[str, Any]:
    """Return what was decided last on the model; empty = nothing."""
    found: list[dict[str, Any]] = shop.get("/v1/trainings/liked").json()["decisions"]
    return found[0] if found else {}


def train(shop: httpx.Client) -> str:
    """Have the model trained; return the version that waits to be promoted."""
    before = decision(shop)
    shop.post("/v1/trainings/liked/run").raise_for_status()
    wait_until(lambda: decision(shop).get("action") not in {None, "begun", "passed", before.get("action")})
    last = decision(shop)
    assert last["action"] in {"waiting", "canary"}, last
    return str(last["candidate"])


def promote(shop: httpx.Client, version: str) -> None:
    """Put a version in service."""
    shop.post("/v1/models/liked/promote", json={"version": version}).raise_for_status()


@contextmanager
def stops() -> Generator[list[float]]:
    """Fill a list with the longest time for which this machine held a thread up that wanted to sleep for 20 ms."""
    longest, is_ended = [0.0], threading.Event()

    def watch() -> None:
        before = time.monotonic()
        while not is_ended.wait(0.02):
            now = time.monotonic()
            longest[0] = max(longest[0], now - before - 0.02)
            before = now

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield longest
    finally:
        is_ended.set()
        thread.join()


def test_a_broken_guardrail_puts_the_version_before_in_service_within_five_seconds(shop: httpx.Client) -> None:
    """Users get slates of both versions and do nothing; then those of the version before act, in one request."""
    first = train(shop)
    promote(shop, first)
    wait_until(lambda: decision(shop)["action"] == "kept")
    second = train(shop)
    promote(shop, second)
    wait_until(lambda: decision(shop)["action"] == "promoted")
    experiment = decision(shop)["experiment"]

    slates = {user: asked(shop, user) for user in (f"user-{number}" for number in range(USERS))}
    halves = {name: [user for user, each in slates.items() if each.get("variant") == name] for name in VARIANTS}
    assert min(map(len, halves.values())) > UNITS_MIN, {name: len(each) for name, each in halves.items()}
    wait_until(
        lambda: sum(shop.get(f"/v1/experiments/{experiment}/report").json()["units"]) == sum(map(len, halves.values()))
    )
    time.sleep(2 * LOOK_S)
    assert decision(shop)["action"] == "promoted", "nobody acts, so neither version is worse"
    stranger = next(user for user, each in slates.items() if "variant" not in each)
    assert asked(shop, stranger)["models"]["liked"] == second

    acts = [{"type": "view", "user_id": user, "item_id": slates[user]["items"][0]["id"]} for user in halves["champion"]]
    with stops() as longest:
        sent(shop, acts)
        began = time.monotonic()
        wait_until(lambda: asked(shop, stranger)["models"]["liked"] == first)
        took_s = time.monotonic() - began
    assert took_s <= ROLLBACK_S_MAX + longest[0], (took_s, longest)
    wait_until(lambda: decision(shop)["action"] == "rolled_back")
    assert "fewer-view" in decision(shop)["reason"], decision(shop)
