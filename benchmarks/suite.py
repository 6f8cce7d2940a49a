"""The suite: every row that this engine is judged by, in rounds, with the machine's own noise beside each.

    ./scripts/bench                     this tree, five rounds, about half an hour
    ./scripts/bench --against v0.1      this tree and a revision in turns, row by row: medians, ratio and spread
    ./scripts/bench --only lean cells   some programs alone
    ./scripts/bench --growth            how cost grows with items, users, candidates, columns and placements
    ./scripts/bench --peers             LightGBM, implicit, NumPy and faiss beside it, as far as they are here
    ./scripts/bench --short             seconds, tiny sizes: shows that every row can be measured, and nothing more
    ./scripts/bench --past 5            the last runs of the history

Each run is added to a file, with the revision, the machine, the command, each figure of each round and the noise. The
status is 1 where a program failed or a row has no figure. Needs a C compiler and the extra ``train``.
"""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from measures import checkouts, history
from measures.goals import GOALS, PROGRAMS, Goal
from measures.growth import growth
from measures.peers import peers
from measures.programs import PROGRAMS as KNOWN
from measures.programs import SHORT, Bench, Program, Sizes, prepare
from measures.report import table
from measures.turns import measured

HISTORY = checkouts.ROOT / "docs" / "benchmarks.jsonl"


def arguments() -> argparse.ArgumentParser:
    """Return what the suite is told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="REV", help="a revision to compare with, in turns")
    parser.add_argument("--rounds", type=int, help="default: 5, of the short form 1")
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, metavar="PROGRAM", help=f"of {', '.join(PROGRAMS)}")
    parser.add_argument("--skip", nargs="+", choices=PROGRAMS, default=(), metavar="PROGRAM", help="all but these")
    parser.add_argument(
        "--peers", action="store_true", help="libraries that do the same beside it, where they are here"
    )
    parser.add_argument("--growth", action="store_true", help="how cost grows with items, users, candidates, and so on")
    parser.add_argument("--short", action="store_true", help="tiny sizes, no history unless it is named")
    parser.add_argument("--past", type=int, metavar="RUNS", help="print the last runs of the history and end")
    parser.add_argument("--history", type=Path, help=f"default: {HISTORY.relative_to(checkouts.ROOT)}")
    for name in ("items", "users", "sessions", "events", "sent"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--seconds", type=float, help="of one load")
    return parser


def sizes_of(told: argparse.Namespace) -> Sizes:
    """Return the sizes that were asked for."""
    usual = vars(SHORT if told.short else Sizes())
    return Sizes(
        **{name: given if (given := getattr(told, name, None)) is not None else each for name, each in usual.items()}
    )


def asked(told: argparse.Namespace) -> tuple[tuple[Goal, ...], dict[str, Program]]:
    """Return the rows that are wanted and the programs that measure them."""
    if told.growth:
        return growth(is_short=told.short)
    if told.peers:
        goals, programs, missing = peers(is_short=told.short)
        for each in missing:
            say(f"the peer {each} is not in this environment")
        return goals, programs
    names = [each for each in told.only or PROGRAMS if each not in told.skip]
    return tuple(each for each in GOALS if each.program in names), {name: KNOWN[name] for name in names}


def say(text: str) -> None:
    """Print where the run is, beside its table."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print and keep."""
    told = arguments().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server and no folder stays
    if told.past:
        print("\n".join(history.past(told.history or HISTORY, told.past)))
        return 0
    versions = [*([checkouts.of(told.against)] if told.against else []), checkouts.here()]
    if told.against and checkouts.locks_differ(*versions):
        say(f"the locks of {told.against} and of this tree differ: both run with the libraries of this tree")
    goals, programs = asked(told)
    sizes, rounds = sizes_of(told), told.rounds or (1 if told.short or told.growth else 5)
    place = checkouts.ROOT / "build"
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        bench = Bench(Path(folder), sizes)
        for each in versions:
            say(f"folders of {each.name} ({each.revision[:12]}), load of the machine {os.getloadavg()[0]:.1f}")
            prepare(bench, each, tuple(programs))
        found = measured(bench, versions, programs, rounds, say)
    is_judged = sizes == Sizes(seconds=sizes.seconds, sent=sizes.sent)
    print("\n".join(table(found, versions, goals, is_judged=is_judged)))
    if not is_judged:
        say("floors and goals are those of other sizes: no row was held against them")
    for each in found.failures:
        say(f"failed: {each}")
    if told.history or not told.short:
        history.add(
            told.history or HISTORY,
            history.entry([Path(sys.argv[0]).name, *sys.argv[1:]], sizes, versions, tuple(programs), found),
        )
    missing = [
        f"{goal.name} of {each.name}" for each in versions for goal in goals if not found.figures[each.name][goal.name]
    ]
    for each in missing:
        say(f"no figure: {each}")
    return 1 if found.failures or missing else 0


if __name__ == "__main__":
    sys.exit(main())
