"""A node that joins begins at another's snapshot with an equal state, or says by name why it does not."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

import midstream
from midstream.app.config_history import settings_of
from midstream.app.opening import config_of
from midstream.core.errors import Invalid, StoreUnavailable
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.child_process import Pace
from midstream.engine.erasure.log_rewrite import Rewrite, new_log
from midstream.engine.erasure.redaction import ErasedIds
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.log_opening import open_log
from midstream.engine.log_readers import open_reader, read_folder
from midstream.engine.pending_erasures import erase_event
from midstream.engine.replication import joining, published_snapshots
from midstream.engine.replication.joining import NoSnapshotFits, join
from midstream.engine.replication.published_snapshots import MANIFEST_NAME, PublishedFile, PublishedSnapshot, seal
from midstream.engine.replication.snapshot_shelf import SnapshotShelf
from midstream.engine.replication.snapshot_store import FolderStore
from midstream.engine.snapshots import base_state, snapshots
from midstream.events.disk import RealDisk
from midstream.events.schema import Event, build, event_at
from midstream.events.sealing import seal as seal_log
from midstream.events.segments.log_identity import LogIdentity, identity_of
from midstream.state.ids.erased_users import blanked_hashes
from midstream.state.settings import FoldSettings
from midstream.state.structures.hashing import id_hash
from tests.support.fakes.rebuilds import run_folder, write_config

EVENTS: list[Mapping[str, object]] = [
    {"type": "item", "item_id": "lamp", "attributes": {"title": "Lamp"}},
    {"type": "user", "user_id": "ann", "attributes": {"country": "DE"}},
    *({"type": "view", "user_id": f"user {n % 7}", "item_id": f"item {n % 11}"} for n in range(60)),
]
LATER = [{"type": "view", "user_id": "ann", "item_id": "lamp"}]


class Node:
    """One node's folder."""

    def __init__(self, folder: Path, config: Path | None = None) -> None:
        self.folder = folder
        self.data = DataFolder(folder / "data")
        if config is not None:
            folder.mkdir()
            shutil.copy(config / "midstream.toml", folder)

    @property
    def settings(self) -> FoldSettings:
        return settings_of(self.data, config_of(self.folder))

    def digest(self) -> tuple[int, str]:
        """Position and digest of its state, as a start finds it."""
        found: list[tuple[int, str]] = []

        async def look(running: Instance) -> None:
            found.append((running.engine.fold.log_position, running.engine.fold.digest()))

        run_folder(self.folder, look)
        return found[0]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node with events and a snapshot."""
    node = Node(tmp_path_factory.mktemp("first"))
    write_config(node.folder)
    with midstream.open(node.folder) as shop:
        shop.record(EVENTS)

    async def write(running: Instance) -> None:
        snapshots.write(node.data.snapshots, running.engine.fold, open_reader(node.data).identity)

    run_folder(node.folder, write)
    return node


@pytest.fixture(scope="module")
def identity(first: Node) -> LogIdentity:
    return open_reader(first.data).identity


@pytest.fixture
def store(first: Node, identity: LogIdentity, tmp_path: Path) -> FolderStore:
    """A store with the snapshot of the first node."""
    store = FolderStore(tmp_path / "shared")
    publish(first, store, identity, "first-1")
    return store


def publish(node: Node, store: FolderStore, identity: LogIdentity, upload: str) -> PublishedSnapshot:
    local = node.data.snapshots / snapshots.names(node.data.snapshots)[0]
    manifest = SnapshotShelf(node.data).published(local)
    published_snapshots.publish(store, local, manifest, identity, upload)
    return manifest


def joined(first: Node, identity: LogIdentity, store: FolderStore, folder: Path) -> tuple[Node, joining.Joined]:
    node = Node(folder, first.folder)
    return node, join(node.data, first.settings, identity, [store])


def test_a_node_begins_at_the_snapshot_and_goes_on_like_the_first(first, identity, store, tmp_path):
    """Equal digests at the snapshot, and at the same later events; the log begins there and can be sealed and cut."""
    node, done = joined(first, identity, store, tmp_path / "second")
    assert done.log_position == len(EVENTS)
    assert node.digest() == first.digest()
    assert open_reader(node.data).begin == len(EVENTS)
    shutil.copytree(first.folder, tmp_path / "copy")
    copy = Node(tmp_path / "copy")
    with midstream.open(copy.folder) as shop:
        for _ in range(3):
            shop.record(LATER)
    end = copy.digest()[0]
    log = open_log(node.data, bytes(16), 1)
    for _, batch in open_reader(copy.data).read(LogPosition(len(EVENTS)), end, LogPosition(end)):
        log.append(batch)
    log.close()
    assert node.digest() == copy.digest()
    assert seal_log(node.data.log, RealDisk(), LogPosition(end), -(1 << 40)).events == 2
    assert node.digest() == copy.digest()
    with midstream.open(node.folder) as shop:
        assert shop.recommend(user_id="ann").items
    assert base_state.base_flaw(base_state.base_folder(node.data.log, len(EVENTS)), identity.log_id) == ""


def erasing(first: Node, identity: LogIdentity, folder: Path, later: EventBatch) -> tuple[ErasedIds, list[Event]]:
    """Join, append events, and return whom a rewrite erases and what it leaves of those events."""
    store = FolderStore(folder / "shared")
    publish(first, store, identity, "erasing")
    node, done = joined(first, identity, store, folder / "second")
    log = open_log(node.data, bytes(16), 1)
    log.append(later)
    log.close()
    end = LogPosition(done.log_position + len(later))
    made = Rewrite(node.data, RealDisk(), 1 << 20, Pace(hurried=True)).make(end, first.settings)
    target = read_folder(new_log(node.data), RealDisk())
    found = [event_at(batch, n) for _, batch in target.read(done.log_position, 100, end) for n in range(len(batch))]
    return made.erased, found


def test_an_erasure_reaches_ids_that_were_merged_before_the_join(tmp_path):
    """Events of such an id are blanked, and the erase keeps the hashes of ids that no event here names."""
    first = Node(tmp_path / "first")
    write_config(first.folder)
    merge = [
        {"type": "user", "operation": "merge", "user_id": "ann", "attributes": {"from": each}}
        for each in ("anna", "late", "unseen")
    ]
    with midstream.open(first.folder) as shop:
        shop.record([{"type": "view", "user_id": each, "item_id": "lamp"} for each in ("anna", "ann", "bob")])
        shop.record(merge)

    async def write(running: Instance) -> None:
        snapshots.write(first.data.snapshots, running.engine.fold, open_reader(first.data).identity)

    run_folder(first.folder, write)
    now_ms = settled_ms(first)
    ids = ("anna", "bob", "ann")
    views = [view(each, event_time_ms=now_ms + n, log_time_ms=now_ms + n) for n, each in enumerate(ids)]
    erase = erase_event("ann", now_ms + 9)._replace(log_time_ms=now_ms + 9)
    late = view("late", event_time_ms=now_ms, log_time_ms=now_ms + 10)
    found, left = erasing(first, open_reader(first.data).identity, tmp_path, build([*views, erase, late]))
    assert sorted(found.ids) == ["ann", "anna", "late"]
    assert list(found.refused) == [id_hash("unseen", first.settings.hash_key())]
    assert [event.user_id for event in left] == ["", "bob", "", "", ""]
    key = first.settings.hash_key()
    assert blanked_hashes(left[3].body) == sorted(id_hash(each, key) for each in ("ann", "anna", "late", "unseen"))
    assert left[4].kind == Kind.TICK


def test_late_copies_of_users_erased_before_the_join_are_blanked(tmp_path):
    """Their erase is not in the log of the node that joined; the state of the snapshot has it."""
    first = Node(tmp_path / "first")
    write_config(first.folder)
    with midstream.open(first.folder) as shop:
        shop.record([{"type": "view", "user_id": each, "item_id": "lamp"} for each in ("ann", "bob")])
        shop.erase("ann")

    async def write(running: Instance) -> None:
        snapshots.write(first.data.snapshots, running.engine.fold, open_reader(first.data).identity)

    run_folder(first.folder, write)
    now_ms = settled_ms(first)
    late = [view(each, event_time_ms=now_ms - 3_600_000, log_time_ms=now_ms) for each in ("ann", "bob")]
    _, left = erasing(first, open_reader(first.data).identity, tmp_path, build(late))
    assert [event.user_id for event in left] == ["", "bob"]


def settled_ms(node: Node) -> int:
    """Return the log time at the end of a node's log."""
    (name,) = snapshots.names(node.data.snapshots)
    return dict(snapshots.manifests(node.data.snapshots))[name].log_time_ms


