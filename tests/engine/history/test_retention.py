"""Retention: what is cut off the log is stood for by a base, and the state does not notice."""

import shutil
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from midstream.core.durations import Duration
from midstream.core.errors import LogDamaged
from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.child_process import Pace
from midstream.engine.folder import DataFolder
from midstream.engine.history import worker
from midstream.engine.history.worker import SealOrder, SealReport
from midstream.engine.ingest import log_reader
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.log_opening import open_log
from midstream.engine.snapshots import base_state
from midstream.events import sealing
from midstream.events.disk import RealDisk
from midstream.events.history.history import DAY_MS
from midstream.events.schema import Event, build, cut
from midstream.events.segments.segment_reader import SegmentReader
from midstream.state.attributes.documents import Change
from midstream.state.fold import Fold
from midstream.state.ids.compacted_items import NOTHING, Dropped
from midstream.state.restate import Restated, restated
from midstream.state.settings import FoldSettings, encode_settings
from tests.support.events import START_MS, Stream, random_events, served_body, tiny_settings
from tests.support.ids import hash_of

LOG_ID = bytes(range(16))
COUNT = 3_000
HOUR_MS = 3_600_000
WIDE = Stream(step_ms=9 * DAY_MS // COUNT, catalogue_share=0.3)
"""Nine days in so many events."""
NOW_MS = START_MS + 1_000 * DAY_MS
"""Of a clock that is behind nothing."""


def roomy() -> FoldSettings:
    """Settings of which no table is full, so that nobody is forgotten for want of room."""
    tiny = tiny_settings()
    limits = msgspec.structs.replace(
        tiny.limits, users_max=500, items_max=500, click_items_max=200, event_ids_max=9_000, document_bytes_max=1 << 20
    )
    return msgspec.structs.replace(tiny, limits=limits)


def other(settings: FoldSettings) -> FoldSettings:
    """The same with another fold version."""
    return msgspec.structs.replace(settings, session_gap=Duration("7m"))


def with_log(root: Path, events: EventBatch) -> DataFolder:
    """Write events into a log, some hundred a commit."""
    data = DataFolder(root)
    log = open_log(data, LOG_ID, 1 << 20)
    for start in range(0, len(events), 150):
        log.append(cut(events, start, min(start + 150, len(events))))
    log.close()
    return data


def ordered(data: DataFolder, settings: FoldSettings, hot_days: int, keep_days: int) -> SealReport:
    """Seal and cut as the child would."""
    end = log_end(data)
    order = SealOrder(str(data.root), end, hot_days * DAY_MS, keep_days * DAY_MS, encode_settings(settings), NOW_MS)
    return worker.run(order)


def log_end(data: DataFolder) -> LogPosition:
    log = open_log(data, LOG_ID, 1 << 20)
    log.close()
    return log.end


def state_of(data: DataFolder, settings: FoldSettings) -> Fold:
    """Fold a log from where it begins."""
    end = log_end(data)
    reader = SegmentReader(data.log, RealDisk())
    fold = base_state.beginning(settings, NOTHING, reader)
    catch_up(fold, lambda after, limit: reader.read(after, limit, end), end)
    return fold


@pytest.fixture(scope="module")
def events() -> EventBatch:
    return random_events(COUNT, 7, WIDE)


@pytest.fixture(scope="module")
def whole(events: EventBatch) -> str:
    """Digest of everything."""
    fold = Fold(roomy())
    fold.apply(LogPosition(0), events)
    return fold.digest()


def test_the_state_does_not_notice_a_cut(tmp_path: Path, events: EventBatch, whole: str) -> None:
    """Sealed and cut, again and again, the fold from the log's beginning has the digest of all events."""
    data = with_log(tmp_path, events)
    begins: list[int] = []
    done = ordered(data, roomy(), 9, 9)
    for keep_days in (6, 4, 3):
        done = ordered(data, roomy(), 1, keep_days)
        begins.append(done.begin)
        assert state_of(data, roomy()).digest() == whole
        assert [path.name for path in (data.log / "base").iterdir()] == [f"{done.begin:020d}"]
    assert 0 < begins[0] < begins[1] < begins[2]
    assert done.cut_events == begins[2] - begins[1]
    assert done.nameless == 0
    assert base_state.base_flaw(base_state.base_folder(data.log, done.begin), LOG_ID.hex()) == ""


def documents(fold: Fold) -> dict[str, list[Change]]:
    """Everything that a fold says of the attributes of items and users, by id hash."""
    slots = fold.vocabulary.arrays()["user_hash"]
    found: dict[str, list[Change]] = {}
    for index, change in fold.items.changes():
        found.setdefault(f"item {fold.vocabulary.item_id(index)}", []).append(change)
    for slot, change in fold.users.changes():
        found.setdefault(f"user {slots[slot]}", []).append(change)
    # Of what only interactions had made known, and those are gone, a later DELETE has nothing to mark.
    return {name: changes for name, changes in found.items() if changes[-1].operation != Operation.DELETE}


def test_documents_outlive_a_cut_under_another_version(tmp_path: Path, events: EventBatch) -> None:
    """Folded under other settings, attributes, profiles and aliases are what all events give; the beginning is the
    same each time; and so it is after a second cut whose base was made from the first.
    """
    expected = Fold(other(roomy()))
    expected.apply(LogPosition(0), events)
    data = with_log(tmp_path, events)
    for keep_days in (5, 3):
        ordered(data, roomy(), 1, keep_days)
        fold = state_of(data, other(roomy()))
        assert documents(fold) == documents(expected)
        assert fold.log_position == COUNT
        assert fold.digest() == state_of(data, other(roomy())).digest()
        aliases, all_aliases = (each.vocabulary.aliases.arrays() for each in (fold, expected))
        assert dict(zip(aliases["alias"].tolist(), aliases["into"].tolist(), strict=True)) == dict(
            zip(all_aliases["alias"].tolist(), all_aliases["into"].tolist(), strict=True)
        )
        available = {
            fold.vocabulary.item_id(each): bool(fold.items.available[each]) for each in range(fold.items.count)
        }
        for index in range(expected.items.count):
            item_id = expected.vocabulary.item_id(index)
            if expected.vocabulary.in_catalogue[index]:
                assert available[item_id] == bool(expected.items.available[index])


def joined_settings() -> FoldSettings:
    """Settings that hold each slate of ``slates`` for five days."""
    limits = msgspec.structs.replace(
        roomy().limits, outcome_slates_max=500, outcome_items_max=999, outcomes_waiting_max=500
    )
    return msgspec.structs.replace(roomy(), limits=limits, outcome_window=Duration("5d"))


def slates() -> list[Event]:
    """Return nine days in which each hour somebody is served, and two days later acts on what it was, if not twice."""
    found: list[tuple[int, Event]] = []
    for number in range(9 * 24):
        request, time_ms = f"r{number}", START_MS + number * HOUR_MS
        body = served_body(request, ["a", "b"])
        found.append((time_ms, Event(Kind.SERVED, request_id=request, body=body)))
        seen = Event(Kind.IMPRESSION, request_id=request, item_id="a", event_id=f"seen-{number}")
        found.append((time_ms + HOUR_MS // 2, seen))
        act = Event(Kind.INTERACTION, action="view", request_id=request, item_id="b", event_id=f"act-{number}")
        found.append((time_ms + 2 * DAY_MS + 1, act))
    found = sorted((each for each in found if each[0] < START_MS + 9 * DAY_MS), key=lambda each: each[0])
    return [event._replace(log_time_ms=time_ms) for time_ms, event in found]


def test_slates_outlive_a_cut_and_begin_at_it_under_another_version(tmp_path: Path) -> None:
    """The state does not notice that served events are gone. Another one, which begins with documents, counts from the
    cut on: an act on an older slate is of a request that it does not know, and each outcome comes to one end.
    """
    events = slates()
    whole = Fold(joined_settings())
    whole.apply(LogPosition(0), build(events))
    data = with_log(tmp_path, build(events))
    begin = ordered(data, joined_settings(), 1, 4).begin
    fold = state_of(data, joined_settings())
    assert begin > 0
    held = [int(position) for some in fold.outcomes.held() for position in some.slate["log_position"].tolist()]
    assert min(held) < begin < max(held)
    assert fold.outcomes.totals == whole.outcomes.totals
    assert fold.outcomes.totals["outcome_unattributed"] == 0
    assert fold.digest() == whole.digest()
    late = state_of(data, other(joined_settings()))
    served = {event.request_id for event in events[begin:] if event.kind == Kind.SERVED}
    outcomes = [event.request_id for event in events[begin:] if event.kind != Kind.SERVED]
    known = sum(request in served for request in outcomes)
    totals = late.outcomes.totals
    assert 0 < known < len(outcomes)
    assert totals["outcome_joined"] == known
    assert totals["outcome_unattributed"] + late.outcomes.waiting_count == len(outcomes) - known
    assert sum(each.slates for each in late.outcomes.counts()) == len(served)
    assert late.digest() == state_of(data, other(joined_settings())).digest()


def test_never_more_events_than_places(events: EventBatch) -> None:
    """What restates a fold has at most as many events as it had folded, at every position."""
    fold = Fold(roomy())
    for start in range(0, 600, 30):
        fold.apply(LogPosition(start), cut(events, start, start + 30))
        said = restated(fold, [cut(events, 0, start + 30)])
        assert len(said.events) <= start + 30
        assert said.nameless == 0
        assert bool(np.all(np.diff(said.events.rows["log_time_ms"]) >= 0))


def test_a_damaged_base_stops_what_needs_it(tmp_path: Path, events: EventBatch) -> None:
    """A flipped bit anywhere in the base's files is found; what begins from it says so and does not begin."""
    data = with_log(tmp_path, events)
    done = ordered(data, roomy(), 1, 4)
    place = base_state.base_folder(data.log, done.begin)
    for path in (place / "base.json", next(place.glob("*.parquet"))):
        content = path.read_bytes()
        for byte in (9, len(content) // 2, len(content) - 3):
            path.write_bytes(content[:byte] + bytes([content[byte] ^ 1]) + content[byte + 1 :])
            assert str(place) in base_state.base_flaw(place, LOG_ID.hex())
            with pytest.raises(LogDamaged):
                state_of(data, other(roomy()))
        path.write_bytes(content)
    shutil.rmtree(next((place / "snapshots").iterdir()))
    state_of(data, roomy())
    shutil.rmtree(place)
    with pytest.raises(LogDamaged, match="no state can begin here"):
        state_of(data, roomy())


@pytest.mark.parametrize("step", ["restated", "rename", "retain", "remove_other_bases"])
def test_a_cut_that_is_broken_off_changes_nothing(
    tmp_path: Path, events: EventBatch, whole: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever a cut ends before its time, the log begins where it did or where it was to, with the same state."""
    data = with_log(tmp_path, events)
    before = ordered(data, roomy(), 1, 6)

    def broken(*_: object) -> None:
        raise OSError(5, "broken off")

    with monkeypatch.context() as patch:
        if step == "rename":
            patch.setattr(RealDisk, "rename", broken)
        elif step == "remove_other_bases":
            patch.setattr(base_state, step, broken)
        else:
            patch.setattr(base_state if step == "restated" else sealing, step, broken)
        with pytest.raises(OSError, match="broken off"):
            ordered(data, roomy(), 1, 3)
    assert state_of(data, roomy()).digest() == whole
    done = ordered(data, roomy(), 1, 3)
    assert done.begin > before.begin
    assert state_of(data, roomy()).digest() == whole
    assert len(list((data.log / "base").iterdir())) == 1


class CountingPace(Pace):
    """Counts how often it was told to rest, and keeps what was said."""

    def __init__(self) -> None:
        super().__init__(hurried=True)
        self.rests = 0
        self.said: list[tuple[str, int, int]] = []

    def rest(self) -> None:
        self.rests += 1

    def say(self, stage: str, done: int, total: int) -> None:
        self.said.append((stage, done, total))


def test_all_reading_before_a_cut_is_paced(tmp_path: Path, events: EventBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two batches that say who the users are the child rests and says how far it is, to the last."""
    data = with_log(tmp_path, events)
    pace = CountingPace()
    seen: list[tuple[int, int]] = []

    def watched(fold: Fold, before: Iterable[EventBatch]) -> Restated:
        def each() -> Iterator[EventBatch]:
            for batch in before:
                seen.append((pace.rests, len(pace.said)))
                yield batch
            seen.append((pace.rests, len(pace.said)))

        return restated(fold, each())

    monkeypatch.setattr(base_state, "restated", watched)
    monkeypatch.setattr(log_reader, "READ_EVENTS", 50)
    order = SealOrder(str(data.root), log_end(data), DAY_MS, 4 * DAY_MS, encode_settings(roomy()), NOW_MS)
    done = worker.run(order, pace)
    assert len(seen) > 3
    assert all(now[0] > before[0] and now[1] > before[1] for before, now in pairwise(seen))
    assert pace.said[seen[-1][1] - 1][1:] == (done.begin, done.begin)


def test_what_was_erased_and_merged_is_said_again(tmp_path: Path) -> None:
    """An erasure and a merge before the cut hold under another version after it, also for what still arrives."""
    start = 20_000 * DAY_MS
    rows = [
        Event(Kind.USER, Operation.PUT, "1", user_id="ann", body=b'{"size": "M"}', log_time_ms=start),
        Event(Kind.USER, Operation.PUT, "2", user_id="bob", body=b'{"size": "L"}', log_time_ms=start + 1),
        Event(Kind.USER, Operation.PUT, "3", user_id="guest", body=b'{"hat": true}', log_time_ms=start + 2),
        Event(Kind.USER, Operation.MERGE, "4", user_id="ann", body=b'{"from":"guest"}', log_time_ms=start + 3),
        Event(Kind.ERASE, event_id="5", user_id="bob", log_time_ms=start + 4),
        *(Event(Kind.TICK, event_id=f"t{hour}", log_time_ms=start + hour * HOUR_MS) for hour in range(24, 169)),
    ]
    data = DataFolder(tmp_path)
    log = open_log(data, LOG_ID, 1 << 20)
    for row in rows:
        log.append(build([row]))
    log.close()
    assert ordered(data, roomy(), 1, 2).begin == 5 + 96
    fold = state_of(data, other(roomy()))
    assert fold.users.document(fold.vocabulary.user_index("guest")) == {"size": "M", "hat": True}
    assert fold.vocabulary.user_index("guest") == fold.vocabulary.user_index("ann")
    assert fold.vocabulary.user_index("bob") == -1
    assert fold.vocabulary.erasures.arrays()["user_hash"].tolist() == [hash_of("bob")]


def test_what_came_back_after_a_compaction_is_in_the_base(tmp_path: Path) -> None:
    """An item that a compaction dropped and that came back since begins with the others under another version, wherever
    among the places before the cut its change falls.
    """
    start, count = 20_000 * DAY_MS, 30
    rows = [
        *(
            Event(Kind.ITEM, Operation.PUT, f"p{number}", item_id=f"i{number}", body=b"{}", log_time_ms=start + 100)
            for number in range(count)
        ),
        Event(Kind.ITEM, Operation.PUT, "1", item_id="back", event_time_ms=start, log_time_ms=start + 100),
        Event(Kind.ITEM, Operation.DELETE, "2", item_id="back", event_time_ms=start + 1, log_time_ms=start + 100),
        Event(Kind.ITEM, Operation.PUT, "3", item_id="back", event_time_ms=start + 2, log_time_ms=start + 100),
        *(Event(Kind.TICK, event_id=f"t{hour}", log_time_ms=start + hour * HOUR_MS) for hour in range(24, 169)),
    ]
    data = DataFolder(tmp_path)
    log = open_log(data, LOG_ID, 1 << 20)
    for row in rows:
        log.append(build([row]))
    log.close()
    dropped = Dropped(LogPosition(count + 2), np.array([hash_of("back")], dtype=np.uint64))
    data.compactions.mkdir()
    np.save(data.compactions / f"{dropped.name}.npy", np.array([dropped.before, hash_of("back")], dtype=np.uint64))
    settings = msgspec.structs.replace(roomy(), compaction=dropped.name)
    done = ordered(data, settings, 1, 2)
    assert done.begin > count + 3
    reader = SegmentReader(data.log, RealDisk())
    fold = base_state.beginning(other(settings), dropped, reader)
    assert fold.vocabulary.item_index("back") >= 0
    assert fold.items.available[fold.vocabulary.item_index("back")]
    assert fold.dropped is dropped
