"""``midstream demo``: recorded sessions replayed through a server that learns from every click."""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import err, out
from midstream.cli.data.import_file import Map, Set, TimeFormat, Types, options_of
from midstream.cli.help import CommandHelp

if TYPE_CHECKING:
    from midstream.cli.demo.replay import Replay
    from midstream.cli.demo.sessions import DemoData

app = typer.Typer()
TOTAL_S = 105.0
"""From the first line to the last session, so that all of it stays under two minutes."""
REPLAY_S_MIN = 20.0
"""Even where the start took nearly all of that time: a demo without a session shows nothing."""
PAUSE_S = 2.0
File = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="File of clicks, in a format of midstream import; default: a simulated shop.",
    ),
]
_COMPILES = "compiles for about a minute the first time"
SHOP = """\
[items.attributes]
price = "number"
category = "category"
colour = "category"

[snapshots]
mode = "off"

[server]
demo_shop = true
"""
"""What ``cli.demo.training`` says of models and placements comes behind it."""


@app.command(
    "demo",
    cls=CommandHelp,
    epilog="""
    midstream demo
    midstream demo --data clicks.csv --map user_id=visitor --sessions 500
      Replays 500 sessions of your own clicks.
    """,
)
def command(
    data: File = None,
    sessions: Annotated[int, typer.Option(metavar="N", min=2, help="Number of sessions to replay.")] = 3_000,
    keep: Annotated[bool, typer.Option("--keep", help="Go on serving after the replay, until Ctrl-C.")] = False,
    no_pause: Annotated[bool, typer.Option("--no-pause", help="Do not pause between the parts of the output.")] = False,
    columns: Map = None,
    constants: Set = None,
    types: Types = None,
    time_format: TimeFormat = "auto",
) -> None:
    """Replay recorded sessions through a live server.

    A server starts in a temporary folder. Before each click it is asked for recommendations, and then it learns from
    the click. After half of the sessions a model is trained. The hit rates are compared with popularity and with a
    state that has stopped learning. The demo takes about two minutes.
    """
    from midstream.cli.demo.sessions import find_data

    began = time.monotonic()
    found = find_data(data, options_of(columns, constants, types, time_format), sessions)

    def finish(replay: "Replay", url: str) -> None:
        show_sessions(replay, 0.0 if no_pause or not out.is_terminal else PAUSE_S)
        if keep:
            keep_serving(url)

    run(found, began + TOTAL_S, finish)


def run(
    data: "DemoData", until: float, finish: Callable[["Replay", str], None] = lambda _replay, _url: None
) -> "Replay":
    """Start a server in a folder that is thrown away, and replay; ``finish`` is called while the server still runs."""
    from midstream.app.opening import CONFIG_NAME
    from midstream.cli.demo.server import running_server
    from midstream.cli.demo.training import CONFIG

    clicks = sum(len(each.clicks) for each in data.sessions)
    out.print(f"{data.name}: {data.note}", markup=False)
    out.print(f"{len(data.sessions):,} sessions, {clicks:,} clicks", markup=False)
    if not err.is_terminal:
        out.print(f"starting the engine ({_COMPILES})", markup=False)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="midstream-demo-")))
        (folder / CONFIG_NAME).write_text(SHOP + CONFIG, "utf-8")
        with err.status("starting the engine") as status:
            url = stack.enter_context(
                running_server(
                    folder,
                    lambda waited: status.update(f"starting the engine, {waited:.0f} s ({_COMPILES})"),
                )
            )
        out.print(f"serving at {url}; while this runs {url}/demo is a shop, {url}/console its console", markup=False)
        replay = _replay(data, url, folder, max(until, time.monotonic() + REPLAY_S_MIN))
        finish(replay, url)
        return replay


def keep_serving(url: str) -> None:
    """Return when a person ends it."""
    out.print(f"\n{url}/demo is a shop to click in, {url}/console its console; Ctrl-C ends the server", markup=False)
    try:
        Event().wait()
    except KeyboardInterrupt:
        out.print("stopped", markup=False)


def _replay(data: "DemoData", url: str, folder: Path, until: float) -> "Replay":
    import asyncio

    from rich.live import Live

    from midstream.app.opening import config_of
    from midstream.cli.demo import view as demo_view
    from midstream.cli.demo.replay import Replay

    replay = Replay(data, url, folder, config_of(folder), until)
    if not out.is_terminal:
        asyncio.run(replay.run(lambda: out.print(demo_view.line(replay), markup=False), demo_view.LINES_S))
        return replay
    with Live(demo_view.live(replay), console=out.rich, auto_refresh=False) as view:
        asyncio.run(replay.run(lambda: view.update(demo_view.live(replay), refresh=True), demo_view.LIVE_S))
    return replay


def show_sessions(replay: "Replay", pause_s: float) -> None:
    """Show the last sessions, and print the next steps."""
    from midstream.cli.demo.view import OWN_DATA, lift_lines, live, session_table

    if not out.is_terminal:
        out.print(live(replay))
    for line in lift_lines(replay):
        out.print(line, markup=False)
    time.sleep(pause_s)
    left = len(replay.data.sessions) - replay.score.sessions
    if left:
        out.print(f"{left} sessions were left out, to stay under two minutes", markup=False)
    out.print("\nThe last sessions, each click beside what was recommended just before it:", markup=False)
    for shown in replay.shown:
        out.print(session_table(shown, replay.data))
        time.sleep(pause_s)
    out.print(f"\n{OWN_DATA}", markup=False)