def view(user_id: str, *, event_time_ms: int, log_time_ms: int) -> Event:
    return Event(
        Kind.INTERACTION, user_id=user_id, item_id="lamp", event_time_ms=event_time_ms, log_time_ms=log_time_ms
    )


def test_no_published_byte_has_the_secret(store, identity):
    """Neither the log's id nor the key of ids is in a file of the store."""
    for path in Path(store.address).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for secret in (identity.log_id, identity.id_key):
                assert secret.encode() not in content
                assert bytes.fromhex(secret) not in content


def test_another_key_is_refused(first, store, tmp_path):
    """A node with another key takes nothing, and says that the key is another."""
    other = identity_of(bytes(range(16)), 0)
    settings = msgspec.structs.replace(first.settings, id_key=other.id_key)
    data = DataFolder(tmp_path / "second" / "data")
    with pytest.raises(NoSnapshotFits, match="not made with the key of this shop"):
        join(data, settings, other, [store])
    assert not data.log.exists()


def forge(store: FolderStore, identity: LogIdentity, **changes: object) -> None:
    """Write the manifest of the one published snapshot again, changed, and sealed with the right key."""
    (name,) = store.folders()
    manifest = msgspec.structs.replace(published_snapshots.read_manifest(store, name, identity), **changes)
    store.write(name, MANIFEST_NAME, (seal(manifest, identity),))


