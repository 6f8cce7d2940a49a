"""Options of all lists, their cells, and the line below a table that leads to the next page."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from midstream.cli.console import UNKNOWN, out, say, table_of

_SECOND_MS = 1_000

Limit = Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=100_000, help="Rows at most.")]
Cursor = Annotated[
    str | None, typer.Option(metavar="CURSOR", help="Where the list before ended, with the same filters.")
]
Fields = Annotated[list[str] | None, typer.Option("--field", metavar="NAME", help="Attribute to show; repeatable.")]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Oldest log time: ISO 8601, or how long ago, such as 7d.")
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Newest log time, as of --since.")]


def moments(since: str | None, until: str | None) -> tuple[int, int | None]:
    """Return the oldest and the newest log time in milliseconds, to the second; None = there is no newest one.

    Raises:
        RequestInvalid: One is no time.
    """
    from midstream.app.export.events import moment_ms

    now_ms = time.time_ns() // 1_000_000
    found = [moment_ms(text, now_ms, name) for text, name in ((since, "--since"), (until, "--until"))]
    oldest, newest = (None if each is None else each // _SECOND_MS * _SECOND_MS for each in found)
    return oldest or 0, newest


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[object]], scanned: int) -> None:
    """Print rows as a table, and below it how many there are."""
    out.print(table_of(columns, rows))
    say(f"{len(rows)} shown, {scanned} looked at")


def say_more(cursor: str | None, since_ms: int = 0, until_ms: int | None = None) -> None:
    """Print the options that go on behind the last row; None = the list ended.

    Times are printed as points of time, since those of "7d" are others a moment later.
    """
    if cursor is not None:
        times = {"since": since_ms or None, "until": until_ms}
        named = [f" --{name}={_iso(ms)}" for name, ms in times.items() if ms is not None]
        say(f"more: --cursor={cursor}{''.join(named)}")


def time_text(time_ms: int | None) -> str:
    """Return a time in UTC to the second."""
    return UNKNOWN if time_ms is None else f"{datetime.fromtimestamp(time_ms / 1_000, UTC):%Y-%m-%d %H:%M:%S}"


def json_text(values: Mapping[str, object]) -> str:
    """Return attributes as compact JSON; empty = there are none."""
    return msgspec.json.encode(values).decode() if values else ""


def cell(value: object) -> object:
    """Return an attribute as a cell: a number as it is, a text in one line, anything else as JSON."""
    if isinstance(value, str):
        return value.replace("\n", "\\x0a")
    return value if value is None or isinstance(value, int | float) else msgspec.json.encode(value).decode()


def attribute_columns(fields: Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns of attributes: one for each that was named, else one with all."""
    return tuple(fields) if fields else ("attributes",)


def attribute_cells(attributes: Mapping[str, object], fields: Sequence[str] | None) -> tuple[object, ...]:
    """Return the cells of ``attribute_columns``."""
    return tuple(cell(attributes.get(name)) for name in fields) if fields else (json_text(attributes),)


def _iso(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
