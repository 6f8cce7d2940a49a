"""Share of an oracle's gain that the training loop has after people changed, over simulated worlds.

Each world has drift, new items whose surplus fades, position bias and robots. Model code, gates and the guardrail
are the product's; slates are made in columns here, not by the engine. Bad candidates are offered in each world.

    nice -n 10 python benchmarks/loop.py --worlds 20
"""

import argparse
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np

from midstream.simulation.market_trials import WAYS, MarketOutcome, MarketTrial, run_market

WORLDS_MAX = 200
LOSS_MAX = 0.99
"""Of frozen's value: below it a day counts as lost."""


def one(trial: MarketTrial) -> MarketOutcome:
    """Run one world in a process of its own."""
    return run_market(trial, time.process_time)


def shown(values: np.ndarray) -> str:
    """Return median and worst of worlds."""
    return f"{np.median(values):.3f} ({values.min():.3f})"


def print_quiet(days: np.ndarray) -> None:
    """Print how the loop does before people change, (worlds, days)."""
    print("\n| day before the drift | loop by frozen |\n|---|---|")
    for before, values in zip(range(days.shape[1], 0, -1), days.T, strict=True):
        print(f"| {before} | {np.median(values):.4f} ({values.min():.4f}) |")
    print(
        f"\n{np.count_nonzero(days < LOSS_MAX)} of {days.size} quiet days below {LOSS_MAX} of frozen's value; ", end=""
    )
    print(f"means of the days by world: {shown(days.mean(axis=1))}")


def main() -> None:
    """Run worlds and print a table of days and one of bad candidates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=20, choices=range(1, WORLDS_MAX + 1), metavar="N")
    parser.add_argument("--days", type=int, default=21, choices=range(13, 61), metavar="N")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    chosen = parser.parse_args()
    base = MarketTrial()
    trials = [
        replace(base, market=replace(base.market, seed=chosen.first_seed + number, day_count=chosen.days))
        for number in range(chosen.worlds)
    ]
    began = time.monotonic()
    with ProcessPoolExecutor(chosen.processes) as pool:
        found = list(pool.map(one, trials))
    print(f"{chosen.worlds} worlds of {chosen.days} days, {time.monotonic() - began:.0f} s on the clock")
    print(
        "\n| day after the drift | "
        + " | ".join(f"{way}, of the oracle's gain" for way in WAYS[1:] if way != "frozen")
        + " | loop, of what is learnable |\n|---|---|---|---|---|"
    )
    ways = [way for way in WAYS[1:] if way != "frozen"]
    for day in range(len(found[0].recovered("loop"))):
        cells = [shown(np.array([each.recovered(way)[day] for each in found])) for way in ways]
        cells.append(shown(np.array([each.recovered("loop", "learnable")[day] for each in found])))
        print(f"| {day + 1} | " + " | ".join(cells) + " |")
    print_quiet(np.array([each.quiet for each in found]))
    after = [each.recovered("loop")[3:].mean() for each in found]
    learnable = [each.recovered("loop", "learnable")[3:].mean() for each in found]
    print(
        f"\nfrom day 4 on, mean of the days: of the oracle's gain {shown(np.array(after))}, of what is learnable "
        f"{shown(np.array(learnable))}"
    )
    print(f"worst day of the loop by frozen's: {shown(np.array([each.worst for each in found]))}")
    steps = Counter(step.action + (f" ({step.gate})" if step.gate else "") for each in found for step in each.steps)
    print("steps of the loop: " + ", ".join(f"{count} {name}" for name, count in steps.most_common()))
    for name in found[0].bad:
        print(f"bad candidate {name}: {dict(Counter(each.bad[name] for each in found))}")


if __name__ == "__main__":
    main()
