"""``midstream report``: click rates of served slates."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, out, print_json, say, table_of
from midstream.cli.help import CommandHelp

if TYPE_CHECKING:
    from midstream.app.inspect.online_report import OnlineAsk, OnlineReport
    from midstream.app.inspect.outcome_report import OutcomeReport

app = typer.Typer()
Windows = Annotated[
    list[str] | None,
    typer.Option("--window", metavar="TIME", help="Figures of slates served in the last TIME, such as 1h; repeatable."),
]
Settle = Annotated[str, typer.Option(metavar="TIME", help="Age from which the outcomes of a slate are complete.")]
Clicks = Annotated[
    list[str] | None, typer.Option("--click", metavar="ACTION", help="Act that is a click; repeatable; default: click.")
]
Conversions = Annotated[
    list[str] | None,
    typer.Option("--conversion", metavar="ACTION", help="Act that is a conversion; repeatable; default: purchase."),
]
Segments = Annotated[
    list[str] | None,
    typer.Option("--segment", metavar="KEY", help="Figures by a value of the request's context; repeatable."),
]


@app.command(
    "report",
    cls=CommandHelp,
    epilog="""
    midstream report
      Prints served and seen positions and click rates by placement.
    midstream report --window 1h --window 1d
      Prints clicks, conversions and revenue of the last hour and day.
    """,
)
def command(
    folder: Folder = HERE,
    windows: Windows = None,
    settle: Settle = "30m",
    clicks: Clicks = None,
    conversions: Conversions = None,
    segments: Segments = None,
    as_json: AsJson = False,
) -> None:
    """Print click rates of served slates by placement.

    Each placement, tier of answers and configuration has a line: slates and positions served, positions seen, and for
    each type of interaction the share of seen positions that led to it. While a server runs, a second table has the
    statistics and the drift of the features of served items. With --window: figures of the slates of some time, by
    placement, configuration, tier, model and segment.
    """
    if windows:
        print_online(folder, online_ask(windows, settle, clicks, conversions, segments), as_json)
        return
    from midstream.app.inspect.outcome_report import report_of
    from midstream.app.opening import config_to_read

    report = report_of(folder, config_to_read(folder))
    print_json(report) if as_json else print_report(report)


def online_ask(
    windows: list[str], settle: str, clicks: list[str] | None, conversions: list[str] | None, segments: list[str] | None
) -> "OnlineAsk":
    """Return what is asked for."""
    from midstream.app.inspect.online_report import OnlineAsk

    return OnlineAsk(windows, settle, clicks or (), conversions or (), segments or ())


def print_online(folder: Path, ask: "OnlineAsk", as_json: bool) -> None:
    """Print the figures of windows."""
    from midstream.app.inspect.online_report import online_report
    from midstream.app.opening import config_to_read

    report = online_report(folder, config_to_read(folder), ask)
    print_json(report) if as_json else print_windows(report)


def print_windows(report: "OnlineReport") -> None:
    """Print a table of figures, and the slates that are not in it."""
    from midstream.app.inspect.online_report import online_table

    out.print(table_of(*online_table(report))) if report.rows else say("nothing served in these windows")
    if report.left_out:
        say(f"slates without room: {report.left_out:,}")


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
