"""Compactions: what a state passes by, one file ``compactions/<name>.npy`` each.

An item is dropped, and gives its slot back, when it is deleted and the last event that names it, before the position of
the compaction, deletes it. Items that an earlier compaction dropped stay dropped unless something named them since.

An act is passed by when an event before the position of a rebuild takes it back. Of what drops items too the acts alone
have a file of their own: the past before the compaction is folded by that.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import SnapshotInvalid
from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.folder import DataFolder
from midstream.events.file_modes import make_folder
from midstream.events.schema import text_column
from midstream.events.whole_file import WholeFile
from midstream.state.control.retractions import RetractedAct, retracted_act
from midstream.state.ids.compacted_items import NOTHING, Dropped
from midstream.state.ids.event_columns import item_hashes
from midstream.state.settings import FoldSettings
from midstream.state.structures.hashing import IdKey

_CANDIDATES = "candidates.npy"
_WITH_ACTS = 2**64 - 1
"""First number of a file that names acts too; no log position is so high."""
_POSITIONS_END = 2**63
_HEAD = 3
"""Numbers before the items in such a file."""
EARLIER_MAX = 16
"""Files of 8 bytes an item, 1.6 MB with as many as there may be: compacted each week, of a quarter of a year."""


def dropped_by(folder: DataFolder, settings: FoldSettings) -> Dropped:
    """Return what a fold of these settings passes by.

    Raises:
        SnapshotInvalid: The file is missing or not as it was written: no state of these settings can be made.
    """
    if not settings.compaction:
        return NOTHING
    try:
        numbers = np.load(folder.compactions / f"{settings.compaction}.npy", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        message = f"compactions/{settings.compaction}.npy cannot be read: {error}"
        raise SnapshotInvalid(message) from error
    found = _decoded(numbers)
    if found.name != settings.compaction:
        message = f"compactions/{settings.compaction}.npy is not as it was written"
        raise SnapshotInvalid(message)
    return found


def write_candidates(folder: DataFolder, deleted: NDArray[np.uint64], dropped: Dropped) -> None:
    """Write the items that may be dropped: those deleted now, and those dropped by the compaction in service.

    Args:
        folder: Of compactions.
        deleted: Hashes of the ids of deleted items, in any order. The log decides whether they stay deleted.
        dropped: Of the state in which they are deleted.
    """
    _write(folder.compactions / _CANDIDATES, np.union1d(deleted, dropped.item_hash))


def choose(
    folder: DataFolder, events: Iterable[tuple[LogPosition, EventBatch]], before: LogPosition, key: IdKey
) -> Dropped:
    """Return which of the candidates are dropped, with the acts that were taken back, and keep that in the folder.

    Args:
        folder: Holds the candidates.
        events: All of the log up to ``before``.
        before: Position of the compaction.
        key: Of ids.
    """
    candidates: NDArray[np.uint64] = np.load(folder.compactions / _CANDIDATES, allow_pickle=False)
    is_dead = np.zeros(len(candidates), dtype=np.bool_)
    acts = set[int]()
    for _, batch in events:
        acts |= acts_taken_back(batch)
        hashes = item_hashes(batch, key)
        place = np.searchsorted(candidates, hashes)
        known = place < len(candidates)
        known[known] = candidates[place[known]] == hashes[known]
        deletes = (batch.rows["kind"] == Kind.ITEM) & (batch.rows["operation"] == Operation.DELETE)
        # Of equal places the last assignment stays: the last event that names an item decides.
        is_dead[place[known]] = deletes[known]
    return _kept(folder, Dropped(before, candidates[is_dead], _ascending(acts)))


def take_back(folder: DataFolder, events: Iterable[tuple[LogPosition, EventBatch]], dropped: Dropped) -> Dropped:
    """Return what is passed by when acts that were taken back are too, and keep that in the folder.

    Args:
        folder: Of compactions.
        events: All of the log up to a position.
        dropped: Items that are passed by.
    """
    acts = set[int]()
    for _, batch in events:
        acts |= acts_taken_back(batch)
    return _kept(folder, Dropped(dropped.before, dropped.item_hash, _ascending(acts)))


def acts_taken_back(batch: EventBatch) -> set[int]:
    """Return the log positions of the acts that events of a batch take back."""
    return {act.log_position for act in retracted_acts(batch)}


def retracted_acts(batch: EventBatch) -> list[RetractedAct]:
    """Return what the retractions of a batch say, in order; those of a user who was erased name the position alone."""
    places = np.flatnonzero(batch.rows["kind"] == Kind.RETRACTION)
    told = (retracted_act(body) for body in text_column(batch, "body", places))
    return [act for act in told if act is not None and 0 <= act.log_position < _POSITIONS_END]


def of_acts(dropped: Dropped) -> Dropped:
    """Return what passes the same acts by, and no item."""
    return Dropped(LogPosition(0), NOTHING.item_hash, dropped.acts) if len(dropped.acts) else NOTHING


def prune(folder: DataFolder, names: Iterable[str]) -> None:
    """Remove all compactions but those in use and the last ones before them.

    Requests that were answered under an earlier one are explained under it.
    """
    if not folder.compactions.is_dir():
        return
    found = [path for path in folder.compactions.glob("*.npy") if path.name != _CANDIDATES]
    newest = sorted(found, key=lambda path: (_before(path), path.name))[-EARLIER_MAX:]
    in_use = {*names, *(path.stem for path in newest)}
    kept = {f"{each}.npy" for each in (*in_use, *(_of_acts(folder, name) for name in in_use))}
    for path in folder.compactions.iterdir():
        if path.name not in kept:
            path.unlink()


def _before(path: Path) -> int:
    """Return the log position up to which a compaction looked, about; -1 where the file cannot be read."""
    try:
        found = _decoded(np.load(path, allow_pickle=False))
    except (OSError, EOFError, ValueError, IndexError):
        return -1
    return max(int(found.before), int(found.acts[-1]) if len(found.acts) else -1)


def _of_acts(folder: DataFolder, name: str) -> str:
    """Return the name of what passes the acts of a compaction by alone; that of the compaction where it has none."""
    try:
        found = _decoded(np.load(folder.compactions / f"{name}.npy", allow_pickle=False))
    except (OSError, EOFError, ValueError, IndexError):
        return name
    return of_acts(found).name or name


def _kept(folder: DataFolder, found: Dropped) -> Dropped:
    """Write down what is passed by, and the acts of it; return it."""
    for each in (found, of_acts(found)):
        if each.name:
            _write(folder.compactions / f"{each.name}.npy", _encoded(each))
    return found


def _ascending(acts: set[int]) -> NDArray[np.int64]:
    return np.array(sorted(acts), dtype=np.int64)


def _encoded(dropped: Dropped) -> NDArray[np.uint64]:
    """Return the numbers of a file: the position and the items; before them, where there are acts, how many items."""
    items = np.concatenate((np.array([dropped.before], dtype=np.uint64), dropped.item_hash))
    if not len(dropped.acts):
        return items
    head = np.array([_WITH_ACTS, len(dropped.item_hash)], dtype=np.uint64)
    return np.concatenate((head, items, dropped.acts.astype(np.uint64)))


def _decoded(numbers: NDArray[np.uint64]) -> Dropped:
    """Return what ``_encoded`` wrote; something of another name where it is something else."""
    if not len(numbers):
        return NOTHING
    if int(numbers[0]) != _WITH_ACTS:
        return Dropped(LogPosition(int(numbers[0])), numbers[1:])
    if len(numbers) < _HEAD:
        return NOTHING
    end = _HEAD + int(numbers[1])
    return Dropped(LogPosition(int(numbers[2])), numbers[_HEAD:end], numbers[end:].astype(np.int64))


def _write(path: Path, numbers: NDArray[np.uint64]) -> None:
    """Write a file that is whole or not there."""
    make_folder(path.parent)
    with WholeFile(path) as file:
        np.save(file, numbers, allow_pickle=False)
