"""Routes of API keys: a key is shown once, faults stand by their place, and every change is of somebody."""

import asyncio
import fcntl
import os
from contextlib import contextmanager
from functools import partial
from threading import Timer, current_thread

import httpx
import pytest

from midstream.core.errors import Overloaded
from midstream.engine.folder import DataFolder
from midstream.serving.access import key_file, key_turns
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.key_turns import KeyTurns

HELD_S_MAX = 3
"""After which a test lets go of the lock, so that a server that waits for it on its loop goes on."""


@pytest.fixture
def keyed(make_client, engine, tmp_path):
    """An app of a folder without a key."""
    return make_client(engine, data=DataFolder(tmp_path))


def test_a_key_is_made_listed_rotated_and_revoked(keyed, tmp_path):
    """Its text is in the one answer that made it, and in no list and no file."""
    assert keyed.get("/v1/keys").json() == {"keys": []}
    wish = {"scopes": ["read"], "expires": "90d", "quota_per_second": 5, "quota_burst": 9}
    made = keyed.post("/v1/keys/reports", wish)
    assert made.status_code == 200
    key, view = made.json()["key"], made.json()["view"]
    stored = KeyFile(tmp_path).read()
    assert stored is not None
    assert stored.keys[0].name == "reports"
    assert (view["state"], view["scopes"], view["created_by"]) == ("live", ["read"], "anonymous")
    assert view["expires_ms"] - view["created_ms"] == 90 * 86_400_000
    assert (view["quota_per_second"], view["quota_burst"]) == (5, 9)
    assert "user_secret" not in made.json()
    again = keyed.post("/v1/keys/reports/rotate", {"grace": "1h"}).json()
    listed = keyed.get("/v1/keys")
    assert [each["name"] for each in listed.json()["keys"]] == ["reports", "reports"]
    assert listed.json()["keys"][0]["expires_ms"] < view["expires_ms"]
    for text in (key, again["key"]):
        assert text.encode() not in listed.content
        assert text.split("_", 2)[2].encode() not in (tmp_path / "keys.json").read_bytes()
    gone = keyed.ask("DELETE", f"/v1/keys/{view['id']}").json()["keys"]
    assert [(each["id"], each["state"], each["revoked_by"]) for each in gone] == [(view["id"], "revoked", "anonymous")]
    assert keyed.ask("DELETE", "/v1/keys/reports").json()["keys"][0]["id"] == again["view"]["id"]
    assert keyed.ask("DELETE", "/v1/keys/reports").status_code == 404
    assert keyed.post("/v1/keys/reports/rotate", b"").status_code == 404


def test_a_browser_key_comes_with_its_user_secret(keyed):
    """Once, as the key does."""
    made = keyed.post("/v1/keys/pages", {"scopes": ["recommend"], "origins": ["https://shop.example"]}).json()
    assert len(made["user_secret"]) > 40
    assert made["view"]["origins"] == ["https://shop.example"]
    assert made["user_secret"] not in keyed.get("/v1/keys").text


@pytest.mark.parametrize(
    "name, body, pointer",
    [
        ("a%20b", {"scopes": ["read"]}, "name"),
        ("a", {"scopes": []}, "/scopes"),
        ("a", {"scopes": ["all"]}, "/scopes"),
        ("a", {"scopes": ["admin"], "origins": ["https://shop.example"]}, "/scopes"),
        ("a", {"scopes": ["recommend"], "origins": ["shop.example"]}, "/origins"),
        ("a", {"scopes": ["read"], "expires": "soon"}, "/expires"),
        ("a", {"scopes": ["read"], "expires": "999999999d"}, "/expires"),
        ("a", {"scopes": ["read"], "scope": "read"}, "/scope"),
        ("a", {}, "/scopes"),
        ("a", {"scopes": ["read"], "quota_per_second": -1}, "/quota_per_second"),
        ("a", {"scopes": ["read"], "quota_burst": 10**9}, "/quota_burst"),
    ],
)
def test_each_fault_stands_by_its_place(keyed, name, body, pointer):
    """And no key is made."""
    answer = keyed.post(f"/v1/keys/{name}", body)
    assert answer.status_code == 400, answer.text
    assert pointer in {each["pointer"] for each in answer.json()["errors"]}
    assert keyed.get("/v1/keys").json() == {"keys": []}


def test_a_name_that_is_taken_is_refused(keyed):
    """While its key lives."""
    assert keyed.post("/v1/keys/a", {"scopes": ["read"]}).status_code == 200
    refused = keyed.post("/v1/keys/a", {"scopes": ["read"]})
    assert refused.status_code == 400
    assert keyed.ask("DELETE", "/v1/keys/a").status_code == 200
    assert keyed.post("/v1/keys/a", {"scopes": ["read"]}).status_code == 200


