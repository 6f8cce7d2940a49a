"""``midstream feast``: the features of a shop as a repository of Feast."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, ConfigFile, Folder, ended_by_sigterm, print_json, say
from midstream.cli.help import CommandHelp, GroupHelp
from midstream.cli.progress import notify_of, progress

if TYPE_CHECKING:
    from midstream.app.feature_stores.feast_repository import RepositorySummary
    from midstream.app.feature_stores.value_history import HistoryRange

app = typer.Typer(
    cls=GroupHelp,
    no_args_is_help=True,
    help="Offer the features to Feast.",
    epilog="""
    midstream feast export repository
    """,
)
Target = Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Folder of the repository.")]
Questions = Annotated[
    Path | None,
    typer.Option(
        "--questions",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="History at the times of this file, as of features as-of; default: behind each event.",
    ),
]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only events from this log time on: ISO 8601, or an age such as 2d.")
]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only events before this log time: ISO 8601, or an age.")
]
Names = Annotated[
    str | None, typer.Option("--features", metavar="NAMES", help="Names of features, with commas; default: all.")
]
Url = Annotated[
    str, typer.Option("--url", metavar="URL", help="Address of the server; default: the one that has the folder open.")
]
Project = Annotated[
    str, typer.Option("--project", metavar="NAME", help="Project of Feast; default: the name of the folder.")
]


@app.command(
    "export",
    cls=CommandHelp,
    epilog="""
    midstream feast export repository --since 30d
      Writes definitions, and the history of values of 30 days.
    """,
)
def export_command(
    target: Target,
    questions: Questions = None,
    since: Since = None,
    until: Until = None,
    features: Names = None,
    url: Url = "",
    project: Project = "",
    config: ConfigFile = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write a repository of Feast.

    It has entities, a view for each of them with a push source over the history of values in Parquet, and a service of
    all. Its online store reads the running server, its offline store the log. A server may have the folder open.
    """
    from midstream.app.feature_stores.feast_repository import RepositoryOptions, write_repository

    names = tuple(each.strip() for each in features.split(",")) if features else None
    options = RepositoryOptions(_moments(questions, since, until), names, url, project, config)
    with ended_by_sigterm(), progress() as bar:
        summary = write_repository(folder, target, options, notify_of(bar))
    print_json(summary) if as_json else say_summary(summary)


def _moments(questions: Path | None, since: str | None, until: str | None) -> "HistoryRange":
    from midstream.app.feature_stores.value_history import HistoryRange

    if questions is not None and (since or until):
        raise typer.BadParameter("the times are those of the file", param_hint="--since, --until with --questions")
    return HistoryRange(questions, since, until)


def say_summary(summary: "RepositorySummary") -> None:
    """Print the rows of each view, and the columns that no view has."""
    for name, rows in summary.rows.items():
        say(f"{name}: {rows} rows of history written")
    if summary.left_out:
        say(f"left out, as they read the request: {', '.join(summary.left_out)}")
    if summary.is_store_kept:
        say("feature_store.yaml was there and stays as it is, with its project and its address")
    else:
        say(f"project {summary.project}, values from {summary.url}")
