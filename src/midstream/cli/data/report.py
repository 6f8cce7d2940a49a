"""``midstream report``: click rates of served slates."""

from typing import TYPE_CHECKING

import typer

from midstream.cli.console import HERE, AsJson, Folder, out, print_json, say, table_of
from midstream.cli.help import CommandHelp

if TYPE_CHECKING:
    from midstream.app.inspect.outcome_report import OutcomeReport

app = typer.Typer()


@app.command(
    "report",
    cls=CommandHelp,
    epilog="""
    midstream report
      Prints served and seen positions and click rates by placement.
    """,
)
def command(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Print click rates of served slates by placement.

    Each placement, tier of answers and configuration has a line: slates and positions served, positions seen, and for
    each type of interaction the share of seen positions that led to it. While a server runs, a second table has the
    statistics and the drift of the features of served items.
    """
    from midstream.app.inspect.outcome_report import report_of
    from midstream.app.opening import config_to_read

    report = report_of(folder, config_to_read(folder))
    print_json(report) if as_json else print_report(report)


def print_report(report: "OutcomeReport") -> None:
    """Print tables of outcomes and of feature statistics, and the counts of the join."""
    from midstream.app.inspect.outcome_report import feature_table, report_table

    if report.rows:
        out.print(table_of(*report_table(report)))
    else:
        say("nothing served yet")
    if report.features:
        out.print(table_of(*feature_table(report)))
    say(", ".join(f"{name.replace('_', ' ')}: {count:,}" for name, count in report.outcomes.items()))
