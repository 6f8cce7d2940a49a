"""Artifact: a model version as a folder with a manifest and one file for each of its arrays.

A version's name is a number and the first 12 hex digits of the SHA-256 of its manifest; the manifest has length and
SHA-256 of every other file. So no bit can change unnoticed: neither in a file, nor in the manifest, nor in the name.

Arrays are ``.npy`` files, as in a snapshot: any NumPy reads them, and each has aligned memory of its own. They are
read, not memory-mapped: the verified bytes are then those in service, whatever happens to the disk, while a mapped file
that is truncated ends the process at the next access.
"""

import fcntl
import io
import math
import mmap
import os
import re
import shutil
import tokenize
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid
from midstream.core.types import Calibration
from midstream.events.file_modes import FOLDER, make_folder, open_file
from midstream.events.processes.thread_pace import Rest, no_rest
from midstream.models.model import Arrays

SCHEMA_VERSION = 2
"""Raised by whoever changes what a manifest or a file means."""
MANIFEST = "manifest.json"
MANIFEST_BYTES_MAX = 1 << 20
"""1,000 files at 200 bytes, 1,000 inputs at 130 and as much again for options and metrics."""
FILES_MAX = 1_000
ARRAYS = "arrays"
"""Runner of a version that needs no library to answer."""
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
"""Pattern of a model's name."""
VERSION = re.compile(r"([0-9]{4,9})-[0-9a-f]{12}\Z")
NUMBER_MAX = 999_999_999
"""Of a version: what ``VERSION`` has digits for."""
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}\Z")
TEMPORARY = ".writing-"
"""Begins the name of a folder that is no version yet, or none any more; the number of its process ends it."""
_PIECE_BYTES = 1 << 20
"""What is read, written or hashed between two rests: half a millisecond of a core."""
_HEADER_BYTES_MAX = 1 << 17
_DTYPES = frozenset("biufUS")
_HASH_DIGITS = 12
_NO_HEADER = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    SyntaxError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)
"""What NumPy raises of text that is no header: it reads it as a Python literal."""
_WRITERS_MAX = 100
"""Of one process in one folder, those that were interrupted among them."""


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Training data of a model: a range of the log, or data from elsewhere."""

    log_name: str = ""
    """``LogIdentity.public_name`` of the log, as others may be given a version; empty = data from elsewhere."""
    generation: int = 0
    """Of the log: its writing."""
    first: int = 0
    """Log position before the first event that was used."""
    end: int = 0
    """Log position behind the last one."""
    known_end: int = 0
    """Log position from which on the version knows no event: ``end``, or a later one of its parent."""
    begin_ms: int = 0
    """Log time of the first event."""
    end_ms: int = 0
    """Log time of the last one."""
    counts: dict[str, int] = {}
    """Sizes: ``events``, ``users``, ``items``, ``rows``."""


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Metadata of a new version."""

    name: str
    """Of the model, as ``NAME``."""
    kind: str
    """Of ``models.kinds``, or ``models.loading.READ`` and ``READ_ROWS``."""
    runner: str = ARRAYS
    """What computes the answers, the same wherever the version is loaded: ``arrays``, our own kernels over its arrays,
    or ``onnxruntime``, the library over its graph."""
    inputs: tuple[str, ...] = ()
    """Features that a row model reads, in order."""
    vocabulary_hash: str = ""
    """``content_hash`` of an item model's vocabulary."""
    options: dict[str, object] = {}
    """Those of the fit, as JSON; the seed among them."""
    window: Window = Window()
    parent: str = ""
    """The version that the fit went on from; empty = it began anew."""
    config_hash: str = ""
    """Of the configuration under which it was fitted."""
    code_version: str = ""
    """Release of the program that fitted it."""
    made_ms: int = 0
    """Time of the fit, by its clock."""
    metrics: dict[str, float | None] = {}
    """Metrics on data outside of the training; None = undefined."""
    calibration: Calibration | None = None
    """Of a row model, fitted on rows that it was judged by; None = it has none."""


class ArtifactFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file."""

    bytes: int
    sha256: str


class Manifest(Draft, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of ``manifest.json``."""

    schema_version: int
    number: int
    """Of the version: higher than that of every version that was there when it was written."""
    files: dict[str, ArtifactFile]
    """By name, all but the manifest."""

    @property
    def bytes(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(each.bytes for each in self.files.values())


class _Schema(msgspec.Struct):
    """What is read first of a manifest of whatever release."""

    schema_version: int


@dataclass(frozen=True, slots=True, eq=False)
class ArtifactContent:
    """Fitted content, as it is written and read."""

    arrays: Arrays
    """By name, such as ``item.factors``; the vocabulary's and golden ones among them."""
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Files of a library, by name, such as ``trees.txt`` or ``network.onnx``."""


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """One version, every byte of which was verified."""

    version: str
    manifest: Manifest
    arrays: Mapping[str, NDArray[np.generic]]
    files: Mapping[str, bytes]

    @property
    def bytes(self) -> int:
        """Bytes of all files but the manifest."""
        return self.manifest.bytes


def write_artifact(folder: Path, draft: Draft, content: ArtifactContent) -> str:
    """Write a model as a new version; it is there whole or not at all, and durable when this returns.

    Args:
        folder: Of the versions of this model; made if it is not there.
        draft: What is said of it.
        content: Must be finite where its kind says so: ``models.loading`` refuses it otherwise, when it is read.

    Returns:
        The version, such as ``0007-3fa9c2d41b22``: also the name of its folder.

    Raises:
        ArtifactInvalid: A name that cannot be used, an array of objects, more files than may be, or no number is left.
        OSError: The disk; what was begun is removed.
    """
    _require_writable(draft, content)
    make_folder(folder)
    next_number(folder)
    temporary = _temporary(folder)
    try:
        files = _write_files(temporary, content)
        fields = {name: getattr(draft, name) for name in Draft.__struct_fields__}
        with locked(folder):  # a number is taken when its folder has a name: nobody else may be between the two
            number = next_number(folder)
            manifest = Manifest(**fields, schema_version=SCHEMA_VERSION, number=number, files=files)
            text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
            _write(temporary / MANIFEST, (text,))
            sync_folder(temporary)
            version = f"{number:04d}-{sha256(text).hexdigest()[:_HASH_DIGITS]}"
            temporary.rename(folder / version)
        sync_folder(folder)
    except (OSError, ArtifactInvalid):
        shutil.rmtree(temporary, ignore_errors=True)  # on a full disk the log needs the room
        raise
    return version


def next_number(folder: Path) -> int:
    """Return the number of the next version of a model.

    Raises:
        ArtifactInvalid: There is none left.
    """
    there = versions(folder)
    number = 1 + (int(there[-1].partition("-")[0]) if there else 0)
    if number > NUMBER_MAX:
        message = f"{there[-1]} of {folder.name} has the last number there is: no version can follow; remove its folder"
        raise ArtifactInvalid(message)
    return number


@contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Keep others from giving a version of this model its name; waits for at most the writing of a manifest.

    Raises:
        OSError: The folder is not there.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # and so for a process that ends


def versions(folder: Path) -> list[str]:
    """Return the versions of one model that lie in a folder, the oldest number first; none when there is no folder."""
    if not folder.is_dir():
        return []
    found = [each.name for each in folder.iterdir() if VERSION.match(each.name)]
    return sorted(found, key=lambda name: (int(name.partition("-")[0]), name))


def leftovers(folder: Path) -> list[Path]:
    """Return what interrupted writers left beside the versions of a model."""
    return sorted(folder.glob(f"{TEMPORARY}*"))


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a version, verified by the folder's name; no other file is looked at.

    Raises:
        ArtifactInvalid: It is missing, damaged, of another schema or another version.
    """
    named = VERSION.match(folder.name)
    if named is None:
        message = f"{folder.name!r} is no version: 0007-3fa9c2d41b22 looks like one"
        raise ArtifactInvalid(message)
    text = bytes(_read(folder / MANIFEST, None))
    if sha256(text).hexdigest()[:_HASH_DIGITS] != folder.name.partition("-")[2]:
        message = f"{folder.name}: the manifest is not the one that the version is named after"
        raise ArtifactInvalid(message)
    try:
        schema = msgspec.json.decode(text, type=_Schema).schema_version
        if schema != SCHEMA_VERSION:
            message = f"{folder.name}: it has schema {schema}, this release reads {SCHEMA_VERSION}"
            raise ArtifactInvalid(message)
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        message = f"{folder.name}: the manifest cannot be read: {error}"
        raise ArtifactInvalid(message) from error
    if manifest.number != int(named[1]):
        message = f"{folder.name}: the manifest is of version number {manifest.number}"
        raise ArtifactInvalid(message)
    wrong = [name for name, each in manifest.files.items() if not _is_file_name(name) or each.bytes < 0]
    if wrong or len(manifest.files) > FILES_MAX:
        said = f"{wrong[0][:100]!r} is no file" if wrong else f"{len(manifest.files)} files are more than {FILES_MAX}"
        message = f"{folder.name}: {said} of a model"
        raise ArtifactInvalid(message)
    return manifest


def read_artifact(folder: Path, rest: Rest = no_rest) -> Artifact:
    """Return a version of which every byte was verified.

    Cost: its bytes once from disk and once through SHA-256, in pieces between which other threads go on.

    Args:
        folder: Of the version; its name is the version.
        rest: Called after each piece.

    Raises:
        ArtifactInvalid: Whatever is not as it was written: a file that is missing, superfluous, cut short, damaged or
            of another schema.
    """
    manifest = read_manifest(folder)
    try:
        there = {each.name for each in folder.iterdir()} - {MANIFEST}
    except OSError as error:
        message = f"{folder.name}: it cannot be read: {error}"
        raise ArtifactInvalid(message) from error
    if there != manifest.files.keys():
        message = f"{folder.name}: its files are not those of the manifest: {sorted(there ^ manifest.files.keys())[:3]}"
        raise ArtifactInvalid(message)
    arrays: dict[str, NDArray[np.generic]] = {}
    files: dict[str, bytes] = {}
    for name, told in manifest.files.items():
        content = _read(folder / name, told.bytes, rest)
        if _digest(content, rest) != told.sha256:
            message = f"{folder.name}: {name} does not match its SHA-256"
            raise ArtifactInvalid(message)
        if name.endswith(".npy"):
            arrays[name.removesuffix(".npy")] = _parse(name, content)
        else:
            files[name] = content.tobytes()
    return Artifact(folder.name, manifest, arrays, files)


def _require_writable(draft: Draft, content: ArtifactContent) -> None:
    if not NAME.match(draft.name):
        message = f"a model cannot be called {draft.name!r}: small letters, digits and _, up to 64, a letter first"
        raise ArtifactInvalid(message)
    for name, array in content.arrays.items():
        if not _FILE.match(name) or array.dtype.kind not in _DTYPES:
            message = f"{name!r} is no name of an array, or {array.dtype} no type that is written"
            raise ArtifactInvalid(message)
    for name in content.files:
        if not _FILE.match(name) or name.endswith(".npy") or name == MANIFEST:
            message = f"a file of a model cannot be called {name!r}"
            raise ArtifactInvalid(message)
    if len(content.arrays) + len(content.files) > FILES_MAX:
        message = f"{len(content.arrays) + len(content.files)} files came, at most {FILES_MAX} may be"
        raise ArtifactInvalid(message)


def _is_file_name(name: str) -> bool:
    """Return whether an array or another file may have this name: also no path, and short enough for any disk."""
    return name != MANIFEST and _FILE.match(name.removesuffix(".npy")) is not None


def _temporary(folder: Path) -> Path:
    """Make a folder of one's own, the end of whose name is the number of this process."""
    for number in range(_WRITERS_MAX):
        path = folder / f"{TEMPORARY}{number:02d}-{os.getpid()}"
        try:
            path.mkdir(mode=FOLDER)
        except FileExistsError:
            continue
        return path
    message = f"{_WRITERS_MAX} versions are being written in {folder.name}"
    raise FileExistsError(message)


def _write_files(temporary: Path, content: ArtifactContent) -> dict[str, ArtifactFile]:
    found = {f"{name}.npy": _write_array(temporary / f"{name}.npy", each) for name, each in content.arrays.items()}
    return found | {name: _write(temporary / name, (each,)) for name, each in content.files.items()}


def _write_array(path: Path, array: NDArray[np.generic]) -> ArtifactFile:
    whole = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(whole))
    return _write(path, (header.getvalue(), whole.reshape(-1).view(np.uint8).data))


