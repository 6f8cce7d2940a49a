"""``midstream doctor``: what is wrong with a data folder, and the repair of a damaged log."""

from pathlib import Path
from typing import Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, err, out, print_facts, print_json, say

app = typer.Typer()
Repair = Annotated[bool, typer.Option("--repair", help="Cut a damaged log; what is cut off stays in files beside it.")]


@app.command("doctor")
def command(repair: Repair = False, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Say what is wrong with a data folder.

    Looks at lock, log, snapshots, disk and versions; with --repair cuts a damaged log.
    """
    from midstream.app.examination import examine
    from midstream.app.running import config_of

    if repair:
        print_repair(folder)
    with err.status("reading log and snapshots"):
        found = examine(folder, config_of(folder))
    if as_json:
        print_json(found)
    else:
        print_facts(found.facts, as_json=False)
        for problem in found.problems:
            say(f"problem: {problem}")
    raise typer.Exit(1 if found.problems else 0)


def print_repair(folder: Path) -> None:
    """Repair the log and say what was done."""
    from midstream.app.examination import repair_log

    done = repair_log(folder)
    if done.damage is None:
        out.print("the log is sound; nothing was changed", markup=False)
        return
    out.print(f"cut to log position {done.survey.end}, generation {done.survey.generation}", markup=False)
    for path in done.side_files:
        out.print(f"kept aside: {path.name}", markup=False)
