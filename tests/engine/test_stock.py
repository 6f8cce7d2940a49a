"""What is sold out is gone from the next answer, and back in the one after it is there again."""

from msgspec.structs import replace

from midstream.app.config.schema import ItemsSection, Placement
from midstream.engine.types import Ask
from tests.support.rig import SMALL, Rig

CONFIG = replace(
    SMALL,
    items=ItemsSection(attributes={"stock": "number"}),
    placements=(Placement(filter="item.stock > 0", repeats="any"),),
)


def stock(item: str, count: int | None, operation: str = "put") -> dict[str, object]:
    """Return an item event; None = it says nothing of a stock."""
    attributes = {} if count is None else {"stock": count}
    return {"type": "item", "operation": operation, "item_id": item, "attributes": attributes}


def test_a_stock_of_nothing_hides_an_item_at_once() -> None:
    """In the very next answer, whoever asks; what nobody gave a stock is hidden as well."""

    async def work(rig: Rig) -> None:
        async def served() -> set[str]:
            return {item.id for item in (await rig.engine.recommend(Ask(user_id="ann"))).items}

        await rig.engine.record(rig.batch(stock("lamp", 3), stock("mug", 1), stock("rug", None)))
        assert await served() == {"lamp", "mug"}
        await rig.engine.record(rig.batch(stock("lamp", 0, "patch")))
        assert await served() == {"mug"}
        await rig.engine.record(rig.batch(stock("lamp", 4, "patch"), stock("mug", -1, "patch")))
        assert await served() == {"lamp"}

    Rig(config=CONFIG).run(work)
