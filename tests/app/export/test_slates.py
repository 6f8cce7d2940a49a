"""Slates for many users as a file: who gets one, what stands in it, what it leaves in the log."""

import csv
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import midstream
from midstream.app.explain.explain import explained
from midstream.app.explain.reruns import Reruns, find_request
from midstream.app.export.resume import Begun, MadeWith
from midstream.app.export.slates import SlateOptions, export_slates
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import config_of
from midstream.app.operate.model_registry import promote, registry_of
from midstream.cli.app import app
from midstream.cli.demo.server import running_server
from midstream.core.errors import FolderLocked, Invalid, NotFound, RequestInvalid, StoreUnavailable
from midstream.core.kinds import Kind
from midstream.events.schema import event_at
from tests.support.fakes.models import publish_chain
from tests.support.patience import PATIENCE_S, wait_until

TOML = """
[items.attributes]
title = "category"

[limits]
users_max = 200
items_max = 300
click_items_max = 100
sessions_max = 100
event_ids_max = 1000
index_sessions_max = 100
hot_items_max = 100
new_items_max = 100

[[placements]]
name = "mail"
slate_size = 3
selector = { kind = "plackett_luce" }
exclude = { served = "24h" }
"""
PEOPLE = ("ann", "bob", "eve")


def view(user, item):
    """Return a view."""
    return {"type": "view", "user_id": user, "item_id": item}


@pytest.fixture
def shop(tmp_path):
    """Return a folder with ten titled items, three users of whom one has two ids, and one who was erased."""
    (tmp_path / "midstream.toml").write_text(TOML)
    with midstream.open(tmp_path) as opened:
        items = [f"i{each}" for each in range(10)]
        opened.record([{"type": "item", "item_id": each, "attributes": {"title": each.upper()}} for each in items])
        opened.record([view(user, item) for user in ("ann", "visitor", "bob", "gone", "eve") for item in items[:2]])
        opened.record([{"type": "user", "user_id": "bob", "attributes": {"plan": "gold", "age": 7, "is_new": True}}])
        opened.record([{"type": "user", "operation": "merge", "user_id": "ann", "attributes": {"from": "visitor"}}])
        opened._wait(lambda: opened.running.engine.erase("gone"))
    return tmp_path


def export(folder, name="out.ndjson", **options):
    """Write slates to a file of the folder; return what is said and the file."""
    wanted = SlateOptions(**{"placement": "mail", **options})
    return export_slates(folder, config_of(folder), folder / name, wanted), folder / name


