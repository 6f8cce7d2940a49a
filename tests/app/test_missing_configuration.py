"""A configuration file that is not there, or is a link to nothing, puts no default in the place of what served."""

from collections.abc import Callable
from pathlib import Path

import pytest

from midstream.app.config.reader import read_config
from midstream.app.config.schema import Config
from midstream.app.opening import DATA_NAME, config_of, open_shop
from midstream.cli.operate.check import check_folder
from midstream.core.errors import ConfigInvalid
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.types import Ask
from tests.support.fakes.rebuilds import run_folder, write_config

OWN = """
[[placements]]
name = "home"
sources = [{ kind = "popular" }]
"""
NAME = "midstream.toml"


async def nothing(_running: Instance) -> None:
    """Start and stop."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that served what its file says."""
    folder = tmp_path_factory.mktemp("served")
    write_config(folder, OWN)
    run_folder(folder, nothing)
    return folder


@pytest.fixture
def folder(served: Path) -> Path:
    """That folder, its file as it was."""
    path = served / NAME
    path.unlink(missing_ok=True)
    write_config(served, OWN)
    return served


def unlink(path: Path) -> None:
    """Take the file away, as the first half of a deployment does."""
    path.unlink()


def dangle(path: Path) -> None:
    """Let the file be a link to one that is not there."""
    path.unlink()
    path.symlink_to("elsewhere.toml")


def circle(path: Path) -> None:
    """Let the file be a link to itself."""
    path.unlink()
    path.symlink_to(NAME)


def empty(path: Path) -> None:
    """Leave the file as it is while it is being written."""
    path.write_bytes(b"")


@pytest.mark.parametrize("lose", [unlink, dangle, circle, empty])
def test_a_reload_refuses_it(folder: Path, lose: Callable[[Path], None]) -> None:
    """What served goes on serving, health says it in four parts, and the file is taken when it is there again."""

    async def work(running: Instance) -> None:
        before = running.service
        lose(folder / NAME)
        await running.rebuilder.heed()
        assert running.service is before
        assert "default" not in running.engine.plans
        assert (await running.engine.recommend(Ask("home"))).placement == "home"
        reason = running.engine.health().reason
        for part in (NAME, "empty" if lose is empty else "not there", "goes on", "midstream docs configuration"):
            assert part in reason
        with pytest.raises(ConfigInvalid):
            await running.rebuilder.order()
        (folder / NAME).unlink(missing_ok=True)
        write_config(folder, OWN)
        await running.rebuilder.heed()
        assert running.engine.health().reason == ""

    run_folder(folder, work)


@pytest.mark.parametrize("lose", [unlink, dangle, circle])
@pytest.mark.parametrize("start", [config_of, open_shop, check_folder])
def test_a_start_refuses_it_where_another_configuration_served(
    folder: Path, lose: Callable[[Path], None], start: Callable[[Path], object]
) -> None:
    """The default would drop placements, filters and types of events; nothing is opened."""
    lose(folder / NAME)
    before = sorted(DataFolder(folder / DATA_NAME).configurations.iterdir())
    with pytest.raises(ConfigInvalid, match=r"(?s)midstream\.toml.*not there.*midstream docs configuration"):
        start(folder)
    assert sorted(DataFolder(folder / DATA_NAME).configurations.iterdir()) == before


def test_a_folder_that_never_had_a_file_has_the_default(tmp_path: Path) -> None:
    """Also after it served, and when it is asked for again; a program that brings its configuration needs no file."""
    assert config_of(tmp_path) == Config()
    with open_shop(tmp_path, Config()):
        pass

    async def work(running: Instance) -> None:
        assert (await running.rebuilder.order()).change == "nothing"

    run_folder(tmp_path, work)
    assert config_of(tmp_path) == Config()


def test_a_configuration_of_another_release_is_not_taken_for_the_default(folder: Path) -> None:
    """Which configuration served cannot be told then; an empty file says that the default is meant."""
    unlink(folder / NAME)
    for path in DataFolder(folder / DATA_NAME).configurations.glob("*.json"):
        if path.name != "serving.json":
            path.rename(path.with_suffix(".kept"))
    try:
        with pytest.raises(ConfigInvalid, match="not there"):
            config_of(folder)
        empty(folder / NAME)
        assert config_of(folder) == Config()
    finally:
        for path in DataFolder(folder / DATA_NAME).configurations.glob("*.kept"):
            path.rename(path.with_suffix(".json"))


@pytest.mark.parametrize("lose", [None, dangle, circle])
def test_a_link_to_nothing_is_never_the_default(tmp_path: Path, lose: Callable[[Path], None] | None) -> None:
    """Nor is a file that was named and is not there."""
    path = tmp_path / NAME
    if lose is not None:
        path.touch()
        lose(path)
        with pytest.raises(ConfigInvalid, match="link"):
            config_of(tmp_path)
    with pytest.raises(ConfigInvalid, match="not there"):
        read_config(path)
