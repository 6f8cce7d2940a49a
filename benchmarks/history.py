"""A year of events with two days of hot log: sealing, starts, reads and exports, beside the same log untrimmed.

Every event has a day of log time; the log is written once and copied, one of the two is sealed. Each figure of the
sealed one stands beside that of the other, and what the two give is compared: every event of an export, the events of
random ranges, the digest of the fold up to positions on both sides of the border. ``--events 10000000`` is the full
size; without it a tenth is made.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np

from midstream.app.config.schema import Config
from midstream.app.export.events import export_events
from midstream.app.inspect.folder_view import LogView, beginning_of
from midstream.app.opening import DATA_NAME
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.history import worker as seal_child
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.log_opening import open_log
from midstream.engine.snapshots import worker as snapshot_child
from midstream.events.history.history import DAY_MS
from midstream.events.schema import ROW
from midstream.state.settings import encode_settings

YEAR_DAYS = 365
COMMIT_EVENTS = 1_000
START_MS = 1_700_000_000_000
USERS, ITEMS = 1_000_000, 100_000
WIDTHS = {"event_id": 10, "action": 4, "user_id": 8, "item_id": 7, "session_id": 10, "request_id": 0, "body": 0}
RANGES, RANGE_EVENTS = 300, 100
OPEN = """
import resource, sys, time
from pathlib import Path
from midstream.app.opening import config_of, open_running
began = time.monotonic()
running = open_running(Path(sys.argv[1]), config_of(Path(sys.argv[1])))
seconds = time.monotonic() - began
running.engine.log.close()
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def digits(prefix, numbers, width):
    """Return each number as text of a fixed width, shape (n, width) of bytes."""
    found = np.empty((len(numbers), width), dtype=np.uint8)
    found[:, 0] = ord(prefix)
    for place in range(width - 1):
        found[:, width - 1 - place] = ord("0") + numbers // 10**place % 10
    return found


def commits(count, days, seed=0):
    """Yield the events of a shop as commits: views of Zipf's items, five a session."""
    random = np.random.default_rng(seed)
    share = np.cumsum(1.0 / np.arange(1, ITEMS + 1))
    for first in range(0, count, COMMIT_EVENTS):
        numbers = np.arange(first, min(first + COMMIT_EVENTS, count))
        session = numbers // 5
        user = session * 2_654_435_761 % USERS
        item = np.searchsorted(share / share[-1], random.random(len(numbers)))
        texts = [
            digits("e", numbers, WIDTHS["event_id"]),
            np.tile(np.frombuffer(b"view", dtype=np.uint8), (len(numbers), 1)),
            digits("u", user, WIDTHS["user_id"]),
            digits("i", item, WIDTHS["item_id"]),
            digits("s", session, WIDTHS["session_id"]),
        ]
        rows = np.zeros(len(numbers), dtype=ROW)
        for name, width in WIDTHS.items():
            rows[f"{name}_length"] = width
        rows["kind"], rows["position"] = 1, -1
        rows["value"] = rows["quantity"] = np.nan
        rows["log_time_ms"] = START_MS + numbers * days * DAY_MS // count
        arena = np.concatenate(texts, axis=1)
        rows["text_start"] = np.arange(len(numbers)) * arena.shape[1]
        yield EventBatch(rows, arena.tobytes())


def timed(work, *given):
    """Return what some work gives, and how long it took."""
    began = time.monotonic()
    found = work(*given)
    return found, time.monotonic() - began


