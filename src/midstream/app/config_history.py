"""History of configurations beside the data: for a start with the last one, and for reruns of logged requests.

``config/<hash>.json`` is a configuration with every default (format: ``config_parts``); ``config/serving.json`` names
the file's whose state has a snapshot. A file that cannot be read, because another release wrote it or it is damaged,
counts as missing: then a start folds the log anew.

Served records have the hash of the effective configuration, the file's with the placements that were set through the
API. It is written before its first answer, and stays until the log begins behind the last record that may name it. At
most ``KEPT_MAX`` are kept beside the one in service; then those that went out of service first are removed.
"""

from dataclasses import dataclass

import msgspec

from midstream.app.config.parts import config_hashes, read_config_of, remove_configs, write_config
from midstream.app.config.schema import Config
from midstream.core.errors import LogDamaged, NotFound, SnapshotInvalid
from midstream.core.types import LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.snapshots import compactions
from midstream.events.disk import RealDisk
from midstream.events.segments.log_identity import read_identity
from midstream.events.whole_file import write_whole
from midstream.state.settings import FoldSettings

_SERVING = "serving.json"
KEPT_MAX = 1_000
"""Three changes a day for a year; 3 MB of lists of 50 placements, and their changes."""
LATE_EVENTS_MAX = 100_000
"""As many events may wait for the log: an answer that was begun under a configuration is recorded before them."""
SECTIONS_AT_START = (
    "users",
    "log",
    "history",
    "snapshots",
    "server",
    "identity",
    "registry",
    "monitoring",
    "probe",
    "tracing",
    "inputs",
    "outputs",
    "sinks",
    "encoders",
)
"""Read when a folder is opened, and not again."""


class _Serving(msgspec.Struct, frozen=True):
    """The content of the pointer."""

    config_hash: str
    compaction: str
    left: dict[str, int] = {}
    """Hashes that are in service no more, and the log position from which on no record names them."""


@dataclass(frozen=True, slots=True)
class Span:
    """What is kept of a log."""

    begin: LogPosition
    end: LogPosition


@dataclass(frozen=True, slots=True)
class Remembered:
    """A configuration that was in service, and the settings of its state."""

    config: Config
    settings: FoldSettings


def keep_config(data: DataFolder, config: Config) -> None:
    """Write down a configuration, whole or not at all: before anything is answered under it.

    Raises:
        OSError: The disk.
    """
    write_config(data.configurations, config)


def remember(
    data: DataFolder, config: Config, settings: FoldSettings, span: Span, effective: Config | None = None
) -> None:
    """Write the configuration in service: first the configurations, then the pointer, each whole or not at all.

    Args:
        data: The folder.
        config: The file's.
        settings: Of the state, of which there is a snapshot.
        span: Of the log: configurations that none of its records can name are removed.
        effective: The one in service; None = the file's as it is.

    Raises:
        OSError: The disk.
    """
    folder = data.configurations
    in_use = (config,) if effective is None else (config, effective)
    for each in in_use:
        keep_config(data, each)
    before = _pointer(data)
    known = config_hashes(folder)
    left = {} if before is None else {name: at for name, at in before.left.items() if name in known}
    for name in known - left.keys():
        left[name] = span.end + LATE_EVENTS_MAX
    for each in in_use:
        left.pop(each.config_hash, None)
    newest = sorted(left, key=lambda name: (left[name], name))[-KEPT_MAX:]
    kept = {name: left[name] for name in newest if left[name] > span.begin}
    pointer = msgspec.json.encode(_Serving(config.config_hash, settings.compaction, kept), order="deterministic")
    if before is None or (folder / _SERVING).read_bytes() != pointer:
        write_whole(folder / _SERVING, pointer)
    remove_configs(folder, left.keys() - kept.keys())


def is_remembered(data: DataFolder) -> bool:
    """Return whether a configuration was in service before, also if it cannot be read any more."""
    return (data.configurations / _SERVING).exists()


def remembered(data: DataFolder) -> Remembered | None:
    """Return the last configuration in service; None when it is not known, or unreadable for this release."""
    pointer = _pointer(data)
    if pointer is None:
        return None
    config = read_config_of(data.configurations, pointer.config_hash)
    return None if config is None else Remembered(config, _compacted(data, config, pointer.compaction))


def config_named(data: DataFolder, config_hash: str) -> Config:
    """Return the effective configuration that a served record names.

    Raises:
        NotFound: It is not kept any more, or cannot be read by this release.
    """
    config = read_config_of(data.configurations, config_hash) if config_hash.isalnum() else None
    if config is None:
        message = f"the configuration {config_hash} is not kept any more, or was written by another release"
        raise NotFound(message)
    return config


def settings_of(data: DataFolder, config: Config) -> FoldSettings:
    """Return the settings of the state in this folder: configuration, key of the log and compaction in service."""
    pointer = _pointer(data)
    return _compacted(data, config, "" if pointer is None else pointer.compaction)


def differs_at_start(running: Config, wanted: Config) -> tuple[str, ...]:
    """Return the changed sections of a configuration that take effect at the next start."""
    return tuple(f"[{name}]" for name in SECTIONS_AT_START if getattr(running, name) != getattr(wanted, name))


def keyed(data: DataFolder, settings: FoldSettings) -> FoldSettings:
    """Return settings under the key of the folder's log; of one that has none yet as they are."""
    try:
        identity = read_identity(data.log, RealDisk()) if data.log.is_dir() else None
    except LogDamaged:  # whoever opens the log says so; until it is repaired nothing can be read under any key
        return settings
    return settings if identity is None else msgspec.structs.replace(settings, id_key=identity.id_key)


def _compacted(data: DataFolder, config: Config, compaction: str) -> FoldSettings:
    """Return the settings with the compaction, or without when it is lost: the slots are then taken again."""
    plain = keyed(data, config.fold_settings())
    settings = msgspec.structs.replace(plain, compaction=compaction)
    try:
        compactions.dropped_by(data, settings)
    except SnapshotInvalid:
        return plain
    return settings


def _pointer(data: DataFolder) -> _Serving | None:
    try:
        return msgspec.json.decode((data.configurations / _SERVING).read_bytes(), type=_Serving)
    except (OSError, msgspec.MsgspecError):
        return None
