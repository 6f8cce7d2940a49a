"""The repair of a history: what can be trusted stays, what is known of the rest stands in a base, no byte is lost."""

import shutil
from pathlib import Path

import msgspec
import pytest

from midstream.core.errors import LogDamaged
from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.history import worker
from midstream.engine.history.history_repair import HistoryRepaired, repair_history
from midstream.engine.history.worker import SealOrder
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.log_opening import open_log
from midstream.engine.snapshots import base_state, snapshots
from midstream.events.disk import RealDisk
from midstream.events.history.history import DAY_MS, History, history_folder, read_history
from midstream.events.schema import cut, event_at
from midstream.events.segments.log_repair import survey_log
from midstream.events.segments.segment_reader import SegmentReader
from midstream.events.values import merged_id
from midstream.state.fold import Fold
from midstream.state.ids.compacted_items import NOTHING
from midstream.state.settings import FoldSettings, encode_settings
from midstream.testing.log_conformance import events_in
from tests.support.events import START_MS, Stream, random_events, tiny_settings
from tests.support.ids import hash_of

LOG_ID = bytes(range(16))
COUNT = 2_000
EVENTS = random_events(COUNT, 5, Stream(step_ms=9 * DAY_MS // COUNT, catalogue_share=0.3))
NOW_MS = START_MS + 1_000 * DAY_MS
"""Of a clock that is behind nothing."""


def roomy() -> FoldSettings:
    tiny = tiny_settings()
    limits = msgspec.structs.replace(
        tiny.limits, users_max=500, items_max=500, click_items_max=200, event_ids_max=9_000, document_bytes_max=1 << 20
    )
    return msgspec.structs.replace(tiny, limits=limits)


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    """A log with history and a snapshot of its end."""
    found = DataFolder(tmp_path / "data")
    log = open_log(found, LOG_ID, 1 << 20)
    for start in range(0, COUNT, 100):
        log.append(cut(EVENTS, start, start + 100))
    log.close()
    order = SealOrder(str(found.root), COUNT, DAY_MS, 0, encode_settings(roomy()), NOW_MS)
    worker.run(order)
    fold = Fold(roomy())
    fold.apply(LogPosition(0), EVENTS)
    snapshots.write(found.snapshots, fold, SegmentReader(found.log, RealDisk()).identity)
    return found


def history_of(data: DataFolder) -> History:
    history = read_history(data.log, RealDisk())
    assert history is not None
    assert len(history.files) > 5
    return history


def repaired(data: DataFolder) -> HistoryRepaired:
    """Repair; then nothing is left to repair, and the log is sound and opens."""
    done = repair_history(data, roomy())
    assert done is not None
    assert repair_history(data, roomy()) is None
    assert survey_log(data.log, RealDisk(), thorough=True).damage is None
    open_log(data, LOG_ID, 1 << 20).close()
    return done


def begun(data: DataFolder) -> Fold:
    reader = SegmentReader(data.log, RealDisk())
    fold = base_state.beginning(roomy(), NOTHING, reader)
    catch_up(fold, lambda after, limit: reader.read(after, limit, LogPosition(COUNT)), LogPosition(COUNT))
    return fold


def attributes(fold: Fold) -> dict[str, object]:
    """Attributes of all items in the catalogue and of all known profiles, by id or hash."""
    items = {fold.vocabulary.item_id(index): change for index, change in fold.items.changes()}
    slots = fold.vocabulary.arrays()["user_hash"]
    users = {int(slots[slot]): change for slot, change in fold.users.changes()}
    kept = [*items.items(), *users.items()]
    known = {str(name) for name, change in kept if change.operation != Operation.DELETE}
    found: dict[str, object] = {}
    for index in range(fold.vocabulary.item_count):
        if (name := fold.vocabulary.item_id(index)) in known:
            found[name] = fold.items.document(index)
    for slot, user_hash in enumerate(slots.tolist()):
        if str(user_hash) in known:
            found[str(user_hash)] = fold.users.document(slot)
    return found


def users_in(start: int, stop: int) -> set[str]:
    """Users whom profile changes, merges or erasures of a range name."""
    found: set[str] = set()
    for index in range(start, stop):
        event = event_at(EVENTS, index)
        if event.kind in {Kind.USER, Kind.ERASE}:
            found |= {event.user_id, merged_id(event.body)}
    return found


def events_of(data: DataFolder, begin: int) -> list[bytes]:
    reader = SegmentReader(data.log, RealDisk())
    assert reader.begin == begin
    return events_in(reader.read(LogPosition(begin), COUNT, LogPosition(COUNT)))


def all_from(begin: int) -> list[bytes]:
    return events_in([(LogPosition(begin), EventBatch(EVENTS.rows[begin:], EVENTS.text))])


def test_a_sound_history_is_left_alone(data: DataFolder) -> None:
    """Nothing to repair: nothing is changed."""
    before = {path: path.read_bytes() for path in data.root.rglob("*") if path.is_file()}
    assert repair_history(data, roomy()) is None
    assert {path: path.read_bytes() for path in data.root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("number", [0, 3, -1])
@pytest.mark.parametrize("is_missing", [False, True])
def test_the_log_begins_after_a_damaged_file(data: DataFolder, number: int, *, is_missing: bool) -> None:
    """It and those before it leave the log and keep their bytes; the others read as before; catalogue and profiles are
    those of the snapshot; what was served from the old history is not taken for the new one.
    """
    history = history_of(data)
    file = history.files[number]
    path = history_folder(data.log) / file.name
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    if is_missing:
        path.unlink()
    else:
        path.write_bytes(bytes(content))
    with pytest.raises(LogDamaged, match=f"{file.first} to {file.end}"):
        survey_log(data.log, RealDisk(), thorough=True)
    done = repaired(data)
    assert (done.begin, done.lost, done.from_snapshot) == (file.end, file.end, COUNT)
    assert events_of(data, file.end) == all_from(file.end)
    gone = history.files[: history.files.index(file) + 1]
    assert len(done.side_files) == len(gone) - is_missing
    if not is_missing:
        assert bytes(content) in [each.read_bytes() for each in done.side_files]
    assert SegmentReader(data.log, RealDisk()).identity.generation == 1
    whole = Fold(roomy())
    whole.apply(LogPosition(0), EVENTS)
    fold = begun(data)
    nameless = {str(hash_of(user)) for user in users_in(file.first, file.end)} - {
        str(hash_of(user)) for user in (*users_in(0, file.first), *users_in(file.end, COUNT))
    }
    expected = {name: value for name, value in attributes(whole).items() if name not in nameless}
    assert {name: value for name, value in attributes(fold).items() if name not in nameless} == expected
    assert len(expected) > 100
    loaded = base_state.newest(data, roomy(), SegmentReader(data.log, RealDisk()), LogPosition(COUNT))
    assert loaded.fold.log_position == file.end
    assert "generation" in loaded.refused[0]
    worker.run(SealOrder(str(data.root), COUNT, DAY_MS, 0, encode_settings(roomy()), NOW_MS))
    assert all(each.exists() for each in done.side_files)


def test_without_a_snapshot_the_rest_is_still_a_log(data: DataFolder) -> None:
    """Nobody knows what was before: the log begins with what is left, and says so."""
    shutil.rmtree(data.snapshots)
    file = history_of(data).files[2]
    (history_folder(data.log) / file.name).unlink()
    done = repaired(data)
    assert (done.begin, done.from_snapshot) == (file.end, None)
    assert begun(data).log_position == COUNT


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_a_lost_manifest_is_made_again_from_the_files(data: DataFolder, content: bytes | None) -> None:
    """Nothing is lost: the same files, the same events, the same generation."""
    history = history_of(data)
    path = history_folder(data.log) / "history.json"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(LogDamaged):
        open_log(data, LOG_ID, 1 << 20)
    done = repaired(data)
    assert done == HistoryRepaired(manifest_is_new=True, begin=0, lost=0, from_snapshot=None, nameless=0, side_files=())
    assert history_of(data) == history
    assert events_of(data, 0) == all_from(0)


def test_a_lost_manifest_and_a_damaged_file(data: DataFolder) -> None:
    """The files that still lead up to the segments are history, the others are kept aside."""
    history = history_of(data)
    (history_folder(data.log) / "history.json").unlink()
    path = history_folder(data.log) / history.files[2].name
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(bytes(content))
    done = repaired(data)
    assert done.begin == history.files[2].end
    assert done.from_snapshot == COUNT
    assert events_of(data, done.begin) == all_from(done.begin)
    assert len(list(history_folder(data.log).glob("*.damaged"))) == 3


def test_a_lost_base_is_made_again(data: DataFolder) -> None:
    """From the newest snapshot: the log begins where it did."""
    report = worker.run(SealOrder(str(data.root), COUNT, DAY_MS, 5 * DAY_MS, encode_settings(roomy()), NOW_MS))
    place = base_state.base_folder(data.log, report.begin)
    (place / "base.json").write_bytes(b"{}")
    done = repaired(data)
    assert (done.begin, done.lost, done.from_snapshot) == (report.begin, 0, COUNT)
    assert begun(data).log_position == COUNT
