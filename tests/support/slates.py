"""Random slates under random rules, each answered by the whole request path in a small shop that stands still.

What is drawn is plain: a ``Shape`` says how many rules of each kind there are, the seed what they say. ``slate_of``
answers it, ``tests.support.slate_rules`` says in plain Python what is wrong with the answer.
"""

import math
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import msgspec
import numpy as np

from midstream.app.config.schema import Config, ItemsSection, Placement
from midstream.app.wiring import plans
from midstream.core.durations import Duration
from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import (
    Candidates,
    FeatureFrame,
    Index,
    Mask,
    Models,
    Moment,
    Proposal,
    Query,
    Score,
    Served,
    TimestampMs,
)
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.ranking.rules.boost import Boost
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import Diversity
from midstream.ranking.rules.new_items import NewItems
from midstream.ranking.rules.pin import Pin
from midstream.ranking.rules.promote import Promote
from midstream.ranking.rules.rules import AnyRule
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.thompson import Thompson
from midstream.ranking.selectors.top_k import TopK
from tests.support.frozen_shop import SMALL, StillShop

ITEM_COUNT = 60
OLD_COUNT = 45
"""The others came to the catalogue ten days later."""
DAY_MS = 86_400_000
SELECTORS = (
    TopK(),
    PlackettLuce(temperature=0.7),
    PlackettLuce(temperature=2.0, keep=2, pool=10),
    EpsilonGreedy(epsilon=0.5),
    EpsilonGreedy(epsilon=0.5, keep=1, pool=8),
    Thompson(acts="clicks", impressions="seen", pool=20),
    Thompson(acts="clicks", impressions="seen", keep=1, pool=8),
)
_CONDITIONS = (
    'item.category == "c0"',
    'item.category == "c1" or item.price < 20',
    '"t1" in item.tags',
    "item.price >= 45",
    "item.fresh",
)
_PAST, _FUTURE = "2020-01-01T00:00:00Z", "2039-01-01T00:00:00+01:00"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a random slate is about."""

    seed: int
    selector: int = 0
    size: int = 10
    sources: int = 2
    modulus: int = 1
    """Only items whose number it divides pass a filter."""
    excluded: int = 0
    caps: int = 0
    diversity: int = 0
    """0 = none, 1 and 2 by maximal marginal relevance, 3 and 4 by a determinant; even ones by vectors."""
    pins: int = 0
    boosts: int = 0
    promotions: int = 0
    new: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredSlate:
    """A slate, and all that was asked of it."""

    shape: Shape
    placement: Placement
    served: Served
    plan: Plan


@dataclass(frozen=True)
class _Fixed:
    """Proposes given items."""

    name: str
    item_index: Index

    def retrieve(self, moment: Moment) -> Proposal:
        """Return them, the first with the highest score."""
        return Proposal(self.item_index, np.arange(len(self.item_index), 0, -1).astype(np.float32))


@dataclass(frozen=True)
class _Divides:
    """Keeps items whose number a modulus divides."""

    modulus: int
    name: str = "divides"

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        """Return True for those."""
        kept: Mask = candidates.item_index % self.modulus == 0
        return kept


@dataclass(frozen=True, eq=False)
class _Numbers:
    """A block of columns, and scores, by the item's number."""

    traits: ClassVar[Traits] = BOUNDED
    values: Score
    """(items, 3): clicks, impressions, score."""
    name: str = "numbers"
    names: tuple[str, ...] = ("clicks", "seen", "number")

    def read(self, moment: Moment, candidates: Candidates) -> Score:
        """Return the columns of the candidates."""
        return self.values[candidates.item_index]

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        """Return the last column."""
        return features.values[:, features.names.index("number")].copy()


@cache
def shop() -> StillShop:
    """Return the shop: items with and without category and tags, three of them not available, some new."""
    made = StillShop()
    for number in range(ITEM_COUNT):
        if number == OLD_COUNT:
            made.wait(10 * DAY_MS)
        made.put(f"i{number}", **document(number))
    made.wait(DAY_MS)
    return made


def document(number: int) -> dict[str, object]:
    """Return the attributes of an item, as the catalogue has them."""
    found: dict[str, object] = {
        "price": float(number),
        "tags": [f"t{each}" for each in range(3) if number % (each + 2) == 0],
        "fresh": number % 4 == 0,
        "look": [float(number % 5) - 2, float(number % 3), 1.0],
    }
    if number % 7:
        found["category"] = f"c{number % 4}"
    if number in (19, 39, 59):
        found["available"] = False
    return found


