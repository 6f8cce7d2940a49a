"""Workers of a web server: one owns the folder, another is refused with what to do, a stop loses nothing."""

import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import midstream
from tests.support.pages import ROOT, blocks
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.readme import free_port

pytestmark = [pytest.mark.service, pytest.mark.slow]
PAGE = ROOT / "docs" / "tasks" / "web-frameworks.md"
KEYS = {"x-key": "public"}
WORDS = ("in use by process", "A folder has one owner", "runs one worker", "call midstream serve over HTTP")


def written(folder: Path, name: str) -> Path:
    """Put a program of the page into a folder."""
    (text,) = [block.text for block in blocks(PAGE) if block.file == name]
    (folder / name).write_text(text)
    return folder


def uvicorn(folder: Path, app: str, *options: str) -> "subprocess.Popen[str]":
    """Start the web server as the page does."""
    command = [sys.executable, "-m", "uvicorn", app, *options]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def test_a_second_worker_is_refused_and_says_why(tmp_path):
    """Two real workers of uvicorn: it ends instead of serving from one folder twice, with what to do."""
    server = uvicorn(written(tmp_path, "shop_app.py"), "shop_app:app", "--workers", "2", "--port", free_port())
    try:
        _, said = server.communicate(timeout=PATIENCE_S)
    finally:
        server.kill()
    assert [each for each in WORDS if each not in said] == [], said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_of_the_web_server_stops_the_engine(tmp_path, number):
    """What was acknowledged is there, the folder is free, and the web server ends as without an engine."""
    port = free_port()
    server = uvicorn(written(tmp_path, "shop_app.py"), "shop_app:app", "--workers", "1", "--port", port)
    url = f"http://127.0.0.1:{port}"
    try:

        def serves() -> bool:
            assert server.poll() is None, server.communicate()[1]
            try:
                return httpx.get(f"{url}/operation/health/ready", headers={"x-key": "secret"}).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(serves)
        event = {"type": "view", "user_id": "ann", "item_id": "lamp", "event_id": "1"}
        assert httpx.post(f"{url}/v1/events", json=event).status_code == 422, "the application's own: no header"
        assert httpx.post(f"{url}/v1/events", json=event, headers=KEYS).json()["recorded"] == 1
        assert httpx.get(f"{url}/operation/v1/items/lamp", headers=KEYS).status_code == 401
        assert httpx.get(f"{url}/v1/items/lamp", headers=KEYS).status_code == 404
        server.send_signal(number)
        _, said = server.communicate(timeout=PATIENCE_S)
    finally:
        server.kill()
    assert "Application shutdown complete" in said
    assert "Traceback" not in said
    with midstream.open(tmp_path / "shop") as shop:
        assert shop.item("lamp") is not None


def test_a_forked_worker_has_no_engine(tmp_path):
    """As one of gunicorn with --preload: each call says so, and what it closes is not its owner's."""
    with midstream.open(tmp_path) as shop:
        shop.record({"type": "view", "user_id": "ann", "item_id": "lamp"})
        forked = multiprocessing.get_context("fork")
        said = forked.SimpleQueue()

        def worker():
            try:
                shop.recommend(user_id="ann")
            except RuntimeError as error:
                said.put(str(error))
            shop.close()

        process = forked.Process(target=worker)
        process.start()
        process.join(PATIENCE_S)
        assert process.exitcode == 0
        words = said.get()
        assert "forked" in words
        assert "midstream serve" in words
        assert shop.recommend(user_id="bob").items[0].id == "lamp"
