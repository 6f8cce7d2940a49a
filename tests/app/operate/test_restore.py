"""A backup from elsewhere: what it names is looked at before anything is written, and nothing is read beside it."""

import io
import os
import tarfile
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

import midstream
from midstream.app.operate.backup import MANIFEST_NAME, BackupFile, BackupManifest, back_up, checksum_of
from midstream.app.operate.restore import restore
from midstream.cli.app import main
from midstream.core.errors import Invalid
from midstream.engine.folder import DataFolder
from midstream.engine.replication.topic_position import (
    TopicPair,
    TopicPosition,
    read_topic_position,
    write_topic_position,
)
from tests.support.fakes.rebuilds import write_config

CONTENT = b"CONTENT = 1\n"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a small shop."""
    folder = tmp_path_factory.mktemp("shop")
    write_config(folder)
    (folder / "components.py").write_bytes(CONTENT)
    with midstream.open(folder) as shop:
        shop.record([{"type": "view", "user_id": "ann", "item_id": "lamp"}])
    target = folder.parent / "kept"
    back_up(folder, target)
    return target


def forged(kept: Path, folder: Path, name: str, content: bytes = CONTENT) -> Path:
    """Return a copy of a backup whose manifest names one more file."""
    again = folder / "forged"
    for path in kept.rglob("*"):
        there = again / path.relative_to(kept)
        there.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            there.write_bytes(path.read_bytes())
    manifest = msgspec.json.decode((kept / MANIFEST_NAME).read_bytes(), type=BackupManifest)
    files = {**manifest.files, name: BackupFile(len(content), sha256(content).hexdigest())}
    bare = msgspec.structs.replace(manifest, files=files, checksum="")
    whole = msgspec.structs.replace(bare, checksum=checksum_of(bare))
    (again / MANIFEST_NAME).write_bytes(msgspec.json.encode(whole))
    return again


NAMES = (
    "/etc/midstream.py", "../outside.py", "data/../../outside.py", "data", "", ".", "./components.py", "data//key2",
    "data/server.url", "data/lock", "data/history.lock", "sub/components.py", ".bashrc", "components.pyc", "a\0.py",
    "data/\x1b[2J", "data/x\n", ".restoring/x.py",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_no_backup_has_is_not_put_back(kept: Path, tmp_path: Path, name: str) -> None:
    """Paths that lead elsewhere, files of a running server, and names that nobody reads as they stand."""
    with pytest.raises(Invalid, match="The manifest names") as refused:
        restore(forged(kept, tmp_path, name), tmp_path / "again")
    assert str(refused.value).isprintable() or "\n" in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"forged", "again"}
    assert not list((tmp_path / "again").iterdir())


@pytest.mark.parametrize("how", ["link", "folder link", "pipe"])
def test_nothing_beside_a_backup_is_read(kept: Path, tmp_path: Path, how: str) -> None:
    """A link out of its folder, and what is no file, count as missing."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "more.py").write_bytes(CONTENT)
    name = "data/more/more.py" if how == "folder link" else "more.py"
    source = forged(kept, tmp_path, name)
    if how == "link":
        (source / name).symlink_to(tmp_path / "secret" / "more.py")
    elif how == "folder link":
        (source / "data" / "more").symlink_to(tmp_path / "secret")
    else:
        os.mkfifo(source / name)
    with pytest.raises(Invalid, match="is missing"):
        restore(source, tmp_path / "again")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE])
def test_a_tar_holds_plain_files_alone(kept: Path, tmp_path: Path, kind: bytes) -> None:
    """Links within it, pipes and files with holes count as missing."""
    source = forged(kept, tmp_path, "more.py")
    target = tmp_path / "forged.tar"
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                tar.add(path, path.relative_to(source).as_posix())
        told = tarfile.TarInfo("more.py")
        told.type, told.linkname, told.size = kind, "components.py", len(CONTENT)
        tar.addfile(told, io.BytesIO(CONTENT) if kind == tarfile.GNUTYPE_SPARSE else None)
    with pytest.raises(Invalid):
        restore(target, tmp_path / "again")


def test_what_a_backup_has_is_put_back(kept: Path, tmp_path: Path) -> None:
    """Modules beside the configuration and whatever lies in the data folder."""
    (source := forged(kept, tmp_path, "data/more/x.bin", b"x")).joinpath("data", "more").mkdir()
    (source / "data" / "more" / "x.bin").write_bytes(b"x")
    assert restore(source, tmp_path / "again").log_position == 1
    assert (tmp_path / "again" / "data" / "more" / "x.bin").read_bytes() == b"x"
    assert (tmp_path / "again" / "components.py").read_bytes() == CONTENT


