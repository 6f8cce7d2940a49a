"""Where the time of an answer goes, stage by stage: the composed placement in process, on the state of ``composed.py``.

Each stage is timed where the pipeline calls it, in every answer, by the clock and by the CPU time of the thread: on a
shared machine the clock also counts what others do. ``rest`` is the answer less its stages: the moment, the account of
the parts, the trace. Encoding is that of the answer's JSON; the record is what goes to the log, which the log thread
writes. Needs the extra ``train`` for the trees; about 2 minutes at full size.
"""

import argparse
import asyncio
import itertools
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from unittest import mock

import msgspec
import numpy as np
from composed import configured, put, rows_of
from serving import Row, asks, table
from world import World, batches

from midstream.app.opening import config_of
from midstream.app.wiring import plans
from midstream.core.types import LogPosition, Models, Query
from midstream.engine.answer.query_mapping import answer_of, served_event
from midstream.engine.types import Ask
from midstream.events.schema import build
from midstream.models.rows.lambdamart import LambdaMartOptions, fit_lambdamart
from midstream.ranking import pipeline
from midstream.ranking.plan import Plan
from midstream.ranking.rules.traces import pack_traces
from midstream.serving.slates.recommendations import slate_of
from midstream.state.fold import Fold

STAGES = {
    "propose": "sources",
    "merge": "merge",
    "sift": "filters",
    "cut": "cut",
    "read": "features",
    "facts_of": "facts of the rules",
    "climb": "score",
    "choose": "select",
}
"""Function of the pipeline → what it is called here."""
WARM_UP = 200
Times = dict[str, list[tuple[float, float]]]


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--sessions", type=int, default=400_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--answers", type=int, default=2_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    world = World(items=options.items, sessions=options.sessions, events=options.events)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root = Path(folder)
        (root / "midstream.toml").write_text(configured())
        fold = folded(root, world)
        examples, _ = rows_of(root, fold, world)
        model = fit_lambdamart(examples, LambdaMartOptions(trees_max=options.trees, later_share=0.0))
        plan = plans(config_of(root))["default"].serving(Models({"ranker": model}, {"ranker": "1"}))
        rows = asyncio.run(measure(plan, fold, world, options.answers))
    text = table(rows, f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(text)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def folded(root: Path, world: World) -> Fold:
    """Return the state of the world."""
    fold = Fold(config_of(root).fold_settings())
    items = (build([put(item) for item in range(first, first + 10_000)]) for first in range(0, world.items, 10_000))
    for batch in itertools.chain(items, batches(world)):
        fold.apply(LogPosition(fold.log_position), batch)
    return fold


async def measure(plan: Plan, fold: Fold, world: World, answers: int) -> list[Row]:
    """Answer, and return what each stage took."""
    times: Times = defaultdict(list)
    with mock.patch.multiple(
        pipeline, **{name: timed(getattr(pipeline, name), times[told]) for name, told in STAGES.items()}
    ):
        for number, told in enumerate(asks(world, answers + WARM_UP, 1)):
            if number == WARM_UP:
                for each in times.values():
                    each.clear()
            await answer(plan, fold, (number, told), times)
    whole, stages = np.array(times.pop("answer")), np.array([times[told] for told in STAGES.values()])
    times["rest"] = (whole - stages.sum(axis=0)).tolist()
    order = (*STAGES.values(), "rest", "encode", "record")
    rows = [row(name, np.array(times[name])) for name in order]
    return [*rows, row("all of it", whole + np.array(times["encode"]) + np.array(times["record"]))]


async def answer(plan: Plan, fold: Fold, asked: tuple[int, dict], times: Times) -> None:
    """Answer once."""
    number, told = asked
    ask = Ask(placement="default", user_id=told["user_id"], items=tuple(told["items"]))
    query = Query("r" * 32, "default", ask.user_id, None, 20, fold.log_time_ms, number, items=ask.items)
    with clocked(times["answer"]):
        served = await pipeline.recommend(plan, partial(fold.moment, models=plan.models), query, lambda: 60.0)
    if served.tier != "full" or served.scorer != "ranker":
        raise RuntimeError(served.failures)
    with clocked(times["encode"]):
        made = answer_of(served, ask, fold, "A" * 16, read_your_writes=None)
        msgspec.json.encode(slate_of(made, None))
    with clocked(times["record"]):
        served_event(served, [item.id for item in made.items], pack_traces(served, fold.vocabulary))


class clocked:  # noqa: N801  reads as a statement
    """Adds what its block took to a list: seconds by the clock, and of the thread's CPU."""

    def __init__(self, times: list[tuple[float, float]]) -> None:
        """Add to ``times``."""
        self._times = times

    def __enter__(self) -> None:
        """Begin."""
        self._began = time.perf_counter(), time.thread_time()

    def __exit__(self, *_: object) -> None:
        """End."""
        self._times.append((time.perf_counter() - self._began[0], time.thread_time() - self._began[1]))


def timed(stage: Callable, times: list[tuple[float, float]]) -> Callable:
    """Return the same function, which notes what it took."""
    if iscoroutinefunction(stage):

        async def waits(*arguments: object) -> object:
            with clocked(times):
                return await stage(*arguments)

        return waits

    def computes(*arguments: object) -> object:
        with clocked(times):
            return stage(*arguments)

    return computes


def row(name: str, seconds: np.ndarray) -> Row:
    """Return a line: µs of CPU at p50 and p99, and by the clock."""
    (clock_50, cpu_50), (clock_99, cpu_99) = np.percentile(seconds * 1e6, (50, 99), axis=0)
    return Row(name, f"{cpu_50:.0f} / {cpu_99:.0f} CPU; {clock_50:.0f} / {clock_99:.0f} by the clock", "", "")


if __name__ == "__main__":
    main()