def _without_a_file(store: FolderStore, _identity: LogIdentity) -> None:
    next(Path(store.address).rglob("items.clock.npy")).unlink()


def _flipped(store: FolderStore, _identity: LogIdentity) -> None:
    path = next(Path(store.address).rglob("pairs.share.npy"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _cut_short(store: FolderStore, _identity: LogIdentity) -> None:
    path = next(Path(store.address).rglob("pairs.share.npy"))
    path.write_bytes(path.read_bytes()[:-1])


def _grown(store: FolderStore, _identity: LogIdentity) -> None:
    path = next(Path(store.address).rglob("pairs.share.npy"))
    path.write_bytes(path.read_bytes() + b"\0" * 5_000_000)


def _unsealed(store: FolderStore, _identity: LogIdentity) -> None:
    path = next(Path(store.address).rglob(MANIFEST_NAME))
    path.write_bytes(path.read_bytes().replace(b'"log_position":', b'"log_position": '))


def _torn(store: FolderStore, _identity: LogIdentity) -> None:
    next(Path(store.address).rglob(MANIFEST_NAME)).unlink()


def _endless(store: FolderStore, _identity: LogIdentity) -> None:
    next(Path(store.address).rglob(MANIFEST_NAME)).write_bytes(b"x" * (published_snapshots.MANIFEST_BYTES_MAX + 1))


FILE = PublishedFile(1, "0" * 64)
HOSTILE: dict[str, tuple[Callable[[FolderStore, LogIdentity], None], str]] = {
    "a file is missing": (_without_a_file, "items.clock.npy is not there"),
    "a bit is flipped": (_flipped, "pairs.share.npy does not match its SHA-256"),
    "a file is cut short": (_cut_short, "pairs.share.npy ends after"),
    "a file is larger": (_grown, "pairs.share.npy does not match its SHA-256"),
    "the manifest was changed": (_unsealed, "was not made with the key of this shop"),
    "the upload broke off": (_torn, "published.json is not there"),
    "the manifest does not end": (_endless, "its manifest has more than"),
    "a path leads elsewhere": (lambda s, i: forge(s, i, files={"../../key": FILE}), r"names '\.\./\.\./key'"),
    "a path is absolute": (lambda s, i: forge(s, i, files={"/etc/passwd": FILE}), "names '/etc/passwd'"),
    "a hidden file": (lambda s, i: forge(s, i, files={".lost": FILE}), r"names '\.lost'"),
    "too many files": (lambda s, i: forge(s, i, files={f"f{n}": FILE for n in range(5_000)}), "names 5,000 files"),
    "a huge size": (lambda s, i: forge(s, i, files={"a": PublishedFile(1 << 50, "0" * 64)}), "the tables of this node"),
    "a size below zero": (lambda s, i: forge(s, i, files={"a": PublishedFile(-1, "0" * 64)}), "which no snapshot has"),
    "files of another state": (lambda s, i: forge(s, i, files={}), "it lacks"),
    "another digest": (lambda s, i: forge(s, i, digest="0" * 32), "another digest"),
    "another fold version": (lambda s, i: forge(s, i, fold_version="0" * 16), "it has fold version 0000"),
    "another log": (lambda s, i: forge(s, i, log="0" * 32), "another log"),
    "another format": (lambda s, i: forge(s, i, format_version=9), "it has format 9"),
    "a version that is a path": (lambda s, i: forge(s, i, fold_version="../x"), "no snapshot has"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_whole_or_hostile_is_refused_by_name(case, first, identity, store, tmp_path):
    """Nothing of it reaches the node, and the refusal says which snapshot and why."""
    change, reason = HOSTILE[case]
    change(store, identity)
    node = Node(tmp_path / "second", first.folder)
    with pytest.raises(NoSnapshotFits, match=reason) as refused:
        join(node.data, first.settings, identity, [store])
    assert store.folders()[0] in str(refused.value)
    assert not node.data.log.exists()
    assert not (tmp_path / "key").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["second", "shared"]


def test_an_older_whole_one_is_taken_instead(first, identity, store, tmp_path):
    """A newer snapshot that is torn or damaged is passed by and named."""
    (name,) = store.folders()
    newer = f"{len(EVENTS) + 5:020d}{name[20:]}"
    shutil.copytree(Path(store.address) / name, Path(store.address) / newer)
    (Path(store.address) / newer / MANIFEST_NAME).unlink()
    _node, done = joined(first, identity, store, tmp_path / "second")
    assert done.log_position == len(EVENTS)
    assert len(done.refused) == 1
    assert newer in done.refused[0]


class Dying(FolderStore):
    """A peer that dies in the middle of a file, as often as it is told to."""

    def __init__(self, root: Path, deaths: int) -> None:
        super().__init__(root)
        self.deaths = deaths
        self.reads: list[str] = []

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        self.reads.append(name)
        for piece in super().read(folder, name):
            if name == "pairs.share.npy" and self.deaths:
                self.deaths -= 1
                yield piece[:-1]
                raise StoreUnavailable("the peer is gone")
            yield piece


def test_a_peer_that_dies_is_asked_again_and_nothing_whole_twice(first, identity, store, tmp_path):
    """Files that came whole are not copied again."""
    dying = Dying(Path(store.address), joining.TRIES - 1)
    node, _done = joined(first, identity, dying, tmp_path / "second")
    assert node.digest() == first.digest()
    assert dying.reads.count("pairs.share.npy") == joining.TRIES
    assert dying.reads.count("items.clock.npy") == 1


def test_a_peer_that_stays_away_is_passed_by(first, identity, store, tmp_path):
    """Another store has the snapshot; the dead one is named."""
    dying = Dying(Path(store.address), 100)
    node = Node(tmp_path / "second", first.folder)
    done = join(node.data, first.settings, identity, [dying, store])
    assert done.source.startswith(store.address)
    assert "the peer is gone" in done.refused[0]
    assert node.digest() == first.digest()


def test_a_join_that_broke_off_leaves_no_log(first, identity, store, tmp_path, monkeypatch):
    """The next one goes on from what came."""
    node = Node(tmp_path / "second", first.folder)

    def fail(*_: object) -> None:
        raise OSError(28, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(joining, "write_identity", fail)
        with pytest.raises(OSError, match="no space"):
            join(node.data, first.settings, identity, [store])
    assert not node.data.log.exists()
    join(node.data, first.settings, identity, [store])
    assert node.digest() == first.digest()


def test_a_join_leaves_no_topic_position_of_an_earlier_one(first, identity, store, tmp_path):
    """A snapshot of a log in files names no place in a topic; a position that a broken join left is not its own."""
    node = Node(tmp_path / "second", first.folder)
    node.data.root.mkdir()
    node.data.topic_position.write_bytes(b"left")
    join(node.data, first.settings, identity, [store])
    assert not node.data.topic_position.exists()


def test_a_folder_with_a_log_is_left_alone(first, identity, store):
    """A join is for an empty folder."""
    with pytest.raises(Invalid, match="It has a log already"):
        join(first.data, first.settings, identity, [store])


def test_no_room_is_said_before_anything_is_copied(first, identity, store, tmp_path, monkeypatch):
    """The bytes of the snapshot and the free ones."""
    node = Node(tmp_path / "second", first.folder)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(Invalid, match="and 10 are free"):
        join(node.data, first.settings, identity, [store])


def test_the_newest_of_each_version_stay(first, identity, tmp_path):
    """What is older goes, torn uploads before the newest too; what may hold an erased user goes at once."""
    store = FolderStore(tmp_path / "shared")
    for upload in ("a", "b", "c"):
        publish(first, store, identity, upload)
    (name,) = (each for each in store.folders() if each.endswith("-a"))
    torn_old, torn_new = f"{1:020d}{name[20:-1]}x", f"{10**6:020d}{name[20:-1]}y"
    for torn in (torn_old, torn_new):
        store.write(torn, "users.npy", (b"",))
    removed = published_snapshots.prune(store, 2, identity, LogPosition(0))
    assert sorted(removed) == sorted([name, torn_old])
    assert torn_new in store.folders()
    assert len(published_snapshots.prune(store, 2, identity, LogPosition(len(EVENTS) + 1))) == 2
    assert list(store.folders()) == [torn_new]


def test_what_another_shop_or_release_put_there_stays(first, identity, tmp_path):
    """Whole or under way, however old: two shops may share a place."""
    store, other = FolderStore(tmp_path / "shared"), identity_of(bytes(range(16)), 0)
    publish(first, store, identity, "n-a")
    publish(first, store, identity, "n-b")
    local = first.data.snapshots / snapshots.names(first.data.snapshots)[0]
    mine = SnapshotShelf(first.data).published(local)
    theirs = msgspec.structs.replace(mine, log=other.public_name, log_position=1)
    published_snapshots.publish(store, local, theirs, other, "theirs")
    under_way = published_snapshots.folder_name(theirs, "under-way")
    store.write(under_way, "users.npy", (b"",))
    newer = published_snapshots.folder_name(msgspec.structs.replace(mine, log_position=2), "newer")
    store.write(newer, MANIFEST_NAME, (seal(msgspec.structs.replace(mine, format_version=9), identity),))
    assert not published_snapshots.prune(store, 2, identity, LogPosition(0))
    assert not published_snapshots.remove_left(store, identity, "n")
    assert len(published_snapshots.prune(store, 1, identity, LogPosition(0))) == 1
    assert len(list(store.folders())) == 4


def test_what_a_node_left_of_broken_uploads_goes(first, identity, tmp_path):
    """That of other nodes is maybe under way, and stays."""
    store = FolderStore(tmp_path / "shared")
    manifest = publish(first, store, identity, "n1-whole")
    left, other = (published_snapshots.folder_name(manifest, each) for each in ("n1-left", "n2-under-way"))
    for each in (left, other):
        store.write(each, "users.npy", (b"",))
    assert published_snapshots.remove_left(store, identity, "n1") == [left]
    assert other in store.folders()
    assert len(list(store.folders())) == 2


def test_an_upload_tells_of_each_piece(first, identity, tmp_path):
    """So that no upload is taken for one that hangs, however long it takes."""
    store, told = FolderStore(tmp_path / "shared"), list[int]()
    local = first.data.snapshots / snapshots.names(first.data.snapshots)[0]
    manifest = SnapshotShelf(first.data).published(local)
    published_snapshots.publish(store, local, manifest, identity, "a", lambda _stage, done, _total: told.append(done))
    assert len(told) >= len(manifest.files)
    assert told == sorted(told)
    assert told[-1] == manifest.bytes
