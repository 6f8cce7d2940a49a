"""The probe of a served folder: there by configuration, in one process of each log by a name of its own."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from midstream.app.config.schema import Config
from midstream.app.opening import DATA_NAME, config_of
from midstream.app.server.freshness import follower_probe, probe_name
from midstream.app.server.opened_engine import open_with_groups
from midstream.core.answers.events import EventsAnswer
from midstream.core.errors import ConfigInvalid
from midstream.engine.folder import DataFolder
from midstream.engine.lists.user_pages import UserListing
from midstream.engine.online.freshness_probe import FreshnessProbe
from tests.support.fakes.rebuilds import write_config
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig


def served(folder: Path, text: str) -> list[FreshnessProbe]:
    """Open a folder as a server does until its probe has been in an answer; return its probes."""

    async def main() -> list[FreshnessProbe]:
        running, _, _ = open_with_groups(folder, config_of(folder))
        found = [each for each in running.services if isinstance(each, FreshnessProbe)]
        async with running, asyncio.timeout(PATIENCE_S):
            while found and b"midstream_freshness_seconds_count 0.0" in running.engine.metrics.text():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert "freshness" not in running.engine.concerns_now()
            assert (running.engine.user("midstream-probe") is not None) == bool(found)
            assert (await running.engine.lists.users(UserListing(), None, 10)).users == []
        return found

    write_config(folder, text)
    return asyncio.run(main())


def test_a_server_probes_itself_where_its_file_says_so(tmp_path: Path) -> None:
    """Through the ingest service, as its own server; without an interval there is no probe and no user."""
    assert len(served(tmp_path / "on", '[probe]\nevery = "1s"\nwithin = "10s"\n')) == 1
    assert served(tmp_path / "off", "") == []


@pytest.mark.parametrize("every", ["1ms", "999ms"])
def test_an_interval_has_a_minimum(tmp_path: Path, every: str) -> None:
    """Each event of a probe is in the log for good."""
    write_config(tmp_path, f'[probe]\nevery = "{every}"\n')
    with pytest.raises(ConfigInvalid, match=r"probe\.every"):
        config_of(tmp_path)


def test_each_process_of_a_log_has_a_name(tmp_path: Path) -> None:
    """A server alone has none; nodes of a shared log have different ones, each the same at every start."""
    write_config(tmp_path, "")
    alone, shared = Config(), config_of(tmp_path)
    shared = _shared(shared)
    one, two = DataFolder(tmp_path / "one" / DATA_NAME), DataFolder(tmp_path / "two" / DATA_NAME)
    assert probe_name(one, alone) == ""
    names = [probe_name(each, shared) for each in (one, two, one)]
    assert names[0] == names[2] != names[1]
    assert all(names)


def _shared(config: Config) -> Config:
    return msgspec.structs.replace(
        config, log=msgspec.structs.replace(config.log, kind="kafka", servers=("a:9092",), topic="t")
    )


def test_a_follower_without_an_interval_has_no_probe(tmp_path: Path) -> None:
    """Nothing is registered for it."""

    async def record(_: bytes) -> EventsAnswer:
        raise AssertionError

    assert follower_probe(Rig().engine, record, DataFolder(tmp_path), Config(), 1) == []
