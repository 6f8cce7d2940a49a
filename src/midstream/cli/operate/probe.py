"""``midstream probe``: an event sent to the running server, and looked for in an answer."""

from pathlib import Path
from typing import Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, print_facts, say
from midstream.cli.help import CommandHelp

app = typer.Typer()
Url = Annotated[
    str, typer.Option("--url", metavar="URL", help="Server that gets the event; default: that of the folder.")
]
AskUrl = Annotated[str, typer.Option("--ask-url", metavar="URL", help="Server that is asked, such as another node.")]
Within = Annotated[float, typer.Option(metavar="SECONDS", min=0.01, max=60, help="Longest time until it is seen.")]
Placement = Annotated[str, typer.Option(metavar="NAME", help="Placement that is asked; default: the server's.")]
Metrics = Annotated[
    Path | None,
    typer.Option("--metrics", metavar="FILE", dir_okay=False, help="Write the result as metrics for a node exporter."),
]
Warn = Annotated[
    float, typer.Option("--warn", metavar="SECONDS", min=0, max=60, help="With --nagios: later than this is a warning.")
]
Nagios = Annotated[
    bool, typer.Option("--nagios", help="Print one line for a monitor, and end with 0, 1 or 2 as it asks.")
]


@app.command(
    "probe",
    cls=CommandHelp,
    epilog="""
    midstream probe
    midstream probe --within 0.5 --metrics midstream-probe.prom
      Ends with 1 where no answer has the event within half a second.
    midstream probe --nagios --warn 0.2 --within 1
      Ends with 1 beyond 0.2 s, and with 2 without an answer within a second.
    """,
)
def command(
    within: Within = 2.0,
    url: Url = "",
    ask_url: AskUrl = "",
    placement: Placement = "",
    metrics: Metrics = None,
    warn: Warn = 0.0,
    nagios: Nagios = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Send an event to the server and look for it in an answer.

    The act is of a session of its own, on an item that is not available, so no figure of another item moves. The exit
    status is 1 when no answer has the event in time.
    """
    from midstream.app.scheduled.probe import ProbeOrder, check_result, probe

    found = probe(folder, order := ProbeOrder(within, url, ask_url, placement, metrics))
    if nagios:
        status, line = check_result(found, order, warn)
        typer.echo(line)
        raise typer.Exit(status)
    facts = {"acknowledged_ms": found.acknowledged_ms, "seen_ms": found.seen_ms, "answers": found.answers}
    print_facts({name: value if value is None else round(value, 1) for name, value in facts.items()}, as_json=as_json)
    if not found.is_fresh:
        say(f"not fresh: {found.reason}")
        raise typer.Exit(1)
