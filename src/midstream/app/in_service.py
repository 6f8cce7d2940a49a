"""Which configuration is in service, kept beside the data: a start can go on with it when the file says another.

``config/<hash>.json`` is an effective configuration with every default; ``config/serving.json`` names the one whose
state has a snapshot. What cannot be read, because it was written by another release or is damaged, counts as not
there: then a start folds the log anew.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from midstream.app.config import Config
from midstream.app.load import read_custom
from midstream.core.errors import SnapshotInvalid
from midstream.engine import compactions
from midstream.engine.folder import DataFolder
from midstream.state.settings import FoldSettings

_SERVING = "serving.json"
SECTIONS_AT_START = ("users", "log", "history", "snapshots", "server", "registry", "monitoring")
"""Read when a folder is opened, and not again."""


class _Serving(msgspec.Struct, frozen=True):
    """The content of the pointer."""

    config_hash: str
    compaction: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """A configuration that was in service, and the settings of its state."""

    config: Config
    settings: FoldSettings


def remember(data: DataFolder, config: Config, settings: FoldSettings) -> None:
    """Write down what is in service: first the configuration, then the pointer, each whole or not at all."""
    folder = data.configurations
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{config.config_hash}.json"
    if not path.exists():
        _write(path, msgspec.json.format(msgspec.json.encode(config, enc_hook=str), indent=1))
    pointer = msgspec.json.encode(_Serving(config.config_hash, settings.compaction))
    if not (folder / _SERVING).exists() or (folder / _SERVING).read_bytes() != pointer:
        _write(folder / _SERVING, pointer)
    for other in folder.glob("*.json"):
        if other.name not in {path.name, _SERVING}:
            other.unlink()


def remembered(data: DataFolder) -> Remembered | None:
    """Return what was in service last; None when that is not known, or not to be read by this release."""
    pointer = _pointer(data)
    if pointer is None:
        return None
    try:
        content = (data.configurations / f"{pointer.config_hash}.json").read_bytes()
        config = msgspec.json.decode(content, type=Config, dec_hook=read_custom)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
    if config.config_hash != pointer.config_hash:
        return None
    return Remembered(config, _compacted(data, config, pointer.compaction))


def settings_of(data: DataFolder, config: Config) -> FoldSettings:
    """Return what decides the state in this folder: what the configuration says, and the compaction in service."""
    pointer = _pointer(data)
    return _compacted(data, config, "" if pointer is None else pointer.compaction)


def differs_at_start(running: Config, wanted: Config) -> tuple[str, ...]:
    """Return the sections of a configuration that differ from what runs and take effect at the next start."""
    return tuple(f"[{name}]" for name in SECTIONS_AT_START if getattr(running, name) != getattr(wanted, name))


def _compacted(data: DataFolder, config: Config, compaction: str) -> FoldSettings:
    """Return the settings with the compaction, or without when it is lost: the slots are then taken again."""
    settings = msgspec.structs.replace(config.fold_settings(), compaction=compaction)
    try:
        compactions.dropped_by(data, settings)
    except SnapshotInvalid:
        return config.fold_settings()
    return settings


def _pointer(data: DataFolder) -> _Serving | None:
    try:
        return msgspec.json.decode((data.configurations / _SERVING).read_bytes(), type=_Serving)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(path: Path, content: bytes) -> None:
    """Replace a file by one that is durable."""
    temporary = path.with_suffix(".writing")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