def _write(path: Path, parts: tuple[bytes | memoryview, ...]) -> ArtifactFile:
    digest, written = sha256(), 0
    with os.fdopen(open_file(path, os.O_WRONLY | os.O_EXCL), "wb", buffering=0) as file:
        for part in parts:
            view = memoryview(part)
            while view:
                count = file.write(view[:_PIECE_BYTES])
                digest.update(view[:count])
                view, written = view[count:], written + count
        os.fsync(file.fileno())
    return ArtifactFile(written, digest.hexdigest())


def _read(path: Path, wanted: int | None, rest: Rest = no_rest) -> memoryview:
    """Return the bytes of a file, which has as many as are wanted, in memory that an array may lie in."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with io.FileIO(descriptor) as file:
            size = os.fstat(descriptor).st_size
            _require_size(path, size, wanted)
            # Memory of a mapping of its own is given back without the interpreter's lock: 1 GB takes 0.1 s and more.
            buffer = np.frombuffer(mmap.mmap(-1, max(1, size)), dtype=np.uint8)[:size]
            filled = 0
            while filled < size and (count := file.readinto(buffer[filled : filled + _PIECE_BYTES].data)):
                filled += count
                rest()
    except OSError as error:
        message = f"{path.parent.name}: {path.name} cannot be read: {error}"
        raise ArtifactInvalid(message) from error
    if filled != size:
        message = f"{path.parent.name}: {path.name} ended after {filled} of {size} bytes"
        raise ArtifactInvalid(message)
    return buffer.data


def _require_size(path: Path, size: int, wanted: int | None) -> None:
    """Refuse another size than is wanted, before memory is taken for it; of a manifest one above its maximum."""
    if size > MANIFEST_BYTES_MAX if wanted is None else size != wanted:
        right = f"at most {MANIFEST_BYTES_MAX}" if wanted is None else str(wanted)
        message = f"{path.parent.name}: {path.name} has {size} bytes where {right} are right"
        raise ArtifactInvalid(message)


def _digest(content: memoryview, rest: Rest) -> str:
    digest = sha256()
    for start in range(0, len(content), _PIECE_BYTES):
        digest.update(content[start : start + _PIECE_BYTES])
        rest()
    return digest.hexdigest()


def _parse(name: str, content: memoryview) -> NDArray[np.generic]:
    """Return the array whose file this is, in the memory of the file."""
    header = io.BytesIO(content[:_HEADER_BYTES_MAX])
    try:
        release = np.lib.format.read_magic(header)
        shape, is_fortran, kind = np.lib.format.read_array_header_1_0(header)
        lengths_fit = all(type(each) is int and each >= 0 for each in shape)
        length = header.tell() + math.prod(shape) * kind.itemsize
        if release != (1, 0) or is_fortran or kind.kind not in _DTYPES or not lengths_fit or length != len(content):
            message = f"{name} is no array as they are written: another order, type, shape or length"
            raise ArtifactInvalid(message)
        return np.ndarray(shape, dtype=kind, buffer=content, offset=header.tell())
    except _NO_HEADER as error:
        message = f"{name} is no array: {type(error).__name__}: {error}"
        raise ArtifactInvalid(message) from error


def sync_folder(path: Path) -> None:
    """Make what a folder names durable.

    Raises:
        OSError: It is not there, or the disk.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
