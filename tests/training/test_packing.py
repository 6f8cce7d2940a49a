"""A version as one file: equal where it arrives, and nothing but a whole version arrives."""

import io
import tarfile
from pathlib import Path

import pytest

from midstream.core.errors import ArtifactInvalid, NotFound
from midstream.testing.models import publish_chain
from midstream.training.packing import export_version, import_version
from midstream.training.registry import Registry


def test_a_version_arrives_as_it_left(tmp_path: Path) -> None:
    """Name and version stay, every byte is equal, equal versions make equal files; a second time changes nothing."""
    here, there = Registry(tmp_path / "here"), Registry(tmp_path / "there")
    version = publish_chain(here, 2)
    export_version(here, "near", version, tmp_path / "a.tar")
    assert import_version(there, tmp_path / "a.tar") == ("near", version)
    assert import_version(there, tmp_path / "a.tar") == ("near", version)
    assert there.load("near", version).manifest == here.load("near", version).manifest
    export_version(there, "near", version, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert [each.name for each in (tmp_path / "there").iterdir()] == ["near"]
    with pytest.raises(FileExistsError):
        export_version(here, "near", version, tmp_path / "a.tar")
    with pytest.raises(NotFound):
        export_version(here, "near", "0009-000000000000", tmp_path / "c.tar")
    assert not (tmp_path / "c.tar").exists()


def _packed(path: Path, entries: list[tuple[str, bytes, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, kind, content in entries:
            told = tarfile.TarInfo(name)
            told.type, told.size, told.linkname = kind, len(content), "/etc/passwd"
            tar.addfile(told, io.BytesIO(content))
    return path


_VERSION = "near/0001-3fa9c2d41b22"


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [("/near/0001-3fa9c2d41b22/a.npy", tarfile.REGTYPE, b"")],
        [("../near/0001-3fa9c2d41b22/a.npy", tarfile.REGTYPE, b"")],
        [("near/../a.npy", tarfile.REGTYPE, b"")],
        [(f"{_VERSION}/..", tarfile.REGTYPE, b"")],
        [(f"{_VERSION}/deep/a.npy", tarfile.REGTYPE, b"")],
        [(f"{_VERSION}/a.npy", tarfile.SYMTYPE, b"")],
        [(f"{_VERSION}/a.npy", tarfile.LNKTYPE, b"")],
        [(_VERSION, tarfile.DIRTYPE, b"")],
        [(f"{_VERSION}/a.npy", tarfile.REGTYPE, b"")] * 2,
        [(f"{_VERSION}/a.npy", tarfile.REGTYPE, b""), ("far/0001-3fa9c2d41b22/a.npy", tarfile.REGTYPE, b"")],
        [(f"{_VERSION}/manifest.json", tarfile.REGTYPE, b"{}")],
    ],
)
def test_what_is_no_version_leaves_nothing(tmp_path: Path, entries: list[tuple[str, bytes, bytes]]) -> None:
    """Other paths, links, folders, a file twice, two versions, a manifest of something else."""
    registry = Registry(tmp_path / "models")
    with pytest.raises(ArtifactInvalid):
        import_version(registry, _packed(tmp_path / "a.tar", entries))
    assert list((tmp_path / "models").rglob("*")) == []


def test_a_damaged_file_leaves_nothing(tmp_path: Path) -> None:
    """A flipped bit of what it holds, a cut, and what is no tar."""
    here, there = Registry(tmp_path / "here"), Registry(tmp_path / "there")
    export_version(here, "near", publish_chain(here, 2), tmp_path / "a.tar")
    whole = (tmp_path / "a.tar").read_bytes()
    place = whole.index(b"NUMPY") + 130
    flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    for content in (flipped, whole[: len(whole) // 2], whole[:700], b"no tar at all", b""):
        (tmp_path / "b.tar").write_bytes(content)
        with pytest.raises(ArtifactInvalid):
            import_version(there, tmp_path / "b.tar")
    assert there.names() == []
