"""``midstream rebuild``: rebuilds the state from the log, or verifies it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, out, print_facts, print_json, say
from midstream.cli.help import CommandHelp
from midstream.cli.progress import notify_of, progress

if TYPE_CHECKING:
    from midstream.app.operate.rebuild import Verified
    from midstream.engine.types import RebuildView

app = typer.Typer()


@app.command(
    "rebuild",
    cls=CommandHelp,
    epilog="""
    midstream rebuild
      Applies a changed midstream.toml; a running server keeps answering.
    midstream rebuild --verify
      Compares the state from the whole log with the state from a snapshot.
    """,
)
def command(
    verify: Annotated[
        bool, typer.Option("--verify", help="Change nothing; compare the log with the newest snapshot.")
    ] = False,
    compact: Annotated[bool, typer.Option("--compact", help="Free the memory of deleted items.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Rebuild the state from the event log.

    Without a server the new state is written as a snapshot. A running server reads midstream.toml again and rebuilds
    while it serves. With --verify the state is computed from the whole log and from the newest snapshot; the exit
    status is 1 when the two differ.
    """
    if verify and compact:
        message = "--verify changes nothing, so it goes without --compact"
        raise typer.BadParameter(message)
    if verify:
        verify_folder(folder, as_json=as_json)
    else:
        rebuild_folder(folder, compact=compact, as_json=as_json)


def verify_folder(folder: Path, *, as_json: bool) -> None:
    """Fold in both ways and print the digests."""
    from midstream.app.opening import config_of
    from midstream.app.operate import rebuild

    with progress() as bar:
        done = rebuild.verify(folder, config_of(folder), notify_of(bar))
    print_verified(done, as_json=as_json)
    raise typer.Exit(0 if done.is_equal else 1)


def rebuild_folder(folder: Path, *, compact: bool, as_json: bool) -> None:
    """Rebuild here, or through the server that has the folder open."""
    from midstream.app.opening import config_of
    from midstream.app.operate import rebuild
    from midstream.core.errors import FolderLocked

    config = config_of(folder)
    try:
        with progress() as bar:
            done = rebuild.rebuild(folder, config, notify_of(bar), compact=compact)
    except FolderLocked:
        with progress() as bar:
            print_view(rebuild.rebuild_beside(folder, notify_of(bar), compact=compact), as_json=as_json)
        return
    facts: dict[str, object] = {"log_position": done.log_position, "digest": done.digest, "removed": done.removed}
    print_facts(facts | ({"dropped_items": done.dropped_items} if compact else {}), as_json=as_json)


def print_view(view: "RebuildView", *, as_json: bool) -> None:
    """Print the result of a server."""
    if as_json:
        print_json(view)
        return
    said = {
        "nothing": "nothing has changed: the server has this configuration",
        "plans": "the placements are in service; the state is the same",
        "state": "rebuilt, and in service",
    }
    out.print(said[view.change], markup=False)
    print_facts({"config_hash": view.config_hash, "fold_version": view.fold_version}, as_json=False)
    if view.at_start:
        say(f"read at the next start only: {', '.join(view.at_start)}")


def print_verified(done: "Verified", *, as_json: bool) -> None:
    """Print both digests and whether they are equal."""
    if as_json:
        print_json(done)
        return
    out.print(f"log position                      {done.log_position}", markup=False)
    out.print(f"folded from the beginning         {done.from_the_beginning}", markup=False)
    start = (
        f"snapshot at {done.snapshot_position} and the rest" if done.snapshot_position else "no snapshot to begin with"
    )
    out.print(f"{start:<32}  {done.from_snapshot}", markup=False)
    out.print("equal" if done.is_equal else "DIFFERENT: the state is not what the log says", markup=False)
    for reason in done.refused_snapshots:
        out.print(f"passed by: {reason}", markup=False)
