"""``midstream export``: the log to a file or a pipe, every event once."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, err, print_json, progress, say

if TYPE_CHECKING:
    from midstream.app.exporting import ExportOptions, ExportSummary

app = typer.Typer()
Target = Annotated[Path | None, typer.Argument(dir_okay=False, help="Written when whole; default, or -: to the pipe.")]
Format = Annotated[str | None, typer.Option("--format", help="ndjson, csv or parquet; default: by the file's name.")]
Kinds = Annotated[list[str] | None, typer.Option("--kind", help="Only this kind, such as interaction; repeatable.")]
_SUFFIXES = {".csv": "csv", ".parquet": "parquet"}


@app.command("export")
def command(
    file: Target = None, file_format: Format = None, kinds: Kinds = None, folder: Folder = HERE, as_json: AsJson = False
) -> None:
    """Write every event exactly once.

    Oldest first. A server may have the folder open.
    """
    from midstream.app.exporting import KINDS, ExportOptions

    if file == Path("-"):
        file = None
    chosen = file_format or _SUFFIXES.get(file.suffix if file else "", "ndjson")
    summary = run_export(folder, file, ExportOptions(chosen, tuple(kinds) if kinds else KINDS))
    if as_json and file is not None:
        print_json(summary)
    else:
        copies = f", {summary.duplicates} second copies left out" if summary.duplicates else ""
        say(f"{summary.events} events written{copies}")


def run_export(folder: Path, file: Path | None, options: "ExportOptions") -> "ExportSummary":
    """Export with a progress bar where standard error is a terminal."""
    from midstream.app.exporting import export_events
    from midstream.app.running import config_of

    config = config_of(folder)
    if not err.is_terminal:
        return export_events(folder, config, file or sys.stdout.buffer, options)
    with progress() as bar:
        task = bar.add_task("writing", total=None)
        return export_events(
            folder,
            config,
            file or sys.stdout.buffer,
            options,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
