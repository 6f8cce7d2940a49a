"""Console of all commands: common options, tables, numbers and their format.

Control characters are printed as escapes, whoever wrote them: ids and attributes come from clients, and a terminal
would obey them. Results go to standard output, notes to standard error, so that a pipe gets results alone. Where
standard output is no terminal rich omits colours. Rich is imported when something is printed: help pages do not need
it, and it takes a sixth of their time.
"""

import math
import re
import signal
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import msgspec
import typer

from midstream.core.errors import ConfigInvalid, Fault

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status
    from rich.table import Table


class LazyConsole:
    """A console of rich for a standard stream, made at its first use."""

    def __init__(self, *, is_error: bool) -> None:
        self._is_error = is_error

    @cached_property
    def rich(self) -> "Console":
        """The console itself, for libraries that draw into it."""
        from rich.console import Console

        return Console(stderr=self._is_error, soft_wrap=True, highlight=False, emoji=False)

    @property
    def is_terminal(self) -> bool:
        """Whether a person sees it at once."""
        return self.rich.is_terminal

    @property
    def width(self) -> int:
        """Characters of a line."""
        return self.rich.width

    def print(self, content: object, *, markup: bool = True, end: str = "\n") -> None:
        """Print ``printable`` text, a table, or another object of rich; ``markup`` = words in brackets are styles."""
        self.rich.print(printable(content) if isinstance(content, str) else content, markup=markup, end=end)

    def status(self, text: str) -> "Status":
        """Show a step in a terminal, while the block runs."""
        return self.rich.status(printable(text))


out = LazyConsole(is_error=False)
err = LazyConsole(is_error=True)
UNKNOWN = "–"
"""Printed where there is no value."""
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""C0 but the newline, DEL, C1 and the controls of writing direction."""
_BYTE_END = 0x100
_WHOLE_FROM, _WHOLE_BELOW = 1e4, 1e15
"""Numbers of which four digits are less than a count has, and from which a float has no ones."""

_FOLDER_HELP = "Folder that holds midstream.toml and the data."


def _existing(folder: Path) -> Path:
    """Return a folder that is there: a misspelt one would be called an empty shop, or become one."""
    if folder.is_dir():
        return folder
    came = f"{folder} is a file." if folder.exists() else f"There is no folder {folder}."
    right = "The folder of midstream.toml and data; midstream init FOLDER makes one."
    raise ConfigInvalid((Fault("--folder", came, right, "/docs/cli.md"),))


Folder = Annotated[Path, typer.Option("--folder", "-f", metavar="FOLDER", callback=_existing, help=_FOLDER_HELP)]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", exists=True, dir_okay=False, help="Configuration to use instead of midstream.toml."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
HERE = Path()


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    out.print(json_printable(msgspec.json.encode(value, enc_hook=str).decode()), markup=False)


def printable(text: str) -> str:
    r"""Return text with an escape for each control character but the newline.

    Example:
        >>> print(printable("\x1b[2Jred\u202e"))
        \x1b[2Jred\u202e
    """
    return _CONTROLS.sub(_escape, text)


def json_printable(text: str) -> str:
    """Return JSON that decodes to the same value, with an escape of JSON for each control character but the newline."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say(text: str) -> None:
    """Print words about a result to standard error."""
    err.print(text, markup=False)


def say_left_out(left_out: Mapping[str, int]) -> None:
    """Print what a result lacks: a line for each reason, with its count."""
    for why, count in left_out.items():
        say(f"{count} left out: {why.replace('_', ' ')}")


def table_of(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> "Table":
    """Return a table; numbers are aligned right, text is printed unchanged, wrapped where it does not fit."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title and printable(title), title_justify="left")
    cells = [[("" if cell is None else cell) for cell in row] for row in rows]
    for number, name in enumerate(columns):
        is_number = bool(cells) and all(isinstance(row[number], int | float) for row in cells)
        table.add_column(printable(name), justify="right" if is_number else "left", overflow="fold")
    for row in cells:
        table.add_row(*(escape(printable(_text(cell))) for cell in row))
    return table


def print_facts(facts: Mapping[str, object], *, as_json: bool) -> None:
    """Print named facts, one a line, or as JSON."""
    if as_json:
        print_json(facts)
        return
    print_lines({name.replace("_", " "): value for name, value in facts.items()})


def print_lines(facts: Mapping[str, object], indent: str = "") -> None:
    """Print named facts as they are called, one a line."""
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        out.print(f"{indent}{name:<{width}}  {_text(value)}", markup=False)


def bytes_text(count: float) -> str:
    """Return a number of bytes for people.

    Example:
        >>> bytes_text(1536)
        '1.5 KiB'
    """
    unit = 0
    while count >= _STEP and unit < len(UNITS) - 1:
        count /= _STEP
        unit += 1
    return f"{count:.0f} {UNITS[unit]}" if unit == 0 else f"{count:.1f} {UNITS[unit]}"


def score_text(score: float | None) -> str:
    """Return a score for people; NaN and None = there is none.

    Example:
        >>> score_text(0.5), score_text(float("nan"))
        ('0.50000', '–')
    """
    return UNKNOWN if score is None or not math.isfinite(score) else f"{score:.5f}"


class _Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextmanager
def ended_by_sigterm() -> Generator[None]:
    """Let SIGTERM end the block as an error does, so that partial files are removed.

    Raises:
        SystemExit: Behind the block, when the signal came. In it that is a ``KeyboardInterrupt``, for which no custom
            component is blamed.
    """

    def end(_number: int, _frame: object) -> NoReturn:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Terminated:
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < _BYTE_END else f"\\u{code:04x}"


def _text(value: object) -> str:
    """Return a value for people: four digits of a number, and a large one whole.

    Example:
        >>> _text(0.28664), _text(204_897.0), _text(float("nan")), _text(None)
        ('0.2866', '204897', '–', '–')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    if isinstance(value, float):
        return f"{value:.0f}" if _WHOLE_FROM <= abs(value) < _WHOLE_BELOW else f"{value:.4g}"
    if isinstance(value, list | tuple):
        parts = cast("Sequence[object]", value)
        return "\n".join(_text(each) for each in parts) or "none"
    return str(value)
