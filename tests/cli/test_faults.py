"""One printer for whatever ends a command, and the exit status that the page of commands promises."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from midstream.app.ingest.import_file import ImportSummary
from midstream.cli.answers.recommend import options_named
from midstream.cli.app import main
from midstream.cli.console import print_json, say
from midstream.cli.data.import_file import print_summary
from midstream.cli.faults import _REMEDIES, FAILED, WRONG_USE, fault_text, faults_of, say_groups, status_of
from midstream.core import errors
from midstream.core.errors import (
    AddressUnavailable,
    ConfigInvalid,
    Fault,
    FolderLocked,
    Invalid,
    MidstreamError,
    NotFound,
    RequestInvalid,
)
from midstream.core.fault_groups import GROUPS_MAX, FaultGroups

DOCS = Path(__file__).parents[2] / "docs"
NOTHING = ImportSummary(
    file="a.csv", rows=0, recorded=0, known=0, conflicts=0, refused=0, refusals=(), rejected=0, rejected_kept=0,
    faults=(), faults_others=0, conflict_faults=(), rejected_file="", unused_columns=(), log_time="now", late=0,
    known_untimed=0, late_items=0, run="", through="", seconds=1.0, starting_seconds=0.0,
)  # fmt: skip
FAULT = Fault("line 17: /type", '"clik" is not a type here.', "Types: click, view.", "/docs/events.md")


def anchors_of(page: str) -> set[str]:
    """Return the anchors of a page's headings."""
    text = (DOCS / page).read_text("utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("kind", _REMEDIES, ids=lambda each: each.__name__)
def test_each_failure_names_a_remedy_and_a_page_that_is_there(kind):
    """Whatever the engine refuses is told in the four parts, none of them empty, and its page has that heading."""
    (fault,) = faults_of(kind("gone", 1) if kind is errors.ErasuresFull else kind("gone"), "midstream serve")
    assert (fault.where, fault.came) == ("midstream serve", "Gone.")
    assert fault.right.endswith(".")
    page, _, anchor = fault.page.removeprefix("/docs/").partition("#")
    assert not anchor or anchor in anchors_of(page)


def test_every_kind_of_error_has_a_remedy():
    """Also one that is added later: what its parents say holds for it."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, MidstreamError)]
    assert len(kinds) > 30
    for kind in kinds:
        assert issubclass(kind, Invalid) or any(each in _REMEDIES for each in kind.__mro__)


def test_a_name_that_is_not_there_has_the_part_about_its_command():
    """Not the top of the page of all commands."""
    assert faults_of(NotFound("no"), "midstream keys rotate")[0].page == "/docs/cli.md#keys"
    assert faults_of(NotFound("no"), "midstream")[0].page == "/docs/cli.md"


def test_labels_stand_below_each_other():
    """A text of several lines stays beside its label."""
    text = fault_text(Fault("a.csv", "one\ntwo", "three", "/docs/data.md"))
    assert text == "where: a.csv\ncame:  one\n       two\nright: three\npage:  midstream docs data"


def test_rows_that_are_alike_are_told_once(capfd):
    """With their number and the first of them; the most frequent first, and kinds are bounded."""
    lines = range(17, 1_221)
    groups = FaultGroups(Fault(f"line {n}: /type", f'"clik{n}" came.', FAULT.right, FAULT.page) for n in lines)
    groups.add(Fault("line 3: /time", "x", "A time.", "/docs/events.md"))
    say_groups(groups)
    said = capfd.readouterr().err
    assert said.startswith('where: line 17: /type (first of 1,204 rows like it)\ncame:  "clik17" came.\n')
    assert "\n\nwhere: line 3: /time\n" in said
    for number in range(50):
        groups.add(Fault("line 1", "x", f"A {number}.", "/docs/events.md"))
    assert (len(groups.groups), groups.others) == (GROUPS_MAX, 52 - GROUPS_MAX)
    say_groups(groups)
    assert f"and {groups.others} of further kinds" in capfd.readouterr().err


@pytest.mark.parametrize(
    "error, status",
    [
        (ConfigInvalid((FAULT,)), WRONG_USE),
        (typer.BadParameter("no"), WRONG_USE),
        (RequestInvalid((Fault("--since", "x", "y", "z"),)), WRONG_USE),
        (RequestInvalid((FAULT,)), WRONG_USE),
        (Invalid((Fault("--since", "x", "y", "z"),)), WRONG_USE),
        (Invalid((FAULT, Fault("--since", "x", "y", "z"))), FAILED),
        (AddressUnavailable((Fault("--host, --port", "x", "y", "z"),)), FAILED),
        (NotFound("no"), FAILED),
        (FolderLocked("no"), FAILED),
        (OSError(2, "No such file or directory", "a.csv"), FAILED),
    ],
)
def test_an_exit_status_says_who_is_to_act(error: Any, status):
    """2: the words or the configuration are to be changed. 1: what was asked for failed."""
    assert status_of(error) == status


def interrupted(*_arguments):
    """Stand for somebody who presses Ctrl-C."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "words, file, status",
    [
        (["--version"], "", 0),
        (["init", "there"], "", 0),
        (["explain", "nobody"], "", 1),
        (["models", "show", "nobody"], "", 1),
        (["dead-letters", "show", "7"], "", 1),
        (["doctor", "--nope"], "", 2),
        (["recommend"], "nonsense", 2),
        (["check"], "[server]\nport = -1\n", 2),
        (["size", "-f", "nowhere"], "", 2),
        (["features", "list"], "", 130),
    ],
)
def test_commands_leave_with_the_status_of_the_page(tmp_path, monkeypatch, capfd, words, file, status):
    """Each kind of end, through the program as it is called."""
    monkeypatch.chdir(tmp_path)
    Path("midstream.toml").write_text(file)
    if status == 130:
        monkeypatch.setattr("midstream.app.opening.config_of", interrupted)
    if words[0] == "init":
        Path("midstream.toml").unlink()
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == status
    said = capfd.readouterr().err
    assert ("where: " in said) == (status in {1, 2}), said
    table = (DOCS / "cli.md").read_text("utf-8")
    assert f"\n| {status} | " in table


