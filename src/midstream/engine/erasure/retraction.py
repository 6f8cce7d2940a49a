"""Retraction of an import run: the log is rewritten without the rows of one run.

Each row of the run becomes a tick at its position and log time, so all others keep theirs. Where nothing but ticks and
accounts of imports follows the run, the new log ends before it instead, and goes on from there: a history that was
imported wrongly can be imported again as into a log that never had it. The account of the run stays, as taken back.

An erasure that the file brought stands, as nothing makes an erased user known again, and so does a merge of an id that
was erased since: it is what carries the erasure to the other id. All else that it brought goes, placements and rules
too.

What came later stays: served records, outcomes, acts on items that only the run named. A fold of the new log has of
each item and user what the other events say, so a value that a patch of the run replaced is there again.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, LogPosition, Mask
from midstream.engine.child_process import Pace
from midstream.engine.erasure.log_copy import LogCopy, append_days, open_new
from midstream.engine.erasure.log_rewrite import new_log
from midstream.engine.erasure.redaction import ErasedIds
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.engine.log_readers import FolderLog, open_reader
from midstream.engine.snapshots.base_state import base_folder
from midstream.events.disk import Disk
from midstream.events.schema import Event, build, concat, event_at, pick
from midstream.events.segments.log_identity import LogIdentity, identity_of, write_identity
from midstream.events.segments.segment_scan import make_first_segment
from midstream.state.control.import_runs import ImportRun, encode_import_run, import_run_of


@dataclass(frozen=True, slots=True)
class Retracted:
    """A new log without the rows of a run."""

    identity: LogIdentity
    removed: int
    """Rows that are gone."""
    erasures: int
    """Rows of the run that stand, as they erase users, or merge an id into one that was erased since."""
    end: LogPosition
    """Where the new log ends."""


@dataclass(slots=True, eq=False)
class Retraction:
    """One run that is taken back."""

    data: DataFolder
    disk: Disk
    run: ImportRun
    """With all spans; its parts in the log are found by its name."""
    erased: ErasedIds
    """In the old log."""
    undone_ms: int
    removed: int = 0
    """Rows that became ticks so far."""
    erasures: int = 0
    """Erasures of the run that stand, so far."""

    def make(self, upto: LogPosition, segment_bytes: int, pace: Pace) -> Retracted:
        """Write the new log beside the old one, in the folder that a rewrite has; it counts for nothing yet.

        Args:
            upto: End of the old log.
            segment_bytes: Of a segment of the new one, about.
            pace: How fast to go.

        Raises:
            LogDamaged: The old log cannot be trusted.
            OSError: The disk.
        """
        target = new_log(self.data)
        shutil.rmtree(target, ignore_errors=True)
        old = open_reader(self.data, self.disk)
        stop, kept = self._cut(old, upto)
        self.disk.make_folder(target)
        identity = identity_of(old.identity.id_bytes, old.identity.generation + 1)
        write_identity(target, self.disk, identity)
        copy = LogCopy(old, target, self.disk, self.without, pace)
        history = copy.history(stop)
        make_first_segment(target, self.disk, 0 if history is None else history.end)
        if old.begin:
            # The run lies behind it, so the base says what it said.
            shutil.copytree(base_folder(old.folder, old.begin), base_folder(target, old.begin))
        with open_new(target, self.disk, segment_bytes) as log:
            copy.append(log, stop)
            if kept:
                accounts = build([each._replace(log_time_ms=log.last_log_time_ms) for each in kept])
                append_days(log, accounts)
            return Retracted(identity, self.removed, self.erasures, log.end)

    def without(self, first: LogPosition, batch: EventBatch) -> EventBatch:
        """Return a batch without the rows of the run; the same object when none is in it."""
        is_own = self.owned(first, batch)
        self.removed += int(np.count_nonzero(is_own))
        kind = batch.rows["kind"]
        stands = self._in_spans(first, batch) & ~is_own & ((kind == Kind.ERASE) | (kind == Kind.USER))
        self.erasures += int(np.count_nonzero(stands))
        return self._marked(_ticked(batch, is_own))

    def owned(self, first: LogPosition, batch: EventBatch) -> Mask:
        """Return which events of a batch the file brought and are to go, (n,).

        Among them lie ticks and accounts of this log, which the recording added, and erasures with their merges, which
        stand.
        """
        found = self._in_spans(first, batch)
        kind = batch.rows["kind"]
        found &= (kind != Kind.TICK) & (kind != Kind.ERASE)
        for place in np.flatnonzero(found & (kind == Kind.CONTROL)).tolist():
            told = import_run_of(event_at(batch, place).body)
            found[place] = told is None or told.log != self.run.log
        is_merge = (kind == Kind.USER) & (batch.rows["operation"] == Operation.MERGE)
        for place in np.flatnonzero(found & is_merge).tolist():
            found[place] = self.erased.next_erase(event_at(batch, place).user_id, first + place) is None
        return found

    def _in_spans(self, first: LogPosition, batch: EventBatch) -> Mask:
        """Return which events of a batch lie in the spans of the run, (n,)."""
        found = np.zeros(len(batch), dtype=np.bool_)
        for begin, end in self.run.spans:
            found[max(0, begin - first) : max(0, end - first)] = True
        return found

    def _marked(self, batch: EventBatch) -> EventBatch:
        """Return a batch in which each account of the run says that it was taken back."""
        changed: list[Event] = []
        order = np.arange(len(batch))
        for place in np.flatnonzero(batch.rows["kind"] == Kind.CONTROL).tolist():
            event = event_at(batch, place)
            told = import_run_of(event.body)
            if told is not None and told.run == self.run.run and told.log == self.run.log:
                order[place] = len(batch) + len(changed)
                changed.append(event._replace(body=self._account(told)))
        return pick(concat((batch, build(changed))), order) if changed else batch

    def _account(self, told: ImportRun) -> bytes:
        return encode_import_run(msgspec.structs.replace(told, spans=(), undone_ms=self.undone_ms))

    def _cut(self, old: FolderLog, upto: LogPosition) -> tuple[LogPosition, Sequence[Event]]:
        """Return where the new log ends, and the accounts that stand behind that.

        It ends with the old one where an event of others or an erasure of the run lies behind that, or where it would
        have to end at a base.
        """
        begin = LogPosition(min(first for first, _ in self.run.spans))
        if begin == old.begin > 0:
            return upto, ()
        accounts: list[Event] = []
        removed = 0
        for first, batch in batches(lambda after, limit: old.read(after, limit, upto), begin, upto):
            is_own = self.owned(first, batch)
            removed += int(np.count_nonzero(is_own))
            for place in np.flatnonzero(~is_own & (batch.rows["kind"] != Kind.TICK)).tolist():
                event = event_at(batch, place)
                told = import_run_of(event.body) if event.kind == Kind.CONTROL else None
                if told is None or (told.run != self.run.run and any(end > begin for _, end in told.spans)):
                    return upto, ()
                accounts.append(event._replace(body=self._account(told)) if told.run == self.run.run else event)
        self.removed = removed
        return begin, accounts


def _ticked(batch: EventBatch, is_own: Mask) -> EventBatch:
    """Return a batch in which some events are ticks; the same object when none is."""
    if not is_own.any():
        return batch
    rows = batch.rows.copy()
    times = rows["log_time_ms"][is_own]
    tick = build((Event(Kind.TICK),)).rows[0]
    starts = rows["text_start"][is_own]
    rows[is_own] = tick
    rows["log_time_ms"][is_own] = times
    rows["text_start"][is_own] = starts
    return pick(EventBatch(rows, batch.text), np.arange(len(rows)))
