"""A data folder copied as it was at one log position, also while a server writes to it; a folder or a tar.

Nothing is locked. The log is surveyed, and what the survey found is copied: files of history and segments that never
change, the last segment up to where it was sound, the base that it begins with. One of these that is gone when its turn
comes has become history, was cut or was replaced; then all begins again. Everything else is no truth and may go away
while a copy takes hours: the newest snapshots are opened before the first byte is copied and so stay to be read, and
what belongs together beside them (an older snapshot, a version of a model) is opened at once when its turn comes, or
left out. The manifest is written last and has the SHA-256 of each file; the copy gets its name when it is whole.
"""

import io
import os
import shutil
import tarfile
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import IO, Protocol, TypeAlias

import msgspec
import xxhash

from midstream.app.opening import CONFIG_NAME, DATA_NAME
from midstream.core.errors import Fault, Invalid
from midstream.engine.child_process import Notify, nobody
from midstream.engine.folder import DataFolder
from midstream.engine.log_completeness import is_absent, known_end, survey_folder
from midstream.engine.replication.topic_position import read_topic_position
from midstream.engine.snapshots import snapshots
from midstream.engine.snapshots.base_state import base_folder
from midstream.events.disk import RealDisk
from midstream.events.file_modes import make_folder
from midstream.events.history.history import MANIFEST_NAME as HISTORY_NAME
from midstream.events.history.history import history_folder, read_history
from midstream.events.segments.log_identity import IDENTITY_NAME
from midstream.events.segments.segment_scan import Survey, hot_firsts, segment_name
from midstream.events.whole_file import sync_file

FORMAT_VERSION = 1
MANIFEST_NAME = "backup.json"
ATTEMPTS_MAX = 5
"""Sealing and cuts come an hour apart, and segments are sealed two days after they were written: a copy of the log
that takes longer than an hour several times, while history is cut in each, needs another way."""
OPENED_FIRST = 2
"""Snapshots, the newest: those that a server keeps at least. Each has some hundred files, of 1,024 that a process may
have open."""
PIECE_BYTES = 4 << 20
READ_BYTES_MAX = 32 << 20
"""Of a file that is read at once: twice what a file of dead letters holds."""
PAGE = "/docs/data.md"
TAR_SUFFIX = ".tar"
ALIVE = frozenset({"lock", "history.lock", "keys.lock", "server.url"})
"""Of a process that has the folder open."""
WITHOUT_PLACES = (
    "Restored, the node reads its topic again from the beginning. Where retention cut that, join it anew by a "
    "snapshot of another node."
)
_UNFINISHED = (".new", ".part", ".writing")


class BackupFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a backup."""

    bytes: int
    sha256: str


class BackupManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup holds."""

    format_version: int
    midstream: str
    """Version of the program that wrote it."""
    log_id: str
    generation: int
    begin: int
    """Log position of the first event."""
    log_position: int
    """After the last event."""
    log_time_ms: int
    """Of the last event."""
    files: dict[str, BackupFile]
    """By path in the folder, with ``/``."""
    checksum: str = ""
    """xxh3-128 of all the others."""


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What was copied."""

    log_position: int
    files: int
    bytes: int
    attempts: int
    """Times that it was begun, because a file went away."""
    left_out: str = ""
    """What the folder has and the backup does not, because it is damaged, and what follows; empty = nothing."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """A file that is to be copied."""

    name: str
    path: Path
    size: int | None = None
    """Bytes from its beginning; None = all of it."""
    content: bytes | None = None
    """Instead of what the file has by then."""


class _Sink(Protocol):
    """Where a backup is written to."""

    def add(self, name: str, file: IO[bytes], size: int) -> None: ...
    def finish(self) -> None: ...
    def give_up(self) -> None: ...


def back_up(folder: Path, target: Path, notify: Notify = nobody) -> BackedUp:
    """Copy a folder to another that is not there yet, or to a ``.tar``.

    Args:
        folder: Holds ``midstream.toml`` and ``data``; a server may have it open.
        target: Appears under its name when it is whole. It holds the key of the folder, so it is its owner's alone.
        notify: Told how many files were copied, of how many.

    Raises:
        Invalid: The target is there already, there is nothing to copy, or a file went away each time.
        LogDamaged: The log cannot be trusted.
        OSError: The disk.
    """
    target = target.resolve()  # so that it has a name, whichever way it was said
    _require_free(target)
    data = DataFolder(folder / DATA_NAME)
    known_end(data, RealDisk())  # a log that is gone is said to be
    if is_absent(data, RealDisk()):
        raise Invalid((Fault("--folder", f"{folder} has no data.", "A folder that events were recorded in.", PAGE),))
    for attempt in range(1, ATTEMPTS_MAX + 1):
        sink: _Sink = _TarSink(target) if target.suffix == TAR_SUFFIX else _FolderSink(target)
        with ExitStack() as undo:
            undo.callback(sink.give_up)
            try:
                manifest, left_out = _copy(folder, sink, notify)
            except FileNotFoundError:
                continue
            sink.finish()
            undo.pop_all()
            total = sum(entry.bytes for entry in manifest.files.values())
            return BackedUp(manifest.log_position, len(manifest.files), total, attempt, left_out)
    came = f"Files of {folder} went away while they were copied, {ATTEMPTS_MAX} times."
    raise Invalid(
        (
            Fault(
                "TARGET", came, "A disk on which a copy of the log takes less than an hour, or a stopped server.", PAGE
            ),
        )
    )


def _copy(folder: Path, sink: _Sink, notify: Notify) -> tuple[BackupManifest, str]:
    """Return the manifest of what was copied, and what was left out."""
    data = DataFolder(folder / DATA_NAME)
    log = data.log
    survey = survey_folder(data, RealDisk())
    if survey is None:
        raise FileNotFoundError(log)
    if survey.damage is not None:
        raise survey.damage.error(log)
    left_out = _damage_of_places(data.topic_position)
    passed_by = ALIVE | {data.topic_position.name} if left_out else ALIVE
    total = len(_still_there(data.root, "")) + 1
    copier = _Copier(sink, lambda done: notify("copying", min(done, total), total))
    with ExitStack() as opened_first:
        names = [name for name in snapshots.names(data.snapshots) if _is_covered(name, survey)]
        opened = [found for name in names[:OPENED_FIRST] if (found := _opened_all(_snapshot(data, name), opened_first))]
        for each in _plan(log, survey):
            with _opened(each) as file:
                copier.add(each, file)
        for unit in opened:
            copier.add_unit(unit)
    for planned in (*(_snapshot(data, name) for name in names[OPENED_FIRST:]), *_units(folder, data, passed_by)):
        with ExitStack() as stack:
            copier.add_unit(_opened_all(planned, stack) or ())
    return copier.finish(survey), left_out


def _damage_of_places(path: Path) -> str:
    """Return what is said of the places of a shared log that no node starts with; empty = they are whole, or none.

    The log is sound without them, so it is copied, and they are not.
    """
    try:
        read_topic_position(path)
    except Invalid as error:
        return f"{path} is left out: {error.faults[0].came} {WITHOUT_PLACES}"
    return ""


_Unit: TypeAlias = Sequence[tuple["_Planned", IO[bytes]]]
"""Open files that are of use together only."""


class _Copier:
    """Puts files into a backup, one after another, and writes down what they were."""

    def __init__(self, sink: _Sink, notify: Callable[[int], None]) -> None:
        self._sink = sink
        self._notify = notify
        self._files: dict[str, BackupFile] = {}

    def add(self, each: "_Planned", file: IO[bytes]) -> None:
        """Copy a file.

        Raises:
            FileNotFoundError: It is shorter than it was.
        """
        size = _size(file) if each.size is None else each.size
        reader = _Hashed(file, size)
        self._sink.add(each.name, reader, size)  # type: ignore[arg-type]  # it reads, which is all that is asked for
        if reader.left:
            raise FileNotFoundError(each.name)
        self._files[each.name] = BackupFile(size, reader.digest.hexdigest())
        self._notify(len(self._files))

    def add_unit(self, unit: _Unit) -> None:
        """Copy files that are open."""
        for each, file in unit:
            self.add(each, file)

    def finish(self, survey: Survey) -> BackupManifest:
        """Write the manifest; return it."""
        bare = BackupManifest(
            FORMAT_VERSION,
            version("midstream"),
            survey.log_id,
            survey.generation,
            survey.begin,
            survey.end,
            survey.tail.log_time_ms,
            self._files,
        )
        manifest = msgspec.structs.replace(bare, checksum=checksum_of(bare))
        content = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        self._sink.add(MANIFEST_NAME, io.BytesIO(content), len(content))
        return manifest


def checksum_of(manifest: BackupManifest) -> str:
    """Return the checksum that belongs into a manifest."""
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(msgspec.structs.replace(manifest, checksum="")))


def _plan(log: Path, survey: Survey) -> Iterator[_Planned]:
    """Yield what a backup cannot be without: the log and its base."""
    yield from _log(log, survey)
    if survey.begin:
        base = base_folder(log, survey.begin)
        yield from _tree(base, f"{DATA_NAME}/log/{base.relative_to(log).as_posix()}")


def _is_covered(name: str, survey: Survey) -> bool:
    """Return whether the log that is copied has all that a snapshot is made of."""
    return survey.begin <= snapshots.position_of(name) <= survey.end


def _snapshot(data: DataFolder, name: str) -> list[_Planned]:
    """Return the files of a snapshot, none where it is not whole, such as one that is being removed."""
    path = data.snapshots / name
    wanted = snapshots.file_names(path)
    found = _still_there(path, f"{DATA_NAME}/{data.snapshots.name}/{name}")
    return found if frozenset(each.path.name for each in found) == wanted else []


def _units(folder: Path, data: DataFolder, passed_by: Container[str]) -> Iterator[list[_Planned]]:
    """Yield what lies beside the log and the snapshots, as it is by then: what is of use together only, together."""
    in_service = (data.compactions, data.configurations)
    yield [each for path in in_service for each in _still_there(path, f"{DATA_NAME}/{path.name}")]
    for version_folder in sorted(data.models.glob("*/*")):
        yield _still_there(version_folder, f"{DATA_NAME}/{version_folder.relative_to(data.root).as_posix()}")
    for path in sorted(data.root.iterdir()):
        is_log = path.name == "log" or path.name.startswith("log-")
        if not (is_log or path in {data.snapshots, data.models, *in_service} or path.name in passed_by):
            yield from ([_as_it_is(each)] for each in _still_there(path, f"{DATA_NAME}/{path.name}"))
    for path in (folder / CONFIG_NAME, *sorted(folder.glob("*.py"))):
        yield _still_there(path, path.name)


def _still_there(path: Path, name: str) -> list[_Planned]:
    """Return all files below a folder, or a file; none where it goes away meanwhile."""
    try:
        return list(_tree(path, name))
    except FileNotFoundError:
        return []


def _as_it_is(each: _Planned) -> _Planned:
    """Return a file with its content, if it is small: dead letters may be cut short while they are copied."""
    try:
        is_small = each.path.stat().st_size <= READ_BYTES_MAX
        return replace(each, content=each.path.read_bytes()) if is_small else each
    except FileNotFoundError:
        return each


def _opened_all(planned: Sequence[_Planned], stack: ExitStack) -> _Unit | None:
    """Open files that are of use together, until ``stack`` is closed; None where one went away."""
    with ExitStack() as undo:
        try:
            found = [(each, undo.enter_context(_opened(each))) for each in planned]
        except FileNotFoundError:
            return None
        stack.push(undo.pop_all())
    return found


def _log(log: Path, survey: Survey) -> Iterator[_Planned]:
    name = f"{DATA_NAME}/log"
    history = survey.history
    firsts = hot_firsts(log, RealDisk(), history)
    # Sealing removes segments once its manifest says where their events are: the same manifest, all of them are listed.
    content = _history_bytes(log, survey)
    if history is not None:
        place = history_folder(log)
        yield _Planned(f"{name}/{place.name}/{HISTORY_NAME}", place / HISTORY_NAME, content=content)
        for file in history.files:
            yield _Planned(f"{name}/{place.name}/{file.name}", place / file.name, file.bytes)
    for first in firsts:
        path = log / segment_name(first)
        if first <= survey.tail.segment:
            yield _Planned(f"{name}/{path.name}", path, survey.tail.size if first == survey.tail.segment else None)
    yield _Planned(f"{name}/{IDENTITY_NAME}", log / IDENTITY_NAME)


def _history_bytes(log: Path, survey: Survey) -> bytes:
    """Return the manifest that the survey saw, empty when it saw none, or begin again."""
    if read_history(log, RealDisk()) != survey.history:
        raise FileNotFoundError(history_folder(log))
    if survey.history is None:
        return b""
    content = (history_folder(log) / HISTORY_NAME).read_bytes()
    if read_history(log, RealDisk()) != survey.history:
        raise FileNotFoundError(history_folder(log))
    return content


def _tree(path: Path, name: str) -> Iterator[_Planned]:
    """Yield a file, or all files below a folder that are finished."""
    if path.name.endswith(_UNFINISHED) or path.name.startswith("."):
        return
    if path.is_dir():
        for each in sorted(path.iterdir()):
            yield from _tree(each, f"{name}/{each.name}")
    elif path.is_file():
        yield _Planned(name, path)


def _opened(each: _Planned) -> IO[bytes]:
    return each.path.open("rb") if each.content is None else io.BytesIO(each.content)


def _size(file: IO[bytes]) -> int:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def _require_free(target: Path) -> None:
    is_empty_folder = target.is_dir() and target.suffix != TAR_SUFFIX and not any(target.iterdir())
    if target.exists() and not is_empty_folder:
        came = f"{target} is there already."
        raise Invalid((Fault("TARGET", came, "A name that is free; nothing is written over.", PAGE),))


class _Hashed:
    """So many bytes of a file, hashed as they are read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self.left = size
        self.digest = sha256()

    def read(self, size: int = -1) -> bytes:
        found = self._file.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(found)
        self.digest.update(found)
        return found


