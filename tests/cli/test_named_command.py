"""The program with one command is, for that command, the program with all of them."""

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from midstream.cli import app as every
from midstream.cli import named_command

NAMES = (*named_command.COMMANDS, *named_command.GROUPS)
OTHERS = """
import sys
from midstream.cli.named_command import main
try:
    main(sys.argv[1:])
except SystemExit as left:
    assert not left.code, left.code
print(*sorted(name for name in sys.modules if name.startswith("midstream.cli.")), file=sys.stderr)
"""


def said(main, arguments, capsys):
    """Return the status of a run, and what it printed."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return left.value.code, *capsys.readouterr()


def test_each_command_is_found():
    """By the name that its module gives it, and in one of the tables alone."""
    assert sorted(NAMES) == sorted(cast("Any", typer.main.get_command(every.app)).commands)


def test_no_module_of_commands_is_left_out():
    """One that is in no table has no command; the parts of the group ``features`` are added by that group itself."""
    root = Path(named_command.__file__).parent
    modules = {path for path in root.glob("*/*.py") if "\napp = typer.Typer(" in path.read_text("utf-8")}
    told = {
        root / f"{each.replace('.', '/')}.py"
        for each in (*named_command.COMMANDS.values(), *named_command.GROUPS.values())
    }
    assert told <= modules
    assert {path.parent.name for path in modules - told} == {"features"}


@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_the_same_by_itself(name, capsys):
    """Its help, and its answer to an option that it does not have: texts, streams and status."""
    for arguments in ([name, "--help"], [name, "--nothing-of-the-kind"]):
        assert said(named_command.main, arguments, capsys) == said(every.main, arguments, capsys)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["--version", "serve"], ["serv"], [""]])
def test_what_names_no_command_is_for_the_whole_program(arguments, capsys):
    """Its help lists all commands, and a word that is none is compared with them."""
    assert said(named_command.main, arguments, capsys) == said(every.main, arguments, capsys)


def test_other_commands_are_not_imported():
    """Forty modules and the options of all commands, a tenth of a second."""
    ran = subprocess.run(
        [sys.executable, "-c", OTHERS, "serve", "--help"], check=True, capture_output=True, text=True
    ).stderr.split()
    assert "midstream.cli.answers.serve" in ran
    assert not {"midstream.cli.app", "midstream.cli.models.train", "midstream.cli.data.erase"} & set(ran)
