"""A server that is killed while it rebuilds serves the old state at its next start, and comes to the new one again."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from midstream.app.config_history import settings_of
from midstream.app.opening import DATA_NAME, FOLD_AT_START_EVENTS, config_of
from midstream.app.operate.rebuild import rebuild
from midstream.app.server_address import read_address
from midstream.core.kinds import Kind
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import open_log
from midstream.events.schema import Event, build
from tests.support.fakes.rebuilds import write_config
from tests.support.patience import PATIENCE_S, wait_until

pytestmark = [pytest.mark.crash, pytest.mark.long]
START_MS = 1_750_000_000_000
PARTS = FOLD_AT_START_EVENTS // 10_000 + 1


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Serve a folder in a process of its own; whatever happens it is gone at the end."""
    (folder / DATA_NAME / "server.url").unlink(missing_ok=True)  # of one that was killed
    command = [sys.executable, "-m", "midstream", "serve", "-f", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: process.poll() is not None or read_address(folder / DATA_NAME) is not None)
            address = read_address(folder / DATA_NAME)
            assert address is not None
            yield process, address.url
        finally:
            process.kill()


def wait_for(url: str, *states: str) -> dict[str, object]:
    """Wait until a rebuild is in one of some states."""
    view: dict[str, object] = {}

    def is_there() -> bool:
        view.update(httpx.get(f"{url}/v1/rebuild", timeout=PATIENCE_S).json())
        return view["state"] in states

    wait_until(is_there)
    return view


def children_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the ids of a process's children."""
    return [int(each) for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_a_killed_server_goes_on(tmp_path: Path) -> None:
    """Its child ends with it; the next start has the old state at once, all events, and rebuilds."""
    write_config(tmp_path)
    log = open_log(DataFolder(tmp_path / DATA_NAME), b"k" * 16, 1 << 26)
    for part in range(PARTS):
        acts = ((f"{part}-{number}", f"u{number % 90}", f"i{number % 150}") for number in range(10_000))
        log.append(
            build(
                [
                    Event(Kind.INTERACTION, 0, name, "view", user, item, log_time_ms=START_MS + part)
                    for name, user, item in acts
                ]
            )
        )
    log.close()
    rebuild(tmp_path, config_of(tmp_path))
    with serving(tmp_path) as (process, url):
        write_config(tmp_path, "[sessions]\ngap = '7m'\n")
        assert httpx.post(f"{url}/v1/rebuild", timeout=PATIENCE_S).json()["change"] == "state"
        wait_for(url, "folding", "writing", "loading", "catching_up", "done")
        children = children_of(process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    with serving(tmp_path) as (process, url):
        assert httpx.get(f"{url}/health/ready", timeout=PATIENCE_S).json()["applied_log_position"] == PARTS * 10_000
        view = wait_for(url, "idle", "done")
        assert view["fold_version"] == settings_of(DataFolder(tmp_path / "data"), config_of(tmp_path)).version()
        assert httpx.get(f"{url}/v1/recommendations?user_id=u1", timeout=PATIENCE_S).json()["items"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
