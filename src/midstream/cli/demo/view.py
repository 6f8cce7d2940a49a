"""Display of the demo: live in a terminal, plain lines elsewhere."""

import time

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from midstream.cli.demo.replay import VISITORS, Replay
from midstream.cli.demo.score import TOP, ShownSession, quantiles_text
from midstream.cli.demo.sessions import DemoData

LIVE_S, LINES_S = 0.25, 5.0
"""Between two drawings: live, and as plain lines."""
_SHOWN_ITEMS = 5
OWN_DATA = """\
With your own data:
  midstream init my-shop && cd my-shop
  midstream import clicks.csv --map user_id=visitor --map item_id=product --type view
  midstream serve"""


def live(replay: Replay) -> Group:
    """Return all figures of a moment."""
    score = replay.score
    figures = Table.grid(padding=(0, 3))
    for name, value in (
        ("sessions", f"{score.sessions:,} of {len(replay.data.sessions):,}, {VISITORS} visitors at once"),
        ("clicks", f"{score.events:,}, {_rate(replay):,.0f}/s, each asked before and learned after"),
        ("recommendation", f"{quantiles_text(score.ask_ms)}  (p50 / p99)"),
        ("event, durable and applied", quantiles_text(score.tell_ms)),
        ("acknowledged → in an answer", f"{quantiles_text(score.fresh_ms)}, {score.unseen} answers had not seen it"),
    ):
        figures.add_row(name, value)
    rates = Table(title=f"share of next clicks that were among the {TOP} recommended", title_justify="left")
    for name in ("", "so far", "since half time"):
        rates.add_column(name, justify="right" if name else "left")
    rates.add_row("midstream", str(score.engine), str(score.engine_since_half))
    rates.add_row("midstream, with the trained model", "", str(score.trained_since_half))
    rates.add_row("frozen at half time", "", str(score.frozen_since_half))
    rates.add_row("most popular", str(score.popularity), str(score.popularity_since_half))
    return Group(Text(replay.stage, style="bold"), figures, rates)


def lift_lines(replay: Replay) -> tuple[str, ...]:
    """Return the model and its lift, in lines; none before half time."""
    if replay.training is None:
        return ()
    return ("", str(replay.training), str(replay.score.lift))


def line(replay: Replay) -> str:
    """Return the figures of a moment as one line."""
    score = replay.score
    parts = [
        f"{replay.stage}: {score.sessions} sessions, {score.events} clicks, {_rate(replay):,.0f}/s",
        f"recommendation {quantiles_text(score.ask_ms)}",
        f"event {quantiles_text(score.tell_ms)}",
        f"fresh {quantiles_text(score.fresh_ms)}",
        f"hit rate@{TOP} {score.engine}, popular {score.popularity}",
    ]
    if score.frozen_since_half.clicks:
        since = f"{score.engine_since_half}, trained {score.trained_since_half}, "
        since += f"frozen {score.frozen_since_half}, popular {score.popularity_since_half}"
        parts.append(f"since half time {since}")
    return "; ".join(parts)


def session_table(shown: ShownSession, data: DemoData) -> Table:
    """Return one session: each click with the recommendations before it."""
    table = Table(title=f"session {shown.session_id}", title_justify="left")
    table.add_column("recommended before (first 5)")
    table.add_column("clicked")
    table.add_column(f"in the {TOP}")
    for click, recommended in zip(shown.clicks, shown.recommended, strict=True):
        place = recommended.index(click) + 1 if click in recommended else None
        first = ", ".join(escape(item) for item in recommended[:_SHOWN_ITEMS])
        table.add_row(first, escape(data.label(click)), f"✓ place {place}" if place else "")
    return table


def _rate(replay: Replay) -> float:
    """Return clicks a second so far, the pause at half time left out."""
    now = time.monotonic() - replay.began if replay.began else 0.0
    seconds = replay.seconds + now
    return replay.score.events / seconds if seconds else 0.0
