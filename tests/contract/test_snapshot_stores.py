"""Every snapshot store keeps the same promises."""

from pathlib import Path

import pytest

from midstream.core.errors import Invalid, StoreUnavailable
from midstream.engine.replication.snapshot_store import FolderStore
from midstream.integrations.object_storage import ObjectStorage
from midstream.testing.store_conformance import check_snapshot_store
from tests.support.libraries import library


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
