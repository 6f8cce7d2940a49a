"""Policies that fill the pages of a simulated shop: the engine, two baselines and an oracle.

A policy sees the data of a real shop: user, session, time. Only the oracle reads hidden preferences.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from midstream.simulation.audience import Products, VisitedPage
from midstream.simulation.shop import SimulatedShop

POLICY_STREAM = 5
Events = Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True, eq=False)
class FilledPage:
    """What a page is filled with."""

    products: Products
    """Rows of the shop, best first, distinct."""
    request_id: str | None = None
    """Of the engine's answer; None = no engine gave it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A name and two steps: fill a page, and learn what was done on it."""

    name: str
    fill: Callable[[VisitedPage], Awaitable[FilledPage]]
    learn: Callable[[Events], Awaitable[None]]


async def _nothing(_events: Events) -> None:
    """Learn nothing."""


def random_policy(seed: int, slate_size: int) -> Policy:
    """Return the policy of random items: the lower bound."""

    async def fill(page: VisitedPage) -> FilledPage:
        key = (seed, POLICY_STREAM, page.person.number, page.person.visitor.visit_count, page.number)
        return FilledPage(np.random.default_rng(key).permutation(page.on_sale)[:slate_size])

    return Policy("random", fill, _nothing)


def oracle_policy(slate_size: int) -> Policy:
    """Return the policy that reads every preference: the upper bound."""

    async def fill(page: VisitedPage) -> FilledPage:
        return FilledPage(np.argsort(-page.attraction[: page.on_sale], kind="stable")[:slate_size])

    return Policy("oracle", fill, _nothing)


@dataclass(slots=True, eq=False)
class _Counted:
    """Acts on each product so far."""

    shop: SimulatedShop
    slate_size: int
    row: dict[str, int] = field(default_factory=dict[str, int])
    counts: Products = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        self.row = {item_id: row for row, item_id in enumerate(self.shop.item_ids)}
        self.counts = np.zeros(len(self.row), dtype=np.int64)

    async def fill(self, page: VisitedPage) -> FilledPage:
        return FilledPage(np.argsort(-self.counts[: page.on_sale], kind="stable")[: self.slate_size])

    async def learn(self, events: Events) -> None:
        for event in events:
            if event["type"] == "view":
                self.counts[self.row[str(event["item_id"])]] += 1


def popularity_policy(shop: SimulatedShop, slate_size: int) -> Policy:
    """Return the policy of the most viewed items, the same for all."""
    counted = _Counted(shop, slate_size)
    return Policy("popularity", counted.fill, counted.learn)
