"""A backup is the folder as it was at one log position, whatever went on; restored, it gives the same state."""

import shutil
import tarfile
from pathlib import Path

import msgspec
import pytest

from midstream.app.inspect.folder_view import LogView, state_from_the_beginning, state_of
from midstream.app.opening import open_shop
from midstream.app.operate import backup
from midstream.app.operate.backup import back_up
from midstream.app.operate.rebuild import rebuild, verify
from midstream.app.operate.restore import restore
from midstream.app.operate.seal import seal_folder
from midstream.core.durations import Duration
from midstream.core.errors import Invalid
from midstream.core.types import LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import open_log
from midstream.engine.snapshots import snapshots
from midstream.engine.tokens import parse_position, position_token
from midstream.events.disk import RealDisk
from midstream.events.history.history import DAY_MS
from midstream.events.schema import cut
from midstream.events.segments.log_identity import identity_of
from midstream.state.fold import Fold
from tests.support.events import Stream, random_events
from tests.support.rig import SMALL

COUNT = 1_500
EVENTS = random_events(COUNT, 11, Stream(step_ms=8 * DAY_MS // COUNT))
LIMITS = msgspec.structs.replace(SMALL.limits, index_sessions_max=2_000, requests_max=1_000, aliases_max=1_000)
CONFIG = msgspec.structs.replace(
    SMALL, limits=LIMITS, history=msgspec.structs.replace(SMALL.history, hot=Duration("1d"), keep="4d")
)


def append(folder: Path, start: int, stop: int) -> None:
    log = open_log(DataFolder(folder / "data"), bytes(16), 1 << 20)
    for at in range(start, stop, 50):
        log.append(cut(EVENTS, at, min(at + 50, stop)))
    log.close()


def digest_of(folder: Path) -> str:
    return state_of(folder, CONFIG, LogView(folder)).fold.digest()


def digest_at(position: int) -> str:
    """Digest of the first events."""
    fold = Fold(msgspec.structs.replace(CONFIG.fold_settings(), id_key=identity_of(bytes(16), 0).id_key))
    fold.apply(LogPosition(0), cut(EVENTS, 0, position))
    return fold.digest()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that one can have: history that was cut, a base, segments, a snapshot, a key, more."""
    folder = tmp_path_factory.mktemp("shop")
    append(folder, 0, 1_400)
    assert seal_folder(folder, CONFIG).begin > 0
    rebuild(folder, CONFIG)
    append(folder, 1_400, COUNT)
    data = DataFolder(folder / "data")
    data.key(lambda size: b"k" * size)
    data.dead_letters.write_bytes(b'{"reason": "a line"}\n')
    (folder / "midstream.toml").write_text("")
    (folder / "components.py").write_text('"""Mine."""\n')
    (data.root / "server.url").write_text("http://127.0.0.1:1\n")
    (data.log / "history" / "00000000000000000001.parquet.new").write_bytes(b"half")
    return folder


@pytest.mark.parametrize("name", ["kept", "kept.tar"])
def test_a_restored_folder_has_the_same_state(shop: Path, tmp_path: Path, name: str) -> None:
    """From a folder and from a tar: equal digests from the snapshot and from the log's beginning, and the shop opens;
    what belongs to a running process or was not finished is left behind.
    """
    target, again = tmp_path / name, tmp_path / "again"
    done = back_up(shop, target)
    assert (done.log_position, done.attempts) == (COUNT, 1)
    assert restore(target, again).log_position == COUNT
    assert digest_of(again) == digest_of(shop) == digest_at(COUNT)
    assert state_from_the_beginning(again, CONFIG, LogView(again)).digest() == digest_at(COUNT)
    found = verify(again, CONFIG)
    assert found.is_equal
    assert found.snapshot_position == 1_400
    assert DataFolder(again / "data").key(lambda _: b"") == b"k" * 32
    assert (again / "components.py").read_text() == (shop / "components.py").read_text()
    assert (again / "data" / "dead-letters.ndjson").exists()
    left = {path.name for path in again.rglob("*")} & {"server.url", ".restoring"}
    assert not left
    assert not list(again.rglob("*.new"))
    with open_shop(again, CONFIG) as opened:
        assert opened.running.engine.log.end == COUNT


def test_a_restore_begins_a_generation_of_its_own(shop: Path, tmp_path: Path) -> None:
    """A log position that was given out after the backup is not taken for one of what is recorded since, also where the
    same backup is restored twice; the log keeps its id, and what was made of the same events is used on.
    """
    back_up(shop, tmp_path / "kept")
    before = LogView(shop).identity
    found: set[int] = set()
    for name in ("one", "two"):
        restore(tmp_path / "kept", tmp_path / name)
        identity = LogView(tmp_path / name).identity
        assert identity.log_id == before.log_id
        assert identity.generation > before.generation
        assert parse_position(position_token(before.generation, COUNT + 9), identity.generation, COUNT) is None
        found.add(identity.generation)
        with open_shop(tmp_path / name, CONFIG) as opened:
            assert opened.running.started.snapshot_position == 1_400
    assert len(found) == 2, "one run in 65,536 may draw the same twice"


def test_nothing_is_written_over(shop: Path, tmp_path: Path) -> None:
    """A target that is there, and a folder that is not empty, stay as they are."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine").touch()
    with pytest.raises(Invalid, match="is there already"):
        back_up(shop, tmp_path / "kept")
    with pytest.raises(Invalid, match="has no data"):
        back_up(tmp_path, tmp_path / "none")
    back_up(shop, tmp_path / "good")
    with pytest.raises(Invalid, match="is not empty"):
        restore(tmp_path / "good", tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["mine"]


def test_a_byte_that_changed_is_found(shop: Path, tmp_path: Path) -> None:
    """Whatever file of a backup changed or is missing: nothing is put back, and the file is named."""
    back_up(shop, tmp_path / "kept")
    files = [path for path in sorted((tmp_path / "kept").rglob("*")) if path.is_file() and path.stat().st_size]
    one_a_folder = {path.parent: path for path in files}
    for number, path in enumerate(one_a_folder.values()):
        content = path.read_bytes()
        place = len(content) // 2
        flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        if number % 3:
            path.write_bytes((flipped, content[:-1])[number % 3 - 1])
        else:
            path.unlink()
        with pytest.raises(Invalid, match=path.name.replace(".", "[.]")):
            restore(tmp_path / "kept", tmp_path / "again")
        path.write_bytes(content)
    assert len(one_a_folder) > 6
    assert list((tmp_path / "again").iterdir()) == []
    restore(tmp_path / "kept", tmp_path / "again")


def test_a_tar_that_leads_outside_is_refused(tmp_path: Path) -> None:
    """No name in a backup writes outside of the folder."""
    bare = backup.BackupManifest(1, "0", "00" * 16, 0, 0, 0, 0, {"../outside": backup.BackupFile(0, "")})
    (tmp_path / "bad").mkdir()
    manifest = msgspec.structs.replace(bare, checksum=backup.checksum_of(bare))
    (tmp_path / "bad" / backup.MANIFEST_NAME).write_bytes(msgspec.json.encode(manifest))
    (tmp_path / "outside").touch()
    with pytest.raises(Invalid, match="outside of the folder"):
        restore(tmp_path / "bad", tmp_path / "again")
    (tmp_path / "text").write_text("no tar")
    with pytest.raises(Invalid, match="cannot be read"):
        restore(tmp_path / "text", tmp_path / "again")
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(Invalid, match="no backup"):
        restore(tmp_path / "empty.tar", tmp_path / "again")


@pytest.mark.parametrize("name", ["kept", "kept.tar"])
def test_events_sealing_and_cuts_go_on_meanwhile(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that go away while they are copied make it begin again; what arrives meanwhile is in it up to a position,
    and restored the state is that of the events up to there.
    """
    shop = tmp_path / "shop"
    append(shop, 0, 1_000)
    real, times = backup._plan, 0

    def plan_then_change(*given):
        nonlocal times
        found = list(real(*given))
        times += 1
        if times < 4:  # each time something else goes on between looking and copying
            append(shop, 900 + 100 * times, 1_000 + 100 * times)
            seal_folder(shop, CONFIG)
        return iter(found)

    monkeypatch.setattr(backup, "_plan", plan_then_change)
    done = back_up(shop, tmp_path / name)
    assert done.attempts > 1
    assert done.log_position > 1_000
    restore(tmp_path / name, tmp_path / "again")
    assert digest_of(tmp_path / "again") == digest_at(done.log_position)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("step", ["survey_folder", "hot_firsts"])
def test_the_first_sealing_meanwhile_makes_it_begin_again(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments that become the first history between any two looks at the log are in the copy all the same."""
    shop = tmp_path / "shop"
    append(shop, 0, 1_000)
    real = getattr(backup, step)
    sealed: list[int] = []

    def then_sealed(*given):
        found = real(*given)
        if not sealed:
            sealed.append(seal_folder(shop, CONFIG).segments)
        return found

    monkeypatch.setattr(backup, step, then_sealed)
    assert back_up(shop, tmp_path / "kept").attempts == 2
    assert sealed[0] > 0
    restore(tmp_path / "kept", tmp_path / "again")
    assert digest_of(tmp_path / "again") == digest_at(1_000)


@pytest.mark.parametrize("name", ["kept", "kept.tar"])
def test_a_copy_that_takes_longer_than_the_time_between_snapshots(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While files are copied snapshots come and go, letters turn, a configuration, a model and an explained state go:
    it is done at the first attempt, has a snapshot, and what is restored is what the log of then says.
    """
    shop = tmp_path / "shop"
    data = DataFolder(shop / "data")
    append(shop, 0, 300)
    rebuild(shop, CONFIG)
    append(shop, 300, 400)
    rebuild(shop, CONFIG)
    old = data.snapshots / f"{100:020d}-0000"
    shutil.copytree(data.snapshots / snapshots.names(data.snapshots)[1], old)
    for path in ("models/near/0001-ab/manifest.json", "models/near/0001-ab/weights.npy", "config/ab.json"):
        (data.root / path).parent.mkdir(parents=True, exist_ok=True)
        (data.root / path).write_text("x")
    data.dead_letters.write_text("one line\n")
    before = snapshots.names(data.snapshots)[:2]
    real, copied = backup._Copier.add, list[str]()

    def slow(self, each, file):
        if not copied:
            append(shop, 400, 500)
            rebuild(shop, CONFIG)  # as often as one is due
            for each_name in (*before, old.name):
                shutil.rmtree(data.snapshots / each_name, ignore_errors=True)
            shutil.rmtree(data.models / "near" / "0001-ab")
            (data.configurations / "ab.json").unlink()
            data.dead_letters.rename(data.dead_letters.with_name("dead-letters.ndjson.old"))
        copied.append(each.name)
        real(self, each, file)

    monkeypatch.setattr(backup._Copier, "add", slow)
    done = back_up(shop, tmp_path / name)
    assert (done.attempts, done.log_position) == (1, 400)
    assert done.files == len(copied)
    assert not [each for each in copied if "/models/" in each or "ab.json" in each or old.name in each]
    assert "data/dead-letters.ndjson.old" in copied
    restore(tmp_path / name, tmp_path / "again")
    assert snapshots.names(DataFolder(tmp_path / "again" / "data").snapshots) == before
    found = verify(tmp_path / "again", CONFIG)
    assert found.is_equal
    assert found.snapshot_position == 400
    assert digest_of(tmp_path / "again") == digest_at(400)


def test_a_file_that_goes_while_it_is_its_turn_is_left_out_with_what_it_belongs_to(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the opening: a snapshot of which a file is gone is not half in the copy."""
    target = tmp_path / "shop"
    shutil.copytree(shop, target)
    data = DataFolder(target / "data")
    (whole,) = snapshots.names(data.snapshots)
    real = backup._still_there

    def then_gone(path, name):
        found = real(path, name)
        if path == data.snapshots / whole:
            found[-1].path.unlink()
        return found

    monkeypatch.setattr(backup, "_still_there", then_gone)
    back_up(target, tmp_path / "kept")
    restore(tmp_path / "kept", tmp_path / "again")
    assert snapshots.names(DataFolder(tmp_path / "again" / "data").snapshots) == []
    assert digest_of(tmp_path / "again") == digest_at(COUNT)


def test_what_goes_away_each_time_is_said(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some attempts it ends, and leaves nothing behind."""
    real = backup._plan

    def plan_and_more(*given):
        yield from real(*given)
        yield backup._Planned("data/gone", shop / "gone")

    monkeypatch.setattr(backup, "_plan", plan_and_more)
    for name in ("kept", "kept.tar"):
        with pytest.raises(Invalid, match="5 times"):
            back_up(shop, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["name", "sync"])
def test_a_restore_that_fails_at_its_end_leaves_nothing(
    shop: Path, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When not all can get its name, or the names cannot be made durable, nothing has one, and the next one works."""
    back_up(shop, tmp_path / "kept")
    again = tmp_path / "again"
    rename, sync_folder = Path.rename, RealDisk.sync_folder

    def rename_or_not(path: Path, target: Path) -> Path:
        if target == again / "data":
            raise OSError(5, "broken off")
        return rename(path, target)

    def sync_or_not(disk: RealDisk, folder: Path) -> None:
        if folder == again:
            raise OSError(5, "broken off")
        sync_folder(disk, folder)

    with monkeypatch.context() as patch:
        if step == "name":
            patch.setattr(Path, "rename", rename_or_not)
        else:
            patch.setattr(RealDisk, "sync_folder", sync_or_not)
        with pytest.raises(OSError, match="broken off"):
            restore(tmp_path / "kept", again)
    assert list(again.iterdir()) == []
    restore(tmp_path / "kept", again)
    assert digest_of(again) == digest_at(COUNT)


def test_what_a_killed_restore_left_is_replaced(shop: Path, tmp_path: Path) -> None:
    """Files that had got their names before the data did are no reason to refuse; a file of somebody's own is."""
    back_up(shop, tmp_path / "kept")
    again = tmp_path / "again"
    restore(tmp_path / "kept", again)
    (again / ".restoring").mkdir()
    (again / "data").rename(again / ".restoring" / "data")
    before = (again / "components.py").read_bytes()
    for path, content in ((again / "components.py", before + b"MINE = 1"), (again / "mine", b"")):
        path.write_bytes(content)
        with pytest.raises(Invalid, match="is not empty"):
            restore(tmp_path / "kept", again)
        assert path.read_bytes() == content
        path.unlink()
    restore(tmp_path / "kept", again)
    assert (again / "components.py").read_bytes() == before
    assert digest_of(again) == digest_at(COUNT)
    assert not (again / ".restoring").exists()
    (again / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(Invalid, match="is not empty"):
        restore(tmp_path / "kept", again)


def test_a_tar_that_was_cut_short_is_told(shop: Path, tmp_path: Path) -> None:
    """Wherever it ends before its time: what was given is named, and the folder has nothing."""
    back_up(shop, tmp_path / "kept.tar")
    content = (tmp_path / "kept.tar").read_bytes()
    for size in (0, 100, 3_000, len(content) // 2, len(content) - 20_000):
        (tmp_path / "cut.tar").write_bytes(content[:size])
        with pytest.raises(Invalid, match=r"cut\.tar|match|missing"):
            restore(tmp_path / "cut.tar", tmp_path / "again")
        assert not list(tmp_path.glob("again/*"))


def test_a_backup_goes_where_it_is_told_or_leaves_nothing(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into the empty folder that one is in, too; an empty folder is no tar, and what cannot be named is removed."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    back_up(shop, Path())
    assert (here / backup.MANIFEST_NAME).exists()
    (tmp_path / "kept.tar").mkdir()
    with pytest.raises(Invalid, match="is there already"):
        back_up(shop, tmp_path / "kept.tar")

    def broken(*_: object) -> None:
        raise OSError(5, "broken off")

    monkeypatch.setattr(Path, "rename", broken)
    for name in ("other", "other.tar"):
        with pytest.raises(OSError, match="broken off"):
            back_up(shop, tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"here", "kept.tar"}
