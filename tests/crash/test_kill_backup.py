"""A backup of a real server under load that is killed behind it: the copy has what was acknowledged before it began."""

import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from midstream.app.config.schema import Config
from midstream.app.inspect.doctor import examine
from midstream.app.inspect.folder_view import LogView
from midstream.events.schema import event_at
from tests.crash.servers import serving
from tests.crash.test_lost_log import send
from tests.support.patience import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.long]


def midstream(*words: str) -> None:
    """Run a command, which must end well."""
    subprocess.run([sys.executable, "-m", "midstream", *words], check=True, capture_output=True)


def send_until_killed(url: str, acknowledged: list[str]) -> None:
    """Send events until the server is gone."""
    with suppress(httpx.TransportError):
        send(url, "u0", acknowledged, threading.Event())


def test_a_backup_under_load_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    """Snapshots come and go while it is made, every second; the server is killed right behind it."""
    shop, copy, restored = (tmp_path / name for name in ("shop", "copy", "restored"))
    shop.mkdir()
    (shop / "midstream.toml").write_text('[snapshots]\ninterval = "1s"\n')
    acknowledged: list[str] = []
    with serving(shop) as (process, url):
        client = threading.Thread(target=send_until_killed, args=(url, acknowledged))
        client.start()
        wait_until(lambda: len(acknowledged) > 30 and any((shop / "data" / "snapshots").glob("[0-9]*")))
        before = list(acknowledged)
        midstream("backup", str(copy), "-f", str(shop))
        process.send_signal(signal.SIGKILL)
        client.join()
    midstream("restore", str(copy), str(restored))
    assert examine(restored, Config()).problems == ()
    found = {event_at(batch, row).event_id for batch in LogView(restored).batches() for row in range(len(batch))}
    assert set(before) <= found
