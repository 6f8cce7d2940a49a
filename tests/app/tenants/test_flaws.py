"""Flaws of one folder, of the trash and of files: no other tenant is hindered, and what failed is named."""

import asyncio
import os
import shutil
from typing import Any

import pytest

from midstream.app.opening import DATA_NAME
from midstream.app.tenants.folders import TenantFile
from midstream.core.durations import Duration
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import locked
from midstream.events.disk import RealDisk
from midstream.events.file_modes import make_folder, open_file
from midstream.serving.access.key_ring import LOOK_S
from midstream.serving.options import ServerOptions
from midstream.serving.tenants.audit_file import changes_of
from midstream.serving.tenants.types import TenantQuota
from tests.app.tenants.conftest import Server


async def _health(server):
    return (await server.root("GET", "/health/ready")).json()


async def _states(server):
    found = (await server.root("GET", "/v1/tenants")).json()["tenants"]
    return {each["name"]: each["state"] for each in found}


def test_what_lies_in_the_trash_stops_no_start(pair, tmp_path):
    """A file and a link are removed like a folder; what a link points at stays."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("x")
    make_folder(pair.folders.trash)
    (pair.folders.trash / ".nfs0001").touch()
    (pair.folders.trash / "gone-1").symlink_to(elsewhere)

    health = pair.run(_health)
    assert (health["ready"], health["tenants"]) == (True, {"serving": 2})
    assert list(pair.folders.trash.iterdir()) == []
    assert (elsewhere / "kept").exists()


def test_trash_that_cannot_be_removed_stops_no_start(pair, monkeypatch, caplog):
    """It stays and is logged; the other entries are removed."""
    for name in ("stuck-1", "loose-1"):
        make_folder(pair.folders.trash / name)
    removed = shutil.rmtree

    def rmtree(path, *rest, **options):
        if "stuck" in str(path):
            message = "it is in use"
            raise PermissionError(message)
        removed(path, *rest, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    assert pair.run(_health)["tenants"] == {"serving": 2}
    assert [each.name for each in pair.folders.trash.iterdir()] == ["stuck-1"]
    assert "stuck-1" in caplog.text


def test_a_tenant_behind_a_link_is_deleted(server, tmp_path):
    """The link is removed and the name is free; a start after it serves."""
    server.add("blue")
    server.add("red")
    elsewhere = tmp_path / "elsewhere"
    server.folders.of("red").rename(elsewhere)
    server.folders.of("red").symlink_to(elsewhere)

    async def delete(server):
        return (await server.root("DELETE", "/v1/tenants/red", query=b"confirm=red")).status, await _states(server)

    assert server.run(delete) == (200, {"blue": "serving"})
    assert list(server.folders.trash.iterdir()) == []
    assert elsewhere.exists()
    assert server.run(_states) == {"blue": "serving"}


def test_settings_that_cannot_be_read_fail_their_tenant_alone(pair):
    """A folder in place of ``tenant.json`` is the reason; the other tenant serves, and the server is ready."""
    (pair.folders.of("blue") / "tenant.json").mkdir()

    async def look(server):
        view = (await server.root("GET", "/v1/tenants/blue")).json()
        return await _health(server), view["state"], view["reason"]

    health, state, reason = pair.run(look)
    assert (health["ready"], health["tenants"], state) == (True, {"serving": 1, "failed": 1}, "failed")
    assert "tenant.json" in reason


def test_a_start_that_ended_by_an_error_is_not_ready(pair):
    """A bug of the opening is in the reason of health, not hidden behind a 200."""

    async def play():
        async with pair.running():
            pair.group._opening = asyncio.create_task(_fail())
            await asyncio.wait((pair.group._opening,))
            answer = await pair.root("GET", "/health/ready")
            pair.group._opening = None
            return answer

    async def _fail():
        message = "a bug"
        raise ValueError(message)

    answer = asyncio.run(play())
    assert answer.status == 503
    assert "a bug" in answer.json()["reason"]


def test_a_change_during_the_start_keeps_the_rest_of_the_settings(pair):
    """A quota that is set before the turn of a suspended tenant resumes nothing."""
    quota = TenantQuota(5.0, 7.0)
    pair.folders.write("red", TenantFile(3, is_suspended=True, reason="The bill is open.", quota=quota))

    async def play(server):
        group = server.group
        tenant = group.apps["red"]
        tenant.file, tenant.state = TenantFile(), "opening"  # as before its turn
        await group.set_quota("red", TenantQuota(9.0, 7.0))
        first = server.folders.read("red")
        tenant.file = TenantFile()
        await group.suspend("red", "Another reason.")
        return first, server.folders.read("red")

    first, second = pair.run(play)
    assert first == TenantFile(3, is_suspended=True, reason="The bill is open.", quota=TenantQuota(9.0, 7.0))
    assert second == TenantFile(3, is_suspended=True, reason="Another reason.", quota=TenantQuota(9.0, 7.0))


def test_a_folder_that_another_process_serves_is_not_deleted(pair):
    """It is a 409, the folder stays where it is, and the state says why it does not serve."""

    async def play(server):
        await server.root("POST", "/v1/tenants/red/suspend", {"reason": "moved"})
        with locked(DataFolder(server.folders.of("red") / DATA_NAME), RealDisk()):
            refused = await server.root("DELETE", "/v1/tenants/red", query=b"confirm=red")
        there = server.folders.of("red").exists()
        state = (await _states(server))["red"]
        done = await server.root("DELETE", "/v1/tenants/red", query=b"confirm=red")
        return refused, there, state, done.status

    refused, there, state, done = pair.run(play)
    assert (refused.status, refused.json()["type"]) == (409, "urn:midstream:tenant-conflict")
    assert (there, state, done) == (True, "suspended", 200)
    assert not pair.folders.of("red").exists()


def test_two_deletions_at_once_are_both_answered(pair, monkeypatch):
    """Each removes the folder that it took out of service; both are in the audit."""

    async def play(server):
        asked = [server.root("DELETE", f"/v1/tenants/{name}", query=f"confirm={name}".encode()) for name in pair.keys]
        return [each.status for each in await asyncio.gather(*asked)]

    removed = shutil.rmtree

    def slow(path, *rest, **options):
        removed(path, *rest, **options)
        if "-" in str(path):
            __import__("time").sleep(0.2)

    monkeypatch.setattr(shutil, "rmtree", slow)
    assert pair.run(play) == [200, 200]
    assert [each.status for each in changes_of(pair.folders.audit, 9)[0]] == [200, 200]
    assert list(pair.folders.trash.iterdir()) == []


def test_a_deletion_whose_files_stay_is_done(pair, monkeypatch, caplog):
    """The tenant is gone, the change is in the audit, and the next start removes the files."""

    def fails(path, *_rest, **_options):
        message = f"{path} is in use"
        raise PermissionError(message)

    async def delete(server):
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", fails)
            return (await server.root("DELETE", "/v1/tenants/red", query=b"confirm=red")).status

    assert pair.run(delete) == 200
    assert pair.folders.audit.read_text().count("DELETE") == 2  # before it and behind it
    assert "tenant_files_left" in caplog.text
    assert len(list(pair.folders.trash.iterdir())) == 1
    assert pair.run(_states) == {"blue": "serving"}
    assert list(pair.folders.trash.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(tmp_path):
    """Settings, the audit and new folders can be read by a server of that user."""
    shops = tmp_path / "shops"
    shops.mkdir()
    os.chown(shops, 12_345, 12_345)
    server = Server(shops)
    folder = server.folders.create("red", "", TenantFile())
    make_folder(server.folders.exports)
    os.close(open_file(server.folders.audit, os.O_WRONLY | os.O_APPEND))
    made = (folder.parent, folder, folder / "tenant.json", server.folders.exports, server.folders.audit)
    assert [each.stat().st_uid for each in made] == [12_345] * len(made)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_a_file_behind_a_link_keeps_its_owner(tmp_path):
    """The owner of a folder gets no file of root by a link to it."""
    secret, shops = tmp_path / "secret", tmp_path / "shops"
    secret.touch()
    shops.mkdir()
    os.chown(shops, 12_345, 12_345)
    (shops / "audit.ndjson").symlink_to(secret)
    os.close(open_file(shops / "audit.ndjson", os.O_WRONLY | os.O_APPEND))
    assert secret.stat().st_uid == 0


def test_an_open_stream_ends_with_its_tenant(pair):
    """A suspension does not wait for it, nothing of the shop is sent behind it, and the next shop counts from 0."""

    async def play(server):
        await server.of("red", "GET", "/console")  # the pages are made when they are asked for first
        stream = asyncio.create_task(server.of("red", "GET", "/console/live", stays=True))
        shop = server.group.apps["red"]._shop
        await asyncio.sleep(0.5)
        assert len(shop.in_progress) == 1
        began = asyncio.get_running_loop().time()
        status = (await server.root("POST", "/v1/tenants/red/suspend", {})).status
        took_s = asyncio.get_running_loop().time() - began
        return status, stream.done(), took_s < 10, len(shop.in_progress), (await stream).status

    assert pair.run(play) == (200, True, True, 0, 200)


def test_a_request_that_is_not_answered_in_time_ends_before_the_shop_is_closed(server):
    """It is a 503, and its task has let go of the shop."""
    server.options = ServerOptions(allow_hosts=("test",), stop_wait_max=Duration("1s"))
    server.add("red")

    async def play(server):
        shop = server.group.apps["red"]._shop
        began = asyncio.Event()

        class Front:
            metrics, arrivals = shop.front.metrics, shop.front.arrivals

            async def __call__(self, *_):
                began.set()
                await asyncio.Event().wait()

        shop.front = Front()
        hangs = asyncio.create_task(server.of("red", "GET", "/v1/models"))
        await began.wait()
        suspended = await server.root("POST", "/v1/tenants/red/suspend", {})
        return suspended.status, hangs.done(), (await hangs).status

    assert server.run(play) == (200, True, 503)


def test_an_opening_that_fails_behind_the_engine_lets_go_of_the_folder(pair, monkeypatch):
    """The tenant is resumed once the reason is gone."""

    def fails(*_):
        message = "a bug"
        raise ValueError(message)

    async def play(server):
        await server.root("POST", "/v1/tenants/red/suspend", {})
        with monkeypatch.context() as patch:
            patch.setattr("midstream.app.tenants.tenant.KeyGate", fails)
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)
            first = (await server.root("POST", "/v1/tenants/red/resume")).json()["state"]
        return first, (await server.root("POST", "/v1/tenants/red/resume")).json()["state"]

    assert pair.run(play) == ("failed", "serving")


def test_a_resumption_whose_caller_goes_is_finished(pair):
    """The state is not left as that of an opening without an end."""

    async def play(server):
        await server.root("POST", "/v1/tenants/red/suspend", {})
        resumed = asyncio.create_task(server.group.resume("red"))
        await asyncio.sleep(0.01)
        resumed.cancel()
        await asyncio.wait((resumed,))
        return resumed.cancelled(), (await _states(server))["red"]

    assert pair.run(play) == (True, "serving")


def test_a_stop_closes_all_tenants_past_an_error_of_one(pair, monkeypatch, caplog):
    """The error is raised behind them and logged, also while a tenant is taken from the list."""

    async def main():
        async with pair.running():
            group = pair.group
            left.append(group.apps["red"])
            shop = group.apps["blue"].running
            stops = type(shop).stop

            async def stop(self):
                await stops(self)
                if self is shop:
                    group.apps.pop("blue")
                    message = "no room"
                    raise OSError(message)

            monkeypatch.setattr(type(shop), "stop", stop)

    left: list[Any] = []
    with pytest.raises(OSError, match="no room"):
        asyncio.run(main())
    assert (left[0].state, left[0].running) == ("closing", None)
    assert "tenant_not_closed" in caplog.text


def test_a_damaged_file_of_keys_is_in_health_and_hinders_no_known_key(pair):
    """Of a tenant and of the root, each in its own health; the files' places are told to nobody."""

    async def play(server):
        for folder in (server.folders.of("red"), server.folders.root):
            (folder / "data" / "keys.json").write_text("{")
        await asyncio.sleep(LOOK_S)
        return (
            (await server.of("red", "GET", "/health/ready", key="")).json()["reason"],
            (await server.of("blue", "GET", "/health/ready", key="")).json()["reason"],
            await _health(server),
            (await server.of("red", "GET", "/v1/models")).status,
            (await server.of("red", "GET", "/v1/keys")).status,
        )

    red, blue, root, known, keys = pair.run(play)
    assert "API keys cannot be read" in red
    assert "API keys" not in blue
    assert (root["ready"], "API keys cannot be read" in root["reason"]) == (True, True)
    assert str(pair.folders.root) not in red + root["reason"]
    assert (known, keys) == (200, 503)
