"""Settings that were chosen: the file is whole or as it was, and what it says comes back."""

from pathlib import Path
from unittest import mock

import msgspec
import pytest

from midstream.core.errors import Invalid, NotFound
from midstream.evaluation.settings_file import read_settings, write_settings


class Choice(msgspec.Struct, frozen=True):
    """Something that was chosen."""

    factors: int


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    """In a folder that was not there; a second choice replaces the first."""
    path = tmp_path / "new" / "choice.json"
    for factors in (32, 64):
        write_settings(path, Choice(factors))
        assert read_settings(path, Choice) == Choice(factors)


def test_a_disk_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """And nothing beside it."""
    path = tmp_path / "choice.json"
    write_settings(path, Choice(32))
    with (
        mock.patch("midstream.events.whole_file.sync_file", side_effect=OSError("full")),
        pytest.raises(OSError, match="full"),
    ):
        write_settings(path, Choice(64))
    assert read_settings(path, Choice) == Choice(32)
    assert [each.name for each in tmp_path.iterdir()] == ["choice.json"]


def test_what_is_no_settings_file_is_told(tmp_path: Path) -> None:
    """A file that is not there, and one that is of something else."""
    with pytest.raises(NotFound):
        read_settings(tmp_path / "none.json", Choice)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(Invalid, match="factors"):
        read_settings(tmp_path / "other.json", Choice)
