"""Arrays are read as they were written, into the memory of their tables too, and nothing that was changed is."""

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from midstream.core.errors import SnapshotInvalid
from midstream.core.types import LogPosition
from midstream.engine.child_process import Pace
from midstream.engine.snapshots import array_files, packed_room, snapshots
from midstream.engine.snapshots.array_files import ArrayFiles, content_of, header_of, parse_array
from midstream.engine.snapshots.packed_room import mark_count, read_only, unpack
from midstream.events.schema import cut
from midstream.events.segments.log_identity import identity_of
from midstream.state.expressions.program import Cell
from midstream.state.fold import Fold
from midstream.state.structures.packed_words import mark_words, take_marked
from midstream.state.users import user_rows
from tests.support.events import random_events, tiny_settings

IDENTITY = identity_of(b"l" * 16, 3)
SETTINGS = msgspec.structs.replace(
    tiny_settings(),
    cells=(
        Cell("item", ("click",), half_life_ms=60_000),
        Cell("user", ("click",), window_ms=600_000),
        Cell("user_item", ("click",)),
    ),
)
EVENTS = random_events(600, seed=5)
WAYS = [pytest.param(True, True, id="threads, packed"), pytest.param(False, False, id="paced, as they stand")]
PACKED = [pytest.param(True, id="packed"), pytest.param(False, id="as they stand")]
Array = NDArray[np.generic]


@pytest.fixture(autouse=True)
def short_heads() -> Iterator[None]:
    """Have one place of a user's ring in its head, so that three of four lie in blocks."""
    with patch.object(user_rows, "HEAD_BYTES", 64):
        yield


def folded(count: int) -> Fold:
    """Return the fold of the first events."""
    fold = Fold(SETTINGS)
    fold.apply(LogPosition(0), cut(EVENTS, 0, count))
    return fold


def written(array: Array) -> bytes:
    """Return the content of an array's file."""
    return b"".join(bytes(piece) for piece in content_of(array))


def put(path: Path, arrays: dict[str, Array]) -> dict[str, str]:
    """Write arrays into a folder, and return the hash of each file."""
    contents = {key: written(each) for key, each in arrays.items()}
    for key, content in contents.items():
        (path / f"{key}.npy").write_bytes(content)
    return {key: sha256(content).hexdigest() for key, content in contents.items()}


def pack_all(monkeypatch: pytest.MonkeyPatch, *, on: bool) -> None:
    """Pack every array that can be, or none; what is packed comes in many stretches."""
    monkeypatch.setattr(packed_room, "MARKS_AT_ONCE", 2)
    monkeypatch.setattr(array_files, "PACKED_BYTES_MIN", 8 if on else 1 << 40)
    monkeypatch.setattr(array_files, "PACKED_SHARE_MAX", 1e9)