@pytest.mark.parametrize(
    "starting_seconds,said",
    [
        (1.0, "20,000 recorded in 162.0 s (124/s)"),
        (160.0, "20,000 recorded in 2.0 s, after a start of 160 s (10,000/s)"),
    ],
    ids=["started", "compiled"],
)
def test_the_rate_of_an_import_is_not_that_of_its_start(capfd, starting_seconds, said):
    """The first import on a machine compiles for minutes, which says nothing of how fast rows are taken."""
    print_summary(replace(NOTHING, recorded=20_000, seconds=162.0, starting_seconds=starting_seconds))
    assert capfd.readouterr().out == f"a.csv: {said}\n"


def test_texts_are_printed_as_they_are(capfd):
    """A name with a code of an emoji or with what reads as markup, as JSON and in words."""
    name = ":smile: x[red]y[/] :heart:4.ndjson"
    print_json({"file": name})
    say(name)
    print_summary(replace(NOTHING, file=name, recorded=1, known=2, refused=3))
    said = capfd.readouterr()
    json_line, summary_line, *_ = said.out.splitlines()
    assert json_line == f'{{"file":"{name}"}}'
    assert summary_line.startswith(f"{name}: 1 recorded")
    assert said.err.startswith(f"{name}\n")


@pytest.mark.parametrize(
    "said, sentence",
    [
        ("no room", "No room."),
        ("W1/data is in use", "W1/data is in use."),
        ("w1/data is in use", "w1/data is in use."),
        ("user_id: gone", "user_id: gone."),
        ("http://127.0.0.1:1 does not answer", "http://127.0.0.1:1 does not answer."),
        ("interrupted: no more", "Interrupted: no more."),
    ],
)
def test_a_sentence_begins_with_a_capital_letter_where_that_is_a_word(said, sentence):
    """A path or a name of a field stays what it is."""
    (fault,) = faults_of(FolderLocked(said))
    assert fault.came == sentence


def test_faults_of_different_columns_are_different_kinds():
    """Only the number of the row, and places in lists, make no kind of their own."""
    alike = [
        ["line 1: attributes.p0", "line 22: attributes.p0"],
        ["line 1: attributes.p1", "line 3: attributes.p1"],
        ["line 1: items/0/item_id", "line 2: items/12/item_id", "line 3: items/4/item_id"],
        ["letter 7: line 1: /type", "letter 8: line 2: /type"],
        ["/events/1/user2", "/events/30/user2"],
    ]
    groups = FaultGroups(Fault(where, "x", "A number.", "/docs/events.md") for kind in alike for where in kind)
    assert sorted(each.first.where for each in groups.groups) == sorted(kind[0] for kind in alike)


def test_an_import_says_how_many_faults_are_of_further_kinds(capfd):
    """Beyond the kinds that are told apart none is passed over in silence."""
    groups = FaultGroups(Fault(f"line 2: attributes.p{n}", "x", "A number.", "/docs/events.md") for n in range(30))
    told = replace(NOTHING, rejected=30, faults=tuple(groups.groups), faults_others=groups.others)
    print_summary(told)
    assert f"and {30 - GROUPS_MAX} of further kinds" in capfd.readouterr().err


@pytest.mark.parametrize(
    "words, status, where, came",
    [
        (["import", "--undo", "zzz"], 1, "midstream import --undo", '"zzz" is no run that the log has an account of.'),
        (["import", "--undo", "zzz", "--type", "view"], 2, "midstream import", "--map, --set, --type, --types and"),
        (["import", "--runs", "--time-format", "s"], 2, "midstream import", "--map, --set, --type, --types and"),
        (
            ["import", "a.csv", "--type", "view", "--set", "type=cart"],
            2,
            "midstream import --type, --set type",
            "Both name the type of all rows",
        ),
        (["examples", "now..then", "--out", "x.parquet"], 2, "FROM..TO", "'now' is no time."),
        (["examples", "now", "--out", "x.parquet"], 2, "FROM..TO", "'now'."),
        (["recommend", "-n", "many"], 2, "midstream recommend -n / --n", "many is no whole number."),
    ],
)
def test_wrong_use_names_what_was_written(tmp_path, monkeypatch, capfd, words, status, where, came):
    """The option or argument of the command, and what came; a run that is not there is no wrong use."""
    monkeypatch.chdir(tmp_path)
    Path("midstream.toml").write_text("")
    Path("a.csv").write_text("user_id,item_id\nann,lamp\n")
    with pytest.raises(SystemExit) as left:
        main(words)
    said = capfd.readouterr().err
    assert (left.value.code, f"where: {where}\ncame:  {came}" in said) == (status, True), said


def test_faults_of_a_question_name_the_options_of_the_command():
    """Not the fields of a request."""
    named = (("/n", "-n"), ("/filter", "--filter"), ("/context", "/context"))
    for field, option in named:
        with pytest.raises(RequestInvalid) as raised, options_named():
            raise RequestInvalid((Fault(field, "x", "y", "z"),))
        assert raised.value.faults[0].where == option
