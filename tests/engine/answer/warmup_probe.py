"""Prints kernels that the first events, questions and look-ups of a new process compiled, after its warm-up.

A model is promoted while it runs; what its first request compiles is printed too. With a second argument optional
kernels are pending until then, as on a new machine.
"""

import asyncio
import sys
from pathlib import Path

import pyarrow as pa
from msgspec.structs import replace

from midstream.app.config.schema import Model, Placement, TrendingSection
from midstream.app.opening import accept_of, config_of, open_running
from midstream.cli.operate.init import starter_files, write_new
from midstream.core.durations import Duration
from midstream.engine.answer.warmup import warm_tables
from midstream.engine.types import Ask
from midstream.events.arrow.arrow import decode_arrow
from midstream.events.json.decode import decode
from midstream.events.kernel import Kernel
from midstream.events.machine_code.ahead import optional_kernels
from midstream.events.machine_code.behind import take_up
from midstream.ranking.rules.cap import Cap
from midstream.retrieval.item_model import Sequence
from midstream.retrieval.recent_items import RecentItems
from midstream.retrieval.repeat import RepeatItems
from midstream.retrieval.trending import Trending
from midstream.serving.slates.recommendations import RecommendationBody
from midstream.state.ids.event_ids import EventIds
from midstream.state.one_pass import is_usual
from midstream.state.settings import FoldSettings
from tests.support.small_models import publish_small

NOW_MS = 1_790_000_000_000
MORE = b"""\
{"type": "user", "user_id": "ann", "attributes": {"language": "en"}}
{"type": "user", "operation": "delete", "user_id": "ann"}
{"type": "item", "operation": "delete", "item_id": "lamp-012"}
{"type": "item", "item_id": "rug-008", "attributes": {"available": false, "price": null, "tags": ["soft"]}}
{"type": "impression", "user_id": "ann", "items": [{"item_id": "rug-008"}, {"item_id": "new"}]}
"""
PEOPLE = b"""\
{"type": "view", "user_id": "bob", "item_id": "rug-008"}
{"type": "view", "user_id": "carl", "item_id": "rug-008"}
{"type": "impression", "user_id": "carl", "item_id": "rug-008"}
{"type": "user", "operation": "merge", "user_id": "bob", "attributes": {"from": "carl"}}
{"type": "view", "user_id": "carl", "item_id": "rug-008", "time": 1790000000000}
"""
QUESTIONS = (
    Ask("default", session_id="s"),
    Ask("default", user_id="ann", exclude=("rug-008",)),
    Ask("default", items=("rug-008", "lamp-012"), filter='item.price < 30 and item.category in ["lamps", "rugs"]'),
    Ask("shelf", session_id="s", items=("rug-008",)),
    Ask("similar", about="rug-008"),
    Ask("similar", about="chair-007", user_id="ann"),
    Ask("mine", user_id="ann"),
    Ask("mine", user_id="bob", session_id="s"),
)
MINE = Placement(
    name="mine", sources=(RecentItems(), RepeatItems(min_gap=Duration("0ms")), Trending(by_segment=True)), repeats="any"
)
CAPPED = Placement(name="capped", caps=(Cap(attribute="category", max=2),))
MODEL = "sasrec"
BY_MODEL = Placement(name="by_model", sources=(Sequence(model=MODEL),))
KNOWN = b'{"type": "view", "user_id": "eve", "item_id": "item-3"}'


def compiled() -> set[str]:
    """Return every kernel with the types it is compiled for, in this process."""
    return {
        f"{each.py_func.__module__}.{each.py_func.__name__} {types}"
        for module in [value for name, value in sys.modules.items() if name.startswith("midstream.")]
        for each in vars(module).values()
        if isinstance(each, Kernel)
        for types in each.signatures
    }


async def main(folder: Path, *, is_new: bool) -> None:
    """Open a new shop, use it, print what was compiled only then."""
    for kernel in optional_kernels() if is_new else ():
        kernel.is_pending = True
    files = starter_files(NOW_MS)
    write_new(folder, files)
    config = replace(
        (starter := config_of(folder)),
        trending=TrendingSection(segment="user.language"),
        placements=(*starter.placements, MINE, BY_MODEL, CAPPED),
        models=(Model(name=MODEL, kind=MODEL),),
    )
    running = open_running(folder, config)
    await running.start()
    if is_new:
        assert not any(each.signatures for each in optional_kernels())
        assert take_up(optional_kernels()) == []
    assert "pyarrow.compute" not in sys.modules  # a start does not wait for it
    warm_tables()
    before = compiled()
    accept = accept_of(config)
    for body in (files["example.ndjson"].encode(), MORE):
        for part in (body, body.splitlines()[0]):
            decoded = decode(part, accept)
            assert not decoded.rejected
            await running.engine.record(decoded.batch)
    decode_arrow(pa.RecordBatch.from_pylist([{"type": "view", "item_id": "rug-008", "time": "2026-01-31"}]), accept)
    for people in (PEOPLE, PEOPLE.replace(b"carl", b"dora")):
        await running.engine.record(decode(people, accept).batch)
        await running.engine.erase("bob")
        is_usual(decode(people, accept).batch)
    EventIds(1_000, FoldSettings().hash_key(), table_begin=8).make_room(1_000)  # as it grows after a million ids
    for question in QUESTIONS:
        await running.engine.recommend(question)
    assert running.engine.encoded_slate(RecommendationBody(user_id="ann", n=1), "capped")
    assert running.engine.item("rug-008")
    assert running.engine.user("ann")
    for each in sorted(compiled() - before):
        print(each)
    await running.champions.promote(MODEL, publish_small(running.champions.registry, MODEL, 1))
    before = compiled()
    await running.engine.record(decode(KNOWN, accept).batch)
    assert (await running.engine.recommend(Ask("by_model", user_id="eve"))).models.keys() == {MODEL}
    await running.stop()
    for each in sorted(compiled() - before):
        print(each)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), is_new=len(sys.argv) > 2))
