"""A snapshot is whole and right, or it is refused and an older one serves."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from midstream.core.durations import Duration
from midstream.core.errors import SnapshotInvalid
from midstream.core.types import LogPosition
from midstream.engine.child_process import Pace, PacedFile
from midstream.engine.snapshots import array_files, snapshots
from midstream.events.schema import cut
from midstream.events.segments.log_identity import LogIdentity, identity_of
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings
from tests.support.events import random_events, tiny_settings

IDENTITY = identity_of(b"l" * 16, 3)
SETTINGS = tiny_settings()
EVENTS = random_events(600, seed=5)


class Killed(BaseException):
    """Ends a writer where it stands: no ``except`` of its own is reached, as with kill -9."""


def folded(count: int, settings: FoldSettings = SETTINGS) -> Fold:
    """Return the fold of the first events."""
    fold = Fold(settings)
    fold.apply(LogPosition(0), cut(EVENTS, 0, count))
    return fold


def files_of(path: Path) -> dict[str, bytes]:
    """Return the content of each file of a folder."""
    return {each.name: each.read_bytes() for each in path.iterdir()}


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    """A restored fold has the digest of the written one and goes on to the same state."""
    whole = folded(400)
    snapshots.write(tmp_path, whole, IDENTITY)
    loaded = snapshots.load_newest(tmp_path, SETTINGS, IDENTITY, LogPosition(400))
    assert loaded.refused == ()
    assert loaded.fold.log_position == 400
    rest = cut(EVENTS, 400, 600)
    for fold in (whole, loaded.fold):
        fold.apply(LogPosition(400), rest)
    assert loaded.fold.digest() == whole.digest() == folded(600).digest()


def test_who_names_no_pace_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start, or a stop, or whoever reads a snapshot by hand: none of them rests while others are busy."""
    hurries: list[bool] = []

    class Noted(Pace):
        def __init__(self, *, hurried: bool = False) -> None:
            hurries.append(hurried)
            super().__init__(hurried=hurried)

    monkeypatch.setattr(snapshots, "Pace", Noted)
    snapshots.write(tmp_path, folded(40), IDENTITY)
    path = tmp_path / snapshots.names(tmp_path)[0]
    assert snapshots.load_newest(tmp_path, SETTINGS, IDENTITY, LogPosition(40)).refused == ()
    assert snapshots.read(path)[0] == snapshots.parse(files_of(path))[0]
    assert hurries == [True] * 4


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    """No single bit of any file of a snapshot, manifest included, can be wrong without the snapshot being refused."""
    manifest = snapshots.write(tmp_path, folded(40), IDENTITY)
    files = files_of(tmp_path / snapshots.names(tmp_path)[0])
    checks: dict[str, Callable[[bytes], object]] = {
        f"{key}.npy": partial(array_files.parse_array, key, digest=each) for key, each in manifest.files.items()
    }
    checks["manifest.json"] = snapshots._unseal
    assert checks.keys() == files.keys()
    accepted = [f"bit {bit} of {name}" for name, check in checks.items() for bit in unnoticed(files[name], check)]
    assert sum(len(content) for content in files.values()) > 4_096
    assert accepted == []


