"""Schedule of sealing: a child process converts old segments to history, and its report is applied."""

import asyncio
from dataclasses import dataclass

import msgspec

from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.engine.engine import Engine
from midstream.engine.folder import DataFolder
from midstream.engine.history.worker import SealOrder, SealReport
from midstream.engine.log_readers import open_reader
from midstream.events.disk import RealDisk
from midstream.events.history.history import DAY_MS
from midstream.events.segments.segment_scan import history_of, segment_firsts
from midstream.monitoring.facts import Fact
from midstream.state.settings import encode_settings

CHILD = "midstream.engine.history.worker"
RETENTION = "retention"
HELD_MS_MAX = DAY_MS
"""Pauses of less together are nights and week-ends."""
CHILD_S_MAX = 24 * 3_600
"""100 M events at 5,000 a second, a tenth of its rate on an idle machine; a child that takes longer hangs."""
FIRST_MS_MAX = 60_000
"""After a start: a server that is restarted each hour seals too."""


@dataclass(frozen=True, slots=True)
class SealOptions:
    """Ages of sealing and retention, and the interval of checks."""

    hot_ms: int = 2 * 86_400_000
    """Log time that stays in segments."""
    keep_ms: int = 0
    """Log time that stays at all; 0 = all of it."""
    interval_ms: int = 3_600_000


class Sealer:
    """Runs sealings, and reports failures in health."""

    def __init__(self, folder: DataFolder, options: SealOptions, engine: Engine, turn: asyncio.Lock) -> None:
        """Seal the log of ``engine`` in ``folder``; a child is at work while ``turn`` is held."""
        self._folder = folder
        self._options = options
        self._engine = engine
        self._turn = turn
        first_s = min(FIRST_MS_MAX, options.interval_ms) / 1_000
        self._service = engine.supervise("seal", self._look, options.interval_ms / 1_000, first_s=first_s)
        reader = open_reader(folder)
        history = history_of(reader.folder, RealDisk(), reader.identity)
        self._begin = LogPosition(reader.begin)
        self._end = LogPosition(0 if history is None else history.end)
        """Of the history, as far as the log of the process was told."""
        engine.metrics.set_history(self._begin, self._end)

    def start(self) -> None:
        """Begin to seal while serving."""
        self._service.start()

    async def stop(self) -> None:
        """Seal no more; a child that is at work is ended, and the next one begins again."""
        await self._service.stop()

    async def seal(self, *, hurried: bool = False) -> SealReport | None:
        """Seal what is old enough now; return None when the child failed, which is in health.

        Args:
            hurried: The child does not rest: a caller waits for it.
        """
        async with self._turn:
            return await self._seal(hurried=hurried)

    async def _seal(self, *, hurried: bool) -> SealReport | None:
        metrics, monotonic = self._engine.metrics, self._engine.host.monotonic
        began = monotonic()
        ended = await self._child(self._engine.log.end, hurried=hurried)
        metrics.observe_seal(good=bool(ended.line), seconds=monotonic() - began)
        if not ended.line:
            self._engine.concerns["history"] = f"old events were not sealed: {ended.reason}"
            return None
        self._engine.concerns.pop("history", None)
        report = msgspec.json.decode(ended.line, type=SealReport)
        metrics.set_history(report.begin, report.end)
        self._note(report, monotonic() - began)
        self._tell_retention(report)
        if report.nameless:
            text = f"{report.nameless} changes of profiles are in no event that is kept"
            self._engine.concerns["history"] = f"{text}; another fold version begins without them"
        return report

    def _note(self, report: SealReport, seconds: float) -> None:
        """Log the sealed and cut parts."""
        if report.end > self._end:
            events, self._end = report.end - self._end, LogPosition(report.end)
            fields = {"log_position": report.end, "events": events, "seconds": round(seconds, 1)}
            self._engine.facts.note(Fact("history_sealed", fields=fields))
        if report.begin > self._begin:
            events, self._begin = report.begin - self._begin, LogPosition(report.begin)
            self._engine.facts.note(Fact("history_cut", fields={"log_position": report.begin, "events": events}))

    def _tell_retention(self, report: SealReport) -> None:
        """Report events that are kept although they are too old by log time."""
        if report.kept_back:
            self._engine.concerns[RETENTION] = f"nothing is cut off the history: {report.kept_back}"
        elif report.held_ms > HELD_MS_MAX:
            days = report.held_ms / DAY_MS
            self._engine.concerns[RETENTION] = (
                f"the log's time leapt, so events are kept {days:.1f} days longer than asked until it has gone on for "
                "a day. If the clock stands wrong set it right before that; midstream docs data says how"
            )
        else:
            self._engine.concerns.pop(RETENTION, None)

    async def _child(self, position: LogPosition, *, hurried: bool) -> child_process.Ended:
        settings = encode_settings(self._engine.fold.settings)
        options = self._options
        root, now_ms = str(self._folder.root), self._engine.clock()
        order = SealOrder(root, position, options.hot_ms, options.keep_ms, settings, now_ms, hurried=hurried)
        return await child_process.run(CHILD, order, time_s_max=CHILD_S_MAX)

    async def _look(self) -> None:
        if self._may_be_due():
            await self.seal()

    def _may_be_due(self) -> bool:
        """Return whether a child could find something to do: not in a log of one segment, which stays."""
        return len(segment_firsts(self._folder.log, RealDisk())) > 1
