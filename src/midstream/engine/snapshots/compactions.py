"""Compactions: the deleted items that give their slots back, one file ``compactions/<name>.npy`` each.

An item is dropped when it is deleted and the last event that names it, before the position of the compaction, deletes
it. Items that an earlier compaction dropped stay dropped unless something named them since.
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
from midstream.events.whole_file import WholeFile
from midstream.state.ids.compacted_items import NOTHING, Dropped
from midstream.state.ids.event_columns import item_hashes
from midstream.state.settings import FoldSettings
from midstream.state.structures.hashing import IdKey

_CANDIDATES = "candidates.npy"
EARLIER_MAX = 16
"""Files of 8 bytes an item, 1.6 MB with as many as there may be: compacted each week, of a quarter of a year."""


def dropped_by(folder: DataFolder, settings: FoldSettings) -> Dropped:
    """Return the items that a fold of these settings passes by.

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
    found = Dropped(LogPosition(int(numbers[0])), numbers[1:]) if len(numbers) else NOTHING
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
    """Return which of the candidates are dropped, and keep that in the folder.

    Args:
        folder: Holds the candidates.
        events: All of the log up to ``before``.
        before: Position of the compaction.
        key: Of ids.
    """
    candidates: NDArray[np.uint64] = np.load(folder.compactions / _CANDIDATES, allow_pickle=False)
    is_dead = np.zeros(len(candidates), dtype=np.bool_)
    for _, batch in events:
        hashes = item_hashes(batch, key)
        place = np.searchsorted(candidates, hashes)
        known = place < len(candidates)
        known[known] = candidates[place[known]] == hashes[known]
        deletes = (batch.rows["kind"] == Kind.ITEM) & (batch.rows["operation"] == Operation.DELETE)
        # Of equal places the last assignment stays: the last event that names an item decides.
        is_dead[place[known]] = deletes[known]
    found = Dropped(before, candidates[is_dead])
    if found.name:
        numbers = np.concatenate((np.array([before], dtype=np.uint64), found.item_hash))
        _write(folder.compactions / f"{found.name}.npy", numbers)
    return found


def prune(folder: DataFolder, names: Iterable[str]) -> None:
    """Remove all compactions but those in use and the last ones before them.

    Requests that were answered under an earlier one are explained under it.
    """
    if not folder.compactions.is_dir():
        return
    found = [path for path in folder.compactions.glob("*.npy") if path.name != _CANDIDATES]
    newest = sorted(found, key=lambda path: (_before(path), path.name))[-EARLIER_MAX:]
    kept = {*(f"{name}.npy" for name in names), *(path.name for path in newest)}
    for path in folder.compactions.iterdir():
        if path.name not in kept:
            path.unlink()


def _before(path: Path) -> int:
    """Return the log position of a compaction, -1 where the file cannot be read."""
    try:
        return int(np.load(path, mmap_mode="r", allow_pickle=False)[0])
    except (OSError, EOFError, ValueError, IndexError):
        return -1


def _write(path: Path, numbers: NDArray[np.uint64]) -> None:
    """Write a file that is whole or not there."""
    make_folder(path.parent)
    with WholeFile(path) as file:
        np.save(file, numbers, allow_pickle=False)
