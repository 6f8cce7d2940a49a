"""A shop in which events, changes and questions of every kind alternate: what is served there is run again."""

import asyncio
from pathlib import Path

import numpy as np

from midstream.app.config import Config
from midstream.app.reading import parse_config
from midstream.app.running import open_running, open_shop
from midstream.engine.folder import DataFolder
from midstream.engine.shop import Request, Shop
from midstream.ranking.plan import SIMILAR
from midstream.testing.models import CONFIG, publish_linear
from midstream.training.registry import Registry

LIMITS = CONFIG.partition("[[placements]]")[0]
PLACEMENTS = """
[items.attributes]
price = "number"
category = "category"

[[features]]
name = "carts"
kind = "count"
scope = "item"
actions = ["cart"]

[[features]]
name = "acts"
kind = "count"
scope = "item"
actions = ["view"]

[[features]]
name = "seen"
kind = "count"
scope = "item"
actions = ["impression"]

[[placements]]
name = "plain"

[[placements]]
name = "home"
sources = [{ kind = "session_knn" }, { kind = "covisitation" }, { kind = "trending" }, { kind = "recent_items" }]
filter = 'item.price < 50 and item.category != "hidden"'
exclude = { purchase = "30d", impression = 3 }
features = ["carts"]
log_features = 0.5
scorers = [{ kind = "model", name = "ranker" }]
selector = { kind = "plackett_luce" }
caps = [{ attribute = "category", max = 4 }]
slate_size = 8

[[placements]]
name = "shelf"
selector = { kind = "thompson", acts = "acts", impressions = "seen" }
features = ["acts", "seen"]
slate_size = 8

[[placements]]
name = "corner"
diversity = { attribute = "category" }
exclude = { served = 2 }
repeats = "any"
selector = { kind = "epsilon_greedy" }
rules = [
    { kind = "pin", name = "voucher", items = ["i3"], positions = [1] },
    { kind = "boost", name = "cheap", where = "item.price < 20", factor = 1.5 },
    { kind = "promote", name = "share", where = 'item.category == "c2"', min = 0.1, max = 0.4 },
]
"""
ITEMS, USERS = 80, 25
NAMES = ("plain", "home", "shelf", "corner", SIMILAR)
_SHARE = 0.3
"""Of the questions that bring a filter, an exclusion or a basket; of changed items that are not available as many."""


def served_shop(folder: Path, requests: int, seed: int = 1) -> tuple[Config, list[str]]:
    """Ask a shop in which things happen all the time; return its configuration and the ids of the requests.

    The first quarter has no ranker; then one is put in service, and all goes on after a restart.
    """
    config = parse_config(LIMITS + PLACEMENTS)
    publish_linear(Registry(DataFolder(folder / "data").models))
    dice = np.random.default_rng(seed)
    catalogue = [
        {"type": "item", "item_id": f"i{number}", "attributes": {"price": number, "category": f"c{number % 7}"}}
        for number in range(ITEMS)
    ]
    with open_shop(folder, config) as shop:
        shop.record(catalogue)
        ids = [_asked_after_events(shop, dice) for _ in range(requests // 4)]
    asyncio.run(_promote(folder, config))
    with open_shop(folder, config) as shop:
        ids.extend(_asked_after_events(shop, dice) for _ in range(requests - requests // 4))
    return config, ids


async def _promote(folder: Path, config: Config) -> None:
    """Put the ranker in service."""
    running = open_running(folder, config)
    await running.start()
    try:
        await running.champions.promote("ranker")
    finally:
        await running.stop()


def _asked_after_events(shop: Shop, dice: np.random.Generator) -> str:
    """Let some things happen, then ask; return the id of the request."""
    shop.record([_happening(dice) for _ in range(int(dice.integers(1, 8)))])
    return _asked(shop, dice)


def _happening(dice: np.random.Generator) -> dict[str, object]:
    """Return an event of a busy shop."""
    kind = dice.choice(["view", "cart", "purchase", "impression", "item"], p=[0.6, 0.15, 0.1, 0.1, 0.05])
    item = f"i{min(int(dice.geometric(0.05)), ITEMS) - 1}"
    if kind == "item":
        attributes = {"price": int(dice.integers(0, 80)), "category": "a", "available": bool(dice.random() > _SHARE)}
        return {"type": "item", "item_id": item, "attributes": attributes}
    return {"type": str(kind), "user_id": f"u{dice.integers(0, USERS)}", "item_id": item}


def _asked(shop: Shop, dice: np.random.Generator) -> str:
    """Ask for a slate in one of the ways there are; return the id of the request."""
    name = str(dice.choice(NAMES))
    if name == SIMILAR:
        return shop.similar(f"i{dice.integers(0, ITEMS)}").request_id
    question: Request = {"user_id": f"u{dice.integers(0, USERS + 5)}", "n": int(dice.integers(1, 20))}
    if dice.random() < _SHARE:
        question["filter"], question["context"] = "item.price < context.budget", {"budget": 40}
    if dice.random() < _SHARE:
        question["exclude"] = [f"i{number}" for number in dice.integers(0, ITEMS, 5)]
    if dice.random() < _SHARE:
        question["items"], question["session_id"] = ["i1", "i2"], "s"
    return shop.recommend(name, **question).request_id
