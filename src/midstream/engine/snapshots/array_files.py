"""Files of a snapshot's arrays, read side by side: pieces are hashed as they come, and tables restored meanwhile.

An array that a table keeps as it stands in its file is read straight into the memory of the table (a room of
``Fold.rooms``), so it is neither held twice nor copied; of a packed one no file is held either (``packed_room``). One
thread reads those, most of the bytes of a large state, with another one that writes half of what was packed, and one
reads all others, in the order in which tables ask for them. They read and hash without the interpreter's lock. A child
that rests while others are busy, and a server that answers meanwhile, read in one thread, when they are asked.

Nothing of a file counts before the hash of all of it is right: an array is handed over after that, and one in a room,
whose content may still be coming, is verified before anybody reads it (``verify``). What fails leaves a fold behind
that nobody may use.
"""

import io
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import SnapshotInvalid
from midstream.engine.child_process import PIECE_BYTES, Pace
from midstream.engine.snapshots.packed_room import mark_count, read_only, unpack
from midstream.state.structures.packed_words import mark_words, spread_marked, take_marked

Content: TypeAlias = bytes | memoryview
Array: TypeAlias = NDArray[np.generic]
Octets: TypeAlias = NDArray[np.uint8]
PIECE_AT_ONCE_BYTES: Final = 16 << 20
"""Read, then hashed, by a thread that shares the interpreter: 25 ms, after each half of which it may wait 5 ms for the
lock of a thread that runs Python."""
PACKED_BYTES_MIN: Final = 1 << 20
"""Of an array: a smaller one takes no time worth saving."""
PACKED_SHARE_MAX: Final = 0.5
"""Of its bytes: what packing leaves more of is written as it stands."""
_HEADER_BYTES_MAX = 1 << 17
"""Of an array's file before its content: 64 KiB are the most that the format allows."""
_WORD_BYTES: Final = 8
_PACKED: Final = np.dtype([("packed", "u1")])
"""Of an array whose bytes are packed. They are the header of the array itself, a mark for each of its words of 8 bytes,
and those of its words that are not zero (``state.structures.packed_words``)."""
_LENGTH: Final = re.compile(rb"'shape': \((\d{1,18}),")


def header_of(kind: np.dtype[np.generic], shape: tuple[int, ...]) -> bytes:
    """Return what stands before the content in the file of an array."""
    header = io.BytesIO()
    told = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, told)
    return header.getvalue()


def content_of(array: Array) -> Iterator[memoryview]:
    """Yield the content of an array's file in pieces of ``PIECE_BYTES`` at most.

    An array of mostly zeros, as rows are with room for more than came, is packed.
    """
    whole = np.ascontiguousarray(array)
    octets, header = whole.reshape(-1).view(np.uint8), header_of(whole.dtype, whole.shape)
    if whole.nbytes >= PACKED_BYTES_MIN and not whole.nbytes % _WORD_BYTES:
        words = read_only(octets.view(np.uint64))
        marks = np.zeros(mark_count(len(words)), dtype=np.uint64)
        packed_bytes = len(header) + marks.nbytes + _WORD_BYTES * mark_words(words, marks)
        if packed_bytes <= PACKED_SHARE_MAX * whole.nbytes:
            yield memoryview(header_of(_PACKED, (packed_bytes,)) + header)
            yield from pieces_of(marks.view(np.uint8).data)
            room = np.empty(PIECE_BYTES // _WORD_BYTES, dtype=np.uint64)
            for start in range(0, len(words), len(room)):
                count = take_marked(words[start : start + len(room)], room)
                yield room[:count].view(np.uint8).data
            return
    yield memoryview(header)
    yield from pieces_of(octets.data)


def parse_array(key: str, content: Content, digest: str, pace: Pace | None = None) -> Array:
    """Return the array in the content of a file.

    Args:
        key: Name of the array.
        content: Of its file.
        digest: SHA-256 that the content must have.
        pace: Speed; default: hurried.

    Raises:
        SnapshotInvalid: The content is another one.
    """
    found = sha256()
    for piece in pieces_of(memoryview(content)):
        found.update(piece)
        if pace is not None:
            pace.rest()
    _require_hash(key, found.hexdigest(), digest)
    return _array_in(key, content)


def pieces_of(content: memoryview) -> Iterator[memoryview]:
    """Yield content in pieces of ``PIECE_BYTES``."""
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]


