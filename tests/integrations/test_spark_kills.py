"""kill -9 of the driver of a stream, with Spark and all that it started, under load: each row once, and one state.

The shop remembers one event id, so no id hides what is written twice. The state after all kills is compared with that
of an import of the same rows into another folder, on whose log no stream ever wrote.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import midstream
from midstream.app.ingest import import_file as importing
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.opening import DATA_NAME, config_of
from midstream.app.spark.stream_sink import Done
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import open_log
from tests.support.libraries import library
from tests.support.patience import wait_until
from tests.support.services.record import note
from tests.support.spark import BATCH_MS, BEGAN, CONFIG, START_MS

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.crash]
ROOT = Path(__file__).parents[2]
ROUNDS, ROUNDS_LONG = 3, 20
ROWS = 120
"""Of a batch: forty frames, so that many kills are between two of them."""
FILES_AHEAD_MAX = 4
"""Of the load: files that the driver has not read."""
STARTING_S, RUNNING_S, FRAMES = 8.0, 3.0, 100
"""A driver is killed so long after its start at most, after its first batch began, or so many frames later."""
OF_CONTROL = ("fold.place", "event_ids.", "inputs.")
"""Begins the names of arrays that control events are in: a stream writes its own, an import has a last one. Of ids
the shop remembers one, and the last event is a control event."""


class Stand(NamedTuple):
    """Where a kill left the log and the checkpoint."""

    done: Done
    """Of the log."""
    committed: int
    """Batches that the checkpoint has."""

    @property
    def kind(self) -> str:
        """Within a batch, between the log and the commit of its last batch, or between two batches."""
        if self.done.rows:
            return "within a batch"
        return "before the commit" if self.done.batch > self.committed else "between batches"


class Load:
    """Files of rows that come until it is stopped."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        """Begin."""
        folder.mkdir()
        self.rows: list[dict[str, object]] = []
        self._folder, self._checkpoint, self._stop = folder, checkpoint, Event()
        self._thread = ThreadPoolExecutor(1)
        self._ended = self._thread.submit(self._run)

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.1):
            if number < committed(self._checkpoint) + FILES_AHEAD_MAX:
                self._write(number)
                number += 1

    def _write(self, number: int) -> None:
        """Write a file, which becomes the batch of this number: Spark takes them by the time of their change."""
        rows = [row_of(number * ROWS + each) for each in range(ROWS)]
        self.rows += rows
        part = self._folder / f".{number}"
        part.write_text("".join(f"{json.dumps(each)}\n" for each in rows))
        os.utime(part, (START_MS / 1_000 + number,) * 2)
        part.rename(self._folder / f"{number:06}.json")

    def end(self) -> None:
        """Write nothing more; an error is raised."""
        self._stop.set()
        self._thread.shutdown()
        self._ended.result()


def row_of(number: int) -> dict[str, object]:
    """Return a row whose columns, in the order of their names, come in that of the numbers; all of a batch at once."""
    moment = np.datetime64(START_MS + number // ROWS * BATCH_MS, "ms")
    return {
        "context": json.dumps({"number": f"{number:09}"}),
        "event_id": f"e{number}",
        "item_id": f"i{number % 61}",
        "time": f"{moment}Z",
        "type": "view",
        "user_id": f"u{number % 97}",
        "value": float(number),
    }


def committed(checkpoint: Path) -> int:
    """Return how many batches a checkpoint has as done."""
    return max((int(each.name) + 1 for each in checkpoint.glob("commits/[0-9]*")), default=0)


def log_bytes(folder: Path) -> int:
    """Return how much of a log is written."""
    return sum(each.stat().st_size for each in (folder / DATA_NAME / "log").glob("*"))


def stand_of(folder: Path, checkpoint: Path) -> Stand:
    """Return what the log says of its stream, beside the checkpoint."""
    fold = state_of(folder, config_of(folder), LogView(folder)).fold
    return Stand(Done.of(fold.inputs.find("clicks")), committed(checkpoint))


def start(folder: Path, source: Path, checkpoint: Path, *, to_end: bool = False) -> "subprocess.Popen[bytes]":
    """Start a driver that leads a group of processes of its own."""
    words = [str(folder), str(source), str(checkpoint), "all" if to_end else "on"]
    with (folder.parent / "said.txt").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.spark", *words],
            cwd=ROOT, start_new_session=True, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip


def kill(driver: "subprocess.Popen[bytes]") -> None:
    """End a driver with all processes of its group at once."""
    with suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()


def wait_for_moment(driver: "subprocess.Popen[bytes]", folder: Path, dice: random.Random, number: int) -> None:
    """Wait until a random moment of one of three kinds, in turns: of its start, of its work, and of one frame."""

    def has_begun() -> bool:
        said = (folder.parent / "said.txt").read_text()
        assert driver.poll() is None, said
        return BEGAN in said

    if number % 3 == 2:
        time.sleep(dice.uniform(0.0, STARTING_S))
        return
    wait_until(has_begun)
    if number % 3 == 1:
        time.sleep(dice.uniform(0.0, RUNNING_S))
        return
    for _ in range(dice.randrange(FRAMES)):
        before = log_bytes(folder)
        while log_bytes(folder) == before:
            assert driver.poll() is None, (folder.parent / "said.txt").read_text()
            time.sleep(0.000_2)


def killed_again_and_again(folder: Path, rounds: int) -> tuple[Load, list[Stand]]:
    """Kill drivers at random moments, and let the last one write the rest; return the load, and where kills were."""
    source, checkpoint = folder.parent / "files", folder.parent / "checkpoint"
    dice = random.Random(rounds)  # noqa: S311  moments of kills
    found: list[Stand] = []
    load = Load(source, checkpoint)
    try:
        for number in range(rounds):
            driver = start(folder, source, checkpoint)
            try:
                wait_for_moment(driver, folder, dice, number)
            finally:
                kill(driver)
            found.append(stand_of(folder, checkpoint))
            print(f"kill {number + 1}: {found[-1].kind}, {found[-1].done.text}", flush=True)
    finally:
        load.end()
    driver = start(folder, source, checkpoint, to_end=True)
    try:
        wait_until(lambda: driver.poll() is not None)
        assert driver.returncode == 0, (folder.parent / "said.txt").read_text()
    finally:
        kill(driver)
    return load, found


def tables_of(folder: Path) -> dict[str, bytes]:
    """Return the state but for what control events are in."""
    fold = state_of(folder, config_of(folder), LogView(folder)).fold
    return {name: array.tobytes() for name, array in fold.arrays().items() if not name.startswith(OF_CONTROL)}


@pytest.fixture
def shops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two folders whose logs have one id, so that their states can be compared."""
    monkeypatch.setattr(importing, "_new_log_id", lambda: bytes(16))
    for name in ("shop", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "midstream.toml").write_text(CONFIG)
    config = config_of(tmp_path / "shop")
    open_log(DataFolder(tmp_path / "shop" / DATA_NAME), bytes(16), config.log.segment_bytes_max).close()
    return tmp_path / "shop", tmp_path / "other"


