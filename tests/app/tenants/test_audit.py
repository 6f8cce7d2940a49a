"""Audit of the root: each change is a line with its tenant, and a line that a crash cut short hides no other."""

import asyncio
import errno
import json
import resource
import threading
from typing import Any

import pytest

from midstream.app.opening import DATA_NAME
from midstream.app.tenants import group
from midstream.app.tenants.group import TenantGroup
from midstream.app.tenants.orders import TenantOrders
from midstream.cli.app import main
from midstream.core.errors import DiskFull
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import locked
from midstream.events.disk import RealDisk
from midstream.serving.tenants import audit_file
from midstream.serving.tenants.audit_file import (
    BEGUN,
    TenantChange,
    append_begun,
    append_change,
    changes_of,
    recorded_change,
)
from tests.app.tenants.conftest import SMALL


def change(tenant, status=200):
    """Return the line of a change of a tenant."""
    return TenantChange(tenant, 1, "cli:ann", "", "POST", "/v1/tenants/{name}/resume", tenant, status)


def test_a_creation_names_its_tenant(server):
    """The route has no name in it, the answer has."""

    async def create(server):
        made = await server.root("POST", "/v1/tenants", {"name": "green", "configuration": SMALL})
        return made.status, made.json()["tenant"]["name"], await server.root("POST", "/v1/tenants", {"name": "Green"})

    status, name, refused = server.run(create)
    assert (status, name, refused.status) == (201, "green", 400)
    lines = [json.loads(each) for each in server.folders.audit.read_text().splitlines()]
    told = [(each["method"], each["route"], each["tenant"], each["status"]) for each in lines]
    assert told == [("POST", "/v1/tenants", "green", status) for status in (0, 200)]
    assert lines[0]["id"] == lines[1]["id"]


def test_a_change_is_recorded_before_it_is_made(pair, monkeypatch, capfd):
    """So a crash between the two leaves a line that says what was begun."""
    seen: list[Any] = []
    delete = TenantGroup.delete

    async def deleted(group, name):
        seen.extend((each.tenant, each.method, each.status) for each in changes_of(group.folders.audit, 9)[0])
        await delete(group, name)

    monkeypatch.setattr(TenantGroup, "delete", deleted)
    monkeypatch.setattr(audit_file, "_append_ended", lambda _path, _change: None)  # as after a crash

    async def play(server):
        return (await server.root("DELETE", "/v1/tenants/red", query=b"confirm=red")).status

    assert pair.run(play) == 200
    assert seen == [("red", "DELETE", BEGUN)]
    (line,) = changes_of(pair.folders.audit, 9)[0]
    assert (line.tenant, line.method, line.status) == ("red", "DELETE", BEGUN)
    with pytest.raises(SystemExit):
        main(["tenants", "audit", "--folder", str(pair.folders.root)])
    assert "begun" in capfd.readouterr().out


def test_without_room_for_its_line_nothing_is_changed(pair, monkeypatch):
    """The refusal says so, the tenant serves on, and so does it where only the last line finds no room."""
    append = audit_file.append_change

    def full(path, change):
        if change.status in fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(path, change)

    async def play(server):
        refused = await server.root("POST", "/v1/tenants/red/suspend", {})
        state = (await server.root("GET", "/v1/tenants/red")).json()["state"]
        fails[:] = [200]
        return refused, state, (await server.root("POST", "/v1/tenants/red/suspend", {})).status

    fails = [BEGUN]
    monkeypatch.setattr(audit_file, "append_change", full)
    refused, state, done = pair.run(play)
    assert (refused.status, state, done) == (507, "serving", 200)
    assert "nothing was changed" in refused.json()["detail"]
    assert [(each.tenant, each.status) for each in changes_of(pair.folders.audit, 9)[0]] == [("red", BEGUN)]


def test_a_change_that_was_refused_is_not_listed(pair):
    """Its lines say with which status; the list has what was made, and what may have been."""

    async def play(server):
        done = await server.root("POST", "/v1/tenants/red/suspend", {})
        return done.status, (await server.root("POST", "/v1/tenants", {"name": "red"})).status

    assert pair.run(play) == (200, 409)
    lines = [json.loads(each)["status"] for each in pair.folders.audit.read_text().splitlines()]
    assert lines == [0, 200, 0, 409]
    assert [each.route for each in changes_of(pair.folders.audit, 9)[0]] == ["/v1/tenants/{name}/suspend"]


