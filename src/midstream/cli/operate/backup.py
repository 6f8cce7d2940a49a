"""``midstream backup`` and ``midstream restore``: a consistent copy of a folder, and its restore."""

from pathlib import Path
from typing import Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, print_facts, say
from midstream.cli.help import CommandHelp
from midstream.cli.progress import notify_of, progress

app = typer.Typer()
Target = Annotated[Path, typer.Argument(metavar="TARGET", help="Folder or .tar file to create.")]
Keep = Annotated[
    int,
    typer.Option(
        metavar="N", min=0, help="Make TARGET a folder of dated copies, of which the newest N stay; 0 = one copy."
    ),
]
Drill = Annotated[bool, typer.Option("--drill", help="Restore the copy once and compare its state with its log.")]
Metrics = Annotated[
    Path | None,
    typer.Option("--metrics", metavar="FILE", dir_okay=False, help="Write the result as metrics for a node exporter."),
]
Source = Annotated[
    Path, typer.Argument(metavar="SOURCE", exists=True, help="Folder or .tar file that midstream backup wrote.")
]
Into = Annotated[Path, typer.Argument(metavar="FOLDER", file_okay=False, help="Empty or new folder to restore into.")]


@app.command(
    "backup",
    cls=CommandHelp,
    epilog="""
    midstream backup shop-backup.tar
    midstream backup /backups/shop --folder shop
      Copies the folder shop to a new folder.
    midstream backup /backups --keep 7 --drill --folder shop
      Adds a dated copy, restores it once, and keeps the newest seven.
    """,
)
def back_up_command(
    target: Target,
    keep: Keep = 0,
    drill: Drill = False,
    metrics: Metrics = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Copy a folder to another folder or a .tar file.

    A server may have the folder open. The copy contains the secret key of the folder: store it where only you can read
    it. Older copies are removed only after the new one is complete, and with --drill was restored.
    """
    from midstream.app.scheduled.backup_rotation import BackupOrder, scheduled_backup

    with progress() as bar:
        done = scheduled_backup(folder, target, BackupOrder(keep, drill, metrics), notify_of(bar))
    if done.left_out:
        say(f"warning: {done.left_out}")
    facts: dict[str, object] = {"log_position": done.log_position, "files": done.files, "bytes": done.bytes}
    further = {"copy": str(done.path) if keep else "", "digest": done.digest, "removed": ", ".join(done.removed)}
    print_facts(facts | {name: value for name, value in further.items() if value}, as_json=as_json)


@app.command(
    "restore",
    cls=CommandHelp,
    epilog="""
    midstream restore shop-backup.tar shop-restored
    """,
)
def restore_command(source: Source, folder: Into = HERE, as_json: AsJson = False) -> None:
    """Restore a backup into an empty folder.

    Every byte is verified before the folder is changed. The exit status is 1 when one differs.
    """
    from midstream.app.operate.restore import restore

    with progress() as bar:
        done = restore(source, folder, notify_of(bar))
    if done.lacks:
        say(f"warning: {done.lacks}")
    print_facts({"log_position": done.log_position, "files": done.files, "bytes": done.bytes}, as_json=as_json)
