"""Drifting market: segments of people, items whose appeal moves, and logged slates, a quarter of a day at once.

Attraction is a sum on the scale of the logit: a base, the appeal of the item, the taste of the segment for its
category, what one segment finds in one item, and what one person finds in one category. Four effects are planted, each
with a size that 0 takes away:

- *Drift*: appeal and taste take a step each day, and on ``drift_day`` a share of both is drawn anew.
- *Novelty*: a new item attracts more at first, and the surplus fades by a half each ``novelty_days``.
- *Position bias*: place k is looked at with probability 1 / (k + 1)^bias, whatever stands there.
- *Robots*: few users with many visits, who click each place alike and are no part of what is measured.

Visits, luck and noise depend on seed and tick alone, never on what was shown. So policies meet the same people with the
same luck, and what a policy is worth is the expected number of clicks of a slate, without the chance of the clicks.

Reference: N. Craswell, O. Zoeter, M. Taylor, B. Ramsey, "An experimental comparison of click position-bias models",
WSDM 2008, section 2.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask
from midstream.simulation.audience import DAY_MS
from midstream.simulation.season import START_MS

Real = NDArray[np.float64]
TICKS_A_DAY = 4
TICK_MS = DAY_MS // TICKS_A_DAY
CATALOGUE_STREAM, DRIFT_STREAM, PEOPLE_STREAM, TICK_STREAM, SERVING_STREAM = 11, 12, 13, 14, 15


@dataclass(frozen=True, slots=True)
class MarketOptions:
    """Size of the market and of each planted effect."""

    seed: int = 1
    day_count: int = 21
    drift_day: int = 9
    visits_a_tick: int = 4_000
    user_count: int = 6_000
    segment_count: int = 8
    category_count: int = 6
    opening_count: int = 60
    """Items on sale from the first day."""
    launch_every_days: int = 2
    """An item comes on sale each so many days."""
    slate_size: int = 5
    base: float = -2.4
    """Logit of an item of no appeal: 8 % of those who look at it click."""
    appeal: float = 0.8
    taste: float = 0.8
    pair: float = 0.2
    """What a segment finds in one item alone."""
    person: float = 0.5
    """What a person finds in a category: no policy here reads who asks, so none can know it."""
    step: float = 0.05
    """Of appeal and taste a day, as a share of their spread."""
    shock: float = 0.6
    """Share of items and of tastes that is drawn anew on the drift day."""
    novelty: float = 1.0
    novelty_days: float = 1.0
    position_bias: float = 1.0
    robot_share: float = 0.005
    """Of users."""
    robot_visits: float = 0.1
    """Share of all visits."""
    robot_click: float = 0.5
    """Chance that a robot clicks a place."""

    @property
    def item_count(self) -> int:
        """All items that there ever are."""
        return self.opening_count + self.day_count // self.launch_every_days

    @property
    def tick_count(self) -> int:
        """Quarters of a day in all."""
        return self.day_count * TICKS_A_DAY


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """A seed's people, items and days. Items are in the order in which they come on sale."""

    options: MarketOptions
    category: Index
    """(items,)."""
    launch_day: NDArray[np.int64]
    """0 = there from the beginning, (items,)."""
    appeal: Real
    """(days, items)."""
    taste: Real
    """(days, segments, categories)."""
    pair: Real
    """(segments, items)."""
    segment: Index
    """(users,)."""
    person: Real
    """(users, categories)."""
    is_robot: Mask
    """(users,)."""

    def on_sale(self, day: int) -> int:
        """Return how many items are on sale: the first ones."""
        return int(np.count_nonzero(self.launch_day <= day))

    def logits(self, day: int) -> Real:
        """Return what each segment finds in each item on sale that day, but for persons: (segments, on sale)."""
        count, options = self.on_sale(day), self.options
        age = day - self.launch_day[:count]
        surplus = np.where(self.launch_day[:count] > 0, options.novelty * 0.5 ** (age / options.novelty_days), 0.0)
        own = options.base + self.appeal[day, :count] + surplus
        found: Real = own + self.pair[:, :count] + self.taste[day][:, self.category[:count]]
        return found

    @staticmethod
    def begin_ms(tick: int) -> int:
        """Return when a quarter of a day begins."""
        return START_MS + tick * TICK_MS

    @property
    def attention(self) -> Real:
        """Probability that each place of a slate is looked at, (places,)."""
        found: Real = np.power(1.0 + np.arange(self.options.slate_size), -self.options.position_bias).astype(np.float64)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class TickLog:
    """Slates of a quarter of a day. Columns of (visits,) and (visits, places)."""

    tick: int
    user: Index
    segment: Index
    is_person: Mask
    variant: NDArray[np.int8]
    """The table that filled the slate, by number."""
    shuffled: Mask
    """Slates with an item at random and their places in a random order."""
    item: Index
    """(visits, places)."""
    clicked: Mask
    """(visits, places)."""
    worth: Real
    """Expected clicks of each slate, the chance of looking and of clicking both taken in: hidden from policies."""

    @property
    def begin_ms(self) -> int:
        """When the tick begins."""
        return Market.begin_ms(self.tick)

    def of(self, variant: int) -> "TickLog":
        """Return the slates that one table filled."""
        kept = self.variant == variant
        return replace(
            self,
            user=self.user[kept],
            segment=self.segment[kept],
            is_person=self.is_person[kept],
            variant=self.variant[kept],
            shuffled=self.shuffled[kept],
            item=self.item[kept],
            clicked=self.clicked[kept],
            worth=self.worth[kept],
        )

    @property
    def value(self) -> float:
        """Expected clicks of a person's slate."""
        return float(self.worth[self.is_person].mean())