def unnoticed(content: bytes, check: Callable[[bytes], object]) -> list[int]:
    """Return the bits whose flip ``check`` lets pass."""
    found = []
    damaged = bytearray(content)
    for bit in range(len(content) * 8):
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            check(bytes(damaged))
        except SnapshotInvalid:
            damaged[bit // 8] ^= 1 << bit % 8
        else:
            found.append(bit)
    return found


def test_missing_extra_and_short_files_are_found(tmp_path: Path) -> None:
    """A file less, a file more or a file cut short makes a snapshot refused."""
    snapshots.write(tmp_path, folded(40), IDENTITY)
    files = files_of(tmp_path / snapshots.names(tmp_path)[0])
    for name in files:
        with pytest.raises(SnapshotInvalid):
            snapshots.parse({key: content for key, content in files.items() if key != name})
        with pytest.raises(SnapshotInvalid):
            snapshots.parse({**files, name: files[name][:-1]})
    with pytest.raises(SnapshotInvalid):
        snapshots.parse({**files, "more.npy": b""})


def test_an_older_snapshot_serves_when_the_newest_is_damaged(tmp_path: Path) -> None:
    """The newest good one is taken, and the refused one is named with its reason."""
    for count in (200, 400):
        snapshots.write(tmp_path, folded(count), IDENTITY)
    newest = tmp_path / snapshots.names(tmp_path)[0]
    (newest / "fold.place.npy").write_bytes(b"")
    loaded = snapshots.load_newest(tmp_path, SETTINGS, IDENTITY, LogPosition(600))
    assert loaded.fold.log_position == 200
    assert len(loaded.refused) == 1
    assert "fold.place" in loaded.refused[0]


@pytest.mark.parametrize(
    "identity, end, reason",
    [
        (identity_of(b"o" * 16, 3), 600, "another log"),
        (identity_of(b"l" * 16, 4), 600, "generation"),
        (IDENTITY, 399, "ends at 399"),
    ],
)
def test_a_snapshot_of_another_log_is_refused(tmp_path: Path, identity: LogIdentity, end: int, reason: str) -> None:
    """A snapshot belongs to one log, one generation, and cannot stand beyond the log's end."""
    snapshots.write(tmp_path, folded(400), IDENTITY)
    loaded = snapshots.load_newest(tmp_path, SETTINGS, identity, LogPosition(end))
    assert loaded.fold.log_position == 0
    assert reason in loaded.refused[0]


def test_a_snapshot_that_is_not_finished_is_no_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the writer dies, only whole snapshots have a snapshot's name, and the next prune removes the rest."""
    snapshots.write(tmp_path, folded(200), IDENTITY)
    real, manifest = PacedFile.write, snapshots._write_synced
    made = left = 0

    def one_more() -> None:
        nonlocal made
        if made == left:
            raise Killed
        made += 1

    def dying(file: PacedFile, content: memoryview) -> None:
        one_more()
        real(file, content)

    def dying_at_last(path: Path, content: bytes | memoryview) -> None:
        one_more()
        manifest(path, content)

    monkeypatch.setattr(PacedFile, "write", dying)
    monkeypatch.setattr(snapshots, "_write_synced", dying_at_last)
    left = 1_000_000
    snapshots.write(tmp_path, folded(200), IDENTITY)
    writes = made
    for survived in (*range(0, writes - 1, 11), writes - 1):
        made, left = 0, survived
        with pytest.raises(Killed):
            snapshots.write(tmp_path, folded(400), IDENTITY)
        assert len(snapshots.names(tmp_path)) == 1
        for name in snapshots.names(tmp_path):
            snapshots.read(tmp_path / name)
    monkeypatch.undo()
    snapshots.prune(tmp_path, 2, IDENTITY)
    assert [each.name for each in tmp_path.iterdir()] == snapshots.names(tmp_path)


@pytest.mark.parametrize("cause", ["too many", "of another generation", "written again"])
def test_a_snapshot_that_is_half_removed_is_no_snapshot(
    cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever a process dies that removes a snapshot, only whole ones have a snapshot's name; the rest goes later."""
    for count in (100, 200, 300):
        snapshots.write(tmp_path, folded(count), IDENTITY)
    identity = identity_of(IDENTITY.id_bytes, IDENTITY.generation + (cause == "of another generation"))
    real, removed = shutil.rmtree, 0

    def dying(path: Path, *, ignore_errors: bool = False) -> None:
        nonlocal removed
        if not path.exists() or path.name.startswith(".writing-"):
            return real(path, ignore_errors=ignore_errors)
        for file in sorted(path.iterdir())[:5]:
            file.unlink()
            removed += 1
        raise Killed

    monkeypatch.setattr(shutil, "rmtree", dying)
    prune = partial(snapshots.prune, tmp_path, 2, identity)
    with pytest.raises(Killed):
        (partial(snapshots.write, tmp_path, folded(200), identity) if cause == "written again" else prune)()
    monkeypatch.undo()
    assert removed == 5
    whole = snapshots.names(tmp_path)
    assert [snapshots.position_of(name) for name in whole] == {
        "too many": [300, 200],
        "of another generation": [200, 100],
        "written again": [300, 100],
    }[cause]
    for name in whole:
        snapshots.read(tmp_path / name)
    snapshots.prune(tmp_path, 2, IDENTITY)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(whole)


def test_prune_keeps_two_at_least(tmp_path: Path) -> None:
    """The newest may turn out damaged, so one before it is always kept."""
    for count in (100, 200, 300):
        snapshots.write(tmp_path, folded(count), IDENTITY)
    assert len(snapshots.prune(tmp_path, 0, IDENTITY)) == 1
    assert [int(name[:20]) for name in snapshots.names(tmp_path)] == [300, 200]


def test_a_snapshot_that_found_no_room_leaves_none_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a snapshot cannot be written, nothing of it stays: a full disk would stay full."""
    monkeypatch.setattr(snapshots, "sealed", lambda _: bytes(2))

    def full(path: Path, content: bytes | memoryview) -> None:
        path.write_bytes(content)
        if len(content) == 2:
            raise OSError(28, "no room")

    monkeypatch.setattr(snapshots, "_write_synced", full)
    for count in (100, 200):
        with pytest.raises(OSError, match="no room"):
            snapshots.write(tmp_path, folded(count), IDENTITY)
    assert list(tmp_path.iterdir()) == []


def test_after_a_repair_the_new_snapshots_are_kept(tmp_path: Path) -> None:
    """Snapshots of a generation that was cut off stand at higher positions; not the new ones but they are removed."""
    for count in (400, 500):
        snapshots.write(tmp_path, folded(count), IDENTITY)
    repaired = identity_of(IDENTITY.id_bytes, IDENTITY.generation + 1)
    snapshots.write(tmp_path, folded(300), repaired)
    assert len(snapshots.prune(tmp_path, 2, repaired)) == 2
    assert snapshots.load_newest(tmp_path, SETTINGS, repaired, LogPosition(300)).fold.log_position == 300


def test_what_was_set_aside_goes_with_its_generation(tmp_path: Path) -> None:
    """A snapshot that differed stays to be looked into, not beyond a rewrite of the log, nor when nobody can say."""
    rewritten = identity_of(IDENTITY.id_bytes, IDENTITY.generation + 1)
    for count in (200, 300):
        snapshots.write(tmp_path, folded(count), IDENTITY)
    snapshots.set_aside(tmp_path, 300, SETTINGS.version())
    assert snapshots.prune(tmp_path, 2, IDENTITY) == []
    (aside,) = tmp_path.glob(".differs-*")
    snapshots.write(tmp_path, folded(400), rewritten)
    assert aside.name in snapshots.prune(tmp_path, 2, rewritten)
    assert [each.name for each in tmp_path.iterdir()] == snapshots.names(tmp_path)
    snapshots.set_aside(tmp_path, 400, SETTINGS.version())
    (aside,) = tmp_path.glob(".differs-*")
    (aside / "manifest.json").unlink()
    snapshots.prune(tmp_path, 2, rewritten)
    assert list(tmp_path.iterdir()) == []


def test_prune_keeps_those_of_each_version_in_use(tmp_path: Path) -> None:
    """A state that is being rebuilt and the one that serves meanwhile both keep theirs; others go."""
    others = [msgspec.structs.replace(SETTINGS, session_gap=Duration(f"{minutes}m")) for minutes in (7, 8)]
    for count in (100, 200, 300):
        for settings in (SETTINGS, *others):
            snapshots.write(tmp_path, folded(count, settings), IDENTITY)
    in_use = {SETTINGS.version(), others[0].version()}
    snapshots.prune(tmp_path, 2, IDENTITY, in_use)
    kept = {(snapshots.position_of(name), snapshots.version_of(name)) for name in snapshots.names(tmp_path)}
    assert kept == {(count, version) for count in (200, 300) for version in in_use}
