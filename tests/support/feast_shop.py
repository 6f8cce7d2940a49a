"""A shop with features of every scope and its log, for tests of what feature stores are given of it."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from midstream.app.ingest.import_file import import_file
from midstream.app.opening import config_of

CONFIG = """
[items.attributes]
price = "number"
fresh = "boolean"
colour = "category"

[[features]]
name = "price"
kind = "number"

[[features]]
name = "fresh"
kind = "boolean"

[[features]]
name = "years"
kind = "number"
scope = "user"

[[features]]
name = "colour"
kind = "category"
values = ["red", "blue"]

[[features]]
name = "views"
kind = "count"
actions = ["view"]

[[features]]
name = "recent"
kind = "count"
actions = ["view", "click"]
windows = ["1h", "1d"]
half_life = ["2h"]

[[features]]
name = "purchase_rate"
kind = "rate"
actions = ["purchase"]
per = ["view"]
half_life = "2d"

[[features]]
name = "paid"
kind = "statistic"
statistic = "mean"
actions = ["purchase"]

[[features]]
name = "idle"
kind = "since"
actions = ["view"]

[[features]]
name = "visitors"
kind = "unique_count"
of = "user"
actions = ["view"]

[[features]]
name = "user_views"
kind = "count"
scope = "user"
actions = ["view"]

[[features]]
name = "user_paid"
kind = "statistic"
scope = "user"
statistic = "last"
actions = ["purchase"]

[[features]]
name = "seen"
kind = "count"
scope = "user_item"
actions = ["view"]

[[features]]
name = "colour_affinity"
kind = "affinity"
attribute = "colour"
actions = ["view"]

[[features]]
name = "session_views"
kind = "count"
scope = "session"
actions = ["view"]

[[features]]
name = "same_colour"
kind = "match"
attribute = "colour"

[[features]]
name = "all_views"
kind = "count"
scope = "global"
actions = ["view"]

[[features]]
name = "worth"
kind = "expression"
text = "log(views + 1) * price"

[[features]]
name = "hour"
kind = "local_time"

[[features]]
name = "stock"
kind = "item_field"

[limits]
users_max = 1_000
items_max = 1_000
click_items_max = 100
sessions_max = 2_000
event_ids_max = 100_000
"""
VIEWS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "item_attributes": (("item_id",), ("price", "fresh")),
    "user_profile": (("user_id",), ("years",)),
    "item": (
        ("item_id",),
        (
            "colour",
            "views",
            "recent_1h",
            "recent_1d",
            "recent_fading_2h",
            "purchase_rate",
            "paid",
            "idle",
            "visitors",
            "worth",
        ),
    ),
    "user": (("user_id",), ("user_views", "user_paid")),
    "user_item": (("user_id", "item_id"), ("seen", "colour_affinity")),
    "session": (("session_id",), ("session_views",)),
    "session_item": (("session_id", "item_id"), ("same_colour",)),
    "shop": ((), ("all_views",)),
}
"""Ids and columns of each view."""
LEFT_OUT = ("hour", "stock")
OF_KEYS_ALONE = {
    "item_attributes": ("price", "fresh"),
    "user_profile": ("years",),
    "item": ("colour", "views", "paid", "visitors", "worth"),
    "user": ("user_views", "user_paid"),
    "user_item": ("seen",),
    "shop": ("all_views",),
}
"""Columns that no time and no event about other ids moves, by view. Those of a session end with it."""
START_MS, HOUR_MS = 1_750_000_000_000, 3_600_000
ITEMS, USERS, SESSIONS = 60, 80, 300
COLOURS = ("red", "blue", "green")


def write_shop(folder: Path, events: int, seed: int = 5, items: int = ITEMS) -> list[dict[str, object]]:
    """Write configuration and log of a shop; return its acts, in the order of the log.

    A catalogue and profiles come first, prices change between acts, and several acts are of one millisecond.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "midstream.toml").write_text(CONFIG, "utf-8")
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = [_item(number, 10.0 + number, START_MS) for number in range(items)]
    rows += [
        {"type": "user", "user_id": f"u{number}", "time": START_MS, "attributes": {"years": 18 + number}}
        for number in range(0, USERS, 2)
    ]
    times = START_MS + 1_000 + np.cumsum(rng.choice([0, 1, 400, 60_000], events, p=[0.2, 0.1, 0.4, 0.3]))
    for number, time_ms in enumerate(times.tolist()):
        if number % 25 == 0:
            rows.append(_item(int(rng.integers(items)), float(rng.integers(100, 10_000)) / 100, time_ms))
        user = int(rng.integers(USERS))
        action = rng.choice(["view", "click", "purchase"], p=[0.7, 0.2, 0.1])
        row: dict[str, object] = {
            "type": str(action),
            "user_id": f"u{user}",
            "session_id": f"s{user}-{number * SESSIONS // events // 50}",
            "item_id": f"i{(int(rng.zipf(1.4)) - 1) % items}",
            "time": time_ms,
        }
        if action == "purchase":
            row["value"] = float(rng.integers(100, 10_000)) / 100
        rows.append(row)
    lines = folder / "events.ndjson"
    lines.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    import_file(folder, config_of(folder), lines)
    return [row for row in rows if row["type"] not in {"item", "user"}]


def _item(number: int, price: float, time_ms: int) -> dict[str, object]:
    attributes = {"price": price, "fresh": number % 3 == 0, "colour": COLOURS[number % len(COLOURS)]}
    return {"type": "item", "item_id": f"i{number}", "time": time_ms, "attributes": attributes}
