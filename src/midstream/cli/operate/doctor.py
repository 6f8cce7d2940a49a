"""``midstream doctor``: diagnosis of a data folder, and repair of a damaged log."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, err, out, print_facts, print_json, say
from midstream.cli.help import CommandHelp

if TYPE_CHECKING:
    from midstream.app.inspect.doctor import FolderRepaired
    from midstream.engine.history.history_repair import HistoryRepaired

app = typer.Typer()
Repair = Annotated[
    bool, typer.Option("--repair", help="Truncate a damaged log; the removed part is kept in files beside it.")
]


@app.command(
    "doctor",
    cls=CommandHelp,
    epilog="""
    midstream doctor
    midstream doctor --repair
      Cuts a damaged log after its last valid event.
    """,
)
def command(repair: Repair = False, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Diagnose problems of a folder and its event log.

    The lock, the log, its history, the snapshots, the disk and the versions are examined. The exit status is 1 when
    there is a problem. With --repair a damaged log is truncated; no server may have the folder open then.
    """
    from midstream.app.inspect.doctor import examine
    from midstream.app.opening import config_to_read

    if repair:
        print_repair(folder)
    with err.status("reading log and snapshots"):
        found = examine(folder, config_to_read(folder))
    if as_json:
        print_json(found)
    else:
        print_facts(found.facts, as_json=False)
        for problem in found.problems:
            say(f"problem: {problem}")
    raise typer.Exit(1 if found.problems else 0)


def print_repair(folder: Path) -> None:
    """Repair folder and log and print the changes."""
    from midstream.app.inspect.doctor import repair_folder
    from midstream.app.opening import config_to_read

    done = repair_folder(folder, config_to_read(folder))
    if done.history is not None:
        print_history(done.history)
    print_log(done)
    for name in done.set_aside:
        out.print(f"kept aside: snapshots/{name}", markup=False)


def print_log(done: "FolderRepaired") -> None:
    """Print the changes of the log."""
    log, loss = done.log, done.loss
    if log is not None and log.damage is not None:
        out.print(f"cut to log position {log.survey.end}, generation {log.survey.generation}", markup=False)
        for path in log.side_files:
            out.print(f"kept aside: {path.name}", markup=False)
    elif loss is None:
        out.print("the log is sound; nothing of it was changed", markup=False)
    if loss is not None:
        out.print(f"{loss.missing}; the log goes on from log position {loss.end}, in a new generation", markup=False)


def print_history(done: "HistoryRepaired") -> None:
    """Print the changes of the history."""
    if done.manifest_is_new:
        out.print("history.json was made again from the files", markup=False)
    if done.lost or done.side_files or done.from_snapshot is not None:
        base = "nothing is known of what was before"
        if done.from_snapshot is not None:
            base = f"catalogue and profiles as the snapshot at {done.from_snapshot} has them"
        if done.nameless:
            base += f", but for {done.nameless} changes of users whose ids are lost"
        out.print(f"the log begins at {done.begin}, {done.lost} events fewer; {base}", markup=False)
    for path in done.side_files:
        out.print(f"kept aside: {path.name}", markup=False)
