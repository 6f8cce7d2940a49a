"""Popularity and co-visitation of a whole history, folded shard by shard by the tables of the state.

**Popularity** is the table of items as it is live: counts in windows and heat of each item, to the bit, as all events
of an item are in one shard and in the order of the log; but where acts of several items have one event id, live only
the first of them counts, and here one of each item. **Co-visitation** has the sums of all pairs, where the live
table keeps the heaviest neighbours of each item: no row is ever full. Sums of several shards are added in another order
than live, so they differ in the last bits.

Neither reaches a maximum that the whole state reaches: what that counts as evicted or refused there is here. Both leave
out acts that were taken back, as a rebuild of the state does.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.app.config.schema import Config
from midstream.app.config_history import settings_of
from midstream.app.opening import DATA_NAME
from midstream.app.spark.event_shards import ShardEvents, unpack
from midstream.core.durations import format_duration
from midstream.core.fold_step import FoldStep
from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.types import Index, LogPosition
from midstream.engine.folder import DataFolder
from midstream.events.loose_arrow import Batch, Schema, pa
from midstream.events.schema import Event, build
from midstream.state.control.retractions import Retractions
from midstream.state.ids.aliases import Aliases
from midstream.state.ids.compacted_items import NOTHING
from midstream.state.ids.erased_users import Erasures
from midstream.state.ids.event_ids import EventIds
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.pairs.covisitation import AFTER_WEIGHTS, BEFORE_WEIGHTS
from midstream.state.sessions.sessions import Sessions
from midstream.state.settings import FoldSettings
from midstream.state.steps import parts, steps
from midstream.state.structures.decay import decay_weight, decay_weights, landmark_at
from midstream.state.structures.windows import WINDOWS_MS
from midstream.state.tables import TABLES, TablesAbove

if TYPE_CHECKING:
    from midstream.core.protocols import StateTable

PAIR_SCHEMA: Schema = pa.schema(
    [("item_id", pa.string()), ("neighbour_id", pa.string()), ("weight", pa.float64()), ("pairs", pa.int64())]
)
"""A part of the weight of a pair, and how many pairs it is of; of both directions."""
PAIRS_HELD_MAX = 4_000_000
"""Pairs that are held before they are summed up: 100 MB."""
_ROWS_OUT = 65_536
_IDENTITY = (EventIds, Vocabulary, Aliases, Erasures, Retractions, Sessions)
"""Tables that say which events count, of which item and of which session."""


@dataclass(frozen=True, slots=True)
class ShardJob:
    """What a task folds a shard by."""

    folder: str
    """Holds ``data``."""
    config: Config
    log_time_ms: int
    """Of the log's last event: as of that moment tables are read."""

    def settings(self) -> FoldSettings:
        """Return the settings of the fold, with the key of the log's ids; items that a compaction dropped are there."""
        found = settings_of(DataFolder(Path(self.folder) / DATA_NAME), self.config)
        return msgspec.structs.replace(found, compaction="")


class ShardFold:
    """Tables of the state over the events of one shard."""

    def __init__(self, settings: FoldSettings, kinds: tuple[type, ...] = _IDENTITY) -> None:
        """Reserve the tables of some types, which may read no others."""
        above = TablesAbove(settings, NOTHING)
        self._above = above
        self._by_part: list[StateTable] = []
        for entry in TABLES:
            table = above.add(entry) if len(above.tables) < len(kinds) else None
            if table is not None and entry.by_part:
                self._by_part.append(table)
        if tuple(above.tables) != kinds:
            message = f"tables {', '.join(each.__name__ for each in kinds)} are not the first ones of the state"
            raise ValueError(message)
        self._before = [table for table in above.tables.values() if table not in self._by_part]
        self._position = LogPosition(0)
        self.vocabulary = above.table(Vocabulary)

    @property
    def items(self) -> Items:
        """The table of items."""
        return self._above.table(Items)

    def apply(self, shard: ShardEvents) -> Iterator[FoldStep]:
        """Fold the next events of the shard; yield each step when all tables have it.

        An act that was taken back is passed by, as a rebuild does it.
        """
        self.vocabulary.dropped = replace(NOTHING, acts=self._position + shard.taken_back)
        batch = shard.events
        for step in steps(self._position, batch):
            for table in self._before:
                table.apply(step)
            for part in parts(step):
                for table in self._by_part:
                    table.apply(part)
            yield step
        self._position = LogPosition(self._position + len(batch))


def popularity_schema(settings: FoldSettings) -> Schema:
    """Return the columns of popularity: of each item its heat by half-life, and its counts by action and window."""
    fields = [("item_id", pa.string()), ("available", pa.bool_())]
    fields += [(f"heat_{each}", pa.float64()) for each in settings.half_lives]
    fields += [(f"{action}_{format_duration(window)}", pa.int64()) for action, window in _counted(settings)]
    return pa.schema(fields)


def _counted(settings: FoldSettings) -> list[tuple[str, int]]:
    return [(action, window) for action in (*settings.action_names(), IMPRESSION) for window in WINDOWS_MS]


