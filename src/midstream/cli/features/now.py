"""``midstream features list``, ``show`` and ``size``: declarations, current values and memory."""

from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import (
    HERE,
    UNKNOWN,
    AsJson,
    Folder,
    bytes_text,
    err,
    out,
    print_facts,
    print_json,
    say,
    table_of,
)
from midstream.cli.help import CommandHelp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midstream.app.inspect.feature_views import ShownFeature, Sized
    from midstream.engine.types import FeatureView, TableView

app = typer.Typer()
_READING = "reading the log; the first time on a machine this compiles for about a minute"
_NONE = "no feature is declared: midstream features suggest prints first ones"
_UNSET: tuple[object, ...] = (None, "", [], ())
"""Options of a declaration that say nothing."""
_FRAME_CHARACTERS = 3
"""Around each cell of a table."""
_VALUE_CHARACTERS = 10
"""Of a number of four digits."""
_DAY_MS, _HOUR_MS, _MINUTE_MS, _SECOND_MS = 86_400_000, 3_600_000, 60_000, 1_000


@app.command(
    "list",
    cls=CommandHelp,
    epilog="""
    midstream features list
    """,
)
def list_command(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the declared features.

    Each has a line: kind, scope, columns, time of the last counted event, memory, and the placements that read it.
    """
    from midstream.app.inspect.feature_views import list_features
    from midstream.app.opening import config_to_read

    with err.status(_READING):
        views = list_features(folder, config_to_read(folder))
    print_json(views) if as_json else print_views(views)


@app.command(
    "show",
    cls=CommandHelp,
    epilog="""
    midstream features show price --item lamp-012 --item rug-009
    midstream features show clicks --session s14-3
    """,
)
def show_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the feature.")],
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="User of the values; default: the user of the last event.")
    ] = None,
    session: Annotated[
        str | None, typer.Option(metavar="ID", help="Session of the values; default: the open one of the user.")
    ] = None,
    items: Annotated[
        list[str] | None,
        typer.Option("--item", metavar="ID", help="Item of the values; repeatable; default: the most popular items."),
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Print the declaration and current values of a feature."""
    from midstream.app.inspect.feature_views import show_feature
    from midstream.app.opening import config_to_read

    with err.status(_READING):
        shown = show_feature(folder, config_to_read(folder), name, items or (), user=user, session=session)
    print_json(shown) if as_json else print_shown(shown)


@app.command(
    "size",
    cls=CommandHelp,
    epilog="""
    midstream features size
    """,
)
def size_command(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Print the memory of each feature, now and at its maximum."""
    from midstream.app.inspect.feature_views import size_features
    from midstream.app.opening import config_to_read

    with err.status(_READING):
        sized = size_features(folder, config_to_read(folder))
    print_sized(sized, as_json=as_json)


def print_views(views: "Sequence[FeatureView]") -> None:
    """Print the status of features as a table, a line each."""
    if not views:
        say(_NONE)
        return
    columns = ("feature", "kind", "scope", "columns", "last counted", "memory", "read by")
    out.print(table_of(columns, [_row(each) for each in views]))


def print_sized(sized: "Sized", *, as_json: bool) -> None:
    """Print the memory of features, and of all together."""
    rows = [(each.name, each.bytes_now, each.bytes_max) for each in sized.features]
    rows.append(("all features", sized.bytes_now, sized.bytes_max))
    if as_json:
        print_json({name: {"bytes_now": now, "bytes_max": full} for name, now, full in rows})
        return
    if not sized.features:
        say(_NONE)
        return
    shown = [(name, bytes_text(now), bytes_text(full)) for name, now, full in rows]
    out.print(table_of(("feature", "now", "at the maximum"), shown))
    say("What several features count or read is in each of them, and once in all features.")


def print_shown(shown: "ShownFeature") -> None:
    """Print the status of a feature, and its values as a table."""
    view = shown.feature
    facts = {
        "feature": view.name,
        "kind": view.kind,
        "scope": view.scope or "of the features that it names",
        "declaration": ", ".join(f"{key} = {value}" for key, value in view.declaration.items() if value not in _UNSET),
        "read_by": ", ".join(view.used_by) or "no placement",
        "last_counted": _counted_text(view),
        "complete_since": "always" if view.complete_since is None else time_text(view.complete_since),
        **_table_facts(view.table),
        "memory": f"{bytes_text(view.bytes_now)} now, {bytes_text(view.bytes_max)} at the maximum",
    }
    print_facts(facts, as_json=False)
    out.print(table_of(*_values_of(shown, out.width)))
    say(_asked_for(shown))
    for concern in shown.unknown:
        say(f"warning: {concern}")


def _asked_for(shown: "ShownFeature") -> str:
    """Return whose values they are."""
    named = {"user": shown.user, "session": shown.session}
    told = " and ".join(f"the {noun} {each}" for noun, each in named.items() if each is not None)
    return f"for {told}" if told else "for nobody: no user is known"


def _values_of(shown: "ShownFeature", width: int) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return headings and rows of values: a row an item, or a row a column where they are too wide for that."""
    columns = shown.feature.columns
    names = [max(map(len, ("item", *shown.items))), *(max(len(name), _VALUE_CHARACTERS) for name in columns)]
    if sum(names) + _FRAME_CHARACTERS * len(names) < width:
        return ("item", *columns), [(item, *row) for item, row in zip(shown.items, shown.values, strict=True)]
    by_column = [[row[number] for row in shown.values] for number in range(len(columns))]
    return ("column", *shown.items), [(name, *values) for name, values in zip(columns, by_column, strict=True)]


def _counted_text(view: "FeatureView") -> str:
    """Return the time of a feature's last counted event, empty for one without cells."""
    return age_text(view.age_ms) if view.bytes_max and view.table is None else UNKNOWN


def _table_facts(table: "TableView | None") -> dict[str, str]:
    """Return the facts of an external table, empty for other features."""
    if table is None:
        return {}
    newest = "none" if table.newest is None else time_text(table.newest)
    passed_by = f", {table.incomplete_rows:,} without id or time" if table.incomplete_rows else ""
    held = f"{table.rows:,} rows{passed_by}, {bytes_text(table.bytes_now)}, the newest of {newest}"
    return {"table": f"{table.name}: {held}", "sha256": table.sha256}


def _row(view: "FeatureView") -> tuple[str, ...]:
    return (
        view.name,
        view.kind,
        view.scope,
        str(len(view.columns)),
        _counted_text(view),
        bytes_text(view.bytes_now),
        ", ".join(view.used_by),
    )


def age_text(age_ms: int | None) -> str:
    """Return an age for people.

    Example:
        >>> age_text(90_000), age_text(None)
        ('1 min ago', 'never')
    """
    if age_ms is None:
        return "never"
    for unit_ms, name in ((_DAY_MS, "d"), (_HOUR_MS, "h"), (_MINUTE_MS, "min"), (_SECOND_MS, "s")):
        if age_ms >= unit_ms:
            return f"{age_ms // unit_ms} {name} ago"
    return "now"


def time_text(time_ms: int) -> str:
    """Return a time as text, UTC.

    Example:
        >>> time_text(1_700_000_000_000)
        '2023-11-14 22:13:20 UTC'
    """
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
