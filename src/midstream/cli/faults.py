"""Error printer of all commands: where, what came, what would be right, page.

Every failure of a command is printed here: faults of a file or a request, a refusal of the engine, errors of the
system, wrong use of the program. Each has its remedy, and the exit status that ``midstream docs cli`` lists.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import typer

from midstream.cli.console import say
from midstream.core.errors import (
    AddressUnavailable,
    AppendFailed,
    ArtifactInvalid,
    ArtifactTooLarge,
    ConfigInvalid,
    DiskFull,
    ErasureRunning,
    EventsGone,
    ExtraMissing,
    Fault,
    FitStopped,
    FolderLocked,
    Invalid,
    LogDamaged,
    LogIncomplete,
    LogRewritten,
    LogUnreadable,
    MidstreamError,
    NotFound,
    Overloaded,
    RebuildRunning,
    RequestInvalid,
    SnapshotInvalid,
    StoreUnavailable,
    docs_command,
)
from midstream.core.fault_groups import FaultGroup, FaultGroups
from midstream.core.nearest import nearest

USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
"""Errors of the parser for wrong use. Typer exports its subclass alone."""
DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses; 130 is that of a process that Ctrl-C ended (128 and the number of the signal)."""
_NO_COMMAND = re.compile(r"No such command '([^']*)'")
_WORDS = {
    "Input should be a valid integer": "is no whole number.",
    "Input should be a valid number": "is no number.",
}
"""Beginnings of the parser's messages, and their replacements."""
_HELP_ASKED = "NoArgsIsHelpError"
"""The parser's error for a program or group without a command; its text is the help."""
PAGE = "/docs/cli.md"


@dataclass(frozen=True, slots=True)
class Remedy:
    """Remedy of an expected failure, and a page."""

    right: str
    page: str


_REMEDIES: Mapping[type[MidstreamError], Remedy] = {
    FolderLocked: Remedy("Stop that process, or ask its server: midstream doctor says who it is.", f"{PAGE}#doctor"),
    LogIncomplete: Remedy("Restore a backup; midstream doctor says what is missing.", "/docs/data.md#what-is-missing"),
    LogDamaged: Remedy("Restore a backup, or midstream doctor --repair.", "/docs/data.md#what-is-damaged"),
    LogRewritten: Remedy("The same command again: it reads from the beginning.", "/docs/data.md"),
    LogUnreadable: Remedy("An export by the version that wrote it, imported by this one.", "/docs/data.md#history"),
    EventsGone: Remedy("A later time, or a backup that still has them.", "/docs/data.md#retention"),
    DiskFull: Remedy("Make room; nothing that was acknowledged is lost.", "/docs/data.md"),
    AppendFailed: Remedy("Look at the disk, then start anew; nothing acknowledged is lost.", "/docs/data.md"),
    SnapshotInvalid: Remedy("midstream rebuild makes the state anew from the log.", f"{PAGE}#rebuild"),
    StoreUnavailable: Remedy("A server that answers at that address; midstream doctor says who has the folder.", PAGE),
    ExtraMissing: Remedy("Install what is named, then the same command again.", "/docs/contributing.md"),
    ArtifactTooLarge: Remedy("A smaller model, or a larger [registry] version_bytes_max.", "/docs/models.md#registry"),
    ArtifactInvalid: Remedy("Another version: midstream models list.", "/docs/models.md#registry"),
    FitStopped: Remedy("More time or memory in its [[models]] table, or the same again.", "/docs/models.md#training"),
    ErasureRunning: Remedy("The same command again when that one is done.", f"{PAGE}#erase"),
    RebuildRunning: Remedy("The same command again when that one is done.", f"{PAGE}#rebuild"),
    Overloaded: Remedy("The same command again in a moment.", "/docs/http.md#overload-and-quotas"),
    NotFound: Remedy("A name or an id that is there.", PAGE),
    MidstreamError: Remedy("What the words above ask for.", PAGE),
}
"""By the nearest of an error's classes."""


def fault_text(fault: Fault, count: int = 1, noun: str = "rows") -> str:
    """Return a fault in four labelled lines; ``count`` = number of rows, or of another ``noun``, with the same fault.

    Example:
        >>> print(fault_text(Fault("--port", "99999 is no port.", "0 to 65,535.", "/docs/http.md")))
        where: --port
        came:  99999 is no port.
        right: 0 to 65,535.
        page:  midstream docs http
    """
    alike = f" (first of {count:,} {noun} like it)" if count > 1 else ""
    return "\n".join((
        _labelled("where:", f"{fault.where}{alike}"),
        _labelled("came:", fault.came),
        _labelled("right:", fault.right),
        _labelled("page:", docs_command(fault.page)),
    ))  # fmt: skip


def _labelled(label: str, text: str) -> str:
    """Return a text behind its label, further lines of it below its first one."""
    first, *others = text.split("\n")
    return "\n".join((f"{label:<7}{first}".rstrip(), *(f"{'':<7}{each}" for each in others)))


def say_faults(faults: Iterable[Fault]) -> None:
    """Print faults to standard error, an empty line between two."""
    say("\n\n".join(fault_text(each) for each in faults))


