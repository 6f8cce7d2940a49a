"""The history of runs: a file of one JSON object a line, to which each run is added; nothing in it is changed."""

import datetime as dt
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from .checkouts import Checkout
from .goals import BY_NAME, GOALS
from .machine import named
from .turns import Measured

FORM = 1
"""Of a line."""


def entry(
    command: Sequence[str],
    sizes: object,
    checkouts: Sequence[Checkout],
    programs: Sequence[str],
    measured: Measured,
) -> dict:
    """Return a run as it is kept: every figure of every round, and the noise around it."""
    return {
        "form": FORM,
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "machine": named(),
        "sizes": vars(sizes),
        "revisions": {each.name: each.revision for each in checkouts},
        "programs": list(programs),
        "figures": {version: dict(rows) for version, rows in measured.figures.items()},
        "noise": {name: [vars(each) for each in noises] for name, noises in measured.noise.items()},
        "failures": measured.failures,
    }


def add(path: Path, run: dict) -> None:
    """Add a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(run, ensure_ascii=False, separators=(",", ":")) + "\n")


def past(path: Path, count: int) -> Iterator[str]:
    """Yield a table of the medians of the last runs of this tree, oldest first; machines stand above."""
    runs = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
    runs = [each for each in runs if BY_NAME.keys() & each["figures"].get("here", {}).keys()][-count:]
    for number, run in enumerate(runs):
        machine = run["machine"]
        place = f"{machine['processor']}, {machine['cores']} cores"
        yield f"{number + 1}: {run['time']} {run['revisions']['here'][:12]}, {place}"
    yield "\n| | " + " | ".join(str(number + 1) for number in range(len(runs))) + " |"
    yield "|---|" + "---|" * len(runs)
    for goal in GOALS:
        figures = [run["figures"]["here"].get(goal.name) for run in runs]
        cells = [f"{statistics.median(each):,.4g}" if each else "" for each in figures]
        yield f"| {goal.name}, {goal.unit} | " + " | ".join(cells) + " |"
