"""``midstream dead-letters``: rejected events, to look at and to send again."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, err, out, print_facts, print_json, say, table_of
from midstream.cli.faults import say_groups
from midstream.core.fault_groups import FaultGroups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midstream.events.dead_letters.dead_letters import DeadLetter

app = typer.Typer(no_args_is_help=True, help="Rejected events: look at them, send them again.")
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="Letters at most.")]
Reason = Annotated[str, typer.Option(help="Only letters whose reason has this text in it.")]
Numbers = Annotated[list[int] | None, typer.Argument(help="Of letters.")]
All = Annotated[bool, typer.Option("--all", help="Every letter.")]
RAW_SHOWN_MAX = 60


@app.command("list")
def command(limit: Limit = 20, reason: Reason = "", folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the newest letters.

    Newest first. A server may have the folder open.
    """
    from midstream.app.operate.dead_letters import letters_of

    letters = letters_of(folder)
    found = [each for each in reversed(letters) if reason in str(each.reason)]
    if as_json:
        print_json({"letters": found[:limit], "found": len(found), "kept": len(letters)})
    else:
        print_letters(found[:limit], len(found), len(letters))
        print_kinds(list(reversed(found)))


@app.command("show")
def show_command(number: Annotated[int, typer.Argument()], folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show one letter whole.

    A server may have the folder open.
    """
    from midstream.app.operate.dead_letters import letter_of

    letter = letter_of(folder, number)
    if as_json:
        print_json(letter)
    else:
        print_letter(letter)


@app.command("retry")
def retry_command(numbers: Numbers = None, every: All = False, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Send letters again.

    Judged by the configuration of today. What is recorded is no letter any more.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.dead_letters import resend

    if every == bool(numbers):
        raise typer.BadParameter("numbers of letters, or --all")
    with err.status("sending; the first time on a machine this compiles for about a minute"):
        done = resend(folder, config_of(folder), numbers or ())
    print_facts({name: getattr(done, name) for name in done.__struct_fields__}, as_json=as_json)
    raise typer.Exit(1 if done.refused or done.missing else 0)


def print_letters(letters: "Sequence[DeadLetter]", found: int, kept: int) -> None:
    """Print letters as a table, and how many there are."""
    rows: list[list[object]] = [
        [letter.number, _time_text(letter.time_ms), _where(letter), letter.reason.came, _start(letter.raw)]
        for letter in letters
    ]
    out.print(table_of(["number", "time", "where", "came", "event"], rows))
    say(f"{len(rows)} of {found} shown; {kept} are kept")


def print_kinds(letters: "Sequence[DeadLetter]") -> None:
    """Print what is wrong with letters, once for those that are alike, with how many they are."""
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
        "page": letter.reason.page,
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
