"""A node gives its snapshots to nodes of its shop alone, in pieces, and a joiner takes them over HTTP."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import midstream
from midstream.app.config_history import settings_of
from midstream.app.opening import config_of
from midstream.app.replicas.peer_store import PeerStore
from midstream.app.replicas.stores import store_of
from midstream.core.errors import Overloaded, StoreUnavailable
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.log_readers import open_reader
from midstream.engine.replication import snapshot_shelf
from midstream.engine.replication.joining import join
from midstream.engine.replication.published_snapshots import MANIFEST_NAME, peer_key, read_manifest
from midstream.engine.replication.snapshot_store import FolderStore, PeerUnknown, StoredFileMissing
from midstream.engine.snapshots import snapshots
from tests.crash.servers import serving
from tests.support.fakes.rebuilds import run_folder, write_config
from tests.support.libraries import library


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server with one snapshot, and its folder."""
    folder = tmp_path_factory.mktemp("peer")
    write_config(folder)
    with midstream.open(folder) as shop:
        shop.record([{"type": "view", "user_id": f"user {n % 5}", "item_id": f"item {n % 9}"} for n in range(40)])
    data = DataFolder(folder / "data")

    async def write(running: Instance) -> None:
        await asyncio.sleep(0)
        snapshots.write(data.snapshots, running.engine.fold, open_reader(data).identity)

    run_folder(folder, write)
    with serving(folder) as (_, url):
        yield url, folder


def identity_in(folder: Path):
    return open_reader(DataFolder(folder / "data")).identity


def test_a_node_joins_by_a_peer(peer, tmp_path):
    """The state is that of the peer's snapshot."""
    url, folder = peer
    (tmp_path / "midstream.toml").write_bytes((folder / "midstream.toml").read_bytes())
    data, identity = DataFolder(tmp_path / "data"), identity_in(folder)
    store = store_of(url, identity, tmp_path)
    settings = settings_of(DataFolder(folder / "data"), config_of(folder))
    done = join(data, settings, identity, [store])
    (name,) = store.folders()
    assert done.log_position == 40
    assert done.digest == read_manifest(store, name, identity).digest
    assert open_reader(data).begin == 40


@pytest.mark.parametrize("key", ["", "0" * 64, "ü"])
def test_a_caller_without_the_key_gets_nothing(peer, key):
    """Neither names nor files."""
    url, folder = peer
    name = PeerStore(url, peer_key(identity_in(folder))).folders()[0]
    for path in ("/v1/snapshots", f"/v1/snapshots/{name}/{MANIFEST_NAME}", "/v1/snapshots/x/y"):
        headers = {b"authorization": f"Bearer {key}".encode()} if key else {}
        answer = httpx.get(f"{url}{path}", headers=headers)
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:midstream:peer-unknown"
    with pytest.raises(StoreUnavailable, match="answers 403"):
        PeerStore(url, "0" * 64).folders()


@pytest.mark.parametrize("path", ["../key", "../../midstream.toml", "key", ".", "", "manifest.json"])
def test_only_files_of_a_snapshot_are_given(peer, path):
    """Whatever a path says, nothing else of the folder is read."""
    url, folder = peer
    store = PeerStore(url, peer_key(identity_in(folder)))
    (name,) = store.folders()
    if path != "manifest.json":
        with pytest.raises((StoredFileMissing, StoreUnavailable)):
            b"".join(store.read(name, path))
    with pytest.raises((StoredFileMissing, StoreUnavailable)):
        b"".join(store.read(path, MANIFEST_NAME))


def test_the_local_manifest_with_the_logs_id_stays_here(peer):
    """What a peer gives has no secret of the log."""
    url, folder = peer
    identity = identity_in(folder)
    store = PeerStore(url, peer_key(identity))
    (name,) = store.folders()
    with pytest.raises(StoredFileMissing):
        b"".join(store.read(name, "manifest.json"))
    assert identity.log_id.encode() not in b"".join(store.read(name, MANIFEST_NAME))


def test_a_peer_that_is_gone_is_unavailable():
    """The address is named."""
    store = PeerStore("http://127.0.0.1:9", "0" * 64)
    with pytest.raises(StoreUnavailable, match=r"http://127\.0\.0\.1:9: ConnectError"):
        store.folders()


def test_as_many_streams_as_may_be(peer, monkeypatch):
    """The next file is refused until one ends, also when its reader went away."""
    _, folder = peer
    monkeypatch.setattr(snapshot_shelf, "STREAMS_MAX", 1)
    shelf = snapshot_shelf.SnapshotShelf(DataFolder(folder / "data"))
    (name,) = shelf.names()
    first = shelf.content(name, "items.clock.npy").pieces
    next(first)
    assert isinstance(first, snapshot_shelf.SnapshotPieces)
    with pytest.raises(Overloaded):
        shelf.content(name, "items.clock.npy")
    first.close()
    assert next(shelf.content(name, "items.clock.npy").pieces)


def test_streams_count_before_they_begin(peer, monkeypatch):
    """A file that is dropped before its first piece counts no more."""
    _, folder = peer
    monkeypatch.setattr(snapshot_shelf, "STREAMS_MAX", 1)
    shelf = snapshot_shelf.SnapshotShelf(DataFolder(folder / "data"))
    (name,) = shelf.names()
    waiting = shelf.content(name, "items.clock.npy")
    with pytest.raises(Overloaded):
        shelf.content(name, "items.clock.npy")
    del waiting
    found = shelf.content(name, "items.clock.npy")
    assert sum(len(piece) for piece in found.pieces) == found.size
    assert shelf.content(name, "items.clock.npy").size == found.size


def test_a_caller_without_the_key_has_no_file_read(peer, monkeypatch):
    """The key is known from the start, so refusing costs nothing that a stranger could ask for again and again."""
    _, folder = peer
    shelf = snapshot_shelf.SnapshotShelf(DataFolder(folder / "data"))

    def fail(*_: object) -> None:
        pytest.fail("the log was opened")

    monkeypatch.setattr(snapshot_shelf, "open_reader", fail)
    with pytest.raises(PeerUnknown):
        shelf.require_peer("Bearer x")
    shelf.require_peer(f"Bearer {peer_key(identity_in(folder))}")


def test_an_address_names_its_store(tmp_path, peer):
    """A URL of a peer, a folder, an address of fsspec."""
    library("fsspec")
    identity = identity_in(peer[1])
    assert isinstance(store_of("https://peer:8080", identity, tmp_path), PeerStore)
    assert store_of("shared", identity, tmp_path).address == str(tmp_path / "shared")
    assert store_of("/shared", identity, tmp_path).address == "/shared"
    assert isinstance(store_of("file:///shared", identity, tmp_path), FolderStore)
    assert store_of("memory://shop", identity, tmp_path).address == "memory://shop"
