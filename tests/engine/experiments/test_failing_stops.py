"""Stops of harm that fail: tried again, by experiment, until none is left that does harm."""

from pathlib import Path
from typing import Any

import pytest

from midstream.core.errors import AppendFailed, ConfigInvalid, Fault, Overloaded
from midstream.engine.experiments.views import StartOrder, VariantOrder
from midstream.engine.instance import Instance
from midstream.engine.types import Ask
from tests.engine.experiments.test_watch import (
    HOME,
    SAID,
    USERS,
    dismissed,
    order,
    record,
    run,
    served,
    stocked,
    watch_of,
)
from tests.support.fakes.rebuilds import write_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one placement."""
    write_config(tmp_path, HOME)
    return tmp_path


def test_a_variant_that_cannot_be_taken_out_ends_its_experiment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control's content is refused: no unit has what harms it, so all are answered by the placement."""

    async def work(running: Instance) -> None:
        await stocked(running)
        sizes = {"few": 2, "three": 3}
        changed = [VariantOrder(name, change={"slate_size": size}) for name, size in sizes.items()]
        await running.experimenting.start("size", StartOrder("home", (VariantOrder("as-is"), *changed)), SAID)
        had = await served(running, USERS)
        await dismissed(running, [user for user, variant in had.items() if variant == "few"])

        async def refused(*_: Any) -> None:
            raise ConfigInvalid((Fault("$.models", "Version 3 is not there any more.", "One that is.", "page"),))

        monkeypatch.setattr(running.experimenting, "_each_drafted", refused)
        await watch_of(running).look()
        view = running.experimenting.view("size")
        assert (view.state, view.stopped_by, [each.variant for each in view.harms]) == ("stopped", "watch", ["few"])
        assert len((await running.engine.recommend(Ask("home", user_id=USERS[0]))).items) == 5

    run(folder, work, watches=False)


@pytest.mark.parametrize("error", [Overloaded("too many events wait"), ConfigInvalid((Fault("$", "a", "b", "c"),))])
def test_a_stop_that_failed_is_tried_again_without_an_event(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """And the look says so, as long as the experiment runs and does harm."""

    async def work(running: Instance) -> None:
        await stocked(running)
        await running.experimenting.start("size", order("as-is", "few"), SAID)
        had = await served(running, USERS)
        await dismissed(running, [user for user, variant in had.items() if variant == "few"])
        watch, halt = watch_of(running), running.experimenting.halt

        async def failing(*_: Any) -> None:
            raise error

        monkeypatch.setattr(running.experimenting, "halt", failing)
        for _ in range(2):
            with pytest.raises(type(error)):
                await watch.look()
        monkeypatch.setattr(running.experimenting, "halt", halt)
        assert running.experimenting.view("size").state == "running"
        await watch.look()
        assert running.experimenting.view("size").stopped_by == "watch"
        assert watch._service.back_off_s_max == 2.0

    run(folder, work, watches=False)


def test_an_experiment_whose_stop_fails_keeps_no_other_from_being_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is judged and stopped by itself."""

    async def work(running: Instance) -> None:
        await stocked(running)
        for name in ("one", "two"):
            await running.experimenting.start(name, order("as-is", "few", share=0.5), SAID)
        users = [f"user-{number}" for number in range(600)]
        answers = [await running.engine.recommend(Ask("home", user_id=user)) for user in users]
        running.engine.flush_served()
        await record(running, [{"type": "view", "user_id": "nobody", "item_id": "i0"}])
        harmed = [user for user, answer in zip(users, answers, strict=True) if answer.variant == "few"]
        await dismissed(running, harmed)
        halt = running.experimenting.halt

        async def failing(name: str, *more: Any) -> Any:
            if name == "one":
                message = "disk"
                raise AppendFailed(message)
            return await halt(name, *more)

        monkeypatch.setattr(running.experimenting, "halt", failing)
        with pytest.raises(AppendFailed):
            await watch_of(running).look()
        assert [running.experimenting.view(name).state for name in ("one", "two")] == ["running", "stopped"]

    run(folder, work, watches=False)
