"""Features added to and taken from a running server: built beside, in service with the swap, gone with their memory."""

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from midstream.app.opening import config_of
from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.instance import Instance
from midstream.engine.requests.schema import FeatureAsk
from midstream.engine.types import Ask
from midstream.events.json.decode import decode_objects
from midstream.state.fold import Fold
from tests.support.fakes.rebuilds import (
    SMALL_LIMITS,
    digest_anew,
    rebuilt,
    run_folder,
    run_in_process,
    write_config,
)
from tests.support.rig import view

VIEWS = '[[features]]\nname = "views"\nkind = "count"\nactions = ["view"]\nwindows = ["1h", "6h"]\n'
MINE = '[[features]]\nname = "mine"\nkind = "count"\nscope = "user_item"\nactions = ["view", "cart"]\n'
HOUR = '[[features]]\nname = "hour"\nkind = "local_time"\npart = "hour"\n'
LIMITS = SMALL_LIMITS.replace("hot_items_max", "feature_user_items_max = 500\nhot_items_max")


def placed(*names: str) -> str:
    """A placement that reads features."""
    return f"[[placements]]\nlog_features = 1.0\nfeatures = {msgspec.json.encode(names).decode()}\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children work on a thread."""
    monkeypatch.setattr(child_process, "run", run_in_process)


async def record(running: Instance, first: int, count: int) -> None:
    """Record some views and carts of some users."""
    acts = ("cart", "view", "view", "view")
    events = [
        {**view(f"i{number % 11}", f"u{number % 5}", event_id=f"{number}"), "type": acts[number % 4]}
        for number in range(first, first + count)
    ]
    accept = msgspec.structs.replace(running.service.accept, now_ms=running.engine.clock())
    await running.engine.record(decode_objects(events, accept).batch)


async def values(running: Instance, *names: str) -> np.ndarray:
    """What is known of all items for one user."""
    items = tuple(f"i{number}" for number in range(11))
    return (await running.engine.read_features(FeatureAsk(user_id="u2", items=items, features=names))).values


def anew(running: Instance) -> Fold:
    """The state of the whole log, from its first event."""
    fold = Fold(running.service.settings)
    catch_up(fold, running.engine.log.read, LogPosition(running.engine.fold.log_position))
    return fold


def cell_bytes(running: Instance) -> int:
    """What the cells take at their maximum."""
    return running.engine.fold.sizes()["cells"].bytes_max


def test_an_added_feature_comes_into_service_with_the_swap(tmp_path: Path) -> None:
    """Until then the old plan answers, without a failure and with its own columns; then the values are those of a fold
    from nothing, what came during the rebuild included, and the placement reads the feature.
    """
    write_config(tmp_path, VIEWS + placed("views"), LIMITS)

    async def work(running: Instance) -> None:
        await record(running, 0, 60)
        before = await values(running, "views")
        write_config(tmp_path, VIEWS + MINE + placed("mine", "views"), LIMITS)
        assert (await running.rebuilder.order()).change == "state"
        columns, number = set(), 60
        while running.rebuilder.is_running:
            answer = await running.engine.recommend(Ask("default", user_id="u2", deadline_ms=10_000))
            assert (answer.failures, answer.tier) == ((), "full")
            plan = running.engine.plans["default"]
            built = bool(running.engine.fold.cells.share_of(plan.features[0].program.cells)[1])  # type: ignore[attr-defined]
            columns.add((plan.features[0].names, plan.fold_version == running.engine.fold.settings.version(), built))
            await record(running, number, 1)
            number += 1
            await asyncio.sleep(0.001)
        assert (await rebuilt(running)).state == "done"
        old, new = ("views_1h", "views_6h"), ("mine", "views_1h", "views_6h")
        assert columns <= {(old, True, True), (new, True, True)}
        assert (old, True, True) in columns
        assert [each.names for each in running.engine.plans["default"].features] == [new]
        found = await values(running, "mine", "views")
        assert np.isfinite(found[:, 0]).any()
        assert not np.array_equal(found[:, 1:], before)
        whole = anew(running)
        assert whole.digest() == running.engine.fold.digest() == digest_anew(running)
        (view_of_mine,) = [each for each in running.engine.features() if each.name == "mine"]
        assert (view_of_mine.used_by, view_of_mine.complete_since) == (("default",), None)

    run_folder(tmp_path, work)


def test_a_removed_feature_frees_its_memory(tmp_path: Path) -> None:
    """With the swap; the others go on counting where they were."""
    write_config(tmp_path, VIEWS + MINE + placed("mine", "views"), LIMITS)

    async def work(running: Instance) -> None:
        await record(running, 0, 60)
        before, kept = cell_bytes(running), await values(running, "views")
        mine = running.engine.feature("mine")
        assert mine is not None
        write_config(tmp_path, VIEWS + placed("views"), LIMITS)
        await running.rebuilder.order()
        assert (await rebuilt(running)).state == "done"
        assert cell_bytes(running) == before - mine.bytes_max
        assert np.array_equal(await values(running, "views"), kept)
        assert [each.name for each in running.engine.features()] == ["views"]
        write_config(tmp_path, "", LIMITS)
        await running.rebuilder.order()
        await rebuilt(running)
        assert (cell_bytes(running), running.engine.features()) == (0, [])

    run_folder(tmp_path, work)


def test_a_feature_that_counts_nothing_of_its_own_needs_no_rebuild(tmp_path: Path) -> None:
    """It reads what is there: it is in service with the order, and the same file again is no change."""
    write_config(tmp_path, VIEWS + placed("views"), LIMITS)

    async def work(running: Instance) -> None:
        await record(running, 0, 20)
        write_config(tmp_path, VIEWS + HOUR + placed("views", "hour"), LIMITS)
        assert (await running.rebuilder.order()).change == "plans"
        assert 0 <= (await values(running, "hour"))[0, 0] <= 24
        assert (await running.rebuilder.order()).change == "nothing"

    run_folder(tmp_path, work)


def test_a_start_serves_the_old_features_until_the_new_ones_are_built(tmp_path: Path, monkeypatch) -> None:
    """As with every setting of the state; a restart with the file of before has the values of before."""
    monkeypatch.setattr("midstream.app.opening.FOLD_AT_START_EVENTS", 5)
    write_config(tmp_path, VIEWS + placed("views"), LIMITS)

    async def begin(running: Instance) -> None:
        await record(running, 0, 60)
        assert running.snapshotter is not None
        assert await running.snapshotter.write(compare=True) is not None

    run_folder(tmp_path, begin)
    write_config(tmp_path, VIEWS + MINE + placed("mine"), LIMITS)

    async def work(running: Instance) -> None:
        assert running.engine.plans["default"].declared.names == ("views",)
        assert not (await running.engine.recommend(Ask("default", user_id="u2", deadline_ms=10_000))).failures
        await rebuilt(running)
        assert running.config == config_of(tmp_path)
        assert np.isfinite(await values(running, "mine")).any()
        assert anew(running).digest() == running.engine.fold.digest()

    run_folder(tmp_path, work, may_serve_before=True)
