"""Lists of the program: the rows of the routes, page by page, with a server of the folder and without one."""

import json
import re
from urllib.request import urlopen

import pytest

from midstream.app.inspect import list_pages
from midstream.app.opening import open_shop
from midstream.cli import console
from midstream.cli.app import main
from midstream.cli.demo.server import running_server

CONFIG = '[items.attributes]\nprice = "number"\n\n[[placements]]\nname = "home"\nsources = [{ kind = "popular" }]\n'
DAY_MS = 86_400_000
FIRST_MS = 1_767_225_600_000
"""2026-01-01."""


@pytest.fixture
def shop(tmp_path):
    """A folder of seven items, three users and two slates; nobody has it open."""
    (tmp_path / "midstream.toml").write_text(CONFIG)
    with open_shop(tmp_path) as found:
        found.record([
            {"type": "item", "item_id": f"lamp-{n}", "attributes": {"price": float(n), "tags": ["a", "b"]}}
            for n in range(7)
        ])  # fmt: skip
        found.record([{"type": "user", "user_id": "ann", "attributes": {"country": "de"}}])
        found.record([
            {"type": kind, "user_id": user, "item_id": f"lamp-{n}", "session_id": f"{user}-1"}
            for user in ("ann", "bob", "cy d")
            for n in range(4)
            for kind in ("view", "purchase")[: 1 + n % 2]
        ])  # fmt: skip
        for user in ("ann", "bob"):
            found.recommend("home", user_id=user, n=2)
    return tmp_path


@pytest.fixture
def run(shop, capfd, monkeypatch):
    """Return a function that runs a list and gives status, output and what was said."""
    monkeypatch.setattr(console.out.rich, "width", 160)

    def call(*words):
        with pytest.raises(SystemExit) as left:
            main([*words, "-f", str(shop)])
        said = capfd.readouterr()
        return left.value.code, said.out, said.err

    return call


def rows_of(run, *words):
    """Return the object that a list prints as JSON."""
    status, out, err = run(*words, "--json")
    assert status == 0, err
    return json.loads(out)


LISTS = {
    ("items", "list"): "/v1/items?",
    (
        "items",
        "list",
        "--filter",
        "item.price > 2",
        "--field",
        "price",
    ): "/v1/items?filter=item.price%3E2&fields=price&",
    ("users", "list"): "/v1/users?",
    ("users", "list", "--filter", 'user.country=="de"'): "/v1/users?filter=user.country%3D%3D%22de%22&",
    ("events", "list", "cy d"): "/v1/users/cy%20d/events?",
    ("events", "list", "bob", "--type", "purchase"): "/v1/users/bob/events?type=purchase&",
    ("events", "list", "ann", "--type", "user"): "/v1/users/ann/events?type=user&",
    ("slates", "list"): "/v1/requests?",
    ("slates", "list", "--user", "bob", "--placement", "home"): "/v1/requests?user_id=bob&placement=home&",
    ("slates", "list", "--since", "2001-01-01"): "/v1/requests?since=978307200000&",
    ("slates", "list", "--until", "2001-01-01"): "/v1/requests?until=978307200000&",
}


def test_lists_are_those_of_the_routes(shop, run):
    """From the log, through the server, and by the route itself: the same object, and rows in each but one."""
    alone = {words: rows_of(run, *words) for words in LISTS}
    with running_server(shop, lambda _: None) as url:
        for words, path in LISTS.items():
            with urlopen(f"{url}{path}limit=100") as answer:  # noqa: S310  our own server
                told = json.loads(answer.read())
            assert rows_of(run, *words) == told, words
            # A server that starts may append a tick, so more may be looked at.
            rows = next(iter(told))
            assert alone[words][rows] == told[rows], words
            assert bool(told[rows]) == ("--until" not in words), words


def test_pages_join_to_the_list(shop, run, monkeypatch):
    """Each row once, in order, with cursors from either side of a server's start, and pages of two rows joined."""
    names = ("items", "users", "slates")
    whole = {name: rows_of(run, name, "list") for name in names}
    first = {name: rows_of(run, name, "list", "-n", "1") for name in names}
    with running_server(shop, lambda _: None):
        second = {name: rows_of(run, name, "list", "-n", "1", "--cursor", first[name]["next_cursor"]) for name in names}
        monkeypatch.setattr(list_pages, "LIMIT_MAX", 2)
        through = rows_of(run, "items", "list", "-n", "5")
    assert (len(through["items"]), through["scanned"]) == (5, 5)
    assert through == rows_of(run, "items", "list", "-n", "5")
    for name in names:
        rows, cursor = next(iter(whole[name])), second[name].get("next_cursor")
        rest = {rows: []} if cursor is None else rows_of(run, name, "list", f"--cursor={cursor}")
        assert "next_cursor" not in rest
        assert first[name][rows] + second[name][rows] + rest[rows] == whole[name][rows]
        assert len(whole[name][rows]) >= 2


