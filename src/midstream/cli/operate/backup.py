"""``midstream backup`` and ``midstream restore``: a folder as it was at one moment, and back."""

from pathlib import Path
from typing import Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, print_facts
from midstream.cli.progress import notify_of, progress

app = typer.Typer()
Target = Annotated[Path, typer.Argument(help="A folder or .tar that is not there yet.")]
Source = Annotated[Path, typer.Argument(exists=True, help="What midstream backup wrote.")]
Into = Annotated[Path, typer.Argument(file_okay=False, help="Empty, or not there; default: here.")]


@app.command("backup")
def back_up_command(target: Target, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Copy a folder as it is now.

    A server may have it open. Holds the folder's key: keep it where only you can read it.
    """
    from midstream.app.operate.backup import back_up

    with progress() as bar:
        done = back_up(folder, target, notify_of(bar))
    print_facts({"log_position": done.log_position, "files": done.files, "bytes": done.bytes}, as_json=as_json)


@app.command("restore")
def restore_command(source: Source, folder: Into = HERE, as_json: AsJson = False) -> None:
    """Put a backup into an empty folder.

    Every byte is compared before anything gets its name.
    """
    from midstream.app.operate.restore import restore

    with progress() as bar:
        done = restore(source, folder, notify_of(bar))
    print_facts({"log_position": done.log_position, "files": done.files, "bytes": done.bytes}, as_json=as_json)
