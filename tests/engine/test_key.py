"""The secret that tags request ids is whole or not there, and nothing less is ever taken for one."""

import os
from pathlib import Path

import pytest

from midstream.app.config.schema import Config
from midstream.app.inspect.doctor import examine
from midstream.app.opening import DATA_NAME, open_running
from midstream.core.errors import Invalid
from midstream.engine.folder import KEY_BYTES, DataFolder


@pytest.mark.parametrize("size", [0, 1, KEY_BYTES - 1, KEY_BYTES + 1])
def test_what_is_no_key_is_refused(tmp_path: Path, size: int) -> None:
    """Without a key anybody could make request ids; start and doctor say which file it is and what to do."""
    open_running(tmp_path, Config()).engine.log.close()
    path = tmp_path / DATA_NAME / "key"
    path.write_bytes(bytes(size))
    with pytest.raises(Invalid, match=f"{size} bytes.*\n.*remove it.*\n.*docs data"):
        open_running(tmp_path, Config())
    assert examine(tmp_path, Config()).facts["key"] == "bad"
    assert any("cut short" in problem for problem in examine(tmp_path, Config()).problems)
    path.unlink()
    open_running(tmp_path, Config()).engine.log.close()
    assert examine(tmp_path, Config()).facts["key"] == "good"


def test_a_folder_in_its_place_is_no_key(tmp_path: Path) -> None:
    """It is called what it is, as long as it may be."""
    data = DataFolder(tmp_path / DATA_NAME)
    (data.root / "key").mkdir(parents=True)
    with pytest.raises(Invalid, match="It is no file"):
        data.key(bytes)


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_making_that_fails_leaves_no_key(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full, or the process ends, at any step of the first start, the next one makes a whole key."""
    data = DataFolder(tmp_path / DATA_NAME)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def entropy(size: int) -> bytes:
        if step == "write":
            fail()
        return bytes(size)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail if step == "fsync" else os.fsync)
        patch.setattr(Path, "replace", fail if step == "replace" else Path.replace)
        with pytest.raises(OSError, match="No space"):
            data.key(entropy)
    assert [path.name for path in data.root.iterdir()] == []
    assert data.key(lambda size: b"k" * size) == b"k" * KEY_BYTES
    assert data.key(lambda _: b"") == b"k" * KEY_BYTES
    assert (data.root / "key").stat().st_mode & 0o077 == 0