def test_tables_show_rows_and_what_leads_on(run):
    """A column for each field that is named, numbers as numbers; the cursor is on standard error: a pipe has rows."""
    status, out, err = run("items", "list", "--field", "price", "--field", "tags", "-n", "2")
    assert status == 0
    assert re.search(r"item +. available +. in catalogue +. price . tags", out)
    assert re.search(r'lamp-1 . yes +. yes +. +1 . \["a","b"\]', out)
    assert "2 shown, 2 looked at" in err
    (cursor,) = re.findall(r"^more: --cursor=(\S+)$", err, re.MULTILINE)
    assert "lamp-2" in run("items", "list", "--field", "price", "--field", "tags", f"--cursor={cursor}")[1]
    _, out, err = run("users", "list")
    (line,) = [line for line in out.splitlines() if "ann" in line]
    assert re.search(r"ann +. (20\d\d-\d\d-\d\d \d\d:\d\d:\d\d . ){2}", line)
    assert all(text in line for text in ("view 4", "purchase 2", '{"country":"de"}'))
    assert "more:" not in err
    _, out, _ = run("slates", "list", "--user", "ann")
    assert re.search(r"home +. full . ann +. lamp-\d, lamp-\d", out)
    _, out, _ = run("events", "list", "ann", "-n", "1")
    assert re.search(r'purchase . lamp-3 . \{"session_id":"ann-1"\}', out)


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b1A\x7f\u202e\u2066a\nb"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\x9b1A\x7f\u202e\u2066a\x0ab"


def test_a_terminal_obeys_no_attribute_and_no_id(shop, run):
    """Texts of clients are shown with their control characters as escapes: in tables, in lines and in JSON."""
    with open_shop(shop) as found:
        found.record([
            {"type": "item", "item_id": "i\u202e1", "attributes": {"title": HOSTILE}},
            {"type": "user", "user_id": "u\u202e1", "attributes": {"name": HOSTILE}},
        ])  # fmt: skip
    lists = (
        ("items", "list", "--field", "title"),
        ("items", "list"),
        ("users", "list", "--field", "name"),
        ("users", "list"),
        ("events", "list", "u\u202e1"),
        ("events", "list", "u\u202e2"),
        ("items", "list", "--field", "\x1b[2J"),
    )
    said = {words: run(*words)[1:] for words in lists}
    said |= {words: run(*words, "--json")[1:] for words in lists[:4]}
    for words, texts in said.items():
        for text in texts:
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text), (words, text)
    assert SHOWN in run(*lists[0])[1]
    assert r"u\u202e1" in run(*lists[2])[1]
    assert rows_of(run, *lists[0])["items"][-1]["attributes"]["title"] == HOSTILE


def test_a_list_of_the_last_days_goes_on(run):
    """The options that are printed name points of time, since "7d" would be another question a second later."""
    _, out, err = run("slates", "list", "--since", "7d", "-n", "1")
    (options,) = re.findall(r"^more: (.+)$", err, re.MULTILINE)
    assert re.fullmatch(r"--cursor=\S+ --since=20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", options)
    status, more, err = run("slates", "list", *options.split())
    assert status == 0, err
    assert more != out
    assert "1 shown" in err
    status, _, err = run("slates", "list", options.split()[0])
    assert (status, "other filters" in err) == (2, True)


def test_what_is_not_there_is_said(shop, run):
    """Nobody of that id, with a server and without one: four parts and a status of its own."""
    status, _, alone = run("events", "list", "nobody")
    with running_server(shop, lambda _: None):
        also, _, through = run("events", "list", "nobody")
        wrong, _, said = run("items", "list", "--filter", "item.prize < 5")
    assert (status, also, wrong) == (1, 1, 2)
    assert alone == through
    assert 'Nothing is known of user "nobody"' in alone
    assert said.startswith("where: --filter")


def test_a_list_makes_no_key(shop, run):
    """Where the file of the key is gone: it is for the next start to make another."""
    (shop / "data" / "key").unlink()
    assert len(rows_of(run, "items", "list", "-n", "9")["items"]) == 7
    assert not (shop / "data" / "key").exists()


def test_a_folder_without_a_log_has_empty_lists(tmp_path, capfd):
    """And stays as it was: no key, no log."""
    for words in (["items"], ["users"], ["slates"]):
        with pytest.raises(SystemExit) as left:
            main([*words, "list", "-f", str(tmp_path), "--json"])
        assert left.value.code == 0
        assert next(iter(json.loads(capfd.readouterr().out).values())) == []
    assert list(tmp_path.iterdir()) == []
