"""Off-policy estimators beside each other in seeded worlds whose truth is known: bias, error, width and coverage.

Each world has two policies of its own, drawn from its seed, and one log, which all estimators read.

    python benchmarks/off_policy.py [--worlds 300] [--users 3000]
"""

import argparse
from collections import defaultdict

import numpy as np

from midstream.evaluation.off_policy.report import estimate_slates
from midstream.evaluation.off_policy.reward_model import with_rewards
from tests.support.slate_worlds import SlateWorld


def compared(worlds: int, users: int, places: int) -> None:
    """Print a line for each estimator; worlds whose log supports fewer places are left out."""
    found, truths = defaultdict(list), []
    for seed in range(worlds):
        draw = np.random.default_rng(seed)
        world = SlateWorld.drawn(draw, places=places)
        log, _, items = world.slates(draw, users)
        report = estimate_slates(log, model=lambda cut, items=items: with_rewards(cut, items))
        if report.places < places:
            continue
        truth = world.truth()
        truths.append(truth)
        for each in report.estimates:
            width = np.nan if each.low is None else each.high - each.low
            held = np.nan if each.low is None else each.low <= truth <= each.high
            found[each.name].append((each.value - truth, width, held))
    print(f"{len(truths)} worlds, {users} slates of {places} places, truth {np.mean(truths):.3f} on average")
    print("| estimator | bias | error | width | coverage |\n|---|---|---|---|---|")
    for name, rows in found.items():
        error, width, held = np.array(rows, dtype=float).T
        root = np.sqrt(np.square(error).mean())
        print(f"| `{name}` | {error.mean():+.4f} | {root:.4f} | {width.mean():.4f} | {held.mean():.1%} |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", type=int, default=300)
    parser.add_argument("--users", type=int, default=3_000)
    options = parser.parse_args()
    for places in (4, 1):
        compared(options.worlds, options.users, places)


if __name__ == "__main__":
    main()
