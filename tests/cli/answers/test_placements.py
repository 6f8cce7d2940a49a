"""``midstream placements`` shows and changes what answers, with or without a server that has the folder open."""

import io
import json
import sys
from functools import partial
from urllib.request import Request, urlopen

import httpx
import pytest

from midstream.app.config.schema import Config
from midstream.app.opening import open_shop
from midstream.app.operate.placements import list_placements, preview_placement, question_of
from midstream.cli.app import main
from midstream.cli.demo.server import running_server
from midstream.core.errors import StoreUnavailable
from tests.support.fakes.rebuilds import SMALL_LIMITS

JSON = {"content-type": "application/json"}
FILE = '[items.attributes]\nprice = "number"\n[[placements]]\nname = "home"\nslate_size = 5\n'


@pytest.fixture
def placements(tmp_path, monkeypatch, capfd):
    """Return a function that runs a command below ``placements`` and gives exit status, output and words about it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "midstream.toml").write_text(FILE + SMALL_LIMITS)
    (tmp_path / "home.toml").write_text("slate_size = 3\n[[sources]]\nkind = 'trending'\n")
    with open_shop(tmp_path) as shop:
        shop.record([{"type": "view", "user_id": f"u{n % 3}", "item_id": f"i{n % 9}"} for n in range(60)])

    def call(*words, sent=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sent.encode())))
        with pytest.raises(SystemExit) as left:
            main(["placements", *words])
        said = capfd.readouterr()
        return left.value.code, said.out, said.err

    return call


def served(url):
    """Return the number of items that a server answers with."""
    with urlopen(Request(f"{url}/v1/recommendations", b'{"placement": "home"}', JSON)) as answer:  # noqa: S310  our own
        return len(json.loads(answer.read())["items"])


def refusals(call):
    """Return what is said of changes that are refused, and by what is not there."""
    bad = (
        '{"weights": {"x": 1, "a.b/~[0]": 1, "7": 1}}',
        '{"slate_sise": 1}',
        "slate_size = [",
        '{"filter": "item.prise > 1"}',
    )
    found = [call("set", "home", "-", "--author", "ann", sent=text) for text in bad]
    found.append(call("set", "home", "home.toml", "--if-version", "7"))
    found.append(call("set", " home", "home.toml"))
    found += [call("show", "nobody"), call("remove", "nobody"), call("preview", "home", "home.toml", "-n", "0")]
    found.append(call("show", "home", "--version", "9"))
    return found


def test_the_commands_say_the_same_of_a_folder_and_of_its_server(tmp_path, placements):
    """List, show, preview, set and remove, and every refusal in four parts."""
    alone = refusals(placements)
    assert [status for status, *_ in alone] == [2, 2, 2, 2, 1, 2, 1, 1, 2, 2]
    for part in (
        "$.weights.x",
        '$.weights["a.b/~[0]"]',
        "$.weights.7\n",
        '"x" is not a source',
        "Sources: ",
        "midstream docs sources",
    ):
        assert part in alone[0][2]
    assert placements("set", "home", "home.toml", "--author", "ann", "--note", "fewer")[0] == 0
    status, out, _ = placements("list")
    assert (status, "set, covers midstream.toml" in out, "ann" in out, "built in" in out) == (0, True, True, True)
    assert placements("remove", "home", "--if-version", "1")[0] == 0
    with running_server(tmp_path, lambda _: None) as url:
        assert served(url) == 5
        with_server = refusals(placements)
        # A version is there by then, and a field that is out of bounds is named as one of the request.
        assert [each for n, each in enumerate(with_server) if n not in {4, 8, 9}] == [
            each for n, each in enumerate(alone) if n not in {4, 8, 9}
        ]
        assert "version 2 of home by" in with_server[4][2]
        assert with_server[4][0] == 1
        status, out, _ = placements("set", "home", "home.toml", "--note", "fewer again")
        assert (status, "from: set, covers midstream.toml" in out, "fewer again" in out) == (0, True, True)
        assert served(url) == 3
        status, out, err = placements("preview", "home", "-", "--user", "u1", sent='{"slate_size": 4}')
        assert (status, "preview: 4 items" in err, "today: 3 items" in err) == (0, True, True)
        assert len(out.splitlines()) == 8
        told = json.loads(placements("show", "home", "--version", "3", "--json")[1])
        assert (told["name"], told["slate_size"]) == ("home", 3)
        assert placements("remove", "home")[0] == 0
        assert served(url) == 5
        assert placements("set", "home", "-", sent=json.dumps(told))[0] == 0
    found = json.loads(placements("list", "--json")[1])
    assert {each["placement"]: (each["origin"], each["version"]) for each in found["placements"]} == {
        "home": ("api", 5),
        "similar": ("built_in", None),
    }
    versions = json.loads(placements("show", "home", "--json")[1])["versions"]
    assert [each["note"] for each in versions] == ["fewer", "", "fewer again", "", ""]


@pytest.mark.parametrize(
    "name,content,words",
    [
        ("none.toml", None, "It cannot be read: No such file or directory."),
        (".", None, "It cannot be read: Is a directory."),
        ("bad.toml", b'filter = "\xff"', "It cannot be read: byte 10 is no UTF-8."),
    ],
)
def test_a_file_that_cannot_be_read_is_a_fault_in_four_parts(tmp_path, placements, name, content, words):
    """The file is named, and why in words."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    status, _, said = placements("set", "home", name)
    assert (status, said.splitlines()[:2]) == (2, [f"where: {name}", f"came:  {words}"])
    assert "midstream docs placements" in said


def test_check_and_recommend_take_what_is_set(placements, capfd, tmp_path):
    """Checked is what answers, with what it covers; what is set aside is named, and the exit status says so."""
    told = {"slate_size": 3, "filter": "item.price > 0 or item.available"}
    placements("set", "home", "-", "--author", "ann", sent=json.dumps(told))

    def run(*words):
        with pytest.raises(SystemExit) as left:
            main(list(words))
        said = capfd.readouterr()
        return left.value.code, said.out + said.err

    status, said = run("check")
    assert (status, "set, version 1 by ann, covers midstream.toml" in said) == (0, True)
    status, said = run("recommend", "home", "--json")
    assert len(json.loads(said.splitlines()[-1])["items"]) == 3
    (tmp_path / "midstream.toml").write_text(FILE.partition("[[")[2].join(["[[", ""]) + SMALL_LIMITS)
    status, said = run("check")
    assert (status, "not in force: $.filter" in said) == (1, True)
    assert "not in force: home version 1: $.filter" in placements("list")[2]


@pytest.mark.parametrize("status", [500, 502, 404, 409])
def test_an_answer_that_is_no_problem_document_is_said_in_words(tmp_path, monkeypatch, status):
    """Such as that of a proxy before the server: the status and what it says, whatever was asked."""
    monkeypatch.setattr("midstream.app.operate.placements.server_of", lambda _: "http://shop")
    transport = httpx.MockTransport(lambda _: httpx.Response(status, text="<h1>Bad Gateway</h1>"))
    monkeypatch.setattr(httpx, "Client", partial(httpx.Client, transport=transport))
    with pytest.raises(StoreUnavailable, match=f"http://shop answered {status}: <h1>Bad"):
        list_placements(tmp_path, Config())
    with pytest.raises(StoreUnavailable, match=f"answered {status}"):
        preview_placement(tmp_path, Config(), "home", {}, question_of("ann", None, (), None, None))