def test_a_refused_deletion_is_listed_as_it_closed_the_tenant(pair, monkeypatch):
    """Another process takes the folder once it is let go of: nothing is removed, and the tenant serves no more."""
    discard = TenantGroup._discard

    def raced(group, name):
        with locked(DataFolder(group.folders.of(name) / DATA_NAME), RealDisk()):
            return discard(group, name)

    monkeypatch.setattr(TenantGroup, "_discard", raced)

    async def play(server):
        status = (await server.root("DELETE", "/v1/tenants/red", query=b"confirm=red")).status
        return status, server.group.apps["red"].state

    assert pair.run(play) == (409, "failed")
    assert [(each.method, each.status) for each in changes_of(pair.folders.audit, 9)[0]] == [("DELETE", 409)]


def test_a_change_that_is_cancelled_is_listed_as_begun(pair, monkeypatch):
    """A stop cancels a deletion whose files are being removed: the tenant is gone, and the list has it."""
    began, ends = threading.Event(), threading.Event()

    def slow(_path):
        began.set()
        ends.wait(30)

    monkeypatch.setattr(group, "remove", slow)

    async def play(server):
        task = asyncio.create_task(server.root("DELETE", "/v1/tenants/red", query=b"confirm=red"))
        await asyncio.to_thread(began.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ends.set()
        return "red" in server.group.apps

    assert not pair.run(play)
    assert not pair.folders.of("red").exists()
    assert [(each.method, each.tenant, each.status) for each in changes_of(pair.folders.audit, 9)[0]] == [
        ("DELETE", "red", BEGUN)
    ]


def test_a_change_that_fails_in_the_middle_is_listed(pair, monkeypatch, capfd):
    """The tenant is suspended on the disk, and its close raises."""

    async def broken(*_told):
        raise OSError(errno.EIO, "Input/output error")

    async def play(server):
        monkeypatch.setattr(server.group.apps["red"], "close", broken)
        with pytest.raises(OSError, match="Input/output"):
            await server.root("POST", "/v1/tenants/red/suspend", {})
        monkeypatch.undo()

    pair.run(play)
    assert pair.folders.read("red").is_suspended
    assert [(each.tenant, each.status) for each in changes_of(pair.folders.audit, 9)[0]] == [("red", 500)]
    with pytest.raises(SystemExit):
        main(["tenants", "audit", "--json", "--folder", str(pair.folders.root)])
    assert '"status":500' in capfd.readouterr().out.replace(" ", "")


def test_a_command_that_is_interrupted_is_listed_as_begun(tmp_path):
    """Its change may be made or not."""
    path = tmp_path / "audit.ndjson"
    with pytest.raises(KeyboardInterrupt), recorded_change(path, change("red", BEGUN), lambda: 2):
        raise KeyboardInterrupt
    assert [each.status for each in changes_of(path, 9)[0]] == [BEGUN]


@pytest.mark.parametrize("room", [0, 1, 40])
def test_a_line_that_finds_room_for_a_part_is_taken_back(tmp_path, room):
    """Of a nearly full disk, here a bound of the size of files: nothing is changed, and the file is as it was."""
    path = tmp_path / "audit.ndjson"
    append_change(path, change("red"))
    before = path.read_bytes()
    found = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, found[1]))
    try:
        with pytest.raises(DiskFull, match="nothing was changed"):
            append_begun(path, change("blue", BEGUN))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, found)
    assert path.read_bytes() == before
    append_change(path, change("green"))
    assert [each.tenant for each in changes_of(path, 9)[0]] == ["green", "red"]


def test_a_line_that_was_cut_short_is_ended_and_counted(tmp_path):
    """What is written behind it is read, and so is what was before."""
    path = tmp_path / "data" / "audit.ndjson"
    append_change(path, change("red"))
    path.write_bytes(path.read_bytes() + b'{"time":2,"who":"cli:\xff')
    append_change(path, change("blue"))
    append_change(path, change("green"))
    found, unreadable = changes_of(path, 2)
    assert ([each.tenant for each in found], unreadable) == (["green", "blue"], 1)
    assert [each.tenant for each in changes_of(path, 9)[0]] == ["green", "blue", "red"]
    assert changes_of(tmp_path / "none", 9) == ([], 0)


def test_an_export_of_a_command_is_a_line(pair, tmp_path):
    """It reads the files itself, with and without a server."""
    pair.run(lambda server: server.of("red", "GET", "/v1/models"))  # the shop has data once it was opened
    made = TenantOrders(pair.folders.root).export("red", tmp_path / "red.tar")
    found, _ = changes_of(pair.folders.audit, 9)
    assert (made.name, [(each.route, each.tenant) for each in found]) == (
        "red",
        [("/v1/tenants/{name}/export", "red")],
    )
    assert found[0].who.startswith("cli:")