class ArrayFiles:
    """Arrays of one snapshot, as they are read. Use it in a ``with`` block."""

    def __init__(self, path: Path, files: Mapping[str, str], rooms: Mapping[str, Array], pace: Pace) -> None:
        """Begin to read.

        Args:
            path: Folder of the snapshot.
            files: SHA-256 of the file of each array, by ``table.name``, in the order in which tables ask for them.
            rooms: Memory of tables for arrays that lie in its first rows, contiguous; nothing came to it yet.
            pace: Speed; without threads no file is read before it is asked for.

        Raises:
            OSError: A file cannot be opened.
        """
        self._path = path
        self._files = files
        self._pace = pace
        self._ended = Event()
        self._is_packed: dict[str, bool] = {}
        self._placed = {key: found for key, room in rooms.items() if (found := self._place(key, room)) is not None}
        self._threads = [ThreadPoolExecutor(1, "midstream-snapshot") for _ in range(3 if pace.uses_threads else 0)]
        """For files of no room, for those of rooms, and beside these for packed words; they end in this order."""
        self._reads = {key: self._begun(key) for key in files}
        """Of each file that is not verified: waits for it and returns its array."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End what still reads; nothing is written into rooms from here on."""
        self._ended.set()
        for each in self._threads:
            each.shutdown(cancel_futures=True)

    def of_table(self, table: str) -> dict[str, Array]:
        """Return the arrays of a table, once, by their names in it; the content of those in rooms may still come.

        Raises:
            SnapshotInvalid: A file does not match its hash.
            OSError: One cannot be read.
        """
        return {
            key.removeprefix(f"{table}."): self._placed[key] if key in self._placed else self._verified(key)
            for key in self._keys_of(table)
        }

    def verify(self, table: str) -> None:
        """Wait until all arrays of a table have come and match their hashes; raises as ``of_table``."""
        for key in self._keys_of(table):
            self._verified(key)

    def verify_all(self) -> None:
        """Wait for all files that were not verified, also those that no table asked for; raises as ``of_table``."""
        for key in list(self._reads):
            self._verified(key)

    def _keys_of(self, table: str) -> Iterable[str]:
        """Return the names of a table's arrays that are not verified."""
        return [key for key in self._reads if key.startswith(f"{table}.")]

    def _verified(self, key: str) -> Array:
        """Return an array when all of it has come, and forget it."""
        found = self._reads[key]()
        del self._reads[key]
        self._pace.rest()
        return found

    def _begun(self, key: str) -> Callable[[], Array]:
        """Return what waits for an array, which is read in a thread where there are some."""
        if not self._threads:
            return partial(self._read, key)
        return self._threads[key in self._placed].submit(self._read, key).result

    def _place(self, key: str, room: Array) -> Array | None:
        """Return the rows of a room that a file fills; None = it is another array, or none."""
        if key not in self._files:
            return None
        with self._open(key) as file:
            count = _length(file, _PACKED, ())
            if count is None:
                file.seek(0)
            self._is_packed[key] = count is not None
            count = _length(file, room.dtype, room.shape[1:])
        return room[:count] if count and count <= len(room) else None

    def _open(self, key: str) -> io.FileIO:
        return io.FileIO(self._path / f"{key}.npy")

    def _read(self, key: str) -> Array:
        """Return an array whose file is read and matches its hash."""
        found, placed = sha256(), self._placed.get(key)
        with self._open(key) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)  # asks for twice as much ahead
            fill, is_whole = partial(self._fill, file, found.update), True
            content = np.empty(os.fstat(file.fileno()).st_size if placed is None else 0, dtype=np.uint8)
            if placed is None:
                fill(content)
            elif self._is_packed[key]:
                found.update(file.read(_header_bytes(_PACKED, ()) + _header_bytes(placed.dtype, placed.shape[1:])))
                is_whole = unpack(fill, placed.reshape(-1).view(np.uint64), self._beside)
            else:
                found.update(file.read(_header_bytes(placed.dtype, placed.shape[1:])))
                fill(placed.reshape(-1).view(np.uint8))
            rest = file.read()  # a file that grew has another hash
            found.update(rest)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # nobody reads it again; the log's pages stay
        _require_hash(key, found.hexdigest(), self._files[key])
        _require_packed(key, is_right=is_whole and not (rest and self._is_packed.get(key)))
        return _array_in(key, content.data) if placed is None else placed

    @property
    def _beside(self) -> ThreadPoolExecutor | None:
        """The thread that writes half of what was packed."""
        return self._threads[-1] if self._threads else None

    def _fill(self, file: io.FileIO, hashed: Callable[[memoryview], None], content: Octets) -> bool:
        """Read content, in pieces, and hash each while it is in the cache; return False where the file is short."""
        filled, step = 0, PIECE_AT_ONCE_BYTES if self._threads else PIECE_BYTES
        while filled < len(content) and not self._ended.is_set():
            count = file.readinto(content[filled : filled + step].data)
            if not count:
                break
            hashed(content[filled : filled + count].data)
            filled += count
            if not self._threads:
                self._pace.rest()
        return filled == len(content)


