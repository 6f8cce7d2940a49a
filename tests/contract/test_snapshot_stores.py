"""Every snapshot store keeps the same promises."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from midstream.app.config.reader import parse_config
from midstream.app.replicas.join import join_by
from midstream.core.errors import Invalid, StoreUnavailable
from midstream.engine.folder import DataFolder
from midstream.engine.replication.snapshot_store import FolderStore
from midstream.events.segments.log_identity import identity_of
from midstream.integrations.object_storage import ObjectStorage
from midstream.testing.store_conformance import check_snapshot_store
from tests.support.libraries import library

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_folder_keeps_the_promises(tmp_path: Path) -> None:
    """A folder of this machine."""
    check_snapshot_store(FolderStore(tmp_path / "shared" / "shop"))


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_object_storage_keeps_the_promises(tmp_path: Path, scheme: str) -> None:
    """What fsspec reads and writes: its storage in memory, which has objects and no files, and local files."""
    library("fsspec")
    check_snapshot_store(ObjectStorage(f"{scheme}://{tmp_path}/shop"))


def test_an_unknown_storage_is_refused() -> None:
    """The address is named."""
    library("fsspec")
    with pytest.raises(Invalid, match="nowhere://shop"):
        ObjectStorage("nowhere://shop")


def test_a_place_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    """A file where the folder would be."""
    (tmp_path / "shop").write_bytes(b"")
    store = FolderStore(tmp_path / "shop")
    with pytest.raises(StoreUnavailable, match="shop"):
        store.write("a", "b", (b"",))
    with pytest.raises(StoreUnavailable, match="shop"):
        store.folders()


class Tearing(FolderStore):
    """Writes straight under the name."""

    def write(self, folder, name, pieces):
        (self._root / folder).mkdir(parents=True, exist_ok=True)
        with (self._root / folder / name).open("wb") as file:
            for piece in pieces:
                file.write(piece)


class Hoarding(FolderStore):
    """Removes the manifest alone."""

    def remove(self, folder, last):
        (self._root / folder / last).unlink(missing_ok=True)


@pytest.mark.parametrize("broken", [Tearing, Hoarding])
def test_the_checks_notice_a_broken_store(tmp_path: Path, broken: type[FolderStore]) -> None:
    """A store with half a file under its name, or with what was removed, does not pass."""
    with pytest.raises(AssertionError, match="is there"):
        check_snapshot_store(broken(tmp_path))


class EndpointConnectionError(Exception):
    """As botocore defines it: no ``OSError``."""


EndpointConnectionError.__module__ = "botocore.exceptions"


def test_errors_of_the_package_of_a_storage_are_unavailability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable storage is passed by, whatever its package raises; an error of the code is none of it."""
    library("fsspec")
    store = ObjectStorage(f"memory://{tmp_path}/shop")
    calls: list[Callable[[], object]] = [
        store.folders,
        lambda: list(store.read("a", "b")),
        lambda: store.write("a", "b", (b"",)),
        lambda: store.remove("a", "b"),
    ]

    def fail(*_: object, **__: object) -> None:
        raise errors[0]

    for method in ("ls", "open", "makedirs", "exists"):
        monkeypatch.setattr(type(store._files), method, fail)
    errors: list[Exception] = [EndpointConnectionError("no route to the storage")]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="EndpointConnectionError: no route to the storage"):
            call()
    errors[:] = [TypeError("a bug")]
    for call in calls:
        with pytest.raises(TypeError):
            call()


def test_a_source_whose_package_finds_no_credentials_is_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The node looks at its next source, and goes on without a snapshot where none is left."""
    core = library("fsspec.core")

    def fail(*_: object, **__: object) -> None:
        raise EndpointConnectionError("no credentials")

    monkeypatch.setattr(core, "url_to_fs", fail)
    text = '[log]\nkind = "kafka"\nservers = "nowhere:9092"\ntopic = "t"\njoin = ["memory://shop", "shared"]\n'
    begin = join_by(DataFolder(tmp_path / "data"), parse_config(text))
    assert begin is not None
    assert begin(identity_of(bytes(16), 0)) is None
    assert "no credentials" in caplog.text
