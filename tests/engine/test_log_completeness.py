"""A log that is gone, or ends before what was made of it, is refused everywhere, until an operator accepts the loss."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from midstream.app.config.schema import Config
from midstream.app.inspect.doctor import examine, repair_folder
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME, open_running, open_shop
from midstream.core.errors import LogDamaged, LogIncomplete
from midstream.core.types import LogPosition
from midstream.engine.erasure.log_rewrite import Receipt
from midstream.engine.folder import DataFolder
from midstream.engine.log_completeness import survey_folder
from midstream.engine.log_opening import open_log
from midstream.engine.snapshots import snapshots
from midstream.events.disk import RealDisk
from midstream.events.schema import cut
from midstream.events.segments.log_identity import IDENTITY_NAME, identity_of, write_identity
from midstream.events.segments.segment_scan import segment_firsts, segment_name
from midstream.state.fold import Fold
from tests.support.events import Stream, random_events, tiny_settings

LOG_ID = bytes(range(16))
COUNT = 120
EVENTS = random_events(COUNT, 5, Stream(catalogue_share=0.3))


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    """A log of several segments and a snapshot of its end; the tables are tiny, so that a test takes no time."""
    found = DataFolder(tmp_path / DATA_NAME)
    log = open_log(found, LOG_ID, 1_500)
    for start in range(0, COUNT, 10):
        log.append(cut(EVENTS, start, start + 10))
    log.close()
    fold = Fold(tiny_settings())
    fold.apply(LogPosition(0), EVENTS)
    snapshots.write(found.snapshots, fold, identity_of(LOG_ID, 0))
    assert len(segment_firsts(found.log, RealDisk())) > 2
    return found


def without_segments(data: DataFolder) -> None:
    for path in data.log.glob("*.segment"):
        path.unlink()


def without_the_last_segment(data: DataFolder) -> None:
    (data.log / segment_name(segment_firsts(data.log, RealDisk())[-1])).unlink()


def without_the_last_commit(data: DataFolder) -> None:
    """Rot in the last frame looks like a torn tail, which nobody would miss."""
    path = data.log / segment_name(segment_firsts(data.log, RealDisk())[-1])
    path.write_bytes(path.read_bytes()[:-3])


def without_log_json(data: DataFolder) -> None:
    (data.log / IDENTITY_NAME).unlink()


def without_log(data: DataFolder) -> None:
    shutil.rmtree(data.log)


def with_an_empty_folder(data: DataFolder) -> None:
    shutil.rmtree(data.log)
    data.log.mkdir()


def with_the_log_of_another(data: DataFolder) -> None:
    shutil.rmtree(data.log)
    write_identity_in(data, bytes(16), 0)


def with_an_older_writing(data: DataFolder) -> None:
    for name, each in list(snapshots.manifests(data.snapshots)):
        shutil.rmtree(data.snapshots / name)
        fold = Fold(tiny_settings())
        fold.apply(LogPosition(0), EVENTS)
        snapshots.write(data.snapshots, fold, identity_of(LOG_ID, each.generation + 1))


def write_identity_in(data: DataFolder, log_id: bytes, generation: int) -> None:
    data.log.mkdir()
    (data.log / segment_name(0)).touch()
    write_identity(data.log, RealDisk(), identity_of(log_id, generation))


LOSSES: tuple[Callable[[DataFolder], None], ...] = (
    without_segments,
    without_the_last_segment,
    without_the_last_commit,
    without_log_json,
    without_log,
    with_an_empty_folder,
    with_the_log_of_another,
    with_an_older_writing,
)


def files_of(root: Path) -> dict[Path, bytes]:
    """Return all that is in a folder but the file that says who opened it last."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and "lock" not in path.name}


@pytest.mark.parametrize("lose", LOSSES)
def test_what_is_missing_is_noticed_by_all_and_given_up_by_one(
    data: DataFolder, tmp_path: Path, lose: Callable[[DataFolder], None]
) -> None:
    """Start, reading and doctor say what is missing and change nothing; after the repair the folder opens again, in a
    generation above all, with the events that are left and the snapshots of what is gone beside.
    """
    lose(data)
    before = files_of(tmp_path)
    with pytest.raises(LogDamaged, match="doctor --repair") as caught:
        open_shop(tmp_path, Config())
    assert "missing" in str(caught.value) or "no log.json" in str(caught.value)
    assert LOG_ID.hex() not in str(caught.value)  # the key of ids follows from it
    with pytest.raises(LogDamaged, match="doctor --repair"):
        LogView(tmp_path)
    found = examine(tmp_path, Config())
    assert any("doctor --repair" in problem for problem in found.problems)
    assert files_of(tmp_path) == before
    repair_folder(tmp_path, Config())
    survey = survey_folder(data, RealDisk(), thorough=True)
    assert survey is not None
    assert survey.damage is None
    assert survey.generation > 0
    assert survey.end <= COUNT
    log = open_log(data, LOG_ID, 4_000)
    assert log.end == survey.end
    log.close()
    lost = [path for path in data.snapshots.iterdir() if path.name.startswith(".lost-")]
    assert len(lost) == (survey.end < COUNT or lose is with_the_log_of_another)
    assert repair_folder(tmp_path, Config()).loss is None


def test_a_receipt_vouches_as_a_snapshot_does(data: DataFolder) -> None:
    """Receipts stay longer than snapshots: what a rewrite of this generation looked at was durable."""
    shutil.rmtree(data.snapshots)
    write_identity(data.log, RealDisk(), identity_of(LOG_ID, 1))
    data.receipts.mkdir()
    for generation, position in ((1, COUNT), (2, COUNT + 9)):  # the later one was not committed
        path = data.receipts / f"1-{generation}.json"
        path.write_bytes(receipt(generation, position))
    (data.receipts / "1-9.json").write_bytes(b"{")  # what cannot be read vouches for nothing
    open_log(data, LOG_ID, 4_000).close()
    without_the_last_segment(data)
    with pytest.raises(LogIncomplete, match=r"receipt of generation 1 .* events \d+ to 120 are missing"):
        open_log(data, LOG_ID, 4_000)


def receipt(generation: int, position: int) -> bytes:
    return msgspec.json.encode(Receipt(generation - 1, generation, position, (), (), "", {}))


def test_a_configuration_vouches_for_a_log(tmp_path: Path) -> None:
    """A folder that was opened once has a log, with events or without; one that never was is begun without a word."""
    open_running(tmp_path, Config()).engine.log.close()
    open_running(tmp_path, Config()).engine.log.close()
    shutil.rmtree(tmp_path / DATA_NAME / "log")
    with pytest.raises(LogIncomplete, match="the log is missing"):
        open_running(tmp_path, Config())
    assert not (tmp_path / DATA_NAME / "log").exists()
    repair_folder(tmp_path, Config())
    open_running(tmp_path, Config()).engine.log.close()


def test_a_making_that_was_interrupted_is_begun_again(tmp_path: Path) -> None:
    """The first segment is made before log.json: alone and empty it is no log yet."""
    data = DataFolder(tmp_path / DATA_NAME)
    data.log.mkdir(parents=True)
    (data.log / segment_name(0)).touch()
    assert survey_folder(data, RealDisk()) is None
    open_log(data, LOG_ID, 4_000).close()
    found = survey_folder(data, RealDisk())
    assert found is not None
    assert found.end == 0
