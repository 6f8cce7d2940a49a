"""The page of commands names every command and every option, and no other."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from midstream.cli.app import app
from midstream.cli.help import TOPICS

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
SHARED = {"--folder", "--json", "--help"}
"""Explained once, at the top."""
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]  # a group, since there are several commands


def options_of(name: str) -> set[str]:
    """Return the options of a command and of those below it."""
    command = COMMANDS[name]
    every = [command, *getattr(command, "commands", {}).values()]
    return {text for one in every for each in one.params for text in each.opts if text.startswith("--")}


def section(name: str) -> str:
    """Return what the page says of a command."""
    return PAGE.read_text("utf-8").split(f"\n## {name}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_is_explained(name):
    """An option that is not on the page does not exist for a reader."""
    missing = {option for option in options_of(name) - SHARED if option not in section(name)} - {"--n"}
    assert not missing


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_no_option_is_made_up(name):
    """What the page says of a command is what it has."""
    options = options_of(name) | SHARED
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section(name)))
    assert used <= options | {"--repair", "--verify", "--host", "--data"}


def test_commands_are_those_of_the_page():
    """The table lists all commands, and no section is of one that is gone."""
    headings = set(re.findall(r"^## ([\w-]+)$", PAGE.read_text("utf-8"), re.MULTILINE))
    assert headings == set(COMMANDS)


def test_table_lists_commands_as_the_help_does():
    """By topic, in the same order, with the same sentence."""
    rows = re.findall(r"^\|[^|]*\| \[`([\w-]+)`\]\(#\1\) \| ([^|]+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    names = [name for each in TOPICS.values() for name in each]
    assert rows == [(name, COMMANDS[name].help.split("\n\n")[0].removesuffix(".")) for name in names]
