"""Restore of a backup into an empty folder: every byte is compared before a file gets its name."""

import shutil
import tarfile
import tomllib
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from secrets import randbelow
from typing import IO, Protocol, cast

import msgspec

from midstream.app.opening import CONFIG_NAME, DATA_NAME
from midstream.app.operate.backup import (
    ALIVE,
    FORMAT_VERSION,
    MANIFEST_NAME,
    PAGE,
    WITHOUT_PLACES,
    BackupFile,
    BackupManifest,
    checksum_of,
    sync_tree,
    write_file,
)
from midstream.core.errors import Fault, Invalid
from midstream.core.types import LogPosition
from midstream.engine.child_process import Notify, nobody
from midstream.engine.folder import DataFolder
from midstream.engine.log_readers import open_reader
from midstream.engine.replication.topic_position import read_topic_position
from midstream.engine.snapshots import snapshots
from midstream.events.disk import RealDisk
from midstream.events.segments.log_identity import identity_of, write_identity
from midstream.events.segments.log_repair import survey_log

_WORK = ".restoring"
GENERATIONS_MAX = 1 << 16
"""A generation has 32 bits: 65,536 restores in a row, and two of one backup are told apart by all but one in 65,536."""
_SHOWN_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back."""

    log_position: int
    files: int
    bytes: int
    lacks: str = ""
    """What the backup left out, and what follows; empty = nothing."""


class _Source(Protocol):
    def open(self, name: str) -> IO[bytes]: ...


def restore(source: Path, folder: Path, notify: Notify = nobody) -> Restored:
    """Put a backup into a folder that is empty or not there.

    What a restore left behind that was killed counts as nothing and is replaced.

    Args:
        source: What ``back_up`` wrote.
        folder: Left as it was when this fails, at most empty where there was none.
        notify: Told how many files were put back, of how many.

    Raises:
        Invalid: The folder is not empty, or the backup is not one, or not as it was written.
        LogDamaged: What was put back is no sound log.
        OSError: The disk.
    """
    RealDisk().make_folder(folder.absolute().parent)
    work = folder / _WORK
    with _opened(source) as found:
        manifest = _manifest(found, source)
        _make_empty(folder, manifest)
        work.mkdir(parents=True)
        try:
            for number, name in enumerate(sorted(manifest.files), start=1):
                _put(found, manifest, name, work)
                notify("restoring", number, len(manifest.files))
            _require_sound(work, manifest, source)
            lacks = _lacking_places(work)
            _begin_generation(work)
            sync_tree(work)
            RealDisk().sync_folder(folder.absolute().parent)
            _name(work, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    total = sum(entry.bytes for entry in manifest.files.values())
    return Restored(manifest.log_position, len(manifest.files), total, lacks)


def _make_empty(folder: Path, manifest: BackupManifest) -> None:
    """Remove what a restore left behind that was killed, and nothing else.

    Raises:
        Invalid: There is something else.
    """
    work = folder / _WORK
    others = [path for path in folder.iterdir() if path != work] if folder.exists() else []
    # Data is named last: as long as it is here, what has its name is of the backup and can be had again.
    if others and not ((work / DATA_NAME).is_dir() and all(_is_as_in(manifest, path) for path in others)):
        raise Invalid((Fault("FOLDER", f"{folder} is not empty.", "An empty folder, or one that is not there.", PAGE),))
    for path in others:
        path.unlink()
    shutil.rmtree(work, ignore_errors=True)


def _is_as_in(manifest: BackupManifest, path: Path) -> bool:
    """Return whether a file is one that lies at the top of a backup, byte for byte."""
    entry = manifest.files.get(path.name)
    return entry is not None and path.is_file() and _entry_of(path) == entry


def _name(work: Path, folder: Path) -> None:
    """Give all that was put back its name; where that fails, nothing has one."""
    with ExitStack() as undo:
        for path in sorted(work.iterdir(), key=lambda path: path.name == DATA_NAME):  # data last: then it is a shop
            path.rename(folder / path.name)
            undo.callback((folder / path.name).rename, path)
        RealDisk().sync_folder(folder)
        undo.pop_all()


def _put(source: _Source, manifest: BackupManifest, name: str, work: Path) -> None:
    """Copy one file and compare what was written."""
    _require_own(name)
    path = PurePosixPath(name)
    try:
        with source.open(name) as file:
            write_file(work / path, file)
    except (KeyError, FileNotFoundError) as error:
        raise _not_whole(f"{name} is missing.") from error
    if _entry_of(work / path) != manifest.files[name]:
        raise _not_whole(f"{name} does not match its SHA-256.")


def _require_own(name: str) -> None:
    """Refuse what no backup has: paths that lead elsewhere, and files that are made while a server runs.

    Raises:
        Invalid: It is such a name.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise _not_whole(f"The manifest names {name!r}, outside of the folder.")
    first, *below = path.parts or ("",)
    is_ours = below and below[0] not in ALIVE if first == DATA_NAME else name == CONFIG_NAME or path.suffix == ".py"
    if str(path) != name or not name.isprintable() or not is_ours or (below and first != DATA_NAME):
        raise _not_whole(f"The manifest names {name[:_SHOWN_CHARACTERS]!r}, which no backup has.")


