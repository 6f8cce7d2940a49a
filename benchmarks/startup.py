"""Wall and CPU time of each command on an empty folder and on a small one, of one or several checkouts in turn.

    python benchmarks/startup.py --source ../before/src --source src

A small folder is that of ``midstream init`` with its 340 example events imported. Each command runs once to warm caches
and then ``--runs`` times, checkouts in turn, each on folders of its own; the figures are the least CPU time of those
runs (user and system, child processes included) and the least wall time, with an exit status that is not 0. Machine
code and bytecode are cached, as in an installed package.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = (
    ("--help",),
    ("train", "--help"),
    ("demo", "--help"),
    ("init", "{new}"),
    ("dead-letters", "list"),
    ("doctor",),
    ("models", "list"),
    ("placements", "list"),
    ("features", "list"),
    ("size",),
    ("seal",),
    ("report",),
    ("export", "{new}.ndjson"),
    ("examples", "..", "--out", "{new}.parquet"),
    ("recommend", "--user", "u1"),
    ("check",),
    ("rebuild", "--verify"),
)


def environment(source, place):
    """The environment of a checkout: its own bytecode, written whatever the environment here says."""
    found = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return found | {"PYTHONPATH": str(source), "PYTHONPYCACHEPREFIX": str(place / "bytecode")}


def timed(command, folder, environ):
    """Seconds of CPU and of wall that a command takes, and its exit status."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        told = [each.replace("{new}", f"{place}/new") for each in command]
        process = subprocess.Popen(
            [sys.executable, "-m", "midstream", *told],
            cwd=folder,
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
    return used.ru_utime + used.ru_stime, time.monotonic() - began, os.waitstatus_to_exitcode(status)


def told_of(runs, which):
    """What stands in a cell: the least of some runs, and how they ended unless well."""
    status = next((run[2] for run in runs if run[2]), 0)  # below 0 where a signal ended it
    return f"{min(run[which] for run in runs):.2f}" + (f" (status {status})" if status else "")


def small_folder(folder, environ):
    """A folder with the starter's events."""
    for command in (("init", str(folder)), ("import", str(folder / "example.ndjson"), "-f", str(folder))):
        subprocess.run([sys.executable, "-m", "midstream", *command], env=environ, check=True, capture_output=True)
    return folder


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, action="append", help="a folder that holds the package; default: here")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", help="commands that begin with this word")
    told = parser.parse_args()
    here = Path(__file__).resolve().parents[1] / "src"
    sources = [each.resolve() for each in told.source or (here,)]
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        environs = [environment(source, place) for source in sources]
        small = [small_folder(place / f"small{number}", environ) for number, environ in enumerate(environs)]
        empty = [place / f"empty{number}" for number in range(len(sources))]
        heads = [f"{what}, {where}" for where in ("empty", "small") for what in ("CPU s", "wall s")]
        print(f"| command | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
        for command in COMMANDS:
            if told.only and command[0] != told.only:
                continue
            cells = []
            for folder in empty:
                folder.mkdir()
            for folders in (empty, small):
                taken = [[] for _ in sources]
                for number in range(told.runs + 1):
                    for each, folder, environ in zip(taken, folders, environs, strict=True):
                        figure = timed(command, folder, environ)
                        if number:
                            each.append(figure)
                cells += [" → ".join(told_of(each, which) for each in taken) for which in (0, 1)]
            print(f"| `{' '.join(command).replace('{new}', 'FILE')}` | {' | '.join(cells)} |", flush=True)
            for folder in empty:
                shutil.rmtree(folder)


if __name__ == "__main__":
    main()
