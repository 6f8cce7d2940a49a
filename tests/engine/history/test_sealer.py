"""Sealing beside a running engine: by a child, while events come; what fails is said and tried again."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, state_from_the_beginning
from midstream.app.opening import Outside, open_running
from midstream.app.operate.rebuild import verify
from midstream.app.operate.seal import seal_folder
from midstream.core.durations import Duration
from midstream.core.types import TimestampMs
from midstream.engine import child_process
from midstream.engine.child_process import Ended, WorkOrder
from midstream.engine.folder import DataFolder
from midstream.engine.history import sealer, worker
from midstream.engine.log_opening import open_log
from midstream.events.disk import RealDisk
from midstream.events.history.history import DAY_MS
from midstream.events.schema import cut
from midstream.events.segments.segment_scan import segment_firsts
from tests.support.events import Stream, random_events
from tests.support.rig import SMALL, Rig, view

COUNT = 1_200
EVENTS = random_events(COUNT, 3, Stream(step_ms=8 * DAY_MS // COUNT))


def config(keep: str = "") -> Config:
    """Return a small configuration with a day of hot log."""
    history = msgspec.structs.replace(SMALL.history, hot=Duration("1d"), keep=keep)
    limits = msgspec.structs.replace(SMALL.limits, index_sessions_max=2_000, requests_max=1_000, aliases_max=1_000)
    return msgspec.structs.replace(SMALL, history=history, limits=limits)


def with_log(folder: Path) -> DataFolder:
    data = DataFolder(folder / "data")
    log = open_log(data, bytes(16), 1 << 20)
    for start in range(0, COUNT, 50):
        log.append(cut(EVENTS, start, start + 50))
    log.close()
    return data


def test_a_running_engine_seals_and_cuts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Old segments become history and the oldest of it goes, events come in meanwhile, the state is the same; a child
    that fails is named in health until one does its work. The log of the process says what became of how many events.
    """
    caplog.set_level("INFO", "midstream")
    data = with_log(tmp_path)

    async def work() -> str:
        running = open_running(tmp_path, config("3d"))
        await running.start()
        engine, sealing = running.engine, running.sealer
        assert sealing is not None
        with monkeypatch.context() as patch:
            patch.setattr(sealer, "CHILD", "midstream.engine.no_such_child")
            assert await sealing.seal() is None
        assert "old events were not sealed" in engine.health().reason
        assert engine.health().accepts_events
        at_work = asyncio.create_task(sealing.seal(hurried=True))
        number = 0
        while not at_work.done():
            await engine.record(Rig().batch(view(f"i{number % 9}", event_id=f"live{number}")))
            number += 1
            await asyncio.sleep(0.01)  # a child that works on time that nobody else wants is to have some
        report = await at_work
        assert report is not None
        assert engine.health().reason == ""
        assert 0 < report.begin < report.end < COUNT
        assert report.sealed_events == report.end
        assert report.nameless == 0
        text = engine.metrics.text().decode()
        assert f"midstream_history_begin_log_position {float(report.begin)}" in text
        assert f"midstream_history_end_log_position {float(report.end)}" in text
        assert 'midstream_seals_total{outcome="failed"} 1.0' in text
        await engine.record(Rig().batch(view("after", event_id="after")))
        digest = engine.fold.digest()
        await running.stop()
        told = [each.getMessage() for each in caplog.records]
        assert f"history_sealed log_position={report.end} events={report.end}" in " ".join(told)
        assert f"history_cut log_position={report.begin} events={report.begin}" in told
        return digest

    digest = asyncio.run(work())
    log = LogView(tmp_path)
    assert log.begin > 0
    assert state_from_the_beginning(tmp_path, config(), log).digest() == digest
    assert verify(tmp_path, config()).is_equal
    again = open_running(tmp_path, config())
    again.engine.log.close()
    assert again.engine.fold.digest() == digest
    assert segment_firsts(data.log, RealDisk())[0] > 0


def test_a_closed_folder_is_sealed_and_cut_and_an_open_one_sealed(tmp_path: Path) -> None:
    """The command seals in both, and leaves the cut to a server that has the folder open."""
    assert seal_folder(tmp_path, config("3d")).sealed_events == 0
    data = with_log(tmp_path)
    lock = RealDisk().lock(data.lock, data.root)
    beside = seal_folder(tmp_path, config("3d"))
    assert beside.sealed_events > 0
    assert beside.begin == 0
    RealDisk().close(lock)
    alone = seal_folder(tmp_path, config("3d"))
    assert alone.sealed_events == 0
    assert alone.begin == alone.cut_events > 0


def test_health_names_what_a_wrong_clock_keeps_from_being_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log time ahead of the clock, and a leap that the log has not gone on from; a right clock takes both away."""
    with_log(tmp_path)
    right_ms = int(EVENTS.rows["log_time_ms"][-1])
    now_ms = right_ms

    async def in_process(_module: str, order: WorkOrder, *_: object, **__: object) -> Ended:
        assert isinstance(order, worker.SealOrder)
        return Ended(msgspec.json.encode(worker.run(order)), "")

    monkeypatch.setattr(child_process, "run", in_process)

    async def main() -> list[str]:
        nonlocal now_ms
        running = open_running(tmp_path, config("8d"), outside=Outside(clock=lambda: TimestampMs(now_ms)))
        await running.start()
        engine, sealing = running.engine, running.sealer
        assert sealing is not None
        said: list[str] = []
        for step_ms in (0, 400 * DAY_MS, -400 * DAY_MS, 400 * DAY_MS, *(3_600_000 for _ in range(25))):
            now_ms += step_ms
            await engine.record(Rig().batch(view("i1", event_id=f"at{len(said)}")))
            report = await sealing.seal()
            assert report is not None
            assert report.begin == 0 or len(said) > 25
            said.append(engine.concerns.get("retention", ""))
        await running.stop()
        return said

    said = asyncio.run(main())
    assert said[0] == ""
    assert "kept 399.9 days longer" in said[1].replace("400.0", "399.9")
    assert "400.00 days ahead of the clock" in said[2]
    assert "days longer" in said[3]
    assert said[-1] == ""