def lines(path):
    """Return the slates of a file of NDJSON."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_everybody_gets_a_slate_that_is_logged_as_served(shop) -> None:
    """Each user once, under the id that others were merged into; what is logged is what is in the file."""
    told = []
    options = SlateOptions("mail", fields=("title",))
    summary = export_slates(shop, config_of(shop), shop / "a.ndjson", options, lambda *each: told.append(each))
    first = lines(shop / "a.ndjson")
    assert (summary.users, summary.empty, summary.items, summary.logged) == (3, 0, 9, True)
    assert [each["user_id"] for each in first] == list(PEOPLE)
    assert told == [(1, 3), (2, 3), (3, 3)]
    for slate in first:
        assert [item["position"] for item in slate["items"]] == [0, 1, 2]
        assert all(item["fields"] == {"title": item["id"].upper()} for item in slate["items"])
    _, path = export(shop)
    with midstream.open(shop) as opened:
        for slate in first:
            record = opened.running.engine.served(slate["request_id"])
            assert record is not None
            assert [item.id for item in record.items] == [item["id"] for item in slate["items"]]
            assert [item.score for item in record.items] == pytest.approx([item["score"] for item in slate["items"]])
            assert record.query.user_id == slate["user_id"]
            assert min(item.propensity for item in record.items) < 1
    for before, after in zip(first, lines(path), strict=True):  # the placement leaves out what was served
        assert not {item["id"] for item in before["items"]} & {item["id"] for item in after["items"]}


def test_unlogged_slates_leave_nothing_and_are_the_same_again(shop) -> None:
    """Also while the folder is open elsewhere; nothing can be joined to them, and no request is named."""
    with midstream.open(shop) as opened:
        end = opened.running.engine.log.end
        one, first = export(shop, "a.ndjson", is_logged=False)
        _, second = export(shop, "b.ndjson", is_logged=False)
        assert opened.running.engine.log.end == end
        with pytest.raises(FolderLocked):
            export(shop, "c.ndjson")
    assert not (shop / "c.ndjson").exists()
    assert first.read_bytes() == second.read_bytes()
    assert (one.users, one.logged) == (3, False)
    assert {each["request_id"] for each in lines(first)} == {None}


def test_only_who_is_asked_for(shop) -> None:
    """By id, by a file, by what the profile says; a stranger gets a slate as on a page."""
    (shop / "users.txt").write_text("eve\n\n nobody \neve\n")
    found = [
        export(shop, users=("bob",), is_logged=False),
        export(shop, users_file=shop / "users.txt", is_logged=False),
        export(shop, having=(("plan", "gold"), ("age", "7"), ("is_new", "true")), is_logged=False),
        export(shop, having=(("plan", "blue"),), is_logged=False),
    ]
    assert [summary.users for summary, _ in found] == [1, 2, 1, 0]
    assert [each["user_id"] for each in lines(export(shop, users=("bob", "bob"), n=1, is_logged=False)[1])] == ["bob"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_have_a_row_an_item(shop, kind) -> None:
    """With the fields as columns of text."""
    _, path = export(shop, f"a.{kind}", format=kind, fields=("title", "absent"), is_logged=False)
    if kind == "csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pq.read_table(path).to_pylist()
    assert [row["user_id"] for row in rows] == [user for user in PEOPLE for _ in range(3)]
    assert [int(row["position"]) for row in rows] == [0, 1, 2] * 3
    assert [row["field.title"] for row in rows] == [row["item_id"].upper() for row in rows]
    assert {row["field.absent"] for row in rows} == {"" if kind == "csv" else None}


def test_what_cannot_be_written_is_said_and_leaves_no_file(shop) -> None:
    """An unknown placement, format or file of users."""
    with pytest.raises(NotFound, match='Nearest: "mail"'):
        export(shop, placement="mall", is_logged=False)
    with pytest.raises(Invalid, match="ndjson, csv, parquet"):
        export(shop, format="xml")
    with pytest.raises(Invalid, match="--users"):
        export(shop, users_file=shop / "none.txt", is_logged=False)
    assert not (shop / "out.ndjson").exists()
    assert not list(shop.glob(".*.part"))


def test_the_command_through_a_server_and_a_slate_that_is_continued_there(shop) -> None:
    """The server that has the folder open answers and logs; a cursor works over HTTP, by both methods."""
    with running_server(shop, lambda _: None) as url:
        said = ["export", str(shop / "a.csv"), "--recommendations", "mail", "--user", "ann", "--field", "title"]
        out = CliRunner().invoke(app, [*said, "-n", "2", "--folder", str(shop), "--json"])
        assert out.exit_code == 0, out.output
        summary = json.loads(out.stdout)
        assert len(summary.pop("log_position")) == 16
        assert summary == {
            "users": 1,
            "empty": 0,
            "items": 2,
            "logged": True,
            "through": url,
            "kept": 0,
            "kept_log_position": "",
        }
        with (shop / "a.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            address = f"/v1/requests/{rows[0]['request_id']}"
            wait_until(lambda: client.get(address).status_code == 200)
            assert [each["id"] for each in client.get(address).json()["items"]] == [row["item_id"] for row in rows]
            first = client.post("/v1/recommendations", json={"user_id": "bob", "placement": "mail", "cursor": True})
            pages = [first.json()]
            while "cursor" in pages[-1]:
                sent = {"cursor": pages[-1]["cursor"], "fields": "title"}
                pages.append(client.get("/v1/recommendations", params=sent).json())
            seen = [item["id"] for page in pages for item in page["items"]]
            assert len(seen) == len(set(seen)) >= 8
            assert [item["position"] for page in pages for item in page["items"]] == list(range(len(seen)))
            assert pages[1]["items"][0]["fields"]["title"] == pages[1]["items"][0]["id"].upper()
            again = client.post("/v1/recommendations", json={"cursor": pages[0]["cursor"], "user_id": "ann"})
            assert again.status_code == 400
            assert again.json()["errors"][0]["pointer"] == "/user_id"
            asked = {"user_id": "eve", "placement": "mail", "cursor": True}
            token = client.post("/v1/recommendations", json=asked).json()["cursor"]
    reruns = Reruns(shop)
    for page in pages:
        told = explained(reruns.again(find_request(LogView(shop), config_of(shop), page["request_id"])))
        assert told.identical, told.differences
        assert (told.why is None) == (page is not pages[0])
    with midstream.open(shop) as opened:  # after a restart
        assert len(opened.recommend("mail", cursor=token).items) == 3


def test_what_a_server_refuses_is_said_as_it_is_without_one(shop) -> None:
    """In four parts, and not as the document that came."""

    def refused() -> str:
        with pytest.raises(RequestInvalid) as raised:
            export(shop, n=101)
        return str(raised.value)

    alone = refused()
    with running_server(shop, lambda _: None):
        through = refused()
    assert "{" not in through
    assert (alone.split("\n")[0], through.split("\n")[0]) == ("/n", "/n")
    assert through.split("\n")[-1].strip() == "midstream docs http"


def test_options_of_the_command_that_are_none_are_said() -> None:
    """A value without a name."""
    out = CliRunner().invoke(app, ["export", "--recommendations", "mail", "--having", "gold"])
    assert out.exit_code == 2
    assert "NAME=VALUE" in out.output


KILLED = """
import os, signal, sys
from pathlib import Path
from midstream.app.opening import config_of
from midstream.app.export.slates import SlateOptions, export_slates

