"""What is like one item, through the whole engine: the last act is in it, and it is a slate as any other."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from midstream.app.config.schema import Placement
from midstream.app.opening import open_shop
from midstream.app.wiring import plans
from midstream.core.errors import ItemUnknown, RequestInvalid
from midstream.core.types import LogPosition
from midstream.engine.types import Ask
from midstream.ranking.pipeline import recommend
from midstream.retrieval.popular import Popular
from tests.support.rig import SMALL, Rig, view


def about(item: str, **more: object) -> Ask:
    """Return the question what is like an item."""
    return Ask("similar", about=item, **more)  # type: ignore[arg-type]


def test_an_acknowledged_act_is_in_the_next_answer() -> None:
    """Item to item, in the same turn: nothing is waited for, no log position is named, the pair is there."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*(view(item, user=f"other-{item}") for item in "abcdef")))
        for first, second in (("a", "f"), ("b", "e"), ("c", "d")):
            await rig.engine.record(rig.batch(view(first, session_id=first)))
            recorded = await rig.engine.record(rig.batch(view(second, session_id=first)))
            answers = [asyncio.ensure_future(rig.engine.recommend(about(each))) for each in (first, second)]
            await asyncio.sleep(0)
            assert [each.done() for each in answers] == [True, True], "one turn of the event loop answers"
            one, other = [each.result() for each in answers]
            assert (one.items[0].id, other.items[0].id) == (second, first)
            assert one.applied_log_position >= rig.engine.token(recorded.log_position)

    Rig().run(work)


def test_an_item_is_known_when_the_log_position_that_names_it_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that names its own write is not told that the item is unknown because the state is behind."""

    async def work(rig: Rig) -> None:
        recorded = await rig.engine.record(rig.batch(view("a")))
        reached = rig.engine._folding.reached

        async def after_more(position: LogPosition, timeout_s: float) -> bool:
            await rig.engine.record(rig.batch(view("b")))
            return await reached(position, timeout_s)

        monkeypatch.setattr(rig.engine._folding, "reached", after_more)
        answer = await rig.engine.recommend(about("b", min_log_position=rig.engine.token(recorded.log_position)))
        assert [item.id for item in answer.items] == ["a"]

    Rig().run(work)


def test_it_is_a_slate_as_any_other() -> None:
    """Filtered, without the item whatever the placement says, on record, and the same when it is run again."""

    async def work(rig: Rig) -> None:
        put = {"type": "item", "operation": "put"}
        shelf = [put | {"item_id": item, "attributes": {"available": item != "d"}} for item in "abcd"]
        await rig.engine.record(rig.batch(*shelf, *(view(item) for item in "abcd")))
        answer = await rig.engine.recommend(about("b", exclude=("c",), user_id="ann"))
        assert [item.id for item in answer.items] == ["a"]
        rig.engine.flush_served()
        await rig.engine.record(rig.batch(view("c")))
        record = rig.engine.served(answer.request_id)
        assert record is not None
        assert (record.query.placement, record.query.items, record.query.exclude) == ("similar", ("b",), ("c", "b"))
        assert record.items[0].sources[0] == "similar"
        plan, fold = rig.engine.plan("similar"), rig.engine.fold
        again = await recommend(plan, lambda query: fold.moment(query, plan.models), record.query, lambda: 1e9)
        assert fold.vocabulary.item_ids(again.candidates.item_index[again.selection.chosen]) == ["a"]

    Rig().run(work)


def test_a_deleted_item_has_no_similar_ones() -> None:
    """As one that was never named; one that is only not available has."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(view("a"), view("b"), view("c")))
        await rig.engine.record(rig.batch({"type": "item", "item_id": "a", "operation": "delete"}))
        await rig.engine.record(rig.batch({"type": "item", "item_id": "b", "attributes": {"available": False}}))
        for gone in ("a", "nothing"):
            with pytest.raises(ItemUnknown) as unknown:
                await rig.engine.recommend(about(gone))
            assert gone in unknown.value.faults[0].came
        assert [item.id for item in (await rig.engine.recommend(about("b"))).items] == ["c"]

    Rig().run(work)


def test_there_is_always_one_and_a_configured_one_takes_its_place() -> None:
    """Behind all others, so that a name that is not configured still means what it meant."""
    assert list(plans(SMALL)) == ["default", "similar"]
    (source,) = plans(SMALL)["similar"].sources
    assert source.name == "similar"
    own = Placement(name="similar", sources=(Popular(),), repeats="any")
    config = msgspec.structs.replace(SMALL, placements=(own, *SMALL.placements))
    assert list(plans(config)) == ["similar", "default"]

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*(view(item) for item in "aab")))
        answer = await rig.engine.recommend(about("a"))
        assert [item.id for item in answer.items] == ["b"], "the item itself is left out whatever the placement says"

    Rig(config=config).run(work)


def test_from_python(tmp_path: Path) -> None:
    """The fields of a recommendation, and the item's id checked as any other."""
    with open_shop(tmp_path, SMALL) as shop:
        shop.record([{"type": "view", "session_id": "s", "item_id": item} for item in ("mug", "pot", "pan")])
        assert [item.id for item in shop.similar("mug", n=2).items] == ["pot", "pan"]
        assert [item.id for item in shop.similar("mug", exclude=["pot"]).items] == ["pan"]
        with pytest.raises(ItemUnknown, match="mugg"):
            shop.similar("mugg")
        with pytest.raises(RequestInvalid):
            shop.similar(3)  # type: ignore[arg-type]
