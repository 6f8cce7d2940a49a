"""Latency guardrail of a served shop: a variant whose source really sleeps is stopped, one that does not sleep runs.

No time is faked: the source holds the server's thread, and the guardrail reads what the served records say of it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.patience import wait_until
from tests.support.served_shop import served_shop

pytestmark = [pytest.mark.service, pytest.mark.slow]
COMPONENTS = '''
"""Popular items, proposed late."""

import time

import msgspec
import numpy as np

from midstream.core.types import Moment, Proposal


class Late(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = "late"
    wait_s: float = 0.0

    def retrieve(self, moment: Moment) -> Proposal:
        time.sleep(self.wait_s)
        return Proposal(np.arange(3, dtype=np.int32), np.arange(3, 0, -1).astype(np.float32))
'''
CONFIG = """
[limits]
users_max = 4000
sessions_max = 4000

[components]
late = "components:Late"

[[placements]]
name = "home"
slate_size = 3
deadline = "10s"
sources = [{ kind = "custom", name = "late" }]
"""
SLEEP_S = 0.02
HARM_MAX = 1.0
"""Twice the time of the control. A slate that does not sleep takes a tenth of the sleep or less."""
USERS_MAX = 1_500
METRICS = [
    {"name": "viewed", "counts": "view", "role": "primary"},
    {
        "name": "latency",
        "counts": "latency_us",
        "kind": "ratio",
        "per": "timed_slates",
        "better": "lower",
        "role": "guardrail",
        "harm_max": HARM_MAX,
    },
]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[httpx.Client]:
    """Serve a shop of three items in a process of its own."""
    (tmp_path / "components.py").write_text(COMPONENTS)
    with served_shop(tmp_path, CONFIG) as url, httpx.Client(base_url=url, timeout=30.0) as client:
        events = [{"type": "view", "user_id": "first", "item_id": f"item-{number}"} for number in range(3)]
        client.post("/v1/events", json={"events": events}).raise_for_status()
        yield client


def started(shop: httpx.Client, name: str, wait_s: float) -> None:
    """Start an experiment of two variants, the second of which sleeps for a while."""
    late = {"kind": "custom", "name": "late", "options": {"wait_s": wait_s}}
    variants = [{"name": "as-is"}, {"name": "other", "change": {"sources": [late]}}]
    order = {"placement": "home", "author": "ann", "variants": variants, "metrics": METRICS}
    answer = shop.post(f"/v1/experiments/{name}", json=order)
    assert answer.status_code == 200, answer.text


def asked(shop: httpx.Client, user: str) -> dict[str, Any]:
    """Return the slate of a user."""
    answer = shop.post("/v1/recommendations", json={"placement": "home", "user_id": user})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def standing(shop: httpx.Client, name: str) -> dict[str, Any]:
    """Return how an experiment stands."""
    found: dict[str, Any] = shop.get(f"/v1/experiments/{name}").json()
    return found


def test_a_variant_whose_source_sleeps_is_stopped(shop: httpx.Client) -> None:
    """By the server itself, with the times as the reason; an equal variant of the same source runs on."""
    started(shop, "equal", 0.0)
    seen = [asked(shop, f"user-{number}") for number in range(600)]
    assert {each["variant"] for each in seen} == {"as-is", "other"}
    assert {each["tier"] for each in seen} == {"full"}
    wait_until(lambda: sum(shop.get("/v1/experiments/equal/report").json()["units"]) == len(seen))
    assert standing(shop, "equal")["state"] == "running"
    shop.post("/v1/experiments/equal/stop", json={"reason": "seen", "author": "ann"}).raise_for_status()

    started(shop, "late", SLEEP_S)
    sleeping: list[dict[str, Any]] = []
    for number in range(USERS_MAX):
        found = asked(shop, f"user-{number}")
        if found.get("variant") == "other":
            sleeping.append(found)
        if number % 50 == 0 and standing(shop, "late")["state"] == "stopped":
            break
    view = standing(shop, "late")
    assert (view["state"], view["stopped_by"]) == ("stopped", "watch"), view
    (harm,) = view["harms"]
    assert (harm["variant"], harm["metric"]) == ("other", "latency")
    assert harm["harm_low"] > HARM_MAX
    assert {each["tier"] for each in sleeping} == {"full"}, "a part that is benched does not sleep"
    assert not asked(shop, "user-0").get("variant")
