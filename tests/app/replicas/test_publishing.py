"""A server publishes each new snapshot of its own accord, and a place that fails is named and tried again."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from midstream.app.config.reader import parse_config
from midstream.app.replicas import publish_worker
from midstream.core.errors import ConfigInvalid, StoreUnavailable
from midstream.engine import child_process
from midstream.engine.child_process import Ended, Pace
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.log_readers import open_reader
from midstream.engine.replication import published_snapshots
from midstream.engine.replication.published_snapshots import read_manifest
from midstream.engine.replication.snapshot_publisher import PublishOptions, PublishOrder, SnapshotPublisher
from midstream.engine.replication.snapshot_store import FolderStore
from midstream.engine.snapshots import snapshots
from tests.support.fakes.rebuilds import run_folder, write_config
from tests.support.patience import wait_on_loop


async def snapshot(running: Instance, data: DataFolder) -> None:
    """Write a snapshot of the state now."""
    await asyncio.sleep(0)
    snapshots.write(data.snapshots, running.engine.fold, open_reader(data).identity)


@pytest.fixture
def children_here(monkeypatch: pytest.MonkeyPatch) -> list[PublishOrder]:
    """Run the child's work in this process; return the orders."""
    orders: list[PublishOrder] = []

    async def run(_module: str, order: PublishOrder, **_: object) -> Ended:
        orders.append(order)
        try:
            report = await asyncio.to_thread(publish_worker.run, order, Pace(hurried=True))
        except StoreUnavailable as error:
            return Ended(b"", str(error), is_told=True)
        return Ended(report.name.encode(), "")

    monkeypatch.setattr(child_process, "run", run)
    return orders


def test_the_newest_snapshot_is_published_once(tmp_path: Path, children_here: list[PublishOrder]) -> None:
    """Until there is a newer one; nothing but the data stays behind on the node."""
    write_config(tmp_path / "shop")
    data, store = DataFolder(tmp_path / "shop" / "data"), FolderStore(tmp_path / "shared")

    async def work(running: Instance) -> None:
        publisher = SnapshotPublisher(running.engine, data, PublishOptions(store.address), bytes)
        await publisher.publish_newest()
        assert store.folders() == ()
        await snapshot(running, data)
        await publisher.publish_newest()
        await publisher.publish_newest()
        (name,) = store.folders()
        manifest = read_manifest(store, name, open_reader(data).identity)
        assert (manifest.log_position, manifest.digest) == (
            running.engine.fold.log_position,
            running.engine.fold.digest(),
        )
        assert len(children_here) == 1
        assert not list(data.root.glob(".publishing*"))

    run_folder(tmp_path / "shop", work)


def test_a_place_that_fails_is_named_and_tried_again(tmp_path: Path, children_here: list[PublishOrder]) -> None:
    """Health says why, until it succeeds."""
    write_config(tmp_path / "shop", f'[snapshots]\npublish = "{tmp_path / "shared"}"\n')
    (tmp_path / "shared").write_bytes(b"")
    data = DataFolder(tmp_path / "shop" / "data")

    async def work(running: Instance) -> None:
        await snapshot(running, data)
        await wait_on_loop(lambda: "was not published" in running.engine.health().reason)
        assert str(tmp_path / "shared") in running.engine.health().reason
        assert running.engine.health().ready
        (tmp_path / "shared").unlink()
        await wait_on_loop(lambda: not running.engine.health().reason)
        assert len(list((tmp_path / "shared").iterdir())) == 1

    run_folder(tmp_path / "shop", work)
    assert len(children_here) > 1


def test_a_snapshot_that_is_removed_meanwhile_is_published_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention of the node does not wait for an upload."""
    write_config(tmp_path / "shop")
    data, store = DataFolder(tmp_path / "shop" / "data"), FolderStore(tmp_path / "shared")

    async def work(running: Instance) -> None:
        await snapshot(running, data)

    run_folder(tmp_path / "shop", work)
    (local,) = snapshots.names(data.snapshots)
    publish = published_snapshots.publish

    def removing(*told: Any) -> str:
        for path in (data.snapshots / local).iterdir():
            path.unlink()
        return publish(*told)

    monkeypatch.setattr(published_snapshots, "publish", removing)
    order = PublishOrder(str(data.root), local, store.address, 2, "a")
    report = publish_worker.run(order, Pace(hurried=True))
    manifest = read_manifest(store, report.name, open_reader(data).identity)
    assert report.bytes == sum(path.stat().st_size for path in (Path(store.address) / report.name).glob("*.npy"))
    assert report.bytes == manifest.bytes


def test_a_peer_is_no_place_to_publish_to() -> None:
    """It is only read."""
    with pytest.raises(ConfigInvalid, match="a peer is only read"):
        parse_config('[snapshots]\npublish = "http://peer:8080"\n')


def test_uploads_that_break_off_leave_one_folder_at_most(
    tmp_path: Path, children_here: list[PublishOrder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the one before left is removed before the next begins."""
    write_config(tmp_path / "shop")
    data, store = DataFolder(tmp_path / "shop" / "data"), FolderStore(tmp_path / "shared")
    numbers = iter(range(1, 100))

    def break_off(*told: Any) -> str:
        manifest, upload = told[2], told[4]
        store.write(published_snapshots.folder_name(manifest, upload), "users.npy", (b"",))
        message = "the upload broke off"
        raise StoreUnavailable(message)

    async def work(running: Instance) -> None:
        await snapshot(running, data)
        options = PublishOptions(store.address, node="n1")
        publisher = SnapshotPublisher(running.engine, data, options, lambda size: next(numbers).to_bytes(size))
        with monkeypatch.context() as patch:
            patch.setattr(published_snapshots, "publish", break_off)
            for _ in range(3):
                with pytest.raises(StoreUnavailable, match="broke off"):
                    await publisher.publish_newest()
                assert len(store.folders()) == 1
        await publisher.publish_newest()
        assert len(store.folders()) == 1

    run_folder(tmp_path / "shop", work)
    assert len(children_here) == 4
