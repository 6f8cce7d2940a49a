"""``midstream dead-letters``: lists rejected events, sends them again, and removes them."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, err, out, print_facts, print_json, say, table_of
from midstream.cli.faults import say_groups
from midstream.cli.help import CommandHelp, GroupHelp
from midstream.core.errors import docs_command
from midstream.core.fault_groups import FaultGroups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midstream.core.answers.letters import DeadLetter

app = typer.Typer(
    cls=GroupHelp,
    no_args_is_help=True,
    help="List rejected events, send them again, or remove them.",
    epilog="""
    midstream dead-letters list
    midstream dead-letters retry --all
    midstream dead-letters remove 17
    """,
)
Limit = Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="Maximum number of events to list.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Only events whose reason contains this text.")]
Numbers = Annotated[
    list[int] | None, typer.Argument(metavar="NUMBER", help="Numbers of rejected events, as in the list.")
]
All = Annotated[bool, typer.Option("--all", help="Send every rejected event again.")]
Event = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="Event to send in place of that of the one number; - reads standard input."),
]
Every = Annotated[bool, typer.Option("--all", help="Remove every rejected event.")]
RemovedReason = Annotated[
    str, typer.Option(metavar="TEXT", help="Remove those whose place or fault contains this text.")
]
Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Number of the rejected event, as in the list.")]
RAW_SHOWN_MAX = 60


@app.command(
    "list",
    cls=CommandHelp,
    epilog="""
    midstream dead-letters list --reason item_id
      Lists the rejected events whose reason contains item_id.
    """,
)
def command(limit: Limit = 20, reason: Reason = "", folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List rejected events, newest first.

    A summary of the reasons follows the list. A server may have the folder open.
    """
    from midstream.app.operate.dead_letters import letters_of

    letters = letters_of(folder)
    found = [each for each in reversed(letters) if reason in str(each.reason)]
    if as_json:
        print_json({"letters": found[:limit], "found": len(found), "kept": len(letters)})
    else:
        print_letters(found[:limit], len(found), len(letters))
        print_kinds(list(reversed(found)))


@app.command(
    "show",
    cls=CommandHelp,
    epilog="""
    midstream dead-letters show 17
    """,
)
def show_command(number: Number, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Print one rejected event and why it was rejected.

    A server may have the folder open.
    """
    from midstream.app.operate.dead_letters import letter_of

    letter = letter_of(folder, number)
    if as_json:
        print_json(letter)
    else:
        print_letter(letter)


@app.command(
    "retry",
    cls=CommandHelp,
    epilog="""
    midstream dead-letters retry --all
    midstream dead-letters retry 17 --event - < mended.json
    """,
)
def retry_command(
    numbers: Numbers = None, every: All = False, event: Event = None, folder: Folder = HERE, as_json: AsJson = False
) -> None:
    """Send rejected events again.

    The events are validated with the current configuration. A recorded event leaves the list. The exit status is 1
    when an event is rejected again. A server may have the folder open.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.dead_letters import mend, resend

    if every == bool(numbers):
        raise typer.BadParameter("numbers of letters, or --all")
    if event is not None and (not numbers or len(numbers) > 1):
        raise typer.BadParameter("one number with --event")
    with err.status("sending; the first time on a machine this compiles for about a minute"):
        if event is not None and numbers:
            done = mend(folder, config_of(folder), numbers[0], sys.stdin.read() if event == "-" else event)
        else:
            done = resend(folder, config_of(folder), numbers or ())
    print_facts({name: getattr(done, name) for name in done.__struct_fields__}, as_json=as_json)
    raise typer.Exit(1 if done.refused or done.missing else 0)


@app.command(
    "remove",
    cls=CommandHelp,
    epilog="""
    midstream dead-letters remove 17 18
    midstream dead-letters remove --reason vieew
      Removes the rejected events whose reason contains vieew.
    """,
)
def remove_command(
    numbers: Numbers = None,
    every: Every = False,
    reason: RemovedReason = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Remove rejected events, so that they are not sent any more.

    The exit status is 1 when a number has no rejected event. A server may have the folder open.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.dead_letters import letters_of, remove_letters

    if bool(numbers) + every + bool(reason) != 1:
        raise typer.BadParameter("numbers of letters, --all, or --reason TEXT")
    wanted = numbers or [
        each.number for each in letters_of(folder) if reason in f"{each.reason.where} {each.reason.came}"
    ]
    with err.status("removing; the first time on a machine this compiles for about a minute"):
        done = remove_letters(folder, config_of(folder), wanted)
    print_facts({name: getattr(done, name) for name in done.__struct_fields__}, as_json=as_json)
    raise typer.Exit(1 if done.missing else 0)


def print_letters(letters: "Sequence[DeadLetter]", found: int, kept: int) -> None:
    """Print letters as a table, and how many there are."""
    rows: list[list[object]] = [
        [letter.number, _time_text(letter.time_ms), _where(letter), letter.reason.came, _start(letter.raw)]
        for letter in letters
    ]
    out.print(table_of(["number", "time", "where", "came", "event"], rows))
    say(f"{len(rows)} of {found} shown; {kept} are kept")


def print_kinds(letters: "Sequence[DeadLetter]") -> None:
    """Print the faults of letters, equal ones once with their number."""
    groups = FaultGroups()
    for letter in letters:
        groups.add(replace(letter.reason, where=f"letter {letter.number}: {_where(letter)}"))
    if letters:
        say("")
        say_groups(groups, "letters")


def print_letter(letter: "DeadLetter") -> None:
    """Print a letter: its reason, then the event as it came."""
    facts: dict[str, object] = {
        "number": letter.number,
        "time": _time_text(letter.time_ms),
        "where": _where(letter),
        "came": letter.reason.came,
        "right": letter.reason.right,
        "page": docs_command(letter.reason.page),
        "tries": letter.tries,
        "characters_cut": letter.characters_cut,
    }
    print_facts(facts, as_json=False)
    out.print(letter.raw, markup=False)


def _time_text(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _where(letter: "DeadLetter") -> str:
    return letter.reason.where or "the event"


def _start(raw: str) -> str:
    """Return the beginning of an event in one line."""
    text = " ".join(raw[: 2 * RAW_SHOWN_MAX].split())
    return text if len(text) <= RAW_SHOWN_MAX else f"{text[:RAW_SHOWN_MAX]}…"
