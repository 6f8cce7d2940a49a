"""Help pages of the program: commands listed by topic, and examples below the options of each command.

``TOPICS`` is the one table of the order of commands. The epilog of a command has its examples: command lines, each with
at most one indented line that describes it. A test parses every one of them.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from inspect import cleandoc
from typing import TYPE_CHECKING, Protocol, cast

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    import typer

TOPICS = {
    "Start": ("init", "demo", "serve", "check", "docs"),
    "Data": ("import", "consume", "inputs", "outputs", "export", "items", "users", "events", "dead-letters", "erase"),
    "Answers": ("recommend", "explain", "slates", "placements", "experiments", "report", "estimate"),
    "Features and models": ("features", "feast", "train", "models", "training", "examples"),
    "Evaluation": ("evaluate", "simulate", "bench"),
    "Operation": (
        "keys",
        "tenants",
        "audit",
        "doctor",
        "size",
        "rebuild",
        "seal",
        "sinks",
        "backup",
        "restore",
        "nodes",
        "probe",
        "warm",
    ),
}
"""Commands of the program by topic, both in the order in which they are listed."""
SUMMARY_CHARACTERS_MAX = 60
"""Of the first sentence of a command: a list of commands shows it whole on a terminal of 80 columns."""


class _Page(Protocol):
    """A help page that is being written."""

    current_indent: int

    def section(self, name: str) -> AbstractContextManager[None]: ...

    def write(self, string: str) -> None: ...

    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None: ...


def _write_examples(page: _Page, epilog: str | None) -> None:
    """Write the examples of a command, each line as it is."""
    if epilog is None:
        return
    with page.section("Examples"):
        for line in cleandoc(epilog).splitlines():
            page.write(f"{'':>{page.current_indent}}{line}\n")


class CommandHelp(TyperCommand):
    """A command whose help ends with its examples, and names each argument without its type in Python."""

    def collect_usage_pieces(self, ctx: object) -> list[str]:
        """Return the words of the usage line; an argument in brackets may be left out."""
        return [
            piece.replace("{", "").replace("}", "")
            for piece in super().collect_usage_pieces(cast("typer.Context", ctx))
        ]

    def format_options(self, ctx: object, formatter: _Page) -> None:
        """Write the description of each argument and option."""
        context = cast("typer.Context", ctx)
        for title in ("Arguments", "Options"):
            records = [
                each.get_help_record(context)
                for each in self.get_params(context)
                if title.lower().startswith(each.param_type_name)
            ]
            rows = [record for record in records if record is not None]
            if title == "Arguments":
                rows = [(name.partition(" <")[0], text) for name, text in rows]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: object, formatter: _Page) -> None:
        """Write the examples below the options."""
        _write_examples(formatter, self.epilog)


class GroupHelp(TyperGroup):
    """A group of commands whose help ends with its examples."""

    def format_epilog(self, ctx: object, formatter: _Page) -> None:
        """Write the examples below the commands."""
        _write_examples(formatter, self.epilog)


class ProgramHelp(GroupHelp):
    """The program, whose help lists the commands by topic."""

    def format_commands(self, ctx: object, formatter: _Page) -> None:
        """Write a list of commands for each topic, all summaries in one column."""
        width = max(map(len, self.commands))
        for topic, names in TOPICS.items():
            with formatter.section(topic):
                formatter.write_dl([
                    (f"{name:<{width}}", self.commands[name].get_short_help_str(SUMMARY_CHARACTERS_MAX))
                    for name in names
                ])  # fmt: skip