def _entry_of(path: Path) -> BackupFile:
    with path.open("rb") as file:
        digest = file_digest(file, "sha256")
        return BackupFile(file.tell(), digest.hexdigest())


def _require_sound(work: Path, manifest: BackupManifest, source: Path) -> None:
    data = DataFolder(work / DATA_NAME)
    log = data.log
    survey = survey_log(log, RealDisk(), thorough=True)
    if survey.damage is not None:
        raise survey.damage.error(log)
    if survey.end != manifest.log_position:
        raise _not_whole(f"The log of {source} ends at {survey.end}, not at {manifest.log_position}.")
    _require_places(data.topic_position, survey.end)


def _require_places(path: Path, end: int) -> None:
    """Refuse a copy of a shared log from which no node could read on in its topic.

    Raises:
        Invalid: The file of its places is not as it was written, or has later ones than the log alone.
    """
    name = f"{DATA_NAME}/{path.name}"
    try:
        known = read_topic_position(path)
    except Invalid as error:
        raise _not_whole(f"{name}: {error.faults[0].came}") from error
    if known is not None and known.joined_at(LogPosition(end)) is None:
        raise _not_whole(f"{name}: the log ends at {end}, before every place of {known.topic} that is known.")


def _lacking_places(work: Path) -> str:
    """Return what is said of a copy of a shared log whose places were damaged when it was backed up."""
    path = DataFolder(work / DATA_NAME).topic_position
    if path.exists() or not _has_shared_log(work / CONFIG_NAME):
        return ""
    return f"{DATA_NAME}/{path.name} is not in the backup. {WITHOUT_PLACES}"


def _has_shared_log(config: Path) -> bool:
    """Return whether a configuration names a shared log; one that cannot be read is told of when a server starts."""
    try:
        told: object = tomllib.loads(config.read_text("utf-8")).get("log")
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(told, dict) and cast("dict[str, object]", told).get("kind") == "kafka"


def _begin_generation(work: Path) -> None:
    """Let no log position that was given out after the backup be taken for one of what is recorded from here on.

    Nobody knows how often the log was rewritten or restored since, so the generation goes up by as much as chance says.
    The snapshots are of the same events, and go along; the log keeps its id.
    """
    data = DataFolder(work / DATA_NAME)
    before = open_reader(data).identity
    identity = identity_of(before.id_bytes, before.generation + 1 + randbelow(GENERATIONS_MAX))
    write_identity(data.log, RealDisk(), identity)
    snapshots.carry_over(data.snapshots, before, identity)


def _manifest(source: _Source, path: Path) -> BackupManifest:
    try:
        with source.open(MANIFEST_NAME) as file:
            manifest = msgspec.json.decode(file.read(), type=BackupManifest)
    except (KeyError, FileNotFoundError, msgspec.MsgspecError, ValueError) as error:
        raise _not_whole(f"{path} has no {MANIFEST_NAME} that can be read: {error}") from error
    if manifest.checksum != checksum_of(manifest):
        raise _not_whole(f"{MANIFEST_NAME} does not match its checksum.")
    if manifest.format_version != FORMAT_VERSION:
        raise _not_whole(f"It has format {manifest.format_version}, this release reads {FORMAT_VERSION}.")
    return manifest


def _not_whole(came: str) -> Invalid:
    right = "A folder or .tar that `midstream backup` wrote, every byte as it was."
    return Invalid((Fault("SOURCE", came, right, PAGE),))


@contextmanager
def _opened(source: Path) -> Generator[_Source]:
    """Open a backup, whichever of the two it is."""
    if source.is_dir():
        yield _FolderSource(source)
        return
    try:
        tar = tarfile.open(source, "r:")  # noqa: SIM115  closed below
    except (tarfile.TarError, FileNotFoundError) as error:
        raise _not_whole(f"{source} cannot be read: {error}") from error
    with tar:
        try:
            tar.getnames()  # looks at every header, so that a tar that was cut short is found before anything is made
        except tarfile.TarError as error:
            raise _not_whole(f"{source} cannot be read: {error}") from error
        yield _TarSource(tar)


@dataclass(frozen=True, slots=True)
class _FolderSource:
    folder: Path

    def open(self, name: str) -> IO[bytes]:
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():  # a link elsewhere, a pipe
            raise FileNotFoundError(name)
        return path.open("rb")


@dataclass(frozen=True, slots=True)
class _TarSource:
    tar: tarfile.TarFile

    def open(self, name: str) -> IO[bytes]:
        member = self.tar.getmember(name)
        found = self.tar.extractfile(member) if member.isreg() and not member.issparse() else None
        if found is None:
            raise KeyError(name)
        return found