class _FolderSink:
    """A folder that gets its name at the end."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._part = target.with_name(f".{target.name}.part")
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir(parents=True, mode=0o700)

    def add(self, name: str, file: IO[bytes], size: int) -> None:
        write_file(self._part / name, file)

    def finish(self) -> None:
        sync_tree(self._part)
        if self._target.exists():
            self._target.rmdir()  # an empty one may be there
        self._part.rename(self._target)
        RealDisk().sync_folder(self._target.absolute().parent)

    def give_up(self) -> None:
        shutil.rmtree(self._part, ignore_errors=True)


class _TarSink:
    """A tar that gets its name at the end."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._part = target.with_name(f".{target.name}.part")
        self._file = os.fdopen(os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115  closed below

    def add(self, name: str, file: IO[bytes], size: int) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o600
        try:
            self._tar.addfile(member, file)
        except tarfile.ReadError as error:
            raise FileNotFoundError(name) from error  # it is shorter than it was

    def finish(self) -> None:
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.rename(self._target)
        RealDisk().sync_folder(self._target.absolute().parent)

    def give_up(self) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)


def write_file(path: Path, file: IO[bytes]) -> None:
    """Write all that a file gives to another, readable by its owner alone, in folders that strangers do not see into.

    ``sync_tree`` makes it durable.
    """
    make_folder(path.parent)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
        while piece := file.read(PIECE_BYTES):
            copy.write(piece)


def sync_tree(root: Path) -> None:
    """Make all files and names in and below a folder durable."""
    for folder, _, names in os.walk(root):
        for name in names:
            sync_file(Path(folder, name))
        RealDisk().sync_folder(Path(folder))
