"""A server trains by itself: once, beside what it answers, and not again because it was started again."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from midstream.app.opening import config_of, open_shop
from midstream.app.server.opened_engine import open_with_groups
from midstream.core.errors import FolderLocked
from midstream.engine.instance import Instance
from tests.support.patience import PATIENCE_S

TOML = """
[[models]]
name = "taste"
kind = "ease"
validation = 0.3

[[trainings]]
model = "taste"
every = "6h"
gates = { worse_max = 0.5, age_max = "30d" }

[[placements]]
name = "home"
sources = [{ kind = "ease", model = "taste" }, { kind = "popular" }]
"""
GROUPS, IN_GROUP, USERS = 4, 6, 80


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a shop whose users look at items of one group each."""
    (tmp_path / "midstream.toml").write_text(TOML)
    rng = np.random.default_rng(5)
    with open_shop(tmp_path) as shop:
        for _ in range(8):
            shop.record(
                [
                    {"type": "view", "user_id": f"u{user}", "item_id": f"g{user % GROUPS}-{rng.integers(IN_GROUP)}"}
                    for user in range(USERS)
                ]
            )
    return tmp_path


def decided(running: Instance) -> list[str]:
    """Return the decisions, oldest first."""
    assert running.trainings is not None
    return [each.action for each in reversed(running.trainings.journal.history())]


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  a child and the log thread work meanwhile
            await asyncio.sleep(0.02)


def test_a_server_trains_what_is_due_once(folder: Path) -> None:
    """The first version is in service without anybody's doing; nobody else has the folder; a restart trains nothing."""

    async def first() -> str:
        running, _, _ = open_with_groups(folder, config_of(folder))
        async with running:
            with pytest.raises(FolderLocked):
                open_with_groups(folder, config_of(folder))
            await until(lambda: decided(running)[-1:] == ["kept"])
            assert decided(running) == ["passed", "kept"]
            return running.champions.versions["taste"]

    async def again() -> str:
        running, _, _ = open_with_groups(folder, config_of(folder))
        async with running:
            await asyncio.sleep(2.5)  # two looks
            assert decided(running) == ["passed", "kept"]
            return running.champions.versions["taste"]

    assert asyncio.run(first()) == asyncio.run(again())


def test_a_server_that_ends_during_a_training_ends_the_child_and_backs_off(folder: Path) -> None:
    """Nothing is published; the next start says that it was interrupted, and waits."""

    async def first() -> None:
        running, _, _ = open_with_groups(folder, config_of(folder))
        async with running:
            await until(lambda: decided(running) == ["begun"])
            await asyncio.sleep(0.2)  # its child runs

    async def again() -> None:
        running, _, _ = open_with_groups(folder, config_of(folder))
        async with running:
            await until(lambda: "was interrupted" in running.engine.concerns.get("training-taste", ""))
            assert decided(running) == ["failed"]
            await asyncio.sleep(1.5)
            assert decided(running) == ["failed"]

    asyncio.run(first())
    asyncio.run(again())
    assert not [*(folder / "data" / "models").glob("taste/0*")]
