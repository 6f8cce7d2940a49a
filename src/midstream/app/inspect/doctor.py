"""Diagnosis and repair of a data folder that does not start."""

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from midstream.app.config.schema import Config
from midstream.app.config_history import settings_of
from midstream.app.opening import DATA_NAME
from midstream.core.errors import FolderLocked, LogDamaged, LogIncomplete, LogUnreadable, SnapshotInvalid
from midstream.engine.folder import DataFolder, lock_history
from midstream.engine.history.history_repair import HistoryRepaired, repair_history
from midstream.engine.log_completeness import LossAccepted, accept_loss, is_absent, survey_folder
from midstream.engine.snapshots import snapshots
from midstream.engine.snapshots.base_state import base_flaw, base_folder
from midstream.events.disk import Disk, RealDisk
from midstream.events.segments.log_repair import Repaired, known_identity, repair_held, survey_log
from midstream.events.segments.segment_scan import Survey

DISK_FREE_MIN = 1 << 30
"""1 GiB: sixteen segments."""
DISK_FREE_SHARE = 10
"""Of a disk with less than ten times that, a tenth: a small one is not wrong for being small."""
_LIBRARIES = ("midstream", "numpy", "numba", "pyarrow", "msgspec", "uvicorn", "fastapi")


@dataclass(frozen=True, slots=True)
class Examined:
    """Facts by name, and those that prevent a start."""

    facts: dict[str, object]
    problems: tuple[str, ...]


def examine(folder: Path, config: Config) -> Examined:
    """Look at everything, change nothing. Cost: reads all of the log and all snapshots."""
    data = DataFolder(folder / DATA_NAME)
    problems: list[str] = []
    facts: dict[str, object] = {
        "folder": "midstream.toml and data" if data.root.exists() else "no data yet",
        "lock": _lock(data),
        "log": _log(data, problems),
        "snapshots": _snapshots(data, config, problems),
        "key": _key(data, problems),
        "disk": _disk(folder, problems),
        "cpu": f"{os.cpu_count()} cores, {platform.machine()}, {_processor()}",
        "versions": _versions(),
        "config_hash": config.config_hash,
        "fold_version": settings_of(data, config).version(),
    }
    return Examined(facts, tuple(problems))


@dataclass(frozen=True, slots=True)
class FolderRepaired:
    """Result of a repair."""

    history: HistoryRepaired | None
    """None = nothing was wrong with it."""
    log: Repaired | None
    """None = there is none."""
    loss: LossAccepted | None
    """Missing events that other files prove durable; None = none."""
    set_aside: tuple[str, ...]
    """Snapshots of what is gone, by the name that they have now."""


def repair_folder(folder: Path, config: Config) -> FolderRepaired:
    """Repair history, then cut a damaged log to its last good position and keep the rest in files beside it.

    Where events are gone that other files vouch for, the log goes on without them, in a new generation.

    Raises:
        FolderLocked: A process has the folder open.
        LogUnreadable: It is of another schema version.
    """
    data, disk = DataFolder(folder / DATA_NAME), RealDisk()
    lock = disk.lock(data.lock, data.root)
    try:
        return _repaired(data, disk, config)
    finally:
        disk.close(lock)


def _repaired(data: DataFolder, disk: Disk, config: Config) -> FolderRepaired:
    if is_absent(data, disk):
        return FolderRepaired(None, None, accept_loss(data, disk, os.urandom), _set_aside(data, disk))
    history_lock = lock_history(data, disk)
    try:
        known_identity(data.log, disk)  # before anything asks for the key that follows from it
        history = repair_history(data, settings_of(data, config))
        log = repair_held(data.log, disk)
        return FolderRepaired(history, log, accept_loss(data, disk, os.urandom), _set_aside(data, disk))
    finally:
        disk.close(history_lock)


def _set_aside(data: DataFolder, disk: Disk) -> tuple[str, ...]:
    """Keep the snapshots of what is gone from the next start, which removes those of another generation."""
    if is_absent(data, disk):
        return ()
    found = survey_log(data.log, disk)
    return tuple(snapshots.set_aside_lost(data.snapshots, found.log_id, found.end))


def _lock(data: DataFolder) -> str:
    if not data.root.is_dir():
        return "free"
    disk = RealDisk()
    try:
        disk.close(disk.lock(data.lock, data.root))
    except FolderLocked as error:
        return str(error).partition(" is ")[2]
    return "free"


def _log(data: DataFolder, problems: list[str]) -> str:
    try:
        found = survey_folder(data, RealDisk(), thorough=True)
    except LogIncomplete as error:
        problems.append(str(error))
        return "not all there"
    except (LogDamaged, LogUnreadable) as error:
        problems.append(str(error))
        return "cannot be read"
    if found is None:
        return "none yet"
    if found.damage is not None:
        problems.append(str(found.damage.error(data.log)))
    torn = f", torn tail of {found.torn.dropped_bytes} bytes (dropped at the next start)" if found.torn else ""
    health = "damaged" if found.damage else "sound"
    size = f"{found.sound_bytes} bytes in {found.segment_count} segments"
    kept = f", {found.end} events" if not found.begin else f", events {found.begin} to {found.end}"
    return f"{health}{kept}, {size}{_history(data, found, problems)}, generation {found.generation}{torn}"


def _history(data: DataFolder, found: Survey, problems: list[str]) -> str:
    """Say what history there is; what is wrong with its files was said by the survey."""
    if found.history is None:
        return ""
    if found.begin and (flaw := base_flaw(base_folder(data.log, found.begin), found.log_id)):
        problems.append(flaw)
    files = found.history.files
    return f" and {sum(file.bytes for file in files)} bytes in {len(files)} files of history"


def _snapshots(data: DataFolder, config: Config, problems: list[str]) -> list[str]:
    wanted = settings_of(data, config).version()
    found: list[str] = []
    for name in snapshots.names(data.snapshots):
        try:
            manifest, _ = snapshots.read(data.snapshots / name)
        except SnapshotInvalid as error:
            problems.append(f"snapshot {name}: {error}; the next start passes it by")
            found.append(f"{name}: bad")
            continue
        fit = "good" if manifest.fold_version == wanted else f"of fold version {manifest.fold_version}, so not used now"
        found.append(f"at log position {manifest.log_position}: {fit}")
    return found


def _key(data: DataFolder, problems: list[str]) -> str:
    flaw = data.key_flaw()
    if flaw is not None:
        problems.append(str(flaw))
        return "bad"
    return "good" if (data.root / "key").exists() else "none yet"


def _disk(folder: Path, problems: list[str]) -> str:
    usage = shutil.disk_usage(folder if folder.exists() else folder.absolute().parent)
    wanted = min(DISK_FREE_MIN, usage.total // DISK_FREE_SHARE)
    if usage.free < wanted:
        problems.append(
            f"only {usage.free >> 20} MiB are free on the disk, {wanted >> 20} or more would be right: where there is "
            "no room events are refused (507) and no snapshot is written; nothing that was acknowledged is lost"
        )
    return f"{usage.free >> 20} MiB free of {usage.total >> 20} MiB"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or "unknown"
    lines = info.read_text("utf-8", "replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _versions() -> str:
    parts = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in _LIBRARIES)]
    return ", ".join(parts)
