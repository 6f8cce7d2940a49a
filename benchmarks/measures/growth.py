"""How cost grows: a slate's CPU time and latency as one number of a shop grows, all else being equal.

Each point is a program of the suite, with a server of its own: items, users, columns of features and placements by
slates of the lean placement, candidates by reranks of the caller's own items under 40 columns. A request names at most
1,000 items, and a placement scores at most 500 of those that its sources find.
"""

from dataclasses import dataclass, replace

import numpy as np
import serving
from world import World

from benchmarks.generator.http_load import request, write_requests

from .checkouts import Checkout
from .goals import LESS, Goal
from .programs import COMPILE_S_MAX, HERE, Bench, Loads, Program, child, log_of, options

RATE_S = 200
"""Of the open loop: a tenth of what a server answers, so that latency is that of one question."""
CONNECTIONS = 7
EVENTS, ITEMS, USERS = 2_000_000, 100_000, 1_000_000
HEAD = '[snapshots]\nmode = "off"\n[limits]'
COLUMNS = 40
HALF_LIVES = 8
"""Columns of one feature."""
REQUESTS = 5_000
AXES: dict[str, tuple[int, ...]] = {
    "items": (10_000, 100_000, 1_000_000),
    "users": (100_000, 1_000_000, 10_000_000),
    "candidates": (100, 200, 500, 1_000),
    "columns": (10, 40, 100, 200),
    "placements": (1, 20, 200),
}
SHORT: dict[str, tuple[int, ...]] = {
    "items": (1_000, 2_000),
    "users": (100,),
    "candidates": (100,),
    "columns": (10,),
    "placements": (3,),
}
"""A point of each axis, and two of one."""
UNITS = {"CPU a slate": "µs", "p50": "ms", "p99": "ms", "resident": "MB", "start": "s"}


@dataclass(frozen=True)
class Point:
    """One point of an axis."""

    axis: str
    value: int
    is_short: bool

    @property
    def name(self) -> str:
        """Of its program."""
        return f"{self.axis} {self.value:,}"

    @property
    def world(self) -> World:
        """Its shop."""
        shop = World(1_500, 400, 400, 4_000) if self.is_short else World(ITEMS, USERS, USERS, EVENTS)
        if self.axis == "items":
            return replace(shop, items=self.value)
        if self.axis == "users":
            return replace(shop, users=self.value, sessions=min(self.value, shop.events // 2))
        return shop

    @property
    def config(self) -> str:
        """Its configuration."""
        columns = {"columns": self.value, "candidates": COLUMNS}.get(self.axis, 0)
        placements = self.value if self.axis == "placements" else 1
        items = 2 * self.world.items  # all of them known by clicks alone
        sizes = [f"items_max = {items}", f"click_items_max = {items}", f"users_max = {self.world.users}"]
        features = [
            f'[[features]]\nname = "{name}"\nkind = "count"\nscope = "{scope}"\nactions = ["view"]\nhalf_life = {lives}'
            for name, scope, lives in features_of(columns)
        ]
        named = f"features = {[name for name, _, _ in features_of(columns)]}".replace("'", '"') if columns else ""
        names = ["default", *(f"place{number}" for number in range(1, placements))]
        tables = [f'[[placements]]\nname = "{name}"\n{named}' for name in names]
        return "\n".join([HEAD, *sizes, *features, *tables])

    def requests(self) -> list[bytes]:
        """Return what is asked."""
        world, count = self.world, 200 if self.is_short else REQUESTS
        asks = serving.asks(world, count, 1)
        if self.axis == "candidates":
            rng, some = np.random.default_rng(5), asks[: count // 5]
            return [
                request(
                    "/v1/rank",
                    {"user_id": ask["user_id"], "items": serving.distinct(rng, world, self.value), "n": 20},
                )
                for ask in some
            ]
        places = [f"place{number}" for number in range(1, self.value)] if self.axis == "placements" else []
        names = ["default", *places]
        return [
            request("/v1/recommendations", {**ask, "placement": names[number % len(names)]})
            for number, ask in enumerate(asks)
        ]


def features_of(columns: int) -> list[tuple[str, str, list[str]]]:
    """Return name, scope and half-lives of the features that make so many columns, of items and users in turns."""
    found = []
    for number, first in enumerate(range(0, columns, HALF_LIVES)):
        hours = [f"{number + 1 + 6 * (each + 1)}h" for each in range(min(HALF_LIVES, columns - first))]
        found.append((f"f{number}", ("item", "user")[number % 2], hours))
    return found


def measured_at(point: Point) -> Program:
    """Return the program of a point."""

    def run(bench: Bench, checkout: Checkout) -> dict[str, float]:
        folder = bench.fresh(checkout, "growth")
        folder.mkdir(parents=True)
        (folder / "midstream.toml").write_text(point.config)
        world = point.world
        numbers = {"events": world.events, "sessions": world.sessions, "users": world.users, "items": world.items}
        child(checkout, HERE / "prepare.py", ["lean", str(folder), "--keeps-config", *options({**numbers, "trees": 0})])
        file = write_requests(bench.root / "growth", point.requests())
        log = log_of(bench, checkout, "growth")
        with serving.serving(folder, environment=checkout.environment, ready_s=COMPILE_S_MAX, log=log) as server:
            loads = Loads(server, bench)
            found = loads.saturated(("rate", "cpu", "lost"), file, CONNECTIONS)
            steady = loads.at(file, RATE_S)
            figures = (found["cpu"], steady["p50_us"] / 1e3, steady["p99_us"] / 1e3, server.rss_mb(), server.started_s)
        return {f"{point.name}: {what}": figure for what, figure in zip(UNITS, figures, strict=True)}

    return run


def growth(*, is_short: bool) -> tuple[tuple[Goal, ...], dict[str, Program]]:
    """Return the rows of all points and their programs; no row has a floor."""
    axes = SHORT if is_short else AXES
    points = [Point(axis, value, is_short) for axis, values in axes.items() for value in values]
    goals = tuple(
        Goal(f"{each.name}: {what}", unit, each.name, LESS) for each in points for what, unit in UNITS.items()
    )
    return goals, {each.name: measured_at(each) for each in points}
