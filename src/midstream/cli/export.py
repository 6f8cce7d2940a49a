"""``midstream export``: the log to a file or a pipe, every event once."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, ended_by_sigterm, err, print_json, progress, say

if TYPE_CHECKING:
    from midstream.app.exporting import ExportOptions, ExportSummary

app = typer.Typer()
Target = Annotated[Path | None, typer.Argument(dir_okay=False, help="Written when whole; default, or -: to the pipe.")]
Format = Annotated[str | None, typer.Option("--format", help="ndjson, csv, parquet or arrow; default: by the name.")]
Kinds = Annotated[list[str] | None, typer.Option("--kind", help="Only this kind, such as interaction; repeatable.")]
Since = Annotated[str | None, typer.Option(help="Log time from which on: ISO 8601, or how long ago, such as 2d.")]
Until = Annotated[str | None, typer.Option(help="Log time before which, in the same form.")]
_SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".arrow": "arrow", ".arrows": "arrow"}


@app.command("export")
def command(
    file: Target = None,
    file_format: Format = None,
    kinds: Kinds = None,
    since: Since = None,
    until: Until = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write every event exactly once.

    Oldest first. A server may have the folder open.
    """
    target = None if file == Path("-") else file
    chosen = file_format or _SUFFIXES.get(target.suffix if target else "", "ndjson")
    with ended_by_sigterm():
        summary = run_export(folder, target, options_of(chosen, kinds, since, until))
    if as_json and target is not None:
        print_json(summary)
    else:
        copies = f", {summary.duplicates} second copies left out" if summary.duplicates else ""
        say(f"{summary.events} events written{copies}")


def options_of(chosen: str, kinds: list[str] | None, since: str | None, until: str | None) -> "ExportOptions":
    """Return what the options of the command say."""
    from midstream.app.exporting import KINDS, ExportOptions, moment_ms

    now_ms = time.time_ns() // 1_000_000
    return ExportOptions(
        chosen,
        tuple(kinds) if kinds else KINDS,
        moment_ms(since, now_ms, "--since"),
        moment_ms(until, now_ms, "--until"),
    )


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
