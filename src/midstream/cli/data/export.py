"""``midstream export``: the log to a file or a pipe, every event once."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, ended_by_sigterm, err, print_json, say
from midstream.cli.help import CommandHelp
from midstream.cli.progress import progress
from midstream.core.errors import ConfigInvalid, Fault

if TYPE_CHECKING:
    from midstream.app.export.events import ExportOptions, ExportSummary
    from midstream.app.export.slates import SlateOptions

app = typer.Typer()
Target = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", dir_okay=False, help="File to write; without it, or with -, standard output."),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", metavar="FORMAT", help="Format: ndjson, csv, parquet or arrow; default: by the ending of FILE."
    ),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", metavar="KIND", help="Only events of this kind, such as interaction; repeatable."),
]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only events from this log time on: ISO 8601, or an age such as 2d.")
]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only events before this log time: ISO 8601, or an age.")
]
Recommendations = Annotated[
    str | None,
    typer.Option("--recommendations", metavar="PLACEMENT", help="Write a slate of this placement for each user."),
]
Users = Annotated[
    list[str] | None, typer.Option("--user", metavar="ID", help="Only this user; repeatable; default: all users.")
]
UsersFile = Annotated[
    Path | None, typer.Option("--users", metavar="FILE", help="Only users of this file, one id a line.")
]
Having = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE", help="Only users with this value in the profile, such as plan=gold; repeatable."
    ),
]
Size = Annotated[
    int | None, typer.Option("-n", "--n", metavar="N", help="Items of a slate; default: slate_size of the placement.")
]
Fields = Annotated[
    list[str] | None,
    typer.Option("--field", metavar="NAME", help="Also write this attribute of each item; repeatable."),
]
Anew = Annotated[bool, typer.Option("--anew", help="Start over; do not continue an interrupted export.")]
Unlogged = Annotated[bool, typer.Option("--unlogged", help="Do not log the slates as served.")]
_SUFFIXES = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
}


@app.command(
    "export",
    cls=CommandHelp,
    epilog="""
    midstream export views.parquet --kind interaction --since 7d
      Writes the interactions of the last 7 days.
    midstream export slates.csv --recommendations default -n 5
      Writes 5 items for each user, and logs the slates as served.
    """,
)
def command(
    file: Target = None,
    file_format: Format = None,
    kinds: Kinds = None,
    since: Since = None,
    until: Until = None,
    placement: Recommendations = None,
    users: Users = None,
    users_file: UsersFile = None,
    having: Having = None,
    n: Size = None,
    fields: Fields = None,
    unlogged: Unlogged = False,
    anew: Anew = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write the events, or a slate for each user, to a file.

    Events are written oldest first, each exactly once. With --recommendations a slate is computed for each user
    instead, such as for e-mails, and logged as served. The options from --user to --anew belong to --recommendations.
    The file appears when it is complete. A server may have the folder open.
    """
    target = None if file == Path("-") else file
    chosen = file_format or format_of(target)
    if placement is not None:
        wanted = slate_options(placement, n, fields, (users, users_file, having), chosen, is_logged=not unlogged)
        print_slates(folder, target, replace(wanted, anew=anew), as_json=as_json)
        return
    with ended_by_sigterm():
        summary = run_export(folder, target, options_of(chosen, kinds, since, until))
    if as_json and target is not None:
        print_json(summary)
    else:
        copies = f", {summary.duplicates} second copies left out" if summary.duplicates else ""
        times = f", {summary.log_times_set} with another log time: theirs was ahead" if summary.log_times_set else ""
        say(f"{summary.events} events written{copies}{times}")


def format_of(target: Path | None) -> str:
    """Return the format that the name of a file asks for; NDJSON for a pipe and for a name without an ending.

    Raises:
        ConfigInvalid: Its ending is that of no format.
    """
    suffix = "" if target is None else target.suffix.lower()
    if suffix and suffix not in _SUFFIXES:
        came = f"{suffix} is the ending of no format that is written."
        right = f"A name that ends in {', '.join(_SUFFIXES)}; or --format, which takes any name."
        raise ConfigInvalid((Fault(f"FILE {target}", came, right, "/docs/data.md#export"),))
    return _SUFFIXES.get(suffix, "ndjson")


def options_of(chosen: str, kinds: list[str] | None, since: str | None, until: str | None) -> "ExportOptions":
    """Return what the options of the command say."""
    from midstream.app.export.events import KINDS, ExportOptions, moment_ms

    now_ms = time.time_ns() // 1_000_000
    return ExportOptions(
        chosen,
        tuple(kinds) if kinds else KINDS,
        moment_ms(since, now_ms, "--since"),
        moment_ms(until, now_ms, "--until"),
    )


def run_export(folder: Path, file: Path | None, options: "ExportOptions") -> "ExportSummary":
    """Export with a progress bar where standard error is a terminal."""
    from midstream.app.export.events import export_events
    from midstream.app.opening import config_to_read

    config = config_to_read(folder)
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


def slate_options(
    placement: str,
    n: int | None,
    fields: list[str] | None,
    whom: tuple[list[str] | None, Path | None, list[str] | None],
    chosen: str,
    *,
    is_logged: bool,
) -> "SlateOptions":
    """Return what the options of the command say of slates; ``whom``: users, a file of them, what they have."""
    from midstream.app.export.slates import SlateOptions

    users, users_file, having = whom
    pairs = [each.partition("=") for each in having or ()]
    if wrong := [name for name, equals, _ in pairs if not (name and equals)]:
        message = f"{wrong[0]!r} is no NAME=VALUE"
        raise typer.BadParameter(message, param_hint="--having")
    return SlateOptions(
        placement,
        n,
        tuple(fields or ()),
        tuple(users or ()),
        users_file,
        tuple((name, value) for name, _, value in pairs),
        chosen,
        is_logged,
    )


def print_slates(folder: Path, file: Path | None, options: "SlateOptions", *, as_json: bool) -> None:
    """Write slates with a progress bar where standard error is a terminal, and say how many."""
    from midstream.app.export.slates import export_slates
    from midstream.app.opening import config_to_read

    with ended_by_sigterm(), progress() as bar:
        task = bar.add_task("answering", total=None)
        summary = export_slates(
            folder,
            config_to_read(folder),
            file or sys.stdout.buffer,
            options,
            lambda done, total: bar.update(task, completed=done, total=total) if err.is_terminal else None,
        )
    if as_json and file is not None:
        print_json(summary)
    else:
        say(f"{summary.users} slates written, {summary.items} items; {summary.empty} users have none")
        if summary.kept:
            before, now = summary.kept_log_position, summary.log_position
            where = "" if before == now else f", at log position {before}; the others at {now}"
            say(f"{summary.kept} of them were made before, by an export that was broken off{where}")
