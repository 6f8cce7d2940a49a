"""``midstream recommend``: one slate, optionally with its explanation."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.answers.explained import print_why
from midstream.cli.console import HERE, AsJson, Folder, err, out, print_json, say, score_text, table_of
from midstream.cli.help import CommandHelp
from midstream.core.errors import RequestInvalid

if TYPE_CHECKING:
    from midstream.app.inspect.query_offline import OfflineAnswer
    from midstream.core.answers.explanations import SlateWhy

app = typer.Typer()
_OPTIONS = {
    "/n": "-n",
    "/filter": "--filter",
    "/user_id": "--user",
    "/session_id": "--session",
    "/items": "--item",
    "/placement": "PLACEMENT",
}
"""Option of the command for each field of a request."""
Why = Annotated[
    list[str] | None,
    typer.Option("--why", metavar="ID", help="Explain this item in full, in the slate or not; repeatable."),
]
User = Annotated[str | None, typer.Option("--user", metavar="ID", help="User id.")]
Session = Annotated[str | None, typer.Option("--session", metavar="ID", help="Session id.")]
Filter = Annotated[
    str | None, typer.Option("--filter", metavar="TEXT", help="Condition on items, such as item.price < 50.")
]
Items = Annotated[
    list[str] | None, typer.Option("--item", metavar="ID", help="Item of the basket or session; repeatable.")
]


@app.command(
    "recommend",
    cls=CommandHelp,
    epilog="""
    midstream recommend --user u14 -n 5
    midstream recommend --item lamp-012 --filter "item.price < 50" --explain
      Prints a slate for this basket, and why each item is in it.
    """,
)
def command(
    placement: Annotated[str, typer.Argument(metavar="PLACEMENT", help="Name of the placement.")] = "default",
    user: User = None,
    session: Session = None,
    items: Items = None,
    n: Annotated[
        int | None, typer.Option("-n", "--n", metavar="N", help="Items; default: slate_size of the placement.")
    ] = None,
    item_filter: Filter = None,
    explain: Annotated[bool, typer.Option("--explain", help="Explain each item in one line.")] = False,
    why: Why = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Print one slate of recommendations.

    The slate is computed from the log by the same pipeline as in the server. Nothing is recorded. A server may have the
    folder open.
    """
    from midstream.app.inspect.query_offline import ask_folder, why_of
    from midstream.app.opening import config_of
    from midstream.engine.types import Ask

    ask = Ask(placement, user_id=user, session_id=session, n=n, items=tuple(items or ()), filter=item_filter)
    with err.status("reading the log; the first time on a machine this compiles for about a minute"):
        config = config_of(folder)
        with options_named():
            answered = ask_folder(folder, config, ask)
        told = why_of(answered, why or ()) if explain or why else None
    for concern in (*answered.concerns, *answered.unknown):
        say(f"warning: {concern}")
    print_json(as_object(answered, told)) if as_json else print_answer(answered, told)


@contextmanager
def options_named() -> Generator[None]:
    """Name faults of a request by the options of the command.

    Raises:
        RequestInvalid: Whenever the block does.
    """
    try:
        yield
    except RequestInvalid as error:
        faults = (replace(each, where=_OPTIONS.get(each.where, each.where)) for each in error.faults)
        raise RequestInvalid(tuple(faults)) from error


def as_object(answered: "OfflineAnswer", why: "SlateWhy | None") -> dict[str, object]:
    """Return an answer for ``--json``, with why where it was explained."""
    served = answered.served
    items = [
        {"id": item_id, "score": score, "position": position, "sources": _sources(answered, position)}
        for position, (item_id, score) in enumerate(zip(answered.item_ids, answered.scores, strict=True))
    ]
    found: dict[str, object] = {
        "placement": served.query.placement,
        "items": items,
        "tier": served.tier,
        "models": served.models,
        "concerns": answered.concerns,
        "unknown": answered.unknown,
    }
    if why is not None:
        found |= {
            "recent": answered.recent_ids,
            "retrieved": served.retrieved,
            "removed": served.removed,
            "candidates": len(served.candidates),
            "failures": {failure.component: failure.reason for failure in served.failures},
            "log_position": served.log_position,
            "why": why.items,
            "asked": why.asked,
            "unexplained": why.unexplained,
        }
    return found


def print_answer(answered: "OfflineAnswer", why: "SlateWhy | None") -> None:
    """Print a slate as a table, or with its explanation as lines, and below them the inputs."""
    if not answered.item_ids:
        say("no item may be served; what the log has of items shows: midstream size")
    if why is not None:
        print_why(why, "--why")
        return
    columns = ["#", "item", "score", "sources"]
    rows: list[list[object]] = [
        [position + 1, item_id, score_text(score), _places(_sources(answered, position))]
        for position, (item_id, score) in enumerate(zip(answered.item_ids, answered.scores, strict=True))
    ]
    out.print(table_of(columns, rows))
    for name, version in answered.served.models.items():
        say(f"model: {name} {version}")


def _sources(answered: "OfflineAnswer", position: int) -> dict[str, int]:
    """Return the rank of an item in each source that proposed it, from 0."""
    pairs = zip(answered.source_names, answered.ranks[position], strict=True)
    return {name: rank for name, rank in pairs if rank is not None}


def _places(sources: Mapping[str, int]) -> str:
    """Return the sources of an item as text, each with the item's rank, from 1."""
    return ", ".join(f"{name} {rank + 1}" for name, rank in sources.items())
