"""The state anew from the log: as a proof that it is what the log says, and as a snapshot to start from."""

from dataclasses import dataclass
from pathlib import Path

from midstream.app.config import Config
from midstream.app.inspection import LogView, state_from_the_beginning, state_of
from midstream.app.running import DATA_NAME
from midstream.core.types import LogPosition
from midstream.engine import snapshots
from midstream.engine.folder import DataFolder
from midstream.events.disk import RealDisk


@dataclass(frozen=True, slots=True)
class Verified:
    """Two ways to one state."""

    log_position: LogPosition
    from_the_beginning: str
    """Digest of the fold over the whole log."""
    from_snapshot: str
    """Digest of the newest good snapshot and the fold over what lies after it."""
    snapshot_position: LogPosition
    """0 = there is no good one, so both ways are the same."""
    refused_snapshots: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Whether both ways lead to the same state, as they should."""
        return self.from_the_beginning == self.from_snapshot


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A snapshot of the whole log."""

    log_position: LogPosition
    digest: str
    removed: tuple[str, ...]
    """Older snapshots that were too many."""


def verify(folder: Path, config: Config) -> Verified:
    """Fold a log in both ways and digest what comes out. Changes nothing; a server may have the folder open.

    Raises:
        LogDamaged: The log cannot be trusted.
    """
    log = LogView(folder)
    view = state_of(folder, config, log)
    digest = view.fold.digest()
    whole = state_from_the_beginning(config, log)
    return Verified(log.end, whole.digest(), digest, view.snapshot_position, view.refused_snapshots)


def rebuild(folder: Path, config: Config) -> Rebuilt:
    """Fold a log from the beginning and write the state as its newest snapshot.

    Raises:
        FolderLocked: Another process has the folder open.
        LogDamaged: The log cannot be trusted.
        OSError: The disk.
    """
    data = DataFolder(folder / DATA_NAME)
    disk = RealDisk()
    disk.make_folder(data.root)
    lock = disk.lock(data.lock)
    try:
        log = LogView(folder)
        fold = state_from_the_beginning(config, log)
        if log.end == 0:
            return Rebuilt(log.end, fold.digest(), ())
        manifest = snapshots.write(data.snapshots, fold, log.identity)
        removed = snapshots.prune(data.snapshots, config.snapshots.keep, log.identity)
    finally:
        disk.close(lock)
    return Rebuilt(log.end, manifest.digest, tuple(removed))