@pytest.mark.timeout(3_600)
def test_each_row_is_in_the_log_once_after_any_kill(shops: tuple[Path, Path], request: pytest.FixtureRequest) -> None:
    """Three kills, twenty in a long run: none is lost or double, their order is kept, and the state is an import's."""
    note("spark", library("pyspark").__version__)
    library("pandas")
    rounds, began = ROUNDS_LONG if request.config.getoption("--long") else ROUNDS, time.monotonic()
    shop, other = shops
    load, stands = killed_again_and_again(shop, rounds)
    kinds = Counter(each.kind for each in stands)
    print(f"{rounds} kills, {dict(kinds)}: {len(load.rows)} rows; {time.monotonic() - began:.0f} s")
    values = midstream.read_events(shop, kinds=["interaction"]).column("value").to_pylist()
    doubled = [value for value, count in Counter(values).items() if count > 1]
    assert (len(values), doubled[:3]) == (len(load.rows), [])
    assert values == [float(each) for each in range(len(load.rows))]
    assert kinds["within a batch"] + kinds["before the commit"], "no kill was where a row could be written twice"
    pq.write_table(pa.Table.from_pylist(load.rows), other / "rows.parquet")
    importing.import_file(other, config_of(other), other / "rows.parquet")
    found, expected = tables_of(shop), tables_of(other)
    assert [name for name in expected if found.get(name) != expected[name]] == []
    assert set(found) == set(expected)
