"""Imports and their undoing that are killed: the next goes on, nothing is lost or doubled, what is undone is gone."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from midstream.app.config.schema import Config
from midstream.app.ingest.undo import list_runs
from midstream.app.inspect.doctor import examine
from midstream.app.inspect.folder_view import LogView
from midstream.core.kinds import Kind
from midstream.events.schema import event_at
from tests.support.patience import PATIENCE_S, wait_until

pytestmark = pytest.mark.crash

BEGIN_MS = 1_700_000_000_000
ROWS, KILLS = 20_000, 2


def acts(path: Path, user: str, count: int, step_ms: int) -> Path:
    """Write a file of acts of 100 users, each act its own time."""
    lines = [f"{user}{n % 100},i{n % 50},{BEGIN_MS + n * step_ms}\n" for n in range(count)]
    path.write_text("user_id,item_id,time\n" + "".join(lines))
    return path


def begin(folder: Path, *words: str) -> "subprocess.Popen[bytes]":
    """Begin a command about imports."""
    command = [sys.executable, "-m", "midstream", "import", *words, "-f", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def done(process: "subprocess.Popen[bytes]") -> bytes:
    """Return what a command printed, which must end well."""
    output, errors = process.communicate(timeout=PATIENCE_S * 4)
    assert process.returncode == 0, errors.decode()
    return output


def kill(process: "subprocess.Popen[bytes]") -> bool:
    """Kill a command; return whether it was still at work."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def log_bytes(folder: Path) -> int:
    """Return how long the newest log of a folder is."""
    return sum(each.stat().st_size for each in (folder / "data").glob("log*/*.segment"))


def logs_of(folder: Path) -> set[str]:
    """Return the names of a folder's logs, those included that are being written."""
    return {each.name for each in (folder / "data").glob("log*")}


def times_of(folder: Path, user: str) -> list[int]:
    """Return when the acts of some users were, in order of the log."""
    found = []
    for batch in LogView(folder).batches():
        events = (event_at(batch, row) for row in range(len(batch)))
        acts_of = [each for each in events if each.kind == Kind.INTERACTION and (each.user_id or "").startswith(user)]
        found += [each.event_time_ms for each in acts_of if each.event_time_ms is not None]
    return found


def test_an_import_that_is_killed_goes_on_and_is_taken_back_through_kills(tmp_path: Path) -> None:
    """Killed at several lengths of the log, run again to its end: each row once. Then each of its runs is taken back,
    killed at several moments first: the rows of the file are gone, those of another file are as they were.
    """
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "midstream.toml").write_text("")
    kept = acts(tmp_path / "kept.csv", "kept", 500, 60_000)
    killed = acts(tmp_path / "killed.csv", "killed", ROWS, 1_000)
    words = ("--type", "view", "--time-format", "ms", "--json")
    done(begin(folder, str(kept), *words))
    before = times_of(folder, "kept")
    assert before == [BEGIN_MS + n * 60_000 for n in range(500)]
    kills = 0
    for _ in range(KILLS):
        length, process = log_bytes(folder), begin(folder, str(killed), *words)
        wait_until(lambda: log_bytes(folder) > length or process.poll() is not None)  # noqa: B023  # asked at once
        kills += kill(process)
        assert sorted(set(times_of(folder, "killed"))) == sorted(times_of(folder, "killed"))
    assert kills > 0
    done(begin(folder, str(killed), *words))
    assert times_of(folder, "killed") == [BEGIN_MS + n * 1_000 for n in range(ROWS)]
    assert examine(folder, Config()).problems == ()
    again = json.loads(done(begin(folder, str(killed), *words)))
    assert again["recorded"] == 0

    runs = [each for each in list_runs(folder) if each.file.endswith("killed.csv") and each.recorded]
    assert sum(each.recorded for each in runs) == ROWS
    kills = 0
    for at, run in enumerate(runs):
        # The first when the new log begins, the others spread over what follows, whatever that takes here.
        began, before_it = time.monotonic(), logs_of(folder)
        process = begin(folder, "--undo", run.run)
        wait_until(lambda: logs_of(folder) - before_it or process.poll() is not None)  # noqa: B023  asked at once
        time.sleep((time.monotonic() - began) * at / len(runs))
        kills += kill(process)
        state = next(each.state for each in list_runs(folder) if each.run == run.run)
        if state == "recorded":
            done(begin(folder, "--undo", run.run))
        assert next(each.state for each in list_runs(folder) if each.run == run.run) == "taken back"
        assert times_of(folder, "kept") == before
    assert kills > 0
    assert times_of(folder, "killed") == []
    assert examine(folder, Config()).problems == ()
