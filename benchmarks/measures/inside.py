"""The rows that need no server: the fold, one event alone, columns of features; a child's last line is JSON.

``inside.py fold`` folds a world in batches of 10,000, timed by the clock, batch by batch without their making: as many
cores as the process may use take part where the fold takes them. ``inside.py cells`` folds a world with the 42 cells of
``cells.py``, then single events, then reads 40 columns of 500 candidates.
"""

import argparse
import contextlib
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import cells
import serving
from world import World, batches

from midstream.app.opening import config_of
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings

STEP = 10_000
WARM = World(items=100, users=50, sessions=50, events=200)


def lean_settings() -> FoldSettings:
    """Return what a server without declared features folds."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "midstream.toml").write_text(serving.CONFIG)
        return config_of(Path(folder)).fold_settings()


def fold_rate(world: World) -> dict[str, float]:
    """Return events a second of the whole world, and the system time of one in µs; a small world loads the kernels."""
    settings, taken, system_s = lean_settings(), 0.0, 0.0
    for each in (WARM, world):
        fold, taken, system_s = Fold(settings), 0.0, 0.0
        for batch in batches(each, STEP):
            began, system_began_s = time.perf_counter(), system_time_s()
            fold.apply(fold.log_position, batch)
            taken += time.perf_counter() - began
            system_s += system_time_s() - system_began_s
    return {"rate": world.events / taken, "system_us": system_s / world.events * 1e6}


def system_time_s() -> float:
    """Return the system time of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_stime


def alone_and_columns(world: World, singles: int, questions: int) -> dict[str, float]:
    """Return the µs of one event alone, CPU time, and those of 40 columns of 500 candidates, by the clock."""
    fold = cells.catalogued(world, cells.cells_of(cells.features()))
    for batch in batches(world, STEP):
        fold.apply(fold.log_position, batch)
    costs = []
    for batch in batches(World(items=world.items, users=world.users, sessions=singles, events=singles, seed=9), 1):
        began = time.thread_time_ns()
        fold.apply(fold.log_position, batch)
        costs.append((time.thread_time_ns() - began) / 1e3)
    with contextlib.redirect_stdout(sys.stderr):
        wall = cells.ask(fold, world, questions)["wall"]
    return {"alone_us": median(costs[len(costs) // 4 :]), "columns_p50_us": wall[0], "columns_p99_us": wall[1]}


def main() -> None:
    """Measure one and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("fold", "cells"))
    for name in ("events", "sessions", "users", "items", "singles", "questions"):
        parser.add_argument(f"--{name}", type=int, required=True)
    told = parser.parse_args()
    world = World(items=told.items, users=told.users, sessions=told.sessions, events=told.events)
    found = fold_rate(world) if told.what == "fold" else alone_and_columns(world, told.singles, told.questions)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
