"""Schedule of snapshots: a child process writes one, and its digest is compared with the live state."""

import asyncio
from dataclasses import dataclass

import msgspec

from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.engine.engine import Engine
from midstream.engine.folder import DataFolder
from midstream.engine.listeners import Concern
from midstream.engine.log_readers import open_reader
from midstream.engine.snapshots import snapshots
from midstream.engine.snapshots.digest_marks import mark_before
from midstream.engine.snapshots.parity_watch import watched
from midstream.engine.snapshots.retention import NONE, Hourly
from midstream.engine.snapshots.worker import SnapshotOrder, SnapshotReport
from midstream.monitoring.facts import HOUR_S, Fact
from midstream.state.settings import FoldSettings, encode_settings

CHILD = "midstream.engine.snapshots.worker"
PARITY = "feature_parity"

FAILED = "snapshot_failed"
OLD = "snapshot_age"
OLD_INTERVALS = 3
"""Missed intervals until a concern: one may have waited for another child; three are a lasting fault."""
COMPARE_BYTES_MAX = 32 * 1024 * 1024
"""A live digest stops serving for about 10 ms per 32 MiB; a larger state is compared at stop only."""
AT_STOP_EVENTS_MIN = 50_000
"""Fewer new events than this fold in 0.1 s at the next start: less than the child takes to begin."""
CHILD_S_MAX = 3_600
"""A fold of 1,000 M events at 300,000 a second; a child that takes longer hangs."""


@dataclass(frozen=True, slots=True)
class SnapshotOptions:
    """Interval of snapshots, and their number."""

    interval_ms: int = 600_000
    keep: int = 2
    mode: str = "while_serving"
    """``while_serving``, ``at_stop`` (saves the memory of a second state), ``off``."""
    hourly: Hourly = NONE
    """Which stay beside those, for explanations."""
    at_marks: bool = False
    """At log positions that are equal on all nodes of a shared log, so that their digests can be compared."""


