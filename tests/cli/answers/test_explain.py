"""``midstream explain`` says why, in text and as JSON, and proves answers in number."""

import json
from io import StringIO

import msgspec
import pytest
from rich.console import Console

from midstream.app.config.reader import parse_config
from midstream.app.explain.reruns import Rerun
from midstream.app.opening import open_shop
from midstream.cli.answers.explained import effect_text, lines_of, print_explained, print_item
from midstream.cli.app import main
from midstream.core.answers.explanations import (
    Effect,
    Explained,
    FieldDifference,
    ItemWhy,
    LedBy,
    Proposed,
    Removed,
    ScoreParts,
    SlateWhy,
)
from tests.support.fakes.models import CONFIG

FILE = CONFIG.partition("[[placements]]")[0]


@pytest.fixture
def run(capfd):
    """Return a function that runs a command and gives its exit status, standard output and standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as left:
            main([str(each) for each in arguments])
        said = capfd.readouterr()
        return left.value.code, said.out, said.err

    return call


@pytest.fixture
def asked(tmp_path):
    """Return a folder in which one question was asked, and the id of the answer."""
    (tmp_path / "midstream.toml").write_text(FILE)
    with open_shop(tmp_path, parse_config(FILE)) as shop:
        for user in ("bob", "eve"):
            shop.record([{"type": "view", "user_id": user, "item_id": item} for item in ("a", "b", "c")])
        shop.record({"type": "view", "user_id": "ann", "item_id": "a"})
        return tmp_path, shop.recommend(user_id="ann", n=2).request_id


def test_a_request_is_explained_in_text(asked, run):
    """Each item with its sources, what led there and the parts of its score; an item that is not there says why."""
    folder, request_id = asked
    status, out, err = run("explain", request_id, "--item", "a", "--item", "x", "-f", folder)
    assert status == 0
    assert "identical to the bit" in err
    assert out.splitlines()[0].split() == ["#", "item", "score", "proposed", "by", "because", "of", "rules"]
    assert "a (100%)" in out.splitlines()[1]
    assert "removed by repeats" in out
    assert "nothing had named this item by then" in out
    assert "tier full" in err


def test_each_item_of_the_slate_is_a_line(asked, run):
    """Until one is asked about, which then has all that is known of it."""
    folder, request_id = asked
    status, out, err = run("explain", request_id, "-f", folder)
    slate = json.loads(run("explain", request_id, "--json", "-f", folder)[1])["slate"]
    assert status == 0
    assert [line.split()[1] for line in out.splitlines()] == ["item", *slate]
    assert "--item ID" in err
    out = run("explain", request_id, "--item", slate[0], "-f", folder)[1]
    assert "because of a (100%)" in out
    assert "adds" in out


def test_lines_are_cut_to_a_window_and_ids_are_whole():
    """Of a hundred columns, whatever sources and rules are called; only longer ids make them longer."""
    led = (LedBy("l" * 30, 0.5),)
    sources = tuple(Proposed(f"a_source_with_a_long_name_{rank}", rank, 1.0, led) for rank in range(4))
    effects = (
        Effect("boosted_for_christmas", "boosted", 1.5, 0.25, 0.5),
        Effect("diversity", "lowered", None, None, None, 0.25, "b", 0.5),
    )
    item = ItemWhy(
        id="i" * 20, outcome="served", because="so", position=11, score=-1234.5, proposed=sources, effects=effects
    )
    lines = lines_of([item])
    assert {len(line) for line in lines[1:]} == {100}
    assert lines[1].split()[:3] == ["12", "i" * 20, "-1234.50000"]
    assert lines_of([msgspec.structs.replace(item, id="i" * 90)])[1].split()[1] == "i" * 90
    told = [effect_text(each) for each in effects]
    assert told == [
        "boosted_for_christmas: boosted by 1.5, from 0.25 to 0.5",
        "diversity: lowered by 0.25, like b (50%)",
    ]
    (line,) = lines_of([msgspec.structs.replace(item, id="a", proposed=sources[:1], effects=effects[1:])])[1:]
    assert line.endswith("…  diversity −0.25")
    assert len(line) == 100


def test_what_kept_an_item_out_is_said_once(capfd):
    """The sentence of an item names the filter or the rule; below it stands what else would have kept it out."""
    full = Effect("caps.category", "3 items of 'trousers' in the slate: at most 3")
    print_item(ItemWhy(id="a", outcome="not_selected", because=effect_text(full), effects=(full, Effect("b", "moved"))))
    assert capfd.readouterr().out.split("\n")[1:] == [f"     {effect_text(full)}", "     b: moved", ""]
    removed = (Removed("filter", "item.price <= 60"), Removed("repeats"))
    print_item(ItemWhy(id="a", outcome="removed", because="removed by filter (item.price <= 60)", removed=removed))
    assert capfd.readouterr().out.split("\n")[1:] == [
        "     removed by filter (item.price <= 60)",
        "     removed by repeats",
        "",
    ]


@pytest.mark.parametrize("width,is_terminal,columns", [(80, True, 80), (160, True, 160), (80, False, 100)])
def test_an_item_is_a_line_in_any_terminal(monkeypatch, width, is_terminal, columns):
    """As wide as the terminal is; a pipe gets what fits in a window beside another."""
    led = (LedBy("l" * 90, 0.5),)
    sources = (Proposed("a_source_with_a_long_name" * 4, 0, 1.0, led),)
    effects = (Effect("boosted_for_christmas" * 4, "boosted", 1.5, 0.25, 0.5),)
    item = ItemWhy(
        id="i" * 15, outcome="served", because="so", position=11, score=-1234.5, proposed=sources, effects=effects
    )
    why = SlateWhy(
        request_id="r",
        placement="home",
        log_position=1,
        config_hash="c",
        tier="full",
        scorer="blend",
        recent=(),
        retrieved={},
        removed={},
        candidate_count=1,
        items=(item,),
    )
    printed = StringIO()
    console = Console(file=printed, soft_wrap=True, width=width, force_terminal=is_terminal, color_system=None)
    monkeypatch.setattr("midstream.cli.answers.explained.out", console)
    print_explained(Explained(request_id="r", identical=True, slate=(item.id,), why=why))
    lines = printed.getvalue().splitlines()
    assert len(lines[1]) == columns
    assert "i" * 15 in lines[1]


def test_a_request_is_explained_as_json(asked, run):
    """All of it, for programs."""
    folder, request_id = asked
    told = json.loads(run("explain", request_id, "--json", "-f", folder)[1])
    assert (told["identical"], told["request_id"]) == (True, request_id)
    assert [each["id"] for each in told["why"]["items"]] == told["slate"]


def test_the_last_answers_are_proven(asked, run, monkeypatch):
    """All are identical: 0; one that is not is named: 1."""
    folder, _ = asked
    status, _, err = run("explain", "--last", 5, "-f", folder)
    assert (status, "1 answers are identical" in err) == (0, True)
    assert json.loads(run("explain", "--last", 5, "--json", "-f", folder)[1])["identical"] == 1

    def differing(folder, last):
        from midstream.app.explain.reruns import rerun_last

        for each in rerun_last(folder, last):
            yield Rerun(each.logged, (FieldDifference("ids[0]", "b", "c"),), each.served)

    from midstream.cli.answers import explain

    monkeypatch.setattr(explain, "_again", differing)
    status, out, _ = run("explain", "--last", 5, "-f", folder)
    assert status == 1
    assert "ids[0]" in out
    assert msgspec.json.decode(run("explain", "--last", 5, "--json", "-f", folder)[1])["identical"] == 0


def test_what_is_not_there(asked, run):
    """An unknown request is an expected failure, none at all wrong use."""
    folder, _ = asked
    status, _, err = run("explain", "nobody", "-f", folder)
    assert (status, "where: midstream explain\n" in err, "nobody" in err) == (1, True, True)
    assert run("explain", "-f", folder)[0] == 2
    status, _, err = run("explain", "r", "--url", "http://127.0.0.1:1")
    assert (status, "does not answer" in err) == (1, True)


def test_an_answer_of_now_is_explained_alike(asked, run):
    """``recommend --explain`` prints a line an item as ``explain`` does, and all of those that ``--why`` names."""
    folder, request_id = asked
    logged = run("explain", request_id, "-f", folder)[1]
    status, out, err = run("recommend", "default", "--user", "ann", "-n", "2", "--explain", "-f", folder)
    assert (status, out) == (0, logged)
    assert ("a (100%)" in out, "session: a" in err, "--why ID" in err) == (True, True, True)
    status, out, err = run(
        "recommend", "default", "--user", "ann", "--why", "b", "--why", "a", "--why", "x", "-f", folder
    )
    assert status == 0
    assert ("because of a (100%)" in out, "adds" in out, "--why ID" in err) == (True, True, False)
    assert "removed by repeats" in out
    assert "nothing had named this item by then" in out
    told = json.loads(run("recommend", "default", "--user", "ann", "--why", "a", "--json", "-f", folder)[1])
    assert [(each["id"], each["outcome"]) for each in told["asked"]] == [("a", "removed")]
    told = json.loads(run("recommend", "default", "--user", "ann", "--explain", "--json", "-f", folder)[1])
    assert told["why"][0]["proposed"]
    assert told["unexplained"] == {}


def told(**changes) -> SlateWhy:
    """Return an explanation of one item."""
    parts = ScoreParts("blend", parts={"recent": 0.5, "own": None})
    proposed = (Proposed("recent", 0, 1.0, (), {"age_ms": 30_817_326, "last_ms": 1_700_000_000_000, "heat": None}),)
    item = ItemWhy(id="a", outcome="served", because="so", position=0, proposed=proposed, parts=parts, **changes)
    return SlateWhy(
        request_id="r", placement="default", log_position=1, config_hash="c", tier="full", scorer="blend", recent=(),
        retrieved={}, removed={}, candidate_count=1, items=(item,), unexplained={"own": "OSError: it is gone"},
    )  # fmt: skip


def about(why: SlateWhy) -> SlateWhy:
    """Return an explanation of which the items were asked about."""
    return msgspec.structs.replace(why, asked=why.items)


def test_what_is_printed_is_for_people(capfd):
    """Ages and times in people's units, no empty column, and each part that could not be asked again by name."""
    print_explained(Explained(request_id="r", identical=True, why=about(told())))
    said = capfd.readouterr()
    assert "recent 1 (age 8.6 h, last 2023-11-14 22:13:20 UTC, heat –)" in said.out
    assert "value" not in said.out
    assert "own: OSError: it is gone" in said.err
    print_explained(Explained(request_id="r", identical=True, why=about(told(features={"recent": 7.0}))))
    assert "value" in capfd.readouterr().out


def test_a_slate_that_continues_another_is_not_said_to_be_gone(capfd):
    """It came out the same: the text names the slate whose explanation says why."""
    print_explained(Explained(request_id="r", identical=True, slate=("a", "b"), continues="first"))
    told = " ".join(capfd.readouterr().err.split())
    assert "identical to the bit" in told
    assert "midstream explain first says why" in told
    assert "served were: a, b" in told
    assert "cannot be run again" not in told