def _header_bytes(kind: np.dtype[np.generic], row: tuple[int, ...]) -> int:
    """Return the length of the header of an array of such rows, however many: it leaves room for the number."""
    return len(header_of(kind, (0, *row)))


def _length(file: io.FileIO, kind: np.dtype[np.generic], row: tuple[int, ...]) -> int | None:
    """Return how many rows the array of a file has that is not verified; None = it is no array of such rows.

    Nothing is parsed of what may be damaged but a number, with which the header has to be the one that is written.
    """
    read = file.read(_header_bytes(kind, row))
    found = _LENGTH.search(read)
    return int(found[1]) if found and header_of(kind, (int(found[1]), *row)) == read else None


def _array_in(key: str, content: Content) -> Array:
    """Return the array in content whose hash is right: a view, or, of one that was packed, a new one."""
    kind, shape, start = _parsed(memoryview(content))
    if kind != _PACKED:
        found: Array = np.frombuffer(content, kind, math.prod(shape), start).reshape(shape)
        return found
    inner = memoryview(content)[start:]
    kind, shape, start = _parsed(inner)
    array: Array = np.zeros(shape, dtype=kind)
    words = array.reshape(-1).view(np.uint64)
    packed = read_only(np.frombuffer(inner[start:], dtype=np.uint64))
    marked = mark_count(len(words))
    is_right = len(packed) >= marked and spread_marked(packed[:marked], packed[marked:], words)
    _require_packed(key, is_right=is_right)
    return array


def _require_packed(key: str, *, is_right: bool) -> None:
    if not is_right:
        message = f"{key} is packed in another way than this release packs arrays"
        raise SnapshotInvalid(message)


def _parsed(content: memoryview) -> tuple[np.dtype[np.generic], tuple[int, ...], int]:
    """Return type and shape of an array from its header, and where that ends."""
    header = io.BytesIO(content[:_HEADER_BYTES_MAX])
    np.lib.format.read_magic(header)
    shape, _, kind = np.lib.format.read_array_header_1_0(header)
    return kind, shape, header.tell()


def _require_hash(key: str, found: str, digest: str) -> None:
    if found != digest:
        message = f"{key} does not match its SHA-256"
        raise SnapshotInvalid(message)
