"""``python -m tests.support.fuzz --seeds 1..5000``: runs seeds until one fails, and says how to see it again."""

import argparse
import sys

from tests.support.fuzz.run import STEPS, Verdict, run, shrunk

_PROGRESS_SEEDS = 50


def main() -> int:
    """Run the seeds; return 1 when a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.fuzz", description=__doc__)
    parser.add_argument("--seeds", default="1..200", help="one seed, or the first and the last: 1..5000")
    parser.add_argument("--steps", type=int, default=STEPS, help="actions of clients in each run")
    parser.add_argument("--trace", action="store_true", help="print the last lines of each run")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    told = parser.parse_args()
    first, _, last = told.seeds.partition("..")
    failed = 0
    for seed in range(int(first), int(last or first) + 1):
        verdict = run(seed, told.steps)
        if told.trace:
            _write("\n".join(verdict.lines))
        if verdict.failure:
            failed += 1
            _report(verdict if told.keep_going else shrunk(verdict))
            if not told.keep_going:
                break
        elif seed % _PROGRESS_SEEDS == 0 or not last:
            _write(f"{seed}: {verdict.events} events, {verdict.virtual_s:.0f} virtual s, {verdict.trace_hash}")
    return min(failed, 1)


def _report(verdict: Verdict) -> None:
    _write("\n".join(verdict.lines))
    _write(f"seed {verdict.seed}, {verdict.steps} steps: {verdict.failure}\nrun again: {verdict.command}")


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