def test_an_id_is_no_name_of_another_key(keyed):
    """Else a rotation by the one would end the other."""
    made = keyed.post("/v1/keys/a", {"scopes": ["read"]}).json()["view"]
    assert keyed.post(f"/v1/keys/{made['id']}", {"scopes": ["read"]}).status_code == 400
    refused = keyed.post("/v1/keys/a/rotate", {"grace": "999999999d"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/grace")


def test_a_server_without_a_folder_has_no_keys(client):
    """And says so."""
    assert client.get("/v1/keys").status_code == 404
    assert client.post("/v1/keys/a", {"scopes": ["read"]}).status_code == 404


@contextmanager
def held(folder):
    """Hold the lock of the file as a command does that hangs; whether it is still held, and what lets go of it."""
    lock = os.open(folder / "keys.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    unlock = Timer(HELD_S_MAX, fcntl.flock, (lock, fcntl.LOCK_UN))
    unlock.start()
    try:
        yield unlock.is_alive, lambda: fcntl.flock(lock, fcntl.LOCK_UN)
    finally:
        unlock.cancel()
        unlock.join()
        os.close(lock)


@pytest.mark.parametrize("method, path", [("POST", "/b"), ("POST", "/a/rotate"), ("DELETE", "/a")])
def test_who_changes_keys_has_no_slate_wait(keyed, tmp_path, method, path):
    """A command holds the lock of the file; slates are answered meanwhile, and the change is made when it is free."""
    assert keyed.post("/v1/keys/a", {"scopes": ["read"]}).status_code == 200
    body = {"scopes": ["read"]} if path == "/b" else None

    async def play(is_held, let_go):
        transport = httpx.ASGITransport(keyed.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            changing = asyncio.create_task(client.request(method, f"/v1/keys{path}", json=body))
            await asyncio.sleep(0.05)
            slates = [(await client.get("/v1/recommendations", params={"user_id": "u"})).status_code for _ in range(3)]
            while_held = is_held() and not changing.done()
            let_go()
            return slates, while_held, (await changing).status_code

    with held(tmp_path) as (is_held, let_go):
        assert asyncio.run(play(is_held, let_go)) == ([200] * 3, True, 200)


def test_a_lock_that_is_held_for_too_long_refuses_the_change(keyed, tmp_path, monkeypatch):
    """And changes nothing."""
    assert keyed.post("/v1/keys/a", {"scopes": ["read"]}).status_code == 200
    monkeypatch.setattr(key_file, "LOCK_S_MAX", 0.05)
    with held(tmp_path) as (is_held, _):
        refused = keyed.ask("DELETE", "/v1/keys/a")
        assert is_held()
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:midstream:overloaded")
    assert [each["state"] for each in keyed.get("/v1/keys").json()["keys"]] == ["live"]
    assert keyed.ask("DELETE", "/v1/keys/a").status_code == 200


def test_changes_of_keys_wait_in_one_thread(monkeypatch):
    """One after the other; who waits for too long is refused, and one that is given up is made and told to its end."""
    monkeypatch.setattr(key_turns, "TURN_S_MAX", 0.05)
    made: list[str] = []

    def refuses(*_):
        raise RuntimeError("can't start new thread")

    async def play():
        turns, began, goes_on = KeyTurns(), asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def first():
            loop.call_soon_threadsafe(began.set)
            asyncio.run_coroutine_threadsafe(goes_on.wait(), loop).result(HELD_S_MAX)
            made.append("first")

        given_up = asyncio.create_task(turns.changed(first))
        await began.wait()
        given_up.cancel()
        with pytest.raises(Overloaded):
            await turns.changed(lambda: made.append("refused"))
        goes_on.set()
        await given_up
        with monkeypatch.context() as without:
            without.setattr(loop, "run_in_executor", refuses)
            with pytest.raises(RuntimeError):
                await turns.changed(lambda: made.append("refused"))
        await turns.changed(lambda: made.append("second"))

    asyncio.run(play())
    assert made == ["first", "second"]


def test_changes_that_wait_are_bounded(monkeypatch):
    """One more is refused at once, and those that wait are made."""
    monkeypatch.setattr(key_turns, "WAITING_MAX", 2)
    made: list[int] = []

    async def play():
        turns, goes_on, loop = KeyTurns(), asyncio.Event(), asyncio.get_running_loop()
        first = asyncio.create_task(
            turns.changed(lambda: asyncio.run_coroutine_threadsafe(goes_on.wait(), loop).result(HELD_S_MAX))
        )
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(turns.changed(partial(made.append, each))) for each in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await turns.changed(lambda: made.append(2))
        goes_on.set()
        await asyncio.gather(first, *waiting)
        await turns.changed(lambda: made.append(3))

    asyncio.run(play())
    assert made == [0, 1, 3]


def test_a_list_of_keys_holds_up_no_other_answer(keyed, monkeypatch):
    """The files are read in a thread of their own: a disk may stall."""
    threads: list[str] = []
    real = key_file.KeyFile.read

    def read(file):
        threads.append(current_thread().name)
        return real(file)

    monkeypatch.setattr(key_file.KeyFile, "read", read)
    assert keyed.get("/v1/keys").status_code == 200
    assert threads
    assert all("asyncio" in each for each in threads)
