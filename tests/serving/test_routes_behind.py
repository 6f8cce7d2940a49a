"""Routes that are not hot are made in a thread: no start waits for them, and nothing that is hot does."""

import subprocess
import sys
import threading

import anyio
import httpx
import pytest

from midstream.serving import app as serving_app
from tests.support.patience import PATIENCE_S

IMPORTS = """
import sys
import midstream.app.server.serve
import midstream.monitoring.logs
print(sorted({"fastapi", "starlette", "pyarrow.compute"} & set(sys.modules)))
import rich.console
"""


class Held:
    """Routes that are made only once ``go`` is set."""

    def __init__(self, make):
        self.make, self.go, self.begun, self.threads = make, threading.Event(), threading.Event(), []

    def __call__(self, *arguments):
        self.threads.append(threading.get_ident())
        self.begun.set()
        assert self.go.wait(PATIENCE_S)
        return self.make(*arguments)

    async def wait(self):
        """Return when making them has begun."""
        assert await anyio.to_thread.run_sync(self.begun.wait, PATIENCE_S)


@pytest.fixture
def held(monkeypatch):
    """In place of what makes the routes."""
    found = Held(serving_app._cold)
    monkeypatch.setattr(serving_app, "_cold", found)
    yield found
    found.go.set()


def test_a_server_is_imported_without_what_it_does_not_need_at_once():
    """A quarter of the time of all imports; what was hidden meanwhile can be imported later."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
def test_what_machines_look_at_waits_for_no_route(held, make_client, engine, path):
    """It is asked as soon as the port is open."""
    answer = make_client(engine).get(path)
    assert answer.status_code == 200
    assert held.threads == []


def test_other_routes_are_made_once_and_hot_ones_answer_meanwhile(held, make_client, engine):
    """Requests wait for them without holding the event loop."""
    transport, found = httpx.ASGITransport(make_client(engine).app), []

    async def get(client, path):
        found.append((path, (await client.get(path)).status_code))

    async def ask():
        client = httpx.AsyncClient(transport=transport, base_url="http://test")
        async with client, anyio.create_task_group() as tasks:
            tasks.start_soon(get, client, "/v1/features")
            tasks.start_soon(get, client, "/v1/none")
            await held.wait()
            await get(client, "/v1/recommendations")
            assert found == [("/v1/recommendations", 200)]
            held.go.set()

    anyio.run(ask)
    assert sorted(found[1:]) == [("/v1/features", 200), ("/v1/none", 404)]
    assert len(held.threads) == 1
    assert held.threads != [threading.get_ident()]


@pytest.fixture
def tables(monkeypatch):
    """In place of what the first table needs."""
    found = Held(lambda: None)
    monkeypatch.setattr(serving_app, "warm_tables", found)
    yield found
    found.go.set()


@pytest.mark.parametrize("name", ["held", "tables"])
def test_a_server_makes_them_behind_its_start(name, request, make_client, engine):
    """Its first caller of another route does not wait for them; nor does the first table for Arrow's functions."""
    waited = request.getfixturevalue(name)
    behind = make_client(engine).app
    sent: list[str] = []

    async def live():
        stop = anyio.Event()

        async def receive():
            if sent:
                await stop.wait()
            return {"type": "lifespan.shutdown" if sent else "lifespan.startup"}

        async def send(message):
            sent.append(message["type"])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(behind, {"type": "lifespan"}, receive, send)
            await waited.wait()
            assert sent == ["lifespan.startup.complete"]
            waited.go.set()
            stop.set()

    anyio.run(live)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert waited.threads != [threading.get_ident()]
