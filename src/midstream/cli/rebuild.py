"""``midstream rebuild``: the state anew from the log, or the proof that it is what the log says."""

from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, err, out, print_facts, print_json

if TYPE_CHECKING:
    from midstream.app.rebuilding import Verified

app = typer.Typer()


@app.command("rebuild")
def command(
    verify: Annotated[bool, typer.Option("--verify", help="Change nothing; compare both ways to the state.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Make the state anew from the log, or prove it.

    Folds from the beginning and writes a snapshot; with --verify compares that with the newest snapshot and the rest.
    """
    from midstream.app import rebuilding
    from midstream.app.running import config_of

    with err.status("folding"):
        config = config_of(folder)
        done = rebuilding.verify(folder, config) if verify else rebuilding.rebuild(folder, config)
    if isinstance(done, rebuilding.Verified):
        print_verified(done, as_json=as_json)
        raise typer.Exit(0 if done.is_equal else 1)
    print_facts({"log_position": done.log_position, "digest": done.digest, "removed": done.removed}, as_json=as_json)


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
