"""Read-only view of a data folder: beside a running server, without its lock, changing nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from midstream.app.config.schema import Config
from midstream.app.config_history import settings_of
from midstream.app.opening import DATA_NAME, changed, loaded_state, service_of
from midstream.core.errors import LogRewritten, NotFound
from midstream.core.nearest import nearest
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.active_config import Service
from midstream.engine.child_process import Notify, nobody
from midstream.engine.erasure.redaction import Hidden
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches, catch_up
from midstream.engine.log_completeness import survey_folder
from midstream.engine.log_readers import FolderLog, open_reader
from midstream.engine.models.standing_models import StandingModels, standing_models
from midstream.engine.snapshots import compactions
from midstream.engine.snapshots.base_state import beginning, everything
from midstream.engine.types import ANY_PLACEMENT
from midstream.events.disk import RealDisk
from midstream.events.segments.known_end import KnownEnd
from midstream.events.segments.log_identity import LOG_ID_BYTES, LogIdentity, identity_of
from midstream.events.siphash import IdKey, id_key_of
from midstream.ranking.plan import Plan
from midstream.state.fold import Fold
from midstream.state.ids.compacted_items import NOTHING, Dropped
from midstream.state.settings import FoldSettings
from midstream.training.registry import Registry


class LogView:
    """The sound events of a folder's log, as they were when it was made; an empty log where there is none."""

    def __init__(self, folder: Path, end: int | None = None) -> None:
        """Check every byte of the segments, and that each file of history is there. Cost: about 1 s for 2 GB.

        What is read of history is checked when it is read.

        Args:
            folder: Holds ``data``.
            end: Read the log as if it ended at this position, as it did when another process looked; None = all.

        Raises:
            LogIncomplete: It is gone, or ends before ``end`` or what other files of the folder say was durable.
            LogDamaged: Its identity is missing or not as it was written, or there is damage in its middle.
            LogUnreadable: It is of another schema version.
        """
        self._data = data = DataFolder(folder / DATA_NAME)
        self.is_rewritten = False
        """Whether the log was rewritten while this was read, so that not all that was read is of one writing."""
        self.survey = survey_folder(data, RealDisk())
        self.reader: FolderLog | None = None
        """None where there is no log."""
        if self.survey is not None:
            if self.survey.damage is not None:
                raise self.survey.damage.error(data.log)
            self.reader = open_reader(data)
        whole = 0 if self.survey is None else self.survey.end
        self._end = LogPosition(whole if end is None else end)
        KnownEnd(self._end, "a job that reads it").require(data.log, whole)

    @property
    def begin(self) -> LogPosition:
        """Position of the first event that is kept."""
        return LogPosition(0 if self.reader is None else self.reader.begin)

    @property
    def end(self) -> LogPosition:
        """Position after the last event."""
        return self._end

    @property
    def identity(self) -> LogIdentity:
        """Which log, and which writing of its history."""
        return identity_of(bytes(LOG_ID_BYTES), 0) if self.reader is None else self.reader.identity

    @property
    def id_key(self) -> IdKey:
        """Under which its ids are hashed."""
        return id_key_of(self.identity.id_key)

    def read(self, after: LogPosition, limit: int) -> Sequence[tuple[LogPosition, EventBatch]]:
        """Return batches of the events at and after a position, as ``EventLog.read`` does.

        A server may rewrite the log without erased users meanwhile. Then the new one is read on in: it has as many
        events, at the same positions, and less is known of some.
        """
        if self.reader is None:
            return ()
        try:
            return self.reader.read(after, limit, self.end)
        except LogRewritten:
            self.reader = self._rewritten(self.reader.identity)
            self.is_rewritten = True
        return self.reader.read(after, limit, self.end)

    def _rewritten(self, before: LogIdentity) -> FolderLog:
        """Return a reader of the log that took the place of another.

        Raises:
            LogIncomplete: There is none, or it has not all the events.
            LogRewritten: It is another log.
        """
        found = survey_folder(self._data, RealDisk())
        reader = None if found is None else open_reader(self._data)
        if found is None or reader is None or reader.identity.log_id != before.log_id or found.end < self.end:
            message = (
                f"{self._data.log} is another log than the one that was read so far; read again from the beginning"
            )
            raise LogRewritten(message)
        return reader

    def position_at(self, time_ms: int) -> LogPosition:
        """Return the number of events whose log time is before a time: a search of the log, some 30 reads of it."""
        low, high = int(self.begin), int(self.end)
        while low < high:
            middle = (low + high) // 2
            ((_, batch), *_) = self.read(LogPosition(middle), 1)
            if int(batch.rows["log_time_ms"][0]) < time_ms:
                low = middle + 1
            else:
                high = middle
        return LogPosition(low)

    def batches(self) -> Iterator[EventBatch]:
        """Yield all events that are kept, oldest first."""
        return (batch for _, batch in batches(self.read, self.begin, self.end))

    @cached_property
    def acts_taken_back(self) -> NDArray[np.int64]:
        """Log positions of the acts that were taken back, ascending. Cost: that of reading the log."""
        found = set[int]()
        for batch in self.batches():
            found |= compactions.acts_taken_back(batch)
        return np.array(sorted(found), dtype=np.int64)

    def kept_batches(self, after: LogPosition) -> Iterator[tuple[LogPosition, EventBatch]]:
        """Yield the events from a position on, with a tick in the place of each act that was taken back.

        Cost: as that of ``acts_taken_back``, once, beside the reading.
        """
        taken_back = replace(NOTHING, acts=self.acts_taken_back)
        for first, batch in batches(self.read, max(after, self.begin), self.end):
            yield first, taken_back.less_acts(first, batch)

    def pass_by(self, fold: Fold) -> Fold:
        """Return a fold that passes by all acts that were taken back from here on, those that wait for a rebuild too.

        It is none to digest or to write down any more: its settings do not say so.
        """
        fold.vocabulary.dropped = replace(fold.dropped, acts=self.acts_taken_back)
        return fold

    def first_waiting(self, passed_by: Dropped) -> LogPosition:
        """Return the log position of the first act that was taken back and is not passed by; the end = there is none.

        Args:
            passed_by: By the settings of a fold.
        """
        waiting = np.setdiff1d(self.acts_taken_back, passed_by.acts)
        waiting = waiting[waiting >= self.begin]
        return LogPosition(int(waiting[0])) if len(waiting) else self.end

    def hidden(self, config: Config) -> Hidden:
        """Return what says which events are of users who were erased and still named. Cost: see ``Hidden``."""
        reader = self.reader
        return Hidden(
            lambda: () if reader is None else everything(reader, self.end), config.limits.event_ids_max, self.id_key
        )