folder, name, logged, after = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "logged", int(sys.argv[4])
kill = lambda done, _: done < after or os.kill(os.getpid(), signal.SIGKILL)
options = SlateOptions("mail", fields=("title",), format=name.rpartition(".")[2], is_logged=logged)
export_slates(folder, config_of(folder), folder / name, options, kill)
"""


def killed(folder, name, *, logged, after) -> None:
    """Write slates in a process that is killed as soon as it has told of so many users."""
    said = [sys.executable, "-c", KILLED, str(folder), name, "logged" if logged else "unlogged", str(after)]
    assert subprocess.run(said, check=False, timeout=PATIENCE_S).returncode == -signal.SIGKILL
    assert not (folder / name).exists()


def parts(folder, name):
    """Return the lines of what an export that was broken off has made, without what they were made with."""
    return (folder / f".{name}.slates").read_bytes().splitlines(keepends=True)[1:]


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
def test_an_export_that_was_killed_goes_on_and_ends_with_the_same_bytes(shop, kind) -> None:
    """Killed twice, by the second of whom half a line is left: nobody is asked twice, and nobody is missing."""
    _, whole = export(shop, f"whole.{kind}", format=kind, fields=("title",), is_logged=False)
    name = f"a.{kind}"
    killed(shop, name, logged=False, after=1)
    killed(shop, name, logged=False, after=2)
    assert len(parts(shop, name)) == 2
    with (shop / f".{name}.slates").open("ab") as file:
        file.write(b'{"user_id":"eve","pla')
    told = []
    options = SlateOptions("mail", fields=("title",), format=kind, is_logged=False)
    summary = export_slates(shop, config_of(shop), shop / name, options, lambda *each: told.append(each))
    assert (summary.users, summary.kept) == (3, 2)
    assert summary.kept_log_position == summary.log_position
    assert told == [(3, 3)]
    assert (shop / name).read_bytes() == whole.read_bytes()
    assert not list(shop.glob(".a.*"))


def test_what_was_logged_before_a_kill_is_not_logged_again(shop) -> None:
    """The file names each user once, with the one request that the log has of this user."""
    killed(shop, "a.ndjson", logged=True, after=2)
    made = [json.loads(each) for each in parts(shop, "a.ndjson")]
    with midstream.open(shop) as opened:
        lost = [each["user_id"] for each in made if opened.running.engine.served(each["request_id"]) is None]
    summary, path = export(shop, "a.ndjson", fields=("title",))
    slates = lines(path)
    assert [each["user_id"] for each in slates] == list(PEOPLE)
    assert summary.kept == 2 - len(lost)
    assert slates[: summary.kept] == made[: summary.kept]
    with midstream.open(shop) as opened:
        events = [event_at(batch, row) for batch in LogView(shop).batches() for row in range(len(batch))]
        logged = [each.request_id for each in events if each.kind == Kind.SERVED]
        assert logged == [each["request_id"] for each in slates]
        assert opened.running.engine.served(slates[0]["request_id"]) is not None


def test_a_slate_that_a_killed_process_had_not_logged_is_made_again(shop) -> None:
    """It stands in what was made, but nothing can be joined to it: the newest are asked for in the log."""
    killed(shop, "a.ndjson", logged=True, after=2)
    path = shop / ".a.ndjson.slates"
    unlogged = json.loads(parts(shop, "a.ndjson")[0]) | {"user_id": "eve", "request_id": "A" * 32}
    with path.open("ab") as file:
        file.write(json.dumps(unlogged).encode() + b"\n")
    export(shop, "a.ndjson", fields=("title",))
    assert "A" * 32 not in (shop / "a.ndjson").read_text()
    assert [each["user_id"] for each in lines(shop / "a.ndjson")] == list(PEOPLE)


def test_what_was_made_with_something_else_or_long_ago_counts_no_more(shop, tmp_path_factory) -> None:
    """Another size, another configuration, a day before, or on request; another choice of users has what is of it."""
    killed(shop, "a.ndjson", logged=False, after=2)
    folders = tmp_path_factory.mktemp("begun")

    def begun() -> Path:
        return Path(shutil.copytree(shop, folders / str(len([*folders.iterdir()]))))

    def kept(folder: Path, **options) -> int:
        return int(export(folder, "a.ndjson", **{"fields": ("title",), "is_logged": False, **options})[0].kept)

    assert kept(begun()) == 2
    for options in ({"n": 2}, {"fields": ()}, {"anew": True}, {"is_logged": True}):
        assert kept(begun(), **options) == 0
    folder = begun()
    path = folder / ".a.ndjson.slates"
    head, *rest = path.read_bytes().splitlines(keepends=True)
    old = json.loads(head)
    path.write_bytes(json.dumps(old | {"began_ms": old["began_ms"] - 25 * 3_600_000}).encode() + b"\n" + b"".join(rest))
    assert kept(folder) == 0
    folder = begun()
    assert kept(folder, users=("eve", "bob")) == 1
    assert [each["user_id"] for each in lines(folder / "a.ndjson")] == ["eve", "bob"]
    folder = begun()
    (folder / "midstream.toml").write_text(TOML.replace("slate_size = 3", "slate_size = 4"))
    assert kept(folder) == 0
    assert {len(each["items"]) for each in lines(folder / "a.ndjson")} == {4}


def test_where_the_state_stood_before_is_said_and_who_was_erased_since_is_left_out(shop) -> None:
    """Those made before are of another log position; the command says which, and of the two that are left one is."""
    killed(shop, "a.ndjson", logged=False, after=2)
    with midstream.open(shop) as opened:
        opened.record([view("eve", "i5")])
        opened._wait(lambda: opened.running.engine.erase("ann"))
    said = ["export", str(shop / "a.ndjson"), "--recommendations", "mail", "--field", "title", "--unlogged"]
    out = CliRunner().invoke(app, [*said, "--folder", str(shop)])
    assert out.exit_code == 0, out.output
    assert [each["user_id"] for each in lines(shop / "a.ndjson")] == ["bob", "eve"]
    assert "1 of them were made before" in out.output
    assert "at log position AAAA" in out.output


def test_two_exports_to_one_file_do_not_mix(shop) -> None:
    """The second is told so, and the first goes on."""
    options = SlateOptions("mail", is_logged=False)

    def second(done, _count) -> None:
        if done == 1:
            with pytest.raises(Invalid, match="Another export"):
                export(shop, "a.ndjson", is_logged=False)

    export_slates(shop, config_of(shop), shop / "a.ndjson", options, second)
    assert [each["user_id"] for each in lines(shop / "a.ndjson")] == list(PEOPLE)


def broken_off(folder, name, *, logged, after) -> None:
    """Write slates until so many users were told of, and fail then."""

    def fail(done, _count) -> None:
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_slates(folder, config_of(folder), folder / name, SlateOptions("mail", is_logged=logged), fail)


def test_a_busy_server_is_asked_again_whether_a_slate_was_logged(shop, monkeypatch) -> None:
    """Overload is no answer, and neither is a failure: nothing is made twice for it, and what was made stays."""
    real = httpx.Client.get
    statuses: list[int] = []

    def get(client, url, **options):
        if str(url).startswith("/v1/requests/") and statuses:
            request = httpx.Request("GET", client.base_url.join(url))
            return httpx.Response(statuses.pop(), headers={"retry-after": "0"}, request=request)
        return real(client, url, **options)

    with running_server(shop, lambda _: None) as url:
        broken_off(shop, "a.ndjson", logged=True, after=2)
        made = [json.loads(each) for each in parts(shop, "a.ndjson")]
        known = [f"{url}/v1/requests/{each['request_id']}" for each in made]
        wait_until(lambda: all(httpx.get(each, timeout=PATIENCE_S).status_code == 200 for each in known))
        monkeypatch.setattr(httpx.Client, "get", get)
        statuses.append(500)
        with pytest.raises(StoreUnavailable, match="answered 500"):
            export(shop, "a.ndjson")
        assert len(parts(shop, "a.ndjson")) == 2
        statuses.extend([429, 503, 503])
        summary, path = export(shop, "a.ndjson")
    assert not statuses
    assert (summary.kept, summary.users) == (2, 3)
    assert lines(path)[:2] == made


def test_an_export_begins_anew_after_a_promotion(shop) -> None:
    """Another champion makes other slates; an alias that answers nobody does not."""
    config = config_of(shop)
    first, second = (publish_chain(registry_of(shop), step) for step in (1, 2))
    for version, alias, kept in ((first, "champion", 0), (second, "shadow", 2), (second, "champion", 0)):
        broken_off(shop, "a.ndjson", logged=False, after=2)
        promote(shop, config, "near", version, alias)
        assert export(shop, "a.ndjson", is_logged=False)[0].kept == kept


def test_slates_that_a_whole_file_has_are_not_kept_for_the_next_one(shop) -> None:
    """Killed after the file got its name they are left beside it; beside an older file they are of a newer export."""
    beside, linked = shop / ".a.ndjson.slates", shop / "linked"
    options = SlateOptions("mail", is_logged=False)
    tell = lambda done, count: os.link(beside, linked) if done == count else None  # noqa: E731
    export_slates(shop, config_of(shop), shop / "a.ndjson", options, tell)
    linked.rename(beside)
    assert export(shop, "a.ndjson", is_logged=False)[0].kept == 0
    os.utime(shop / "a.ndjson", (1, 1))
    broken_off(shop, "a.ndjson", logged=False, after=2)
    assert export(shop, "a.ndjson", is_logged=False)[0].kept == 2


def test_what_was_removed_before_it_was_locked_is_opened_again(tmp_path, monkeypatch) -> None:
    """Another export that ends in between removes the file: who locks what is gone would keep nobody out."""
    beside, made_with = tmp_path / ".a.slates", MadeWith("", "", "mail", None, (), is_logged=False)
    removed = [True, True]
    real = fcntl.flock

    def flock(file, operation) -> None:
        if removed and removed.pop():
            beside.unlink()
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with Begun(tmp_path / "a", made_with, 0, ""):
        assert beside.stat().st_size
        with pytest.raises(Invalid, match="Another export"), Begun(tmp_path / "a", made_with, 0, ""):
            pass
    removed.extend([True] * 100)
    with pytest.raises(Invalid, match="Another export"), Begun(tmp_path / "a", made_with, 0, ""):
        pass
