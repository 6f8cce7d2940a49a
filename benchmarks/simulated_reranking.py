"""Rankers in a simulated shop: what people look at, foretold by a placement's candidates in two orders.

One season of a seeded shop is run with the engine as it is by itself (the blend), and what people looked at becomes a
set of acts with a catalogue, judged as ``benchmarks.quality`` judges others by reranking: learned from earlier
questions, options chosen in between, the last third asked once. People see what the blend shows, and find some
without it.
"""

import argparse
import asyncio
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.quality.placement_rankers import ShopBenchmark, fits_of
from benchmarks.quality.reports import print_reranking
from benchmarks.quality.reranking import judge_reranking
from benchmarks.quality.shops import ShopData
from midstream.app.config.reader import parse_config
from midstream.app.config.schema import Config
from midstream.app.wiring import plans
from midstream.evaluation.data.importing import DATA_SETTINGS
from midstream.evaluation.data.interactions import InteractionTable, by_time
from midstream.simulation.audience import AudienceOptions
from midstream.simulation.engine_policy import EngineQuestion, engine_in_process
from midstream.simulation.season import SeasonOptions, run_season

CONFIG = """
[items.attributes]
category = "category"
colour = "category"
price = "number"

[[features]]
name = "views"
kind = "count"
actions = ["view"]
windows = ["1d"]
half_life = ["6h", "3d"]

[[features]]
name = "session_views"
kind = "count"
scope = "session"
actions = ["view"]

[[features]]
name = "seen"
kind = "count"
scope = "user_item"
actions = ["view"]

[[features]]
name = "price"
kind = "number"

[[features]]
name = "same_category"
kind = "match"
attribute = "category"

[[features]]
name = "last_category"
kind = "match"
attribute = "category"
last = 1

[[features]]
name = "last_colour"
kind = "match"
attribute = "colour"
last = 1

[[features]]
name = "taste"
kind = "affinity"
attribute = "category"
actions = ["view"]

[[features]]
name = "price_diversity"
kind = "diversity"
attribute = "price"

[[placements]]
features = ["views", "session_views", "seen", "price", "same_category", "last_category", "last_colour", "taste",
    "price_diversity"]
candidates_max = 100
"""


async def acts_of(options: SeasonOptions) -> ShopData:
    """Return what people looked at in a season, and what was for sale."""
    shop, told = options.shop(), []
    async with engine_in_process(shop, Config(), None, EngineQuestion()) as policy:

        async def learn(events):
            told.extend(event for event in events if event["type"] == "view")
            await policy.learn(events)

        await run_season(options, shop, replace(policy, learn=learn))
    seen = {event["item_id"] for event in told}
    rows = InteractionTable(
        np.array([event.get("user_id", "") for event in told]),
        np.array([event["session_id"] for event in told]),
        np.array([event["item_id"] for event in told]),
        np.full(len(told), "view"),
        np.array([event["time"] for event in told], dtype=np.int64),
    )
    catalogue = {item_id: shop.attributes(product) for product, item_id in enumerate(shop.item_ids) if item_id in seen}
    return ShopData(f"simulated, seed {options.seed}", by_time(rows), catalogue)


def main() -> None:
    """Run a season and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--people", type=int, default=1_000)
    parser.add_argument("--days", type=int, default=14)
    chosen = parser.parse_args()
    audience = AudienceOptions(person_count=chosen.people)
    shop = asyncio.run(acts_of(SeasonOptions(chosen.seed, chosen.days, audience=audience)))
    config = parse_config(CONFIG)
    settings = config.fold_settings()
    fold = msgspec.structs.replace(settings, session_gap=DATA_SETTINGS.session_gap)
    options = ShopBenchmark(Path())
    asking = replace(options.asking(config), fold=fold)
    print(f"{len(shop.rows)} acts, {len(shop.catalogue)} items")
    plan = plans(config)["default"]
    print_reranking(judge_reranking(shop, plan, "trees", fits_of("trees", options), asking, print)[0])


if __name__ == "__main__":
    main()