def slate_of(shape: Shape) -> AnsweredSlate:
    """Return the answer to a shape. Cost: about 2 ms."""
    dice = np.random.default_rng(shape.seed)
    placement = _placement(shape, dice)
    config = Config(items=ItemsSection(attributes=SMALL.attributes), placements=(placement,))
    values = np.stack(
        (
            dice.choice([0.0, 3.0, 40.0, np.nan], ITEM_COUNT),
            dice.choice([5.0, 60.0, 900.0], ITEM_COUNT),
            dice.choice([*dice.normal(-3, 2, 12), np.nan], ITEM_COUNT),
        ),
        axis=1,
    ).astype(np.float32)
    made = plans(config)["default"]
    plan = replace(
        made,
        sources=tuple(_Fixed(f"s{number}", _some(dice, 30)) for number in range(shape.sources)),
        filters=(*made.filters, _Divides(shape.modulus)),
        features=(_Numbers(values),),
        scorers=(_Numbers(values), *made.scorers),
    )
    still = shop()
    query = Query(
        f"r{shape.seed}",
        "default",
        None,
        None,
        shape.size,
        TimestampMs(still.now_ms),
        int(dice.integers(0, 2**62)),
        exclude=tuple(f"i{number}" for number in _some(dice, shape.excluded).tolist()),
        context={"segment": str(dice.choice(["a", "b"]))},
    )
    return AnsweredSlate(shape, placement, _done(recommend(plan, still.moment, query, lambda: math.inf)), plan)


def _done(answering: Coroutine[None, None, Served]) -> Served:
    """Return what a request comes to that waits for nothing: without the millisecond that an event loop takes."""
    try:
        answering.send(None)
    except StopIteration as done:
        served: Served = done.value
        return served
    message = "a part of the plan waits"
    raise AssertionError(message)


def random_shape(seed: int) -> Shape:
    """Return a shape of everything there is, as a seed has it."""
    dice = np.random.default_rng([seed, 1])
    numbers = [int(dice.integers(0, high)) for high in (7, 19, 4, 4, 12, 3, 5, 3, 3, 4, 3)]
    selector, size, sources, modulus, excluded, *rest = numbers
    return Shape(seed, selector, size + 1, sources, modulus + 1, excluded, *rest)


def _some(dice: np.random.Generator, most: int) -> Index:
    """Return some items, each once."""
    count = int(dice.integers(0, most + 1))
    return dice.permutation(ITEM_COUNT)[:count].astype(np.int32)


def _placement(shape: Shape, dice: np.random.Generator) -> Placement:
    """Return a placement with as many rules of each kind."""
    is_dpp, by_vectors = shape.diversity >= 3, shape.diversity in (2, 4)
    diversity = Diversity(
        method="dpp" if is_dpp else "mmr",
        attribute="look" if by_vectors else str(dice.choice(["category", "tags"])),
        weight=float(dice.choice([0.1, 0.5, 1.0])),
    )
    caps = [Cap(attribute=name, max=int(dice.integers(1, 4))) for name in ("category", "tags")]
    rules: list[AnyRule] = []
    for number in range(shape.pins):
        count = int(dice.integers(1, 4))
        ids = [f"i{each}" for each in dice.permutation(ITEM_COUNT + 5)[:count].tolist()]
        rules.append(_stated(Pin(name=f"pin_{number}", items=tuple(ids), positions=_places(dice, count)), dice))
    for number in range(shape.boosts):
        factor = float(dice.choice([0.05, 0.5, 2.0, 20.0]))
        rules.append(_stated(Boost(name=f"boost_{number}", where=_condition(dice), factor=factor), dice))
    for number in range(shape.promotions):
        least, most = sorted(dice.choice([0.05, 0.2, 0.35, 0.5, 0.8, 1.0], 2).tolist())
        rules.append(_stated(_promotion(f"promote_{number}", least, most, dice), dice))
    for number in range(shape.new):
        fresh = NewItems(name=f"new_{number}", positions=_places(dice, 3), within=Duration("5d"))
        rules.append(_stated(fresh, dice))
    order: list[int] = dice.permutation(len(rules)).tolist()
    return Placement(
        selector=SELECTORS[shape.selector],
        caps=tuple(caps[: shape.caps]),
        diversity=diversity if shape.diversity else None,
        rules=tuple(rules[place] for place in order),
    )


def _promotion(name: str, least: float, most: float, dice: np.random.Generator) -> Promote:
    """Return a promotion by a condition or by ids."""
    if dice.random() < 0.5:
        return Promote(name=name, where=_condition(dice), min=least, max=most)
    ids = tuple(f"i{number}" for number in _some(dice, 20).tolist())
    return Promote(name=name, items=ids or ("i0",), min=least, max=most)


def _stated(rule: AnyRule, dice: np.random.Generator) -> AnyRule:
    """Return the rule, now and then with a time or a condition by which it is not in force, or is."""
    times = ("", _PAST, _FUTURE)
    start, end = times[int(dice.choice(3, p=[0.5, 0.4, 0.1]))], times[int(dice.choice(3, p=[0.5, 0.1, 0.4]))]
    when = (None, 'context.segment == "a"')[int(dice.choice(2, p=[0.7, 0.3]))]
    return msgspec.structs.replace(rule, start=start, end=end, when=when)


def _condition(dice: np.random.Generator) -> str:
    """Return one of some conditions about items."""
    return str(dice.choice(_CONDITIONS))


def _places(dice: np.random.Generator, count: int) -> tuple[int, ...]:
    """Return some positions, each once."""
    return tuple(dice.permutation(20)[:count].tolist())
