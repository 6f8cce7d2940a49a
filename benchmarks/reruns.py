"""Requests of a busy shop run again: how many answers are identical to the bit, and what it takes.

Events, questions of every shape and placement (pages, rankings, batches, cursors; exploring selectors, rules, a ranker,
parts of one's own that fail), changes of the catalogue and of placements, merges and erasures alternate; then all
logged requests are run again from the log, and one alone is explained.

    python benchmarks/reruns.py [--requests 1000] [--seed 1]
"""

import argparse
import tempfile
import time
from pathlib import Path

from midstream.app.explain.explain import explain_request
from midstream.app.explain.reruns import rerun_last
from tests.support.busy import served_shop


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ids = served_shop(folder, options.requests, options.seed).ids
        began = time.perf_counter()
        found = list(rerun_last(folder, len(ids)))
        took_s = time.perf_counter() - began
        same = sum(each.is_identical for each in found)
        print(f"{len(found)} requests run again in {took_s:.1f} s: {same} identical to the bit")
        for each in found:
            for one in each.differences:
                print(f"  {each.logged.request_id}: {one.field}: then {one.then}; now {one.now}")
        began = time.perf_counter()
        explain_request(folder, ids[-1], ("i1",))
        print(f"one explained alone in {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