def popularity_of(job: ShardJob, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the items of the shards of one task, sorted by shard and position; runs in tasks."""

    def folded(events: Iterator[ShardEvents]) -> Iterator[Batch]:
        settings = job.settings()
        fold = ShardFold(settings, (*_IDENTITY, Items))
        tick = ShardEvents(build((Event(Kind.TICK, log_time_ms=job.log_time_ms),)), NOTHING.acts)
        for each in chain(events, (tick,)):
            for _ in fold.apply(each):
                pass
        yield from _item_rows(fold, settings, job.log_time_ms)

    return _by_shard(batches, folded)


def _item_rows(fold: ShardFold, settings: FoldSettings, now_ms: int) -> Iterator[Batch]:
    schema, items = popularity_schema(settings), fold.items
    known = np.array([at for at in range(items.count) if items.exists(at)], dtype=np.int32)
    for start in range(0, len(known), _ROWS_OUT):
        index = known[start : start + _ROWS_OUT]
        columns = [pa.array(fold.vocabulary.item_ids(index), pa.string()), pa.array(items.available[index])]
        columns += [pa.array(items.heat(each.ms, index)) for each in settings.half_lives]
        columns += [
            pa.array(items.window_count(action, window, now_ms, index).astype(np.int64))
            for action, window in _counted(settings)
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def pairs_of(job: ShardJob, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield parts of the weights of pairs from the shards of one task, sorted by shard and position; runs in tasks."""

    def folded(events: Iterator[ShardEvents]) -> Iterator[Batch]:
        settings = job.settings()
        fold, sums = ShardFold(settings), _PairSums(settings.pair_half_life.ms, job.log_time_ms)
        for each in events:
            for step in fold.apply(each):
                sums.add(step)
            if sums.held >= PAIRS_HELD_MAX:
                yield from sums.taken(fold.vocabulary)
        yield from sums.taken(fold.vocabulary)

    return _by_shard(batches, folded)


class _PairSums:
    """Weights of pairs, summed up when there are many."""

    def __init__(self, half_life_ms: int, now_ms: int) -> None:
        self._half_life_ms = half_life_ms
        self._landmark_ms = int(landmark_at(now_ms, half_life_ms))
        self._factor = float(decay_weight(self._landmark_ms, now_ms, half_life_ms))
        self._keys: list[NDArray[np.int64]] = []
        self._weights: list[NDArray[np.float64]] = []
        self.held = 0

    def add(self, step: FoldStep) -> None:
        """Take the pairs that the acts of a step make with the last items of their sessions."""
        item, before = step.events.item_index, step.sessions.before
        makes = (before[:, 0] >= 0) & ~(before == item[:, np.newaxis]).any(axis=1)
        event, place = np.nonzero((before >= 0) & makes[:, np.newaxis])
        if not len(event):
            return
        own, other = item[event].astype(np.int64), before[event, place].astype(np.int64)
        decay = decay_weights(step.events.event_time_ms[event], self._landmark_ms, self._half_life_ms)
        self._hold(other << 32 | own, decay * AFTER_WEIGHTS[place])
        self._hold(own << 32 | other, decay * BEFORE_WEIGHTS[place])

    def _hold(self, keys: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
        self._keys.append(keys)
        self._weights.append(weights)
        self.held += len(keys)

    def taken(self, vocabulary: Vocabulary) -> Iterator[Batch]:
        """Yield the sums, and hold none any more."""
        if not self.held:
            return
        keys, group, count = np.unique(np.concatenate(self._keys), return_inverse=True, return_counts=True)
        weights = np.zeros(len(keys))
        np.add.at(weights, group, np.concatenate(self._weights))  # one after another, in the order of the log
        self._keys, self._weights, self.held = [], [], 0
        for start in range(0, len(keys), _ROWS_OUT):
            own = slice(start, start + _ROWS_OUT)
            columns = [
                _ids(vocabulary, (keys[own] >> 32).astype(np.int32)),
                _ids(vocabulary, (keys[own] & 0xFFFFFFFF).astype(np.int32)),
                pa.array(weights[own] * self._factor),
                pa.array(count[own].astype(np.int64)),
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=PAIR_SCHEMA)


def _ids(vocabulary: Vocabulary, index: Index) -> object:
    """Return the ids of items as a column; each is looked up once."""
    distinct, group = np.unique(index, return_inverse=True)
    return pa.array(vocabulary.item_ids(distinct), pa.string()).take(pa.array(group))


def _by_shard(batches: Iterable[Batch], folded: Callable[[Iterator[ShardEvents]], Iterator[Batch]]) -> Iterator[Batch]:
    """Yield what a function makes of the events of each shard, which come one shard after another."""
    rows = (row for batch in batches for row in zip(*_columns(batch), strict=True))
    held = next(rows, None)

    def one(number: int) -> Iterator[ShardEvents]:
        nonlocal held
        while held is not None and held[0] == number:
            events = unpack(held[1])
            held = next(rows, None)
            yield events

    while held is not None:
        number = held[0]
        shard = one(number)
        yield from folded(shard)
        for _ in shard:
            pass


def _columns(batch: Batch) -> tuple[list[int], list[bytes]]:
    return batch.column("shard").to_pylist(), batch.column("events").to_pylist()


def job_of(folder: Path, config: Config, log_time_ms: int) -> ShardJob:
    """Return what tasks fold shards by."""
    return ShardJob(str(folder.absolute()), msgspec.structs.replace(config), log_time_ms)
