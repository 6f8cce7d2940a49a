"""Indexes of a running engine: built beside it, followed, and missed by nobody where their library is not there."""

import msgspec
import pytest

from midstream.app.config.schema import Config, Placement
from midstream.engine.types import Ask
from midstream.engine.vectors.indexing import VectorIndexing
from midstream.models import vector_index
from midstream.models.vector_index import VectorIndex
from midstream.retrieval.nearest import NearestOptions
from tests.support.libraries import library
from tests.support.patience import wait_on_loop
from tests.support.rig import SMALL, Rig

SOURCE = NearestOptions(attribute="look", search="usearch", to="request", limit=5, similarity_min=-1.0)
CONFIG: Config = msgspec.structs.replace(
    SMALL,
    items=msgspec.structs.replace(SMALL.items, attributes={"look": "vector:3"}),
    placements=(Placement(name="home", sources=(SOURCE,)),),
)
NORTH = Ask("home", n=3, context={"vector": "[0, 1, 0]"}, deadline_ms=60_000)


def look(name, *numbers):
    """An item event with a vector."""
    return {"type": "item", "item_id": name, "attributes": {"look": list(numbers)}}


def run(work):
    """Run an engine with the service."""

    async def whole(rig):
        service = VectorIndexing(rig.engine)
        service.start()
        try:
            await work(rig)
        finally:
            await service.stop()

    Rig(config=CONFIG).run(whole)


async def fill(rig):
    """Record a hundred items, the nearest to the north with the lowest numbers."""
    await rig.engine.record(rig.batch(*(look(f"i{number}", number, 100, 0) for number in range(100))))


async def asked(rig):
    """Return the ids of an answer."""
    answer = await rig.engine.recommend(NORTH)
    assert answer.failures == ()
    return [each.id for each in answer.items]


def test_without_the_library_a_scan_answers_and_health_says_so(monkeypatch):
    """With the extra that brings it."""

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(vector_index, "import_module", absent)

    async def work(rig):
        await fill(rig)
        await wait_on_loop(lambda: "midstream[vectors]" in rig.engine.concerns.get("background-vector_indexes", ""))
        assert await asked(rig) == ["i0", "i1", "i2"]

    run(work)


@pytest.mark.integration
def test_an_index_is_built_and_followed():
    """Answers are those of a scan before, while and after it; a change counts in the next answer."""
    library("usearch")

    async def work(rig):
        assert await asked(rig) == []
        await fill(rig)
        assert await asked(rig) == ["i0", "i1", "i2"]
        column = rig.engine.fold.items.all_vectors("look")
        await wait_on_loop(lambda: isinstance(column.index, VectorIndex) and column.index.size == 100)
        assert await asked(rig) == ["i0", "i1", "i2"]
        await rig.engine.record(rig.batch(look("i1", 5, 1, 0), look("new", 0.5, 100, 0)))
        assert await asked(rig) == ["i0", "new", "i2"]
        await wait_on_loop(lambda: column.index.size == 101)
        assert await asked(rig) == ["i0", "new", "i2"]
        await rig.engine.record(rig.batch({"type": "item", "operation": "delete", "item_id": "new"}))
        assert await asked(rig) == ["i0", "i2", "i3"]
        await wait_on_loop(lambda: column.index.size == 100)

    run(work)