def rows(count: int) -> NDArray[np.float64]:
    """Return rows of mostly zeros, with every kind of number."""
    found = np.zeros((count, 13))
    found[::3, 1:4] = -0.0, np.nan, 1e-320
    found[-1, -1] = np.inf
    return found


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize(
    "array",
    [
        rows(1),
        rows(99),
        np.zeros((70, 8), dtype=np.uint8),
        np.arange(1, 999, dtype=np.int64),
        np.zeros(7, dtype=np.uint8),
        np.empty((0, 16), dtype=np.float64),
        np.array([(0, 0)] * 40 + [(3, 4)], dtype=[("a", "i4"), ("b", "u4")]),
        rows(50)[::2],
        np.asfortranarray(rows(50)),
    ],
)
def test_an_array_comes_back_to_the_bit(array: Array, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Type, shape and bytes are those that were written, packed or not."""
    pack_all(monkeypatch, on=packed)
    monkeypatch.setattr(array_files, "PIECE_BYTES", 64)
    content = written(array)
    found = parse_array("a.b", content, sha256(content).hexdigest())
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert (b"packed" in content) == (packed and array.nbytes > 0 and not array.nbytes % 8)


def test_mostly_zeros_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state of few interactions in rows with room for many takes a fraction of its memory on the disk."""
    sparse, dense = np.zeros((4_000, 100)), np.ones((4_000, 100))
    sparse[:, :9] = 1.0
    assert len(written(sparse)) < sparse.nbytes / 8
    assert len(written(dense)) == dense.nbytes + 128
    monkeypatch.setattr(array_files, "PACKED_BYTES_MIN", sparse.nbytes + 1)
    assert len(written(sparse)) == sparse.nbytes + 128


@pytest.mark.parametrize("packed", PACKED)
def test_no_flipped_bit_of_a_file_in_a_room_is_taken(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever bit of its file is wrong, an array that is read into a table's memory is refused."""
    pack_all(monkeypatch, on=packed)
    files = put(tmp_path, {"t.rows": rows(6)})
    path = tmp_path / "t.rows.npy"
    whole = path.read_bytes()
    accepted = []
    for bit in [*range(128 * 8), *range(128 * 8, len(whole) * 8, 5)]:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with ArrayFiles(tmp_path, files, {"t.rows": np.zeros((20, 13))}, Pace()) as arrays:
            try:
                arrays.of_table("t")
                arrays.verify("t")
            except SnapshotInvalid:
                continue
        accepted.append(bit)
    assert accepted == []


def packed_parts(words: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the marks of words, and those that are not zero."""
    marks = np.zeros(mark_count(len(words)), dtype=np.uint64)
    found = np.empty(mark_words(read_only(words), marks), dtype=np.uint64)
    take_marked(read_only(words), found)
    return marks, found


def filling(content: bytes) -> Callable[[NDArray[np.uint8]], bool]:
    """Return what fills arrays with the next bytes."""
    left = [content]

    def fill(found: NDArray[np.uint8]) -> bool:
        part, left[0] = left[0][: len(found)], left[0][len(found) :]
        found[: len(part)] = np.frombuffer(part, dtype=np.uint8)
        return len(part) == len(found)

    return fill


@pytest.mark.parametrize("threads", [True, False])
@pytest.mark.parametrize("at_once", [1, 3, 1 << 16])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 1_000, 6_401])
def test_words_are_spread_as_they_come(
    count: int, at_once: int, threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In stretches of any length, by one thread or two: the same words; one that is missing is seen."""
    monkeypatch.setattr(packed_room, "MARKS_AT_ONCE", at_once)
    rng = np.random.default_rng(count)
    words = np.where(rng.random(count) < 0.2, rng.integers(1, 1 << 60, count), 0).astype(np.uint64)
    words[-1] = 7
    content = b"".join(each.tobytes() for each in packed_parts(words))
    with ThreadPoolExecutor(1) as beside:
        found = np.zeros(count, dtype=np.uint64)
        assert unpack(filling(content), found, beside if threads else None)
        assert np.array_equal(found, words)
        assert not unpack(filling(content[:-8]), np.zeros(count, dtype=np.uint64), beside if threads else None)
        assert not unpack(filling(b""), np.zeros(count, dtype=np.uint64), beside if threads else None)


@pytest.mark.parametrize("hurried", [True, False])
@pytest.mark.parametrize("change", ["surplus", "beyond"])
def test_a_room_takes_no_words_without_marks(hurried: bool, change: str, tmp_path: Path) -> None:
    """Whose hash is right, but not its form: words after the last one, and a mark behind the end of the memory."""
    words = np.zeros(130, dtype=np.uint64)
    words[3] = 5
    marks, found = packed_parts(words)
    if change == "surplus":
        found = np.append(found, np.uint64(9))
    else:
        marks[-1], found = np.uint64(1) << np.uint64(60), np.append(found, np.uint64(9))
    inner = header_of(words.dtype, words.shape) + marks.tobytes() + found.tobytes()
    content = header_of(np.dtype([("packed", "u1")]), (len(inner),)) + inner
    (tmp_path / "t.rows.npy").write_bytes(content)
    files = {"t.rows": sha256(content).hexdigest()}
    with ArrayFiles(tmp_path, files, {"t.rows": np.zeros(200, np.uint64)}, Pace(hurried=hurried)) as arrays:
        arrays.of_table("t")
        with pytest.raises(SnapshotInvalid, match="packed in another way"):
            arrays.verify("t")


def test_a_packed_file_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is packed goes into its table piece by piece: memory for a part of the file is all that it takes."""
    monkeypatch.setattr(packed_room, "MARKS_AT_ONCE", 1 << 10)
    sparse = np.zeros((100_000, 100))
    sparse[:, 5:25] = 1.5
    files = put(tmp_path, {"t.rows": sparse})
    size = (tmp_path / "t.rows.npy").stat().st_size
    room = np.zeros((200_000, 100))
    tracemalloc.start()
    with ArrayFiles(tmp_path, files, {"t.rows": room}, Pace(hurried=True)) as arrays:
        arrays.verify_all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(room[:100_000], sparse)
    assert peak < size / 3


@pytest.mark.parametrize("hurried, packed", WAYS)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content[:-1], id="short"),
        pytest.param(lambda content: content + b"\0", id="long"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda content: content[:-1] + bytes([content[-1] ^ 1]), id="another"),
        pytest.param(None, id="gone"),
    ],
)
def test_any_damaged_file_refuses_the_snapshot(
    change: Callable[[bytes], bytes] | None,
    hurried: bool,
    packed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever file it is, and however it is read: the older snapshot serves, the newest is named, no thread stays."""
    pack_all(monkeypatch, on=packed)
    for count in (200, 400):
        snapshots.write(tmp_path, folded(count), IDENTITY)
    older = folded(200).digest()
    newest = tmp_path / snapshots.names(tmp_path)[0]
    others = sorted(each for each in newest.iterdir() if each.stem not in Fold(SETTINGS).rooms())[::47]
    for path in (newest / "manifest.json", newest / "users.rows.npy", newest / "cells.item.rows.npy", *others):
        content = path.read_bytes()
        if change is None:
            path.unlink()
        else:
            path.write_bytes(change(content))
        loaded = snapshots.load_newest(tmp_path, SETTINGS, IDENTITY, LogPosition(600), pace=Pace(hurried=hurried))
        assert loaded.fold.digest() == older, path.name
        assert len(loaded.refused) == 1
        path.write_bytes(content)
    assert not [each.name for each in threading.enumerate() if each.name.startswith("midstream-snapshot")]


@pytest.mark.parametrize("hurried, packed", WAYS)
def test_a_restored_fold_is_the_written_one(
    hurried: bool, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read into its tables or handed over, packed or not: digest and what is folded further are the same."""
    pack_all(monkeypatch, on=packed)
    snapshots.write(tmp_path, folded(400), IDENTITY)
    pace = Pace(hurried=hurried)
    loaded = snapshots.load_newest(tmp_path, SETTINGS, IDENTITY, LogPosition(600), pace=pace)
    assert (loaded.refused, loaded.fold.log_position) == ((), 400)
    handed = Fold(SETTINGS)
    handed.restore(snapshots.read(tmp_path / snapshots.names(tmp_path)[0])[1])
    assert loaded.fold.digest() == handed.digest() == folded(400).digest()
    for fold in (loaded.fold, handed):
        fold.apply(LogPosition(400), cut(EVENTS, 400, 600))
    assert loaded.fold.digest() == handed.digest() == folded(600).digest()


def test_rooms_are_the_memory_of_their_tables(tmp_path: Path) -> None:
    """What lies in rooms is neither read twice nor copied: it is there before a table is restored."""
    arrays = dict(folded(400).arrays())
    rooms = Fold(SETTINGS).rooms()
    ids = {f"event_ids.{name}" for name in ("check", "content", "second")}
    users = {f"users.{name}" for name in ("rows", "ring", "seen")}
    assert {"cells.item.rows", "cells.user.rows", *users, *ids} == rooms.keys() <= arrays.keys()
    files = put(tmp_path, arrays)
    with ArrayFiles(tmp_path, files, rooms, Pace(hurried=True)) as found:
        tables = ("event_ids", "users", "cells")
        mine = {f"{table}.{key}": each for table in tables for key, each in found.of_table(table).items()}
        found.verify_all()
    for name, room in rooms.items():
        assert np.shares_memory(mine[name], room)
        assert mine[name].tobytes() == arrays[name].tobytes()


def test_a_file_that_no_table_asks_for_is_verified_too(tmp_path: Path) -> None:
    """Every file of the manifest counts, not only those that a table of this release reads."""
    files = put(tmp_path, {"t.a": rows(3), "further.a": rows(4)})
    (tmp_path / "further.a.npy").write_bytes(b"other")
    with ArrayFiles(tmp_path, files, {}, Pace(hurried=True)) as arrays:
        assert arrays.of_table("t")["a"].tobytes() == rows(3).tobytes()
        with pytest.raises(SnapshotInvalid, match=r"further\.a does not match"):
            arrays.verify_all()


@pytest.mark.parametrize("version", [2, 4])
def test_a_snapshot_of_another_format_is_refused(version: int, tmp_path: Path) -> None:
    """An earlier one and a later one, by name: the log is folded instead."""
    path = tmp_path / "snapshots"
    snapshots.write(path, folded(400), IDENTITY)
    place = path / snapshots.names(path)[0] / snapshots.MANIFEST_NAME
    manifest = snapshots._unseal(place.read_bytes())
    place.write_bytes(snapshots.sealed(msgspec.structs.replace(manifest, format_version=version)))
    loaded = snapshots.load_newest(path, SETTINGS, IDENTITY, LogPosition(600))
    assert loaded.fold.log_position == 0
    reasons = [each.partition(": ")[2] for each in loaded.refused]
    assert reasons == [f"it has format {version}, this release reads 3"]