@dataclass(frozen=True, slots=True)
class Serving:
    """How tables become slates: the same for each policy that learns."""

    temperature: float = 0.1
    """Of the noise on the logit (Plackett–Luce); 0 = always the best."""
    explored: float = 0.05
    """Share of slates of which one item is any that is on sale, and whose places are in a random order: only there the
    effect of a place can be told from what stands there."""
    canary_share: float = 0.5
    """Of users, those whose slates are filled by the second table, if there is one."""


GREEDY = Serving(0.0, 0.0)


def open_market(options: MarketOptions) -> Market:
    """Return the market that a seed stands for; equal options give equal markets."""
    stream = np.random.default_rng((options.seed, CATALOGUE_STREAM))
    items, segments, categories = options.item_count, options.segment_count, options.category_count
    category = stream.permutation(np.arange(items) % categories).astype(np.int32)
    later = np.maximum(np.arange(items) - options.opening_count + 1, 0)
    pair = stream.normal(scale=options.pair, size=(segments, items))
    people = np.random.default_rng((options.seed, PEOPLE_STREAM))
    robots = max(1, round(options.robot_share * options.user_count)) if options.robot_visits > 0 else 0
    return Market(
        options,
        category,
        later * options.launch_every_days,
        *_drift(options),
        pair,
        segment=people.integers(segments, size=options.user_count).astype(np.int32),
        person=people.normal(scale=options.person, size=(options.user_count, categories)),
        is_robot=np.arange(options.user_count) < robots,
    )


def _drift(options: MarketOptions) -> tuple[Real, Real]:
    """Return appeal (days, items) and taste (days, segments, categories): steps each day, a shock on one."""
    stream = np.random.default_rng((options.seed, DRIFT_STREAM))
    shapes = ((options.item_count,), (options.segment_count, options.category_count))
    found: list[Real] = []
    for shape, spread in zip(shapes, (options.appeal, options.taste), strict=True):
        days = np.empty((options.day_count, *shape))
        days[0] = stream.normal(size=shape)
        for day in range(1, options.day_count):
            # The spread stays what it is: a step towards chance is a step away from what was.
            days[day] = np.sqrt(1.0 - options.step**2) * days[day - 1] + options.step * stream.normal(size=shape)
            anew = stream.normal(size=shape)
            moved = stream.random(shape) < options.shock
            if day == options.drift_day:
                days[day] = np.where(moved, anew, days[day])
        found.append(spread * days)
    return found[0], found[1]


