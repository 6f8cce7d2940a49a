"""A version as one file: equal where it arrives, and nothing but a whole version arrives."""

import io
import os
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from midstream.core.errors import ArtifactInvalid, ArtifactTooLarge, NotFound
from midstream.models.artifact.artifact import MANIFEST
from midstream.training import packing
from midstream.training.packing import export_version, import_version
from midstream.training.registry import Registry
from tests.support.fakes.models import publish_chain


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


def _resealed(tmp_path: Path, change: Callable[[dict[str, object]], object], version: str = "") -> tuple[str, bytes]:
    """Return a version whose manifest was changed by somebody who names it after that, and the manifest."""
    here = Registry(tmp_path / "sealed")
    kept = publish_chain(here, 2)
    told = msgspec.json.decode((here.folder / "near" / kept / MANIFEST).read_bytes())
    change(told)
    text = msgspec.json.encode(told)
    return f"near/{version or kept[:4]}-{sha256(text).hexdigest()[:12]}", text


@pytest.mark.parametrize(
    "files",
    [
        {"a\0.npy": 3},
        {"a" * 3_000: 3},
        {"../a.npy": 3},
        {"manifest.json": 3},
        {"a.npy": -1},
        {f"a{number}.npy": 3 for number in range(1_001)},
    ],
)
def test_a_manifest_that_names_what_is_no_file_is_refused(tmp_path: Path, files: dict[str, int]) -> None:
    """NUL, names longer than a disk has, other folders, lengths below 0, too many: before anything of them is read."""
    told = {name: {"bytes": size, "sha256": ""} for name, size in files.items()}
    folder, text = _resealed(tmp_path, lambda manifest: manifest.update(files=told))
    entries = [(f"{folder}/{MANIFEST}", tarfile.REGTYPE, text)]
    entries += [(f"{folder}/{name}", tarfile.REGTYPE, b"abc") for name in list(files)[:1]]
    with pytest.raises(ArtifactInvalid, match="of a model"):
        import_version(Registry(tmp_path / "models"), _packed(tmp_path / "a.tar", entries))
    assert list((tmp_path / "models").rglob("*")) == []


def test_a_number_that_leaves_none_is_refused(tmp_path: Path) -> None:
    """Versions that are fitted after an import need numbers above it."""
    folder, text = _resealed(tmp_path, lambda manifest: manifest.update(number=999_999_999), "999999999")
    with pytest.raises(ArtifactInvalid, match="number above"):
        import_version(
            Registry(tmp_path / "models"),
            _packed(tmp_path / "a.tar", [(f"{folder}/{MANIFEST}", tarfile.REGTYPE, text)]),
        )


@pytest.mark.parametrize("change", ["sparse", "bad sparse", "longer", "shorter", "unnamed", "late manifest", "name"])
def test_no_more_is_written_than_the_manifest_says(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sparse files, other lengths, files without a name in it: refused before a byte of them is written."""
    folder, text = _resealed(tmp_path, lambda _: None)
    first = min(msgspec.json.decode(text)["files"])
    size = msgspec.json.decode(text)["files"][first]["bytes"]
    told = tarfile.TarInfo(f"{folder}/{first}")
    told.size = size + {"longer": 1, "shorter": -1}.get(change, 0)
    if change == "sparse":
        told.size = 0
        told.pax_headers = {"GNU.sparse.map": f"{size},0", "GNU.sparse.size": str(size)}
    elif change == "bad sparse":
        told.pax_headers = {"GNU.sparse.map": "a,b"}
    elif change == "unnamed":
        told.name += "x"
    elif change == "name":
        told.name += "x" * (2 << 20)
    manifest = tarfile.TarInfo(f"{folder}/{MANIFEST}")
    manifest.size = len(text)
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for each, content in ((told, bytes(told.size)), (manifest, text))[:: 1 if change == "late manifest" else -1]:
            tar.addfile(each, io.BytesIO(content))
    copied: list[str] = []
    copy = packing._copy

    def noted(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
        copied.append(path.name)
        copy(tar, entry, path)

    monkeypatch.setattr(packing, "_copy", noted)
    with pytest.raises(ArtifactInvalid):
        import_version(Registry(tmp_path / "models"), tmp_path / "a.tar")
    assert copied == [MANIFEST][: change != "late manifest"]
    assert list((tmp_path / "models").rglob("*")) == []


def test_what_the_disk_has_no_room_for_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log needs the room."""
    here, there = Registry(tmp_path / "here"), Registry(tmp_path / "there")
    version = publish_chain(here, 2)
    export_version(here, "near", version, tmp_path / "a.tar")
    size = sum(each.bytes for each in here.manifest("near", version).files.values())
    for free, is_right in ((size + packing.FREE_BYTES_MIN - 1, False), (size + packing.FREE_BYTES_MIN, True)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        if is_right:
            assert import_version(there, tmp_path / "a.tar") == ("near", version)
            continue
        with pytest.raises(OSError, match="are free"):
            import_version(there, tmp_path / "a.tar")
        assert list(there.folder.rglob("*")) == []


def test_a_version_of_more_bytes_than_may_be_is_not_taken_in(tmp_path: Path) -> None:
    """The manifest says so before anything else is written."""
    here = Registry(tmp_path / "here")
    version = publish_chain(here, 2)
    export_version(here, "near", version, tmp_path / "a.tar")
    size = here.manifest("near", version).bytes
    there = Registry(tmp_path / "there", size - 1)
    with pytest.raises(ArtifactTooLarge, match="version_bytes_max"):
        import_version(there, tmp_path / "a.tar")
    assert list(there.folder.rglob("*")) == []
    assert import_version(Registry(there.folder, size), tmp_path / "a.tar") == ("near", version)


def test_what_a_killed_import_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """What a process that is there unpacks stays."""
    here, there = Registry(tmp_path / "here"), Registry(tmp_path / "there")
    export_version(here, "near", publish_chain(here, 2), tmp_path / "a.tar")
    left = [there.folder / f".arriving-{pid}" for pid in (999_999_999, os.getppid())]
    for each in left:
        (each / "near").mkdir(parents=True)
    import_version(there, tmp_path / "a.tar")
    assert [each.exists() for each in left] == [False, True]
    left[0].mkdir()
    there.clean()
    assert [each.exists() for each in left] == [False, True]


def test_a_damaged_version_is_replaced_by_the_same_that_arrives(tmp_path: Path) -> None:
    """A whole one stays as it is."""
    here, there = Registry(tmp_path / "here"), Registry(tmp_path / "there")
    version = publish_chain(here, 2)
    export_version(here, "near", version, tmp_path / "a.tar")
    import_version(there, tmp_path / "a.tar")
    (there.folder / "near" / version / "weight.npy").write_bytes(b"")
    assert import_version(there, tmp_path / "a.tar") == ("near", version)
    there.load("near", version)
    assert [each.name for each in there.folder.iterdir()] == ["near"]
