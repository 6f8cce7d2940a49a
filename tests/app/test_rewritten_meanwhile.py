"""A rewrite of the log while another process reads it: it reads on in the new one, or says that the old one is gone."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, state_from_the_beginning
from midstream.app.opening import DATA_NAME
from midstream.app.operate import rebuild
from midstream.app.operate.rebuild import verify
from midstream.core.errors import LogDamaged, LogRewritten
from midstream.core.types import LogPosition
from midstream.engine.child_process import Pace
from midstream.engine.erasure.log_rewrite import Rewrite, commit
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import open_log
from midstream.events.disk import RealDisk
from midstream.events.schema import cut
from midstream.events.segments.segment_reader import SegmentReader
from midstream.events.segments.segments import SegmentLog
from midstream.testing.log_conformance import events_in
from tests.support.events import Stream, random_events, tiny_settings

COUNT = 200
EVENTS = random_events(COUNT, 5, Stream(catalogue_share=0.3))


def with_log(folder: Path) -> DataFolder:
    data = DataFolder(folder / DATA_NAME)
    log = open_log(data, bytes(range(16)), 4_000)
    for start in range(0, COUNT, 10):
        log.append(cut(EVENTS, start, start + 10))
    log.close()
    return data


def rewrite(data: DataFolder) -> None:
    """Write the log anew, and remove the old one, as a server does."""
    Rewrite(data, RealDisk(), 4_000, Pace(hurried=True)).make(LogPosition(COUNT), tiny_settings())
    commit(data, RealDisk())
    data.remove_outdated_logs()


def test_a_view_reads_on_in_the_new_log(tmp_path: Path) -> None:
    """At the same positions; nothing is read twice or left out, and who compares two reads can tell."""
    data = with_log(tmp_path)
    expected = events_in([(LogPosition(0), EVENTS)])
    view = LogView(tmp_path)
    found = events_in(view.read(LogPosition(0), 90))
    assert not view.is_rewritten
    rewrite(data)
    rewrite(data)
    found += events_in(view.read(LogPosition(len(found)), COUNT))
    assert view.is_rewritten
    assert found == expected
    assert view.identity.generation == 2


def test_a_reader_says_that_its_log_is_gone_and_never_that_it_is_damaged(tmp_path: Path) -> None:
    """Nobody is told to cut a sound log; what is damaged is said to be as before."""
    data = with_log(tmp_path)
    reader = SegmentReader(data.log, RealDisk())
    rewrite(data)
    with pytest.raises(LogRewritten, match="was rewritten meanwhile") as caught:
        reader.read(LogPosition(0), COUNT, LogPosition(COUNT))
    assert not isinstance(caught.value, LogDamaged)
    assert "repair" not in str(caught.value)
    reader = SegmentReader(data.log, RealDisk())
    min(data.log.glob("*.segment")).unlink()
    with pytest.raises(LogDamaged, match="repair"):
        reader.read(LogPosition(0), COUNT, LogPosition(COUNT))


def test_another_log_in_its_place_is_not_read_on_in(tmp_path: Path) -> None:
    """One that was made anew has other events at these positions."""
    data = with_log(tmp_path)
    view = LogView(tmp_path)
    shutil.rmtree(data.log)
    SegmentLog(data.log, RealDisk(), bytes(16)).close()
    with pytest.raises(LogRewritten, match="is another log"):
        view.read(LogPosition(0), COUNT)


def test_a_verification_does_not_compare_two_writings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would find a difference that is none."""
    data = with_log(tmp_path)

    def meanwhile(folder: Path, config: Config, log: LogView, *rest: Any) -> object:
        rewrite(data)
        return state_from_the_beginning(folder, config, log, *rest)

    monkeypatch.setattr(rebuild, "state_from_the_beginning", meanwhile)
    with pytest.raises(LogRewritten, match="verify again"):
        verify(tmp_path, Config())
