"""``midstream features as-of``: point-in-time features to a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, ConfigFile, Folder, ended_by_sigterm, print_json, say
from midstream.cli.help import CommandHelp
from midstream.cli.progress import notify_of, progress

if TYPE_CHECKING:
    from midstream.app.point_in_time.api import AsOfSummary

app = typer.Typer()
Questions = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="CSV, NDJSON, Parquet or Arrow file of users, items and times.",
    ),
]
Out = Annotated[
    Path, typer.Option("--out", metavar="FILE", dir_okay=False, help="File to write; it appears when it is complete.")
]
Names = Annotated[
    str | None, typer.Option("--features", metavar="NAMES", help="Names of features, with commas; default: all.")
]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="Format: parquet, arrow or csv; default: by the ending of --out."),
]
Sort = Annotated[
    str, typer.Option("--sort", metavar="ORDER", help="Order of the rows: log, or input for that of FILE.")
]
Served = Annotated[
    str | None,
    typer.Option(
        "--served", metavar="FROM..TO", help="Served slates instead of FILE: range of log positions or times."
    ),
]


@app.command(
    "as-of",
    cls=CommandHelp,
    epilog="""
    midstream features as-of requests.csv --out training.parquet
      Writes the features as of the time of each row.
    midstream features as-of --served 7d.. --out slates.parquet
    """,
)
def command(
    out: Out,
    questions: Questions = None,
    served: Served = None,
    features: Names = None,
    file_format: Format = None,
    sort: Sort = "log",
    config: ConfigFile = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write point-in-time feature values to a file.

    Each value is the one that a request at that past moment would have read. Rows come from FILE, or with --served from
    the slates that were served.
    """
    from midstream.app.point_in_time.api import LookupRequest, write_answers
    from midstream.app.point_in_time.lookup import AsOfOptions

    names = tuple(each.strip() for each in features.split(",")) if features else None
    options = AsOfOptions(names, in_input_order=_is_input(sort))
    with ended_by_sigterm(), progress() as bar:
        wanted = LookupRequest(questions, served, out, file_format, config, options)
        summary = write_answers(folder, wanted, notify_of(bar))
    print_json(summary) if as_json else say_summary(summary)


def _is_input(sort: str) -> bool:
    if sort not in ("log", "input"):
        raise typer.BadParameter(f"{sort!r}: log or input", param_hint="--sort")
    return sort == "input"


def say_summary(summary: "AsOfSummary") -> None:
    """Print the number of rows written, and of served records left out."""
    say(f"{summary.rows} rows of {summary.questions} questions written")
    say_as_logged(summary.as_logged)
    if summary.served is not None:
        left_out = {
            "of erased users": summary.served.blanked,
            "of another version": summary.served.unreadable,
            "from before what is kept": summary.served.gone,
            "a second time": summary.served.again,
        }
        for reason, count in left_out.items():
            if count:
                say(f"{count} served records {reason} left out")


def say_as_logged(names: tuple[str, ...]) -> None:
    """Print the columns with values kept with slates, if there are any."""
    if names:
        say(f"as kept with the slates, missing of others (they depend on items not served): {', '.join(names)}")
