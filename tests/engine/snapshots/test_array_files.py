"""Arrays are read as they were written, into the memory of their tables too, and nothing that was changed is."""

import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from midstream.core.errors import SnapshotInvalid
from midstream.core.types import LogPosition
from midstream.engine.child_process import Pace
from midstream.engine.snapshots import array_files, snapshots
from midstream.engine.snapshots.array_files import ArrayFiles, content_of, parse_array
from midstream.events.schema import cut
from midstream.events.segments.log_identity import identity_of
from midstream.state.expressions.program import Cell
from midstream.state.fold import Fold
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
    """Pack every array that can be, or none."""
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
    assert {"users.rows", "cells.item.rows", "cells.user.rows"} == rooms.keys() <= arrays.keys()
    files = put(tmp_path, arrays)
    with ArrayFiles(tmp_path, files, rooms, Pace(hurried=True)) as found:
        mine = {key: each for table in ("users", "cells") for key, each in found.of_table(table).items()}
        found.verify_all()
    for key in ("rows", "item.rows", "user.rows"):
        name = f"{'users' if key == 'rows' else 'cells'}.{key}"
        assert np.shares_memory(mine[key], rooms[name])
        assert mine[key].tobytes() == arrays[name].tobytes()


def test_a_file_that_no_table_asks_for_is_verified_too(tmp_path: Path) -> None:
    """Every file of the manifest counts, not only those that a table of this release reads."""
    files = put(tmp_path, {"t.a": rows(3), "further.a": rows(4)})
    (tmp_path / "further.a.npy").write_bytes(b"other")
    with ArrayFiles(tmp_path, files, {}, Pace(hurried=True)) as arrays:
        assert arrays.of_table("t")["a"].tobytes() == rows(3).tobytes()
        with pytest.raises(SnapshotInvalid, match=r"further\.a does not match"):
            arrays.verify_all()


def test_a_snapshot_of_the_first_format_is_read(tmp_path: Path) -> None:
    """Its arrays stand as they are, which this release reads as well; what came later it refuses by name."""
    path = tmp_path / "snapshots"
    snapshots.write(path, folded(400), IDENTITY)
    place = path / snapshots.names(path)[0] / snapshots.MANIFEST_NAME
    manifest = snapshots._unseal(place.read_bytes())
    for version, position, reasons in ((1, 400, ()), (3, 0, ("it has format 3, this release reads (1, 2)",))):
        place.write_bytes(snapshots.sealed(msgspec.structs.replace(manifest, format_version=version)))
        loaded = snapshots.load_newest(path, SETTINGS, IDENTITY, LogPosition(600))
        assert loaded.fold.log_position == position
        assert tuple(each.partition(": ")[2] for each in loaded.refused) == reasons