def sealed_by(order):
    """Run the child that seals; return what it reports."""
    command = [sys.executable, "-m", "midstream.engine.history.worker"]
    run = subprocess.run(command, input=msgspec.json.encode(order), capture_output=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def tree_bytes(folder):
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def started(folder):
    """Open a folder in a process of its own; return seconds and the most memory it had, MiB."""
    run = subprocess.run([sys.executable, "-c", OPEN, str(folder)], capture_output=True, text=True, check=True)
    seconds, mib = map(float, run.stdout.split()[-2:])
    return {"seconds": round(seconds, 3), "rss_mib": round(mib)}


def read_ranges(folder, count):
    """Read random ranges; return a hash of their events, and the median and the longest time, ms."""
    log = LogView(folder)
    random = np.random.default_rng(1)
    seen, times = sha256(), []
    for after in random.integers(0, count - RANGE_EVENTS, RANGES).tolist():
        began = time.monotonic()
        found = log.read(LogPosition(after), RANGE_EVENTS)
        times.append((time.monotonic() - began) * 1_000)
        left = RANGE_EVENTS
        for _, batch in found:
            rows = batch.rows[:left].copy()
            rows["text_start"] = 0
            seen.update(rows.tobytes())
            left -= len(rows)
    return seen.hexdigest(), {"p50_ms": round(float(np.median(times)), 3), "max_ms": round(max(times), 3)}


def digests(folder, config, positions):
    """Return the digest of the fold up to each position."""
    log = LogView(folder)
    fold = beginning_of(DataFolder(folder / DATA_NAME), config.fold_settings(), log)
    found = []
    for position in positions:
        catch_up(fold, log.read, LogPosition(position))
        found.append(fold.digest())
    return found


class Hashing:
    """A pipe that keeps a hash of what is written to it."""

    def __init__(self):
        """Begin with nothing."""
        self.digest = sha256()

    def write(self, data):
        """Take bytes."""
        self.digest.update(data)
        return len(data)

    def flush(self):
        """Nothing waits."""


def exported(folder, config):
    """Export everything; return a hash of it."""
    pipe = Hashing()
    export_events(folder, config, pipe)
    return pipe.digest.hexdigest()


def compared(whole, sealed, config, count, border):
    """Measure both folders, and see that they give the same."""
    found = {}
    for name, work in (
        ("export", lambda folder: exported(folder, config)),
        ("as_of", lambda folder: digests(folder, config, sorted({border // 2, border, (border + count) // 2, count}))),
    ):
        (left, left_s), (right, right_s) = timed(work, whole), timed(work, sealed)
        found[name] = {"equal": left == right, "whole_s": round(left_s, 2), "sealed_s": round(right_s, 2)}
    (left, left_ms), (right, right_ms) = read_ranges(whole, count), read_ranges(sealed, count)
    found["ranges"] = {"equal": left == right, "whole": left_ms, "sealed": right_ms}
    found["start"] = {"whole": started(whole), "sealed": started(sealed)}
    return found


def main(arguments):
    """Write a log, seal a copy, compare the two; exit with 1 when they differ."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=False)) if "--json" not in arguments[:1] else {}
    count, days = int(options.get("--events", 1_000_000)), int(options.get("--days", YEAR_DAYS))
    config = Config()
    with tempfile.TemporaryDirectory(dir=options.get("--folder")) as place:
        whole, sealed = Path(place) / "whole", Path(place) / "sealed"
        data = DataFolder(whole / DATA_NAME)
        log = open_log(data, bytes(16), config.log.segment_bytes_max)
        _, written_s = timed(lambda: [log.append(batch) for batch in commits(count, days)])
        log.close()
        settings = encode_settings(config.fold_settings())
        snapshot_child.run(snapshot_child.SnapshotOrder(str(data.root), count, settings, 2))
        shutil.copytree(whole, sealed)
        before = tree_bytes(sealed / DATA_NAME / "log")
        order = seal_child.SealOrder(str(sealed / DATA_NAME), count, config.history.hot.ms, 0, settings)
        report, sealed_s = timed(sealed_by, order)
        seal_rss_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        figures = {
            "events": count,
            "days": days,
            "cores": os.cpu_count(),
            "write_s": round(written_s, 1),
            "seal_s": round(sealed_s, 1),
            "seal_rss_mib": seal_rss_mib,
            "log_mib": {"before": before >> 20, "after": tree_bytes(sealed / DATA_NAME / "log") >> 20},
            "sealed": report,
            **compared(whole, sealed, config, count, report["end"]),
        }
    print(json.dumps(figures, indent=1))
    return 0 if all(figures[name]["equal"] for name in ("export", "as_of", "ranges")) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