def test_strangers_see_nothing_of_what_was_put_back(kept: Path, tmp_path: Path) -> None:
    """Neither files nor names: each folder in it keeps them out, and not the innermost ones alone."""
    restore(kept, tmp_path / "again")
    found = [tmp_path / "again" / "data", *(tmp_path / "again" / "data").rglob("*")]
    assert len(found) > 5
    assert [each for each in found if each.stat().st_mode & 0o007] == []


def shared(folder: Path, *pairs: TopicPair) -> Path:
    """Return a folder whose log is a copy of a topic, with places in both."""
    write_config(folder)
    with midstream.open(folder) as shop:
        shop.record([{"type": "view", "user_id": "ann", "item_id": "lamp"}])
    write_topic_position(
        DataFolder(folder / "data").topic_position, TopicPosition("shop", "cluster/topic", "aa", pairs)
    )
    return folder


def test_places_in_a_shared_topic_come_back(tmp_path: Path) -> None:
    """A node goes on from them; later ones than the log has count as nothing."""
    folder = shared(tmp_path, TopicPair(0, 0, {}), TopicPair(9, 7, {"clicks": 3}))
    back_up(folder, folder.parent / f"{folder.name}-kept")
    restore(folder.parent / f"{folder.name}-kept", folder / "again")
    found = read_topic_position(DataFolder(folder / "again" / "data").topic_position)
    assert found is not None
    assert [pair.offset for pair in found.pairs] == [0, 9]


@pytest.mark.parametrize("kind", ["kafka", "segments"])
def test_damaged_places_are_left_out_and_all_else_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """No node starts with them, and none needs them: the log comes back, and whoever restores a node is told."""
    folder = shared(tmp_path / "shop", TopicPair(0, 0, {}))
    config = folder / "midstream.toml"
    config.write_text(f'{config.read_text()}\n[log]\nkind = "{kind}"\n')
    path = DataFolder(folder / "data").topic_position
    path.write_bytes(path.read_bytes().replace(b"cluster", b"klaster"))
    done = back_up(folder, tmp_path / "kept.tar")
    assert done.left_out.startswith(f"{path} is left out: It is not as it was written")
    found = restore(tmp_path / "kept.tar", tmp_path / "again")
    assert found.log_position == done.log_position == 1
    assert not DataFolder(tmp_path / "again" / "data").topic_position.exists()
    assert found.lacks[:36] == ("data/topic.json is not in the backup" if kind == "kafka" else "")
    for command in (
        ["backup", tmp_path / "by_command", "-f", folder],
        ["restore", tmp_path / "kept.tar", tmp_path / "b"],
    ):
        with pytest.raises(SystemExit, match="0"):
            main([str(each) for each in command])
    told = "".join(f"warning: {each}\n" for each in (done.left_out, found.lacks) if each)
    assert capsys.readouterr().err == told


def test_nothing_is_said_of_places_that_are_whole_and_of_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    """A server that starts says what is wrong with the latter."""
    folder = shared(tmp_path / "shop", TopicPair(0, 0, {}))
    assert not back_up(folder, tmp_path / "kept").left_out
    assert not restore(tmp_path / "kept", tmp_path / "again").lacks
    DataFolder(folder / "data").topic_position.unlink()
    for number, content in enumerate((b"log = 3", b"log = ", b"\xff")):
        (folder / "midstream.toml").write_bytes(content)
        back_up(folder, tmp_path / f"kept{number}")
        assert not restore(tmp_path / f"kept{number}", tmp_path / f"again{number}").lacks
    (folder / "midstream.toml").unlink()
    back_up(folder, tmp_path / "bare")
    assert not restore(tmp_path / "bare", tmp_path / "again_bare").lacks


@pytest.mark.parametrize("how", ["damaged", "later"])
def test_places_with_which_no_node_could_start_are_not_restored(tmp_path: Path, how: str) -> None:
    """As a log that does not fit its manifest is not; by the name of the file."""
    back_up(shared(tmp_path / "shop", TopicPair(0, 0, {})), tmp_path / "kept")
    path = tmp_path / "kept" / "data" / "topic.json"
    write_topic_position(path, TopicPosition("shop", "cluster/topic", "aa", (TopicPair(4, 4, {}),)))
    if how == "damaged":
        path.write_bytes(path.read_bytes().replace(b"cluster", b"klaster"))
    said = "checksum does not match" if how == "damaged" else "ends at 1, before every place"
    with pytest.raises(Invalid, match=f"data/topic.json.*{said}"):
        restore(forged(tmp_path / "kept", tmp_path, "data/topic.json", path.read_bytes()), tmp_path / "again")
    assert not list((tmp_path / "again").iterdir())
