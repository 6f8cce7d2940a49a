"""Assignment to an experiment in process: which variant answers a request, beside a holdout of users.

``python benchmarks/assignment.py`` starts an experiment of two variants and a holdout in a new folder, and routes
requests of users and of sessions as an answer does: the unit's hash after merges, the holdout's bucket, the layer's
and the experiment's. Prints nanoseconds of CPU time a request, median and least over turns, and what it takes more than
the choice of the plan of a placement without an experiment.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import midstream
from midstream.app.opening import config_of, open_running

PLACEMENT = '[[placements]]\nname = "{}"\nsources = [{{ kind = "popular" }}]\n'
CONFIG = PLACEMENT.format("home") + PLACEMENT.format("beside")
VARIANTS = [{"name": "as-is"}, {"name": "few", "placement": {"slate_size": 2, "sources": [{"kind": "popular"}]}}]
ASKED_US = 2.0
Asker: TypeAlias = tuple[str | None, str | None]
"""User and session."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=15)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "midstream.toml").write_text(CONFIG)
        users = [f"user-{number}" for number in range(told.requests)]
        with midstream.open(Path(name)) as shop:
            shop.record([{"type": "view", "user_id": each, "item_id": "i"} for each in users])
            shop.experiments.start("size", placement="home", variants=VARIANTS, author="ann")
            shop.experiments.hold_out(0.02, placements=["home"], author="ann")
        asyncio.run(measured(Path(name), users, told.turns))


async def measured(folder: Path, users: list[str], turns: int) -> None:
    """Print what the choice of the plan takes with an experiment and a holdout."""
    async with open_running(folder, config_of(folder)) as running:
        plan_for = running.engine.live.plan_for
        both: dict[str, list[Asker]] = {
            "users": [(each, None) for each in users],
            "sessions": [(None, each) for each in users],
        }
        beside = report("a placement without an experiment", "beside", both["users"], plan_for, turns)
        for what, askers in both.items():
            found = report(what, "home", askers, plan_for, turns)
            print(f"assignment of {what}: {found - beside:,.0f} ns; {ASKED_US:.0f} µs are asked for")
        assert len({plan_for("home", each, None).name for each in users}) > len(VARIANTS), "variants, and the holdout"


def report(
    what: str,
    placement: str,
    askers: Sequence[Asker],
    plan_for: Callable[..., object],
    turns: int,
) -> float:
    """Print what the choice of the plan takes a request; return the median in nanoseconds."""
    times: list[float] = []
    for _ in range(turns):
        began = time.thread_time_ns()
        for user, session in askers:
            plan_for(placement, user, session)
        times.append((time.thread_time_ns() - began) / len(askers))
    middle = statistics.median(times)
    print(f"{what}: {middle:,.0f} ns a request (least {min(times):,.0f})")
    return middle


if __name__ == "__main__":
    main()
