"""Help pages: every command stands in one topic, says in one line what it does, and ends with examples that parse."""

import re
import shlex
from inspect import cleandoc
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from midstream.cli.app import app, main
from midstream.cli.faults import USAGE_ERROR
from midstream.cli.help import SUMMARY_CHARACTERS_MAX, TOPICS
from midstream.core.errors import ConfigInvalid

PROGRAM: Any = get_command(app)
COLUMNS_MAX = 78
"""Of a help page on a terminal of 80 columns."""
SHELL = {">", ">>", "<"}
"""Before the name of a file that the shell opens."""
FILE = re.compile(r"[\w./-]+\.(csv|tsv|ndjson|json|toml|parquet|arrow|tar)")


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    """Of 80 columns, wherever the tests run."""
    monkeypatch.setenv("COLUMNS", "80")


def commands_below(command, path=()):
    """Yield every command and group with the words that call it, the program itself first."""
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands_below(each, (*path, name))


COMMANDS = {" ".join(("midstream", *path)): command for path, command in commands_below(PROGRAM)}


def page_of(name, capsys):
    """Return the help page of a command."""
    with pytest.raises(SystemExit) as left:
        main([*name.split()[1:], "--help"])
    assert left.value.code == 0
    return capsys.readouterr().out


def example_lines(command):
    """Return the command lines among the examples of a command; the others, which are indented, say what they do."""
    return [line for line in cleandoc(command.epilog or "").splitlines() if line and not line.startswith(" ")]


def calls_of(line):
    """Return the words of each call of the program in an example, without pipes and redirections."""
    shell = shlex.shlex(line, posix=True, punctuation_chars="|<>")
    shell.whitespace_split = True
    calls: list[list[str]] = [[]]
    words = list(shell)
    for number, word in enumerate(words):
        if word == "|":
            calls.append([])
        elif word not in SHELL and words[number - 1] not in SHELL:
            calls[-1].append(word)
    return calls


def parse(words):
    """Parse a command line as the program does, without running it."""
    command: Any = PROGRAM
    context = None
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        context = command.make_context("midstream", [], parent=context, resilient_parsing=True)
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, words = found, words[1:]
    with command.make_context(command.name, list(words), parent=context):
        return command


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Return a function that makes an empty file of each name of a file among some words; ``shop`` is a folder."""
    monkeypatch.chdir(tmp_path)
    Path("shop").mkdir()

    def make(words):
        for word in words:
            if FILE.fullmatch(word):
                Path(word).parent.mkdir(exist_ok=True)
                Path(word).touch()

    return make


def test_every_command_stands_in_one_topic(capsys):
    """A command that is in no topic is on no page; the page has each of them once, in the order of the table."""
    listed = [name for names in TOPICS.values() for name in names]
    assert sorted(listed) == sorted(PROGRAM.commands)
    page = page_of("midstream", capsys)
    topics = page.split("\nStart:\n")[1].split("\nExamples:\n")[0]
    assert re.findall(r"^  ([a-z][\w-]*) {2,}\S", topics, re.MULTILINE) == listed
    assert re.findall(r"^(\S[^:]*):$", page, re.MULTILINE) == ["Options", *TOPICS, "Examples"]


@pytest.mark.parametrize("name", COMMANDS)
def test_first_line_says_what_a_command_does(name):
    """One sentence, whole in the list of commands."""
    first = cleandoc(COMMANDS[name].help or "").split("\n\n")[0]
    assert first.endswith(".")
    if name != "midstream":
        assert len(first) <= SUMMARY_CHARACTERS_MAX


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_is_described(name):
    """In one sentence or more, which begin with a capital letter and end."""
    for each in COMMANDS[name].params:
        assert re.match(r"[A-Z]", each.help or ""), each.name
        assert each.help.endswith("."), each.name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_examples_of_the_command(name, capsys, files):
    """One or two command lines, each of this command or of one below it, unwrapped, and accepted by the parser."""
    page = page_of(name, capsys)
    assert not re.search(r"<[\w\[\] ]+>|[{}]", page), "a type of Python, or an argument in braces"
    ending = page.split("\nExamples:\n")[1].splitlines()
    assert max(map(len, page.splitlines())) <= COLUMNS_MAX
    lines = example_lines(COMMANDS[name])
    assert [line.removeprefix("  ") for line in ending if not line.startswith("    ")] == lines
    assert 1 <= len(lines) <= 3
    for line in lines:
        assert re.search(rf"\b{name}( |$)", line)
        for program, *words in calls_of(line):
            files(words)
            assert program == "midstream"
            assert not hasattr(parse(words), "commands")


WRONG = [
    "midstream recomend",
    "midstream recommend --usr u1",
    "midstream models promote",
    "midstream import nowhere.csv",
    "midstream examples .. > out.parquet",
    "midstream recommend -n many",
    "midstream evaluate learning clicks.csv --windows 0",
    "midstream serve --folder elsewhere",
]


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_example_is_refused(tmp_path, monkeypatch, line):
    """A command, an option, an argument, a file, a value, a bound or a folder that is none."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, USAGE_ERROR, ConfigInvalid)):
        parse(*(words for _, *words in calls_of(line)))


def test_an_error_names_an_argument_as_its_help_does(capsys):
    """Not by the name of a variable of ours."""
    with pytest.raises(SystemExit):
        main(["examples", "--out", "out.parquet"])
    assert capsys.readouterr().err.startswith("where: midstream examples FROM..TO\n")
