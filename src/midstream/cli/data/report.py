"""``midstream report``: what came of the slates."""

from typing import TYPE_CHECKING

import typer

from midstream.cli.console import HERE, AsJson, Folder, out, print_json, say, table_of

if TYPE_CHECKING:
    from midstream.app.inspect.outcome_report import OutcomeReport

app = typer.Typer()


@app.command("report")
def command(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Print how often slates were seen and acted on, by placement, tier and plan; while a server runs, its features."""
    from midstream.app.inspect.outcome_report import report_of
    from midstream.app.opening import config_to_read

    report = report_of(folder, config_to_read(folder))
    print_json(report) if as_json else print_report(report)


def print_report(report: "OutcomeReport") -> None:
    """Print tables of what came of slates and what features were, and how outcomes were joined."""
    from midstream.app.inspect.outcome_report import feature_table, report_table

    if report.rows:
        out.print(table_of(*report_table(report)))
    else:
        say("nothing served yet")
    if report.features:
        out.print(table_of(*feature_table(report)))
    say(", ".join(f"{name.replace('_', ' ')}: {count:,}" for name, count in report.outcomes.items()))