def say_groups(groups: FaultGroups, noun: str = "rows") -> None:
    """Print the kinds of faults of many rows, each once with its number, the most frequent first."""
    say(groups_text(groups.groups, noun))
    if groups.others:
        say(f"\nand {groups.others:,} of further kinds")


def groups_text(groups: Iterable[FaultGroup], noun: str = "rows") -> str:
    """Return kinds of faults, an empty line between two."""
    return "\n\n".join(fault_text(each.first, each.count, noun) for each in groups)


def say_error(error: Exception, command: str) -> None:
    """Print the error that ended a command; without a command the list of commands."""
    if type(error).__name__ == _HELP_ASKED:
        say(str(error))
        return
    say_faults(faults_of(error, command))


def faults_of(error: Exception, command: str = "midstream") -> tuple[Fault, ...]:
    """Return the four parts of an error: of midstream, of the system, or of wrong use."""
    if isinstance(error, Invalid):
        return error.faults
    if isinstance(error, MidstreamError):
        remedy = next(_REMEDIES[each] for each in type(error).__mro__ if each in _REMEDIES)
        page = _page_of(command) if remedy.page == PAGE else remedy.page
        return (Fault(command, _sentence(str(error) or type(error).__name__), remedy.right, page),)
    if isinstance(error, OSError):
        return (_machine_fault(error, command),)
    return (_usage_fault(cast("_UsageError", error), command),)


class _Named(Protocol):
    """A command, an option or an argument."""

    name: str
    opts: list[str]
    params: "Sequence[_Named]"


class _Context(Protocol):
    """Where in the program the parser was."""

    command_path: str
    command: _Named


class _UsageError(Protocol):
    """Fields of a parser's error, whose type Typer does not export."""

    ctx: _Context | None
    message: str
    __cause__: BaseException | None


def _usage_fault(error: _UsageError, called: str) -> Fault:
    """Return the fault of wrong use, from an error of the parser."""
    context = error.ctx
    path = called if context is None else context.command_path
    page = _page_of(path)
    right = f"{path} --help says what there is."
    if error.message.endswith("does not exist."):
        right = f"The path of one that is there; {path} --help says more."
    option: str | None = getattr(error, "option_name", None)
    if option is not None and context is not None and type(error).__name__ == "NoSuchOption":
        known = [each for parameter in context.command.params for each in parameter.opts if each.startswith("--")]
        return Fault(path, f"There is no option {option}.{nearest(option, known)}", right, page)
    if (unknown := _NO_COMMAND.match(error.message)) is not None and context is not None:
        commands: Mapping[str, object] = getattr(context.command, "commands", {})
        return Fault(path, f"There is no command {unknown[1]}.{nearest(unknown[1], commands)}", right, page)
    return Fault(f"{path} {_hint(error)}".rstrip(), _said(error), right, page)


def _page_of(path: str) -> str:
    """Return the part of the page about a command; ``path`` is the program and the words behind it."""
    command = path.split()[1:2]
    return f"{PAGE}#{command[0]}" if command else PAGE


def _hint(error: _UsageError) -> str:
    """Return which option or argument is wrong; empty = none alone."""
    told: str | None = getattr(error, "param_hint", None)
    parameter: _Named | None = getattr(error, "param", None)
    if told is not None or parameter is None:
        return told or ""
    if parameter.opts[0].startswith("-"):
        return " / ".join(parameter.opts)
    return getattr(parameter, "metavar", None) or parameter.name.upper()


def _said(error: _UsageError) -> str:
    """Return the parser's message about a value, in the words of the rest of the program."""
    found = next((said for begin, said in _WORDS.items() if error.message.startswith(begin)), None)
    return _sentence(error.message or "It is missing.") if found is None else f"{_value_of(error)} {found}"


def _value_of(error: _UsageError) -> str:
    """Return the text that the parser could not read, if its message has it."""
    told: Callable[[], Sequence[Mapping[str, object]]] | None = getattr(error.__cause__, "errors", None)
    return "It" if told is None else str(told()[0].get("input", "It"))


def _machine_fault(error: OSError, command: str) -> Fault:
    """Return the fault of a system error, with its file."""
    came = error.strerror or str(error)
    right = "A file or folder that is there and may be read and written, with room on its disk."
    return Fault(str(error.filename or command), _sentence(came), right, PAGE)


def status_of(error: Exception) -> int:
    """Return the exit status of an error: 2 for wrong use and an invalid configuration, else 1.

    Wrong use includes a request that cannot be answered, by this process or by a server.
    """
    if isinstance(error, (ConfigInvalid, RequestInvalid, USAGE_ERROR)):
        return WRONG_USE
    if isinstance(error, AddressUnavailable) or not isinstance(error, Invalid):
        return FAILED
    return WRONG_USE if all(each.where.startswith("--") for each in error.faults) else FAILED


def _sentence(text: str) -> str:
    """Return a text that begins with a capital letter, with a point behind it; what is no word stays as it is.

    Example:
        >>> _sentence("no room"), _sentence("w1/data is in use")
        ('No room.', 'w1/data is in use.')
    """
    if text.partition(" ")[0].rstrip(",;:.!?").isalpha():
        text = f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith((".", "?", "!", ":")) or "\n" in text else f"{text}."
