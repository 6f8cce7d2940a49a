"""An item that enters the catalogue after the training of a content model is recommended at once, without another."""

from pathlib import Path

from midstream.app.opening import config_of
from midstream.app.operate.model_registry import registry_of
from midstream.app.training.run import train
from midstream.core.types import Query
from midstream.engine.instance import Instance
from midstream.engine.types import Ask
from midstream.events.json.decode import decode_objects
from tests.support.fakes.models import CONFIG, run_folder

MODEL = """
[items.attributes]
colour = "category"

[[models]]
name = "alike"
kind = "content"
validation = 0

[[placements]]
name = "home"
sources = [{ kind = "content", model = "alike" }]
"""


async def record(running: Instance, *events: dict[str, object]) -> None:
    """Record events."""
    await running.engine.record(decode_objects(list(events), running.service.accept).batch)


def item(name: str, colour: str, title: str) -> dict[str, object]:
    """Return an item event."""
    return {"type": "item", "item_id": name, "attributes": {"colour": colour, "title": title}}


async def asked(running: Instance) -> list[str]:
    """Return what the source proposes to somebody, best first; an answer begins with its best."""
    engine = running.engine
    answer = await engine.recommend(Ask(placement="home", user_id="ann", n=10, deadline_ms=60_000))
    assert answer.failures == ()
    plan = engine.plan("home")
    (source,) = (each for each in plan.sources if each.name == "content")
    moment = engine.fold.moment(Query("", "home", "ann", None, 10, engine.clock(), 0), plan.models)
    found = engine.fold.vocabulary.item_ids(source.retrieve(moment).item_index)
    assert [each.id for each in answer.items][:1] == found[:1]
    return found


def test_a_new_item_is_proposed_as_soon_as_its_event_is_folded(tmp_path: Path) -> None:
    """By what is said of it then; a change of that counts at once, and so does a deletion."""
    (tmp_path / "midstream.toml").write_text(f"{CONFIG.partition('[[placements]]')[0]}{MODEL}")

    async def fill(running: Instance) -> None:
        await record(running, *(item(f"red-{number}", "red", "lamp") for number in range(3)))
        await record(running, *(item(f"blue-{number}", "blue", "chair") for number in range(3)))
        await record(running, {"type": "view", "user_id": "ann", "item_id": "red-0"})

    run_folder(tmp_path, fill)
    version = train(tmp_path, config_of(tmp_path), "alike").version

    async def work(running: Instance) -> None:
        await running.champions.promote("alike")
        assert await asked(running) == ["red-1", "red-2"]
        await record(running, item("new", "red", "lamp of glass"), item("other", "green", "table"))
        assert sorted(await asked(running)) == ["new", "red-1", "red-2"]
        await record(running, item("new", "blue", "chair of glass"))
        assert await asked(running) == ["red-1", "red-2"]
        # An act on an item that the model does not know says what is wanted too.
        await record(running, {"type": "view", "user_id": "ann", "item_id": "new"})
        assert {"blue-0", "blue-1", "blue-2"} <= set(await asked(running))
        await record(running, item("newest", "blue", "chair"))
        assert "newest" in await asked(running)
        await record(
            running,
            {"type": "item", "item_id": "newest", "operation": "patch", "attributes": {"available": False}},
        )
        assert "newest" not in await asked(running)
        await record(
            running,
            {"type": "item", "item_id": "newest", "operation": "patch", "attributes": {"available": True}},
        )
        assert "newest" in await asked(running)
        await record(running, {"type": "item", "item_id": "newest", "operation": "delete"})
        assert "newest" not in await asked(running)

    run_folder(tmp_path, work)
    assert registry_of(tmp_path).versions("alike") == [version]
