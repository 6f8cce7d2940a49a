"""kill -9 between publishing and promoting: whole versions alone are there, and the log says which one serves."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from midstream.app.opening import config_of, open_running
from midstream.engine.types import Ask
from midstream.training.registry import Registry
from tests.support.fakes.models import publish_chain, write_folder
from tests.support.patience import PATIENCE_S

PROGRAM = """
import asyncio, os, pathlib, signal, sys
from midstream.app.opening import config_of, open_running
from midstream.engine.models.champions import Champions
from midstream.models.artifact import artifact
from tests.support.fakes.models import publish_chain
from midstream.training.registry import Registry

step, folder = sys.argv[1], pathlib.Path(sys.argv[2])

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if step == "writing":
    artifact.sync_folder = die
if step == "named":
    Registry.load = die
if step == "applied":
    Champions._serve = die

publish_chain(Registry(folder / "data" / "models"), 2)
if step == "published":
    die()

async def promote():
    running = open_running(folder, config_of(folder))
    await running.start()
    await running.champions.promote("near")

asyncio.run(promote())
"""


@pytest.mark.parametrize("step, versions, serving", [("writing", 1, 1), ("named", 2, 1), ("published", 2, 1)])
def test_what_a_kill_leaves_before_a_promotion_is_whole(tmp_path: Path, step: str, versions: int, serving: int) -> None:
    """A version that was not named is not there; one that was is whole; the champion is the one of before."""
    check(tmp_path, step, versions, serving)


def test_a_promotion_whose_event_is_durable_is_one(tmp_path: Path) -> None:
    """Killed before the swap, the new version serves after the next start: the log is the truth."""
    check(tmp_path, "applied", 2, 2)


def check(folder: Path, step: str, versions: int, serving: int) -> None:
    """Promote a first version, kill a process at a step of the second, and look."""
    write_folder(folder)
    registry = Registry(folder / "data" / "models")
    first = publish_chain(registry, 1)

    async def run(promoted: str) -> str:
        running = open_running(folder, config_of(folder))
        await running.start()
        try:
            if promoted:
                await running.champions.promote("near", promoted)
            answer = await running.engine.recommend(Ask(placement="home", user_id="ann", items=("item-0",)))
            assert not running.engine.health().reason
            return answer.models["near"]
        finally:
            await running.stop()

    assert asyncio.run(run(first)) == first
    ended = subprocess.run([sys.executable, "-c", PROGRAM, step, str(folder)], timeout=PATIENCE_S, check=False)
    assert ended.returncode == -signal.SIGKILL
    there = registry.versions("near")
    assert len(there) == versions
    assert there[0] == first
    for version in there:
        registry.load("near", version)
    assert asyncio.run(run("")) == there[serving - 1]
    registry.clean()
    assert sorted(each.name for each in (registry.folder / "near").iterdir()) == there
    third = publish_chain(registry, 3)
    assert registry.find("near") == third