class Snapshotter:
    """Orders snapshots and compares their digests with the live state's."""

    def __init__(
        self,
        folder: DataFolder,
        options: SnapshotOptions,
        engine: Engine,
        newest: LogPosition,
    ) -> None:
        """Write snapshots of ``engine`` into ``folder``; the newest one is at the position ``newest``."""
        self.mismatch = ""
        """Says which snapshot differed from the live state, empty while none did."""
        self.versions_beside: tuple[str, ...] = ()
        """Fold versions in use beside the one in service: their snapshots stay."""
        self.swaps = asyncio.Lock()
        """Held from beginning to end by whoever is to put another state or another log in service."""
        self.turn = asyncio.Lock()
        """Held by whoever has a child at work on snapshots: each needs the state's memory once more."""
        self._folder = folder
        self._options = options
        self._engine = engine
        self._metrics = engine.metrics
        self._monotonic = engine.host.monotonic
        self._written: LogPosition = newest
        self._written_at = self._current_at = self._monotonic()
        """When the newest was written, and when it last had all that was applied."""
        pause_s = options.interval_ms / 1_000
        self._service = None
        if options.mode == "while_serving":
            self._service = engine.supervise("snapshot", self._write_due, pause_s)

    def start(self) -> None:
        """Begin to write snapshots while serving, if configured."""
        if self._service is not None:
            self._service.start()

    async def stop(self) -> None:
        """Write the last snapshot, compared whatever its size, unless it would hardly shorten the next start."""
        if self._service is not None:
            await self._service.stop()
        if self._options.mode != "off" and self._engine.fold.log_position - self._written >= AT_STOP_EVENTS_MIN:
            await self.write(compare=True, hurried=True)

    def begin_from(self, position: LogPosition) -> None:
        """Take a snapshot of another state that is in service now as the newest."""
        self._written = position
        self._written_at = self._current_at = self._monotonic()

    async def write(
        self, *, compare: bool, hurried: bool = False, at: LogPosition | None = None
    ) -> SnapshotReport | None:
        """Write one snapshot; return None when there is nothing new or the child failed.

        Args:
            compare: Digest the live state, which takes its bytes at about 3 GB/s on the owner's thread.
            hurried: The child does not hold back: a stop waits for it.
            at: Of the state at an earlier log position, which cannot be compared; None = as it is now.
        """
        async with self.turn:
            return await self._write(compare=compare and at is None, hurried=hurried, at=at)

    async def _write(self, *, compare: bool, hurried: bool, at: LogPosition | None) -> SnapshotReport | None:
        fold = self._engine.fold
        position: LogPosition = fold.log_position if at is None else at
        if position == self._written:
            self._current_at = self._monotonic()
            return None
        expected = fold.digest() if compare else None
        began = self._monotonic()
        ended = await self._child(position, fold.settings, hurried=hurried)
        seconds = self._monotonic() - began
        self._metrics.observe_snapshot(good=bool(ended.line), seconds=seconds)
        if not ended.line:
            self._engine.concerns[FAILED] = f"no snapshot was written: {ended.reason}"
            return None
        self._engine.concerns.pop(FAILED, None)
        report = msgspec.json.decode(ended.line, type=SnapshotReport)
        self._tell_parity(report)
        if expected is not None and expected != report.digest:
            self.mismatch = f"the snapshot at {position} has digest {report.digest}, the live state {expected}"
            self._engine.concerns["snapshot"] = f"{self.mismatch}; it was set aside"
            self._metrics.snapshot_mismatches.inc()
            snapshots.set_aside(self._folder.snapshots, position, fold.settings.version())
            return report
        fields = {"log_position": position, "folded": report.folded, "seconds": round(seconds, 1)}
        self._engine.facts.note(Fact("snapshot_written", fields=fields, every_s=HOUR_S))
        if fold is self._engine.fold:  # else another state took its place meanwhile
            self.begin_from(position)
            await self._engine.listeners.tell_snapshot()
        return report

    def _tell_parity(self, report: SnapshotReport) -> None:
        """Count the compared served values; a different one is a concern until none differs."""
        self._metrics.count_parity(report.values_compared, report.values_unequal)
        if report.values_unequal:
            self._engine.concerns[PARITY] = (
                f"{report.values_unequal} of {report.values_compared} served feature values are not those of the log: "
                f"{report.unequal}"
            )
        elif report.unequal:
            self._engine.concerns[PARITY] = report.unequal
        elif report.values_compared:
            self._engine.concerns.pop(PARITY, None)

    def set_gauges(self) -> None:
        """Set age and log position of the newest snapshot, and by how much the next one is late."""
        self._metrics.set_snapshot(self._monotonic() - self._written_at, self._written)
        self._metrics.snapshot_overdue.set(max(0.0, self._waits_s - self._options.interval_ms / 1_000))

    @property
    def _waits_s(self) -> float:
        """For how long events may wait for a snapshot; 0 = none waits, or none is written while serving."""
        is_waiting = self._service is not None and self._engine.fold.log_position > self._written
        return self._monotonic() - self._current_at if is_waiting else 0.0

    def age_concern(self) -> Concern:
        """Return the concern of a newest snapshot that is too old."""
        waits_s = self._waits_s
        if waits_s > OLD_INTERVALS * self._options.interval_ms / 1_000:
            count = self._engine.fold.log_position - self._written
            return Concern(OLD, f"no snapshot for {waits_s:.0f} s: a start would fold {count:,} events")
        return Concern(OLD, "")

    async def _write_due(self) -> None:
        if self._options.at_marks:
            await self._write_mark()
            return
        used = sum(size.bytes_now for size in self._engine.fold.sizes().values())
        await self.write(compare=used <= COMPARE_BYTES_MAX)

    async def _write_mark(self) -> None:
        """Write the snapshot of the newest mark, unless it is there."""
        end = self._engine.fold.log_position
        mark = await asyncio.to_thread(self._newest_mark, end)
        if mark is None:
            self._current_at = self._monotonic()
        else:
            await self.write(compare=False, at=mark)

    def _newest_mark(self, end: LogPosition) -> LogPosition | None:
        reader = open_reader(self._folder)
        begin = max(self._written, reader.begin)
        return mark_before(reader, begin, end, self._options.interval_ms) if begin < end else None

    async def _child(self, position: LogPosition, settings: FoldSettings, *, hurried: bool) -> child_process.Ended:
        """Run the child to its end."""
        order = SnapshotOrder(
            str(self._folder.root),
            position,
            encode_settings(settings),
            self._options.keep,
            self.versions_beside,
            hourly=self._options.hourly,
            watched=watched(self._engine.plans),
            hurried=hurried,
        )
        return await child_process.run(CHILD, order, time_s_max=CHILD_S_MAX)
