"""``midstream report``: what came of the slates."""

import typer

from midstream.cli.console import HERE, AsJson, Folder, out, print_json, say, table_of

app = typer.Typer()


@app.command("report")
def command(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Print how often slates were seen and acted on, by placement, tier and plan; while a server runs, its features."""
    from midstream.app.reporting import feature_table, report_of, report_table
    from midstream.app.running import config_of

    report = report_of(folder, config_of(folder))
    if as_json:
        print_json(report)
        return
    out.print(table_of(*report_table(report)))
    if report.features:
        out.print(table_of(*feature_table(report)))
    say(", ".join(f"{name.replace('_', ' ')}: {count:,}" for name, count in report.outcomes.items()))
