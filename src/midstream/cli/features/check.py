"""``midstream features check``: compares served feature values with those from the log."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, out, print_json, say, table_of
from midstream.cli.help import CommandHelp
from midstream.cli.progress import notify_of, progress

if TYPE_CHECKING:
    from midstream.app.point_in_time.parity import CheckReport

app = typer.Typer()
Served = Annotated[
    str, typer.Option("--served", metavar="FROM..TO", help="Range of slates, by log position or time; .. = all.")
]
Sample = Annotated[int, typer.Option("--sample", metavar="N", min=1, help="Maximum number of slates.")]
Tolerance = Annotated[
    float, typer.Option("--tolerance", metavar="X", min=0.0, help="Largest difference that counts as equal.")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Configuration that served, if not midstream.toml.",
    ),
]
NOTHING_TO_COMPARE = 2


@app.command(
    "check",
    cls=CommandHelp,
    epilog="""
    midstream features check --served 1d.. --sample 1000
      Prints how many values differ, by column.
    """,
)
def command(
    served: Served = "..",
    sample: Sample = 1_000,
    tolerance: Tolerance = 0.0,
    config: ConfigFile = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare served feature values with those from the log.

    The served values are those that the setting log_features of a placement keeps. The exit status is 0 when all are
    equal, 1 when some differ, and 2 when there is nothing to compare.
    """
    from midstream.app.point_in_time.parity import CheckOptions, check_features

    with progress() as bar:
        report = check_features(folder, CheckOptions(served, sample, tolerance, config), notify_of(bar))
    print_json(report) if as_json else print_report(report)
    raise typer.Exit(status_of(report))


def status_of(report: "CheckReport") -> int:
    """Return 0 = all equal, 1 = some differ, 2 = there was nothing to compare."""
    return NOTHING_TO_COMPARE if not report.compared else int(report.mismatched > 0)


def print_report(report: "CheckReport") -> None:
    """Print the result of each column, and examples of differences."""
    rows = [(each.name, each.compared, each.mismatched, each.worst) for each in report.columns]
    title = f"{report.slates} slates: {report.mismatched} of {report.compared} values differ"
    out.print(table_of(("column", "compared", "differ", "largest difference"), rows, title))
    for column in report.columns:
        for each in column.examples:
            text = f"{column.name}: {each.logged:.9g} was served, {each.as_of:.9g} is as of then"
            say(f"{text} (request {each.request_id}, item {each.item_id})")
    notes = {
        "slates of another configuration": report.other_config,
        "slates from before the log was written anew without erased users": report.rewritten,
        "slates that saw a state of another version": report.other_state,
    }
    for what, count in notes.items():
        if count:
            say(f"{count} {what} were not compared")
    if report.left_out:
        say(f"not compared, as they depend on items that were not served: {', '.join(report.left_out)}")
    if report.other_config:
        say("--config FILE names the configuration by which slates were served: keep the file of before a change")
    if not report.found:
        say("no slate was served in this range")
    elif not report.logged:
        say("no slate has values: log_features of a placement says which share of them is kept")
