"""A log that is taken away from a real server under load, and a second server: each event that was acknowledged can be
had, or its loss is said.
"""

import signal
import threading
from pathlib import Path

import httpx
import pytest

from midstream.app.config.schema import Config
from midstream.app.inspect.doctor import examine
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME, open_running
from midstream.core.errors import FolderLocked, LogDamaged
from midstream.events.schema import event_at
from midstream.events.segments.segment_scan import segment_name
from tests.crash.servers import SAID, serving
from tests.support.patience import PATIENCE_S, wait_until

pytestmark = pytest.mark.crash
CLIENTS = 3


def send(url: str, name: str, acknowledged: list[str], stop: threading.Event) -> None:
    """Send events one after another until one is not acknowledged."""
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        number = 0
        while not stop.is_set():
            event_id = f"{name}-{number}"
            event = {"event_id": event_id, "type": "view", "user_id": name, "item_id": f"i{number % 9}"}
            if client.post("/v1/events", json=event).status_code != 200:
                return
            acknowledged.append(event_id)
            number += 1


def test_a_segment_that_is_removed_under_load_ends_all_acknowledgements(tmp_path: Path) -> None:
    """Not one more is acknowledged than the file held when it went away: all of them are in the bytes that the process
    still has, as the error says. Health, the end, the next start and doctor name it; put back, all is well.
    """
    acknowledged: list[str] = []
    segment = tmp_path / DATA_NAME / "log" / segment_name(0)
    with serving(tmp_path) as (process, url):
        stop = threading.Event()
        clients = [
            threading.Thread(target=send, args=(url, f"u{number}", acknowledged, stop)) for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        wait_until(lambda: len(acknowledged) > 30)
        segment.unlink()
        for client in clients:
            client.join()  # each ends at its first event that is not acknowledged
        health = httpx.get(f"{url}/health/ready", timeout=PATIENCE_S).json()
        assert not health["accepts_events"], health
        assert "removed, replaced or moved" in health["reason"]
        kept = Path(health["reason"].partition("ends ")[2].partition(" has")[0]).read_bytes()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 1
        assert '"event": "log_incomplete"' in (tmp_path / SAID).read_text()
    with pytest.raises(LogDamaged, match=r"missing.*Put back what was removed"):
        open_running(tmp_path, Config())
    assert examine(tmp_path, Config()).problems
    segment.write_bytes(kept)
    found = [event_at(batch, row).event_id for batch in LogView(tmp_path).batches() for row in range(len(batch))]
    assert set(acknowledged) <= set(found)


def test_a_second_server_is_refused_without_the_lock_file(tmp_path: Path) -> None:
    """Whoever removes ``data/lock`` removes a note, not the lock."""
    with serving(tmp_path) as (process, url):
        event = {"type": "view", "user_id": "ann", "item_id": "lamp"}
        assert httpx.post(f"{url}/v1/events", json=event, timeout=PATIENCE_S).status_code == 200
        with pytest.raises(FolderLocked, match=f"in use by process {process.pid};"):
            open_running(tmp_path, Config())
        (tmp_path / DATA_NAME / "lock").unlink()
        with pytest.raises(FolderLocked):
            open_running(tmp_path, Config())
        assert httpx.post(f"{url}/v1/events", json=event, timeout=PATIENCE_S).status_code == 200


def test_a_server_is_refused_on_a_folder_that_links_to_the_log_of_another(tmp_path: Path) -> None:
    """A log on a larger disk, and a copy of the folder with the link in it: both would write at the same place, and of
    what both acknowledged half would be there.
    """
    first, second = tmp_path / "first", tmp_path / "second"
    for each in (first, second / DATA_NAME):
        each.mkdir(parents=True)
    event = {"type": "view", "user_id": "ann", "item_id": "lamp"}
    with serving(first) as (_, url):
        (second / DATA_NAME / "log").symlink_to(first / DATA_NAME / "log")
        for _ in range(2):
            with pytest.raises(FolderLocked, match="links to it"):
                open_running(second, Config())
            assert httpx.post(f"{url}/v1/events", json=event, timeout=PATIENCE_S).status_code == 200
    assert sum(len(batch) for batch in LogView(first).batches()) == 2
