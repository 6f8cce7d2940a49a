"""Linear click model of a drifting market: logged slates come in, scores of each segment and item go out.

The model is the product's FTRL, told what a log shows: the item, and the segment that asked with the category and with
the item. Who asks is no column, so what one person finds in a category is not learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from midstream.core.types import Index, Mask, Score
from midstream.models.model import RowModel
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import POSITIONS, Ftrl, FtrlOptions
from midstream.simulation.market import TICK_MS, TICKS_A_DAY, Market, Real, TickLog

BINS = 256
"""Of each column: a market has at most so many pairs of a segment and a category, and half as many items."""
_SEGMENTS_A_COLUMN = 2
_ITEMS_MAX = BINS // _SEGMENTS_A_COLUMN
_LOGIT_MAX = 12.0


@dataclass(frozen=True, slots=True)
class Learner:
    """What is learned of a log."""

    window_days: float = 5.0
    half_life_days: float = 2.0
    """Age at which a row counts half."""
    visits_a_day_max: float = 25.0
    """Who has more slates a day is a robot: left out of what is learned and of what a canary is judged by."""
    ftrl: FtrlOptions = field(
        default_factory=lambda: FtrlOptions(
            alpha=0.3, l1=0.1, l2=1.0, bins=BINS, is_standardised=False, debias="position"
        )
    )

    def window(self, logs: Sequence[TickLog], end_tick: int, since_tick: int = 0) -> list[TickLog]:
        """Return the logs of the window before a tick, none from before another."""
        first = end_tick - round(self.window_days * TICKS_A_DAY)
        return [each for each in logs if max(first, since_tick) <= each.tick < end_tick]


def names_of(market: Market) -> tuple[str, ...]:
    """Return the names of the columns: the item, segment and category, then segment and item in columns that share."""
    return ("item", "category", *(f"item.{each}" for each in range(_pair_columns(market))))


def _pair_columns(market: Market) -> int:
    return -(-market.options.segment_count // _SEGMENTS_A_COLUMN)


def columns_of(market: Market, segment: Index, item: Score) -> Score:
    """Return the columns of rows, (rows, columns): NaN under segments of other columns than the one that asks.

    Args:
        market: Knows the category of each item.
        segment: That asks, (rows,).
        item: Of each row, (rows,).
    """
    found = np.full((len(item), 2 + _pair_columns(market)), np.nan, dtype=np.float32)
    column, within = np.divmod(segment, _SEGMENTS_A_COLUMN)
    found[:, 0] = item
    found[:, 1] = segment * market.options.category_count + market.category[item.astype(np.int32)]
    found[np.arange(len(item)), 2 + column] = within * _ITEMS_MAX + item
    return found


def examples_of(market: Market, logs: Sequence[TickLog], learner: Learner) -> Examples:
    """Return the rows of logs in their order, robots left out; each slate is a request, and the newest counts most."""
    places = market.options.slate_size
    sizes = [len(each.user) for each in logs]
    user = np.concatenate([each.user for each in logs])
    kept = ~busy(user, len(logs), learner)[user]
    segment = np.repeat(np.concatenate([each.segment for each in logs])[kept], places)
    item = np.concatenate([each.item for each in logs])[kept].reshape(-1).astype(np.float32)
    tick = np.repeat([each.tick for each in logs], sizes)
    age_days = (tick.max() - tick)[kept] / TICKS_A_DAY
    within = np.concatenate([np.arange(size) * TICK_MS // size for size in sizes])
    time_ms = np.repeat([each.begin_ms for each in logs], sizes) + within
    return Examples(
        names_of(market),
        columns_of(market, segment, item),
        np.arange(0, len(item) + 1, places, dtype=np.int64),
        np.concatenate([each.clicked for each in logs])[kept].reshape(-1).astype(np.float32),
        time_ms=time_ms[kept].astype(np.int64),
        weight=np.repeat(0.5 ** (age_days / learner.half_life_days), places).astype(np.float32),
        position=np.tile(np.arange(places, dtype=np.int32), int(kept.sum())),
        propensity=np.full(len(item), np.nan, dtype=np.float32),
        owner=user[kept].astype(np.uint64),
    )


def busy(user: Index, tick_count: int, learner: Learner) -> Mask:
    """Return which users have more slates in some ticks than a person has, by number of the user."""
    most = max(3.0, learner.visits_a_day_max * tick_count / TICKS_A_DAY)
    found: Mask = np.bincount(user) > most
    return found


def fit_market(market: Market, logs: Sequence[TickLog], learner: Learner) -> Ftrl:
    """Return the model of logs. Cost: 1 us a row."""
    examples = examples_of(market, logs, learner)
    count = len(examples.names)
    edges = np.tile(np.arange(BINS - 1, dtype=np.float32) + np.float32(0.5), (count, 1))
    zeros, parts = np.zeros(count), np.zeros(count * (BINS + 2) + POSITIONS + 1)
    return Ftrl(examples.names, learner.ftrl, edges, zeros, zeros, parts, parts).learn(examples)


def table_of(model: RowModel, market: Market, day: int) -> Real:
    """Return what a model says of each segment and item on sale, on the scale of the logit: (segments, on sale)."""
    count, segments = market.on_sale(day), market.options.segment_count
    segment = np.repeat(np.arange(segments, dtype=np.int32), count)
    rows = columns_of(market, segment, np.tile(np.arange(count, dtype=np.float32), segments))
    chance = np.clip(model.score(rows).astype(np.float64), 1e-9, 1 - 1e-9)
    found: Real = np.clip(np.log(chance / (1.0 - chance)), -_LOGIT_MAX, _LOGIT_MAX).reshape(segments, count)
    return found