@dataclass(frozen=True, slots=True, eq=False)
class Crowd:
    """Who comes in a quarter of a day, with their luck and the noise of serving: the same whatever is shown."""

    tick: int
    user: Index
    """(visits,)."""
    examined: Real
    """Of each place, from 0 to 1, (visits, places)."""
    luck: Real
    """Of each item, from 0 to 1, (visits, on sale)."""
    gumbel: Real
    """(visits, on sale)."""
    other: Index
    """An item on sale at random, (visits,)."""
    explores: Real
    """From 0 to 1, (visits,)."""
    shuffle: NDArray[np.intp]
    """A random order of places, (visits, places)."""


def crowd_of(market: Market, tick: int) -> Crowd:
    """Return who comes. Cost: 20 ms for 4,000 visits and 70 items."""
    options, count = market.options, market.on_sale(tick // TICKS_A_DAY)
    visits = options.visits_a_tick
    stream = np.random.default_rng((options.seed, TICK_STREAM, tick))
    robots = int(np.count_nonzero(market.is_robot))
    is_robot = stream.random(visits) < (options.robot_visits if robots else 0.0)
    person = stream.integers(robots, options.user_count, size=visits)
    robot = stream.integers(max(1, robots), size=visits)
    return Crowd(
        tick,
        np.where(is_robot, robot, person).astype(np.int32),
        stream.random((visits, options.slate_size)),
        stream.random((visits, count)),
        stream.gumbel(size=(visits, count)),
        stream.integers(count, size=visits).astype(np.int32),
        stream.random(visits),
        np.argsort(stream.random((visits, options.slate_size)), axis=1),
    )


def serve(market: Market, crowd: Crowd, tables: Sequence[Real], serving: Serving) -> TickLog:
    """Return the slates of a quarter of a day and what was clicked.

    Args:
        market: Whose people come.
        crowd: Of the quarter.
        tables: Scores of each segment and item on sale, (segments, on sale), on the scale of the logit, higher first;
            of two the second fills the slates of the canary's users.
        serving: Noise, exploration and the canary's share.

    Cost: 10 ms for 4,000 visits and 70 items.
    """
    options, user = market.options, crowd.user
    segment, rows = market.segment[user], np.arange(len(user))[:, None]
    unit = np.random.default_rng((options.seed, SERVING_STREAM)).random(options.user_count)
    variant = ((unit[user] < serving.canary_share) & (len(tables) > 1)).astype(np.int8)
    scores = np.stack(tables)[variant, segment] + serving.temperature * crowd.gumbel
    best = np.argpartition(-scores, options.slate_size, axis=1)[:, : options.slate_size]
    order = np.argsort(-scores[rows, best], axis=1, kind="stable")
    item = best[rows, order].astype(np.int32)
    shuffled = crowd.explores < serving.explored
    fresh = shuffled & (item != crowd.other[:, None]).all(axis=1)
    item[fresh, -1] = crowd.other[fresh]
    item[shuffled] = np.take_along_axis(item[shuffled], crowd.shuffle[shuffled], axis=1)
    logits = market.logits(crowd.tick // TICKS_A_DAY)
    liking = logits[segment[:, None], item] + market.person[user[:, None], market.category[item]]
    chance = 1.0 / (1.0 + np.exp(-liking))
    robot = market.is_robot[user]
    clicked = np.where(
        robot[:, None],
        crowd.examined < options.robot_click,
        (crowd.examined < market.attention) & (crowd.luck[rows, item] < chance),
    )
    worth = (market.attention * chance).sum(axis=1)
    return TickLog(crowd.tick, user, segment, ~robot, variant, shuffled, item, clicked, worth)
