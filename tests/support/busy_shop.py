"""The configuration of a shop in which all is used that a placement can have, parts of its own among it that fail.

What of one's own fails says the seed of the request alone, so a part fails at some requests and not at the next.
"""

from tests.support.fakes.models import CONFIG

START_MS = 1_750_000_000_000
"""When the shop opens: 15 June 2025, 15:06 UTC."""
COMPONENTS = '''
"""Parts that fail now and then: one that proposes, one that filters, one that waits and scores, one that chooses."""

import asyncio

import msgspec
import numpy as np

from midstream.core.types import Proposal, Selection
from midstream.state.ids.vocabulary import Vocabulary


def is_in_trouble(query, percent):
    """Say whether a part fails: not where it is tried, which is on a state of its own and of an earlier time."""
    return query.now_ms > 1_700_000_000_000 and query.seed % 100 < percent


class Flaky(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Proposes the first items of the catalogue; raises most of the time."""

    name: str = "flaky"

    def retrieve(self, moment):
        if is_in_trouble(moment.query, 95):
            raise OSError("the shelf is not there")
        index = np.arange(min(12, moment.table(Vocabulary).item_count), dtype=np.int32)
        return Proposal(index, np.linspace(1.0, 0.1, len(index), dtype=np.float32))


class Picky(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lets all pass; now and then it raises, also when the catalogue is read on."""

    name: str = "picky"

    def keep(self, moment, candidates):
        kept = np.ones(len(candidates), dtype=np.bool_)
        if candidates.source_names == ("catalogue",) and is_in_trouble(moment.query, 30):
            raise OSError("nobody to ask behind the sources")
        if is_in_trouble(moment.query, 6):
            raise OSError("nobody to ask")
        return kept


class Waiting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Waits, so that others have their turn meanwhile, then scores by what the sources say; sometimes it raises."""

    name: str = "waiting"

    async def score(self, query, features, models):
        for _ in range(5):
            await asyncio.sleep(0)
        if is_in_trouble(query, 15):
            raise OSError("no answer")
        return np.nan_to_num(features.values[:, 0]) + np.arange(len(features.values), dtype=np.float32) % 7


class Choosy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Chooses every second candidate, a shifted beginning by the seed; raises for one seed in four."""

    def select(self, query, features, score):
        if is_in_trouble(query, 25):
            raise OSError("cannot choose")
        rows = np.flatnonzero(np.isfinite(score))
        rows = np.roll(rows, query.seed % 5)[: query.slate_size]
        return Selection(rows, np.ones(len(rows), dtype=np.float32))
'''
FILE = """
[items.attributes]
price = "number"
stock = "number"
category = "category"
tags = "tags"
look = "vector:4"

[snapshots]
mode = "at_stop"

[history]
hot = "90d"

[users]
erase_days_max = 30

[[features]]
name = "carts"
kind = "count"
scope = "item"
actions = ["cart"]

[[features]]
name = "acts"
kind = "count"
scope = "item"
actions = ["view"]

[[features]]
name = "seen"
kind = "count"
scope = "item"
actions = ["impression"]

[[models]]
name = "near"
kind = "ease"

[[placements]]
name = "plain"

[[placements]]
name = "home"
sources = [{ kind = "session_knn" }, { kind = "covisitation" }, { kind = "trending" }, { kind = "recent_items" }]
filter = 'item.price < 50 and item.category != "hidden" and item.category not in user.top("category", 1)'
exclude = { purchase = "30d", impression = 3 }
features = ["carts"]
log_features = 0.5
scorers = [{ kind = "model", name = "ranker" }]
selector = { kind = "plackett_luce" }
caps = [{ attribute = "category", max = 4 }]
slate_size = 8

[[placements]]
name = "shelf"
selector = { kind = "thompson", acts = "acts", impressions = "seen" }
features = ["acts", "seen"]
rules = [{ kind = "new_items", name = "fresh", positions = [1, 3], within = "2h" }]
slate_size = 8

[[placements]]
name = "corner"
diversity = { attribute = "category" }
exclude = { served = 2 }
repeats = "any"
selector = { kind = "epsilon_greedy" }
rules = [
    { kind = "pin", name = "voucher", items = ["i3"], positions = [1] },
    { kind = "boost", name = "cheap", where = "item.price < 20", factor = 1.5 },
    { kind = "promote", name = "share", where = 'item.category == "c2"', min = 0.3, max = 0.4 },
]

[[placements]]
name = "letter"
exclude = { served = "20m", served_anywhere = 3 }
selector = { kind = "plackett_luce", temperature = 0.5 }
caps = [{ attribute = "tags", max = 2 }, { attribute = "category", max = 3, within = "30m" }]
slate_size = 6

[[placements]]
name = "hours"
timezone = "Europe/Berlin"
filter = "item.stock > 0"
diversity = { method = "dpp", attribute = "look" }
slate_size = 8

[[placements.rules]]
kind = "pin"
name = "opening"
items = ["i5", "i6"]
positions = [0, 4]
when = "now.hour >= 8 and now.hour < 20"

[[placements.rules]]
kind = "promote"
name = "sale"
where = '"sale" in item.tags'
min = 0.3
max = 0.6
start = "2025-06-15T16:00:00Z"
end = "2025-06-16T06:00:00Z"

[[placements.rules]]
kind = "boost"
name = "app"
where = "item.price > 30"
factor = 2.0
when = 'context.channel == "app" and user.country != "de"'

[[placements]]
name = "goals"
sources = [{ kind = "ease", model = "near" }, { kind = "repeat" }, { kind = "similar" }, { kind = "trending" }]
features = ["carts", "acts"]
repeats = "any"
candidates_max = 100
slate_size = 8

[[placements.scorers]]
kind = "objectives"
objectives = [{ model = "ranker" }, { model = "buyer", weight = 3.0, value = "carts" }]


[[placements]]
name = "own"
sources = [
    { kind = "custom", path = "components:Flaky" },
    { kind = "trending", limit = 4 },
    { kind = "popular", limit = 4 },
]
filters = [{ kind = "custom", path = "components:Picky" }]
scorers = [{ kind = "custom", path = "components:Waiting" }, { kind = "model", name = "ranker" }]
selector = { kind = "custom", path = "components:Choosy" }
features = ["carts"]
slate_size = 10
"""
LATER = """
[pairs]
half_life = "20d"
"""
"""What the file says beside in the end: the state is another from then on."""
BUSY = CONFIG.partition("[[placements]]")[0] + FILE