@dataclass(frozen=True, slots=True)
class StateView:
    """The state that a folder's log gives."""

    fold: Fold
    snapshot_position: LogPosition
    """Where the snapshot stood that it began with; 0 = none."""
    refused_snapshots: tuple[str, ...]


def state_of(folder: Path, config: Config, log: LogView) -> StateView:
    """Return the state at the end of a log: newest good snapshot, then the rest of the log."""
    data = DataFolder(folder / DATA_NAME)
    settings = settings_of(data, config)
    if log.reader is None:
        return StateView(Fold(settings), LogPosition(0), ())
    loaded = loaded_state(data, settings, log.reader, log.end)
    position = loaded.fold.log_position
    catch_up(loaded.fold, log.read, log.end)
    return StateView(loaded.fold, position, loaded.refused)


def served_of(folder: Path, config: Config, log: LogView) -> tuple[Service, Fold]:
    """Return the configuration in service of a folder, with the placements that were set.

    Cost: that of ``state_of``.

    Raises:
        ConfigInvalid: A custom component cannot be loaded.
    """
    service = service_of(folder, config, settings_of(DataFolder(folder / DATA_NAME), config))
    fold = state_of(folder, config, log).fold
    return changed(folder, service, fold.placements.current), fold


@dataclass(frozen=True, slots=True)
class AnsweringView:
    """Plans and models of a folder as a server of it has them in service."""

    service: Service
    fold: Fold
    plans: Mapping[str, Plan]
    """By name, each with its models."""
    standing: StandingModels
    registry: Registry


def answering_of(folder: Path, config: Config, log: LogView, placement: str | None = None) -> AnsweringView:
    """Return the plans and models of a folder.

    Args:
        folder: Of the configuration file and the data.
        config: Of that folder.
        log: Of that folder.
        placement: The only one whose models are read; None = all.

    Raises:
        NotFound: The placement is not configured.
        ConfigInvalid: A custom component cannot be loaded.
    """
    service, fold = served_of(folder, config, log)
    found = {name: each for name, each in service.plans.items() if name != ANY_PLACEMENT}
    if placement is not None:
        if placement not in found:
            message = (
                f"placement {placement!r} is not configured.{nearest(placement, found)} "
                f"There are {', '.join(sorted(found))}"
            )
            raise NotFound(message)
        found = {placement: found[placement]}
    registry = Registry(DataFolder(folder / DATA_NAME).models, config.registry.version_bytes_max)
    names = sorted({name for plan in found.values() for name in plan.model_names})
    standing = standing_models(registry, fold, tuple(found.values()), names)
    plans = {name: plan.serving(standing.models) for name, plan in found.items()}
    return AnsweringView(service, fold, plans, standing, registry)


def state_from_the_beginning(folder: Path, config: Config, log: LogView, notify: Notify = nobody) -> Fold:
    """Return the state at the end of a log, folded from where it begins. Cost: about 2 µs an event.

    A log whose older events are gone begins with the base that stands for them.
    """
    data = DataFolder(folder / DATA_NAME)
    fold = beginning_of(data, settings_of(data, config), log)
    catch_up(fold, log.read, log.end, notify)
    return fold


def beginning_of(data: DataFolder, settings: FoldSettings, log: LogView) -> Fold:
    """Return the fold that stands where a log begins.

    Raises:
        LogDamaged: The base that stands for what is gone is missing or not as it was written.
        SnapshotInvalid: The compaction that the settings name is lost.
    """
    dropped = compactions.dropped_by(data, settings)
    return Fold(settings, dropped) if log.reader is None else beginning(settings, dropped, log.reader)
