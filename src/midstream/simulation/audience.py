"""Audience of a simulated shop: visits, examination of slates and clicks (position-based model, cascade stop).

All draws depend on the seed, the person, the visit and the page alone, never on earlier slates or on other persons: the
same page of the same visit has the same random numbers whatever policy filled it. So worlds with different policies are
comparable, page by page (common random numbers).

A person looks at position k of a slate with probability 1 / (k + 1)^bias, whatever item it has, and clicks the first
item with enough attraction.

Reference: N. Craswell, O. Zoeter, M. Taylor, B. Ramsey, "An experimental comparison of click position-bias models",
WSDM 2008, sections 2.2 and 2.3.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Mask
from midstream.simulation.shop import SimulatedShop, Vector
from midstream.simulation.visitor import Visitor, VisitorOptions, meet, towards

Products = NDArray[np.int64]
VISIT_STREAM, PAGE_STREAM, ROBOT_STREAM = 2, 3, 4
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
BUSY = (
    0.2,
    0.1,
    0.1,
    0.1,
    0.1,
    0.2,
    0.3,
    0.5,
    0.6,
    0.6,
    0.7,
    0.7,
    0.8,
    0.7,
    0.6,
    0.6,
    0.7,
    0.8,
    0.9,
    1.0,
    1.0,
    0.9,
    0.7,
    0.4,
)
"""Visits in each hour of the day (UTC), relative to the busiest."""
TRIES_MAX = 200
"""Of finding an hour for a visit: with a mean of 0.55 the chance of more is 0.45^200."""
_SHARPNESS = 7.0
_MIDDLE = 0.6
"""Cosine of wish and product at which half of the people who could click do."""
_CLICK_MAX = 0.5
"""Probability of a click on a perfect match."""
_ORGANIC = 0.45
"""Chance that somebody who clicked nothing finds a product without help: by the menu, by searching."""
_ORGANIC_SHARPNESS = 5.0
_PULL = 0.35
"""Strength with which viewed items pull the momentary preference."""
_CART, _PURCHASE = 0.12, 0.4
PAGES_MAX = 40
"""Of a visit of a person; robots stay for as many."""
_PAGE_MS = 35_000
_ROBOT_PAGE_MS = 1_500


@dataclass(frozen=True, slots=True)
class AudienceOptions:
    """Size and behaviour of the audience."""

    person_count: int = 400
    robot_share: float = 0.03
    """Share of robots: crawlers of the catalogue, and clickers that always take the first item."""
    signal: float = 1.0
    """Influence of taste and appeal; 0 = all items suit all users equally."""
    position_bias: float = 1.0
    """Exponent of the fall of attention with the position; 0 = every position is looked at."""
    pages_mean: float = 6.0
    visitor: VisitorOptions = field(default_factory=VisitorOptions)


@dataclass(slots=True, eq=False)
class VisitedPage:
    """One page in front of one person, before it is filled."""

    person: "Person"
    session_id: str
    time_ms: int
    attraction: Vector
    """Chance of a click on each product once it is looked at, shape (products,). Hidden: only the oracle reads it."""
    on_sale: int
    """The first so many products may be shown."""
    number: int
    """Of the page in its visit, from 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Reaction:
    """Acts of a person on a page."""

    looked_at: Mask
    """For each position of the slate."""
    clicked: int
    """Position, -1 = none."""
    viewed: int
    """Product looked at next, clicked or found; -1 = none."""
    acts: tuple[str, ...]
    """Acts on the clicked item: ``view``, perhaps ``cart``, perhaps ``purchase``."""
    next_ms: int | None
    """Time of the next page, None = the visit is over."""


@dataclass(slots=True, eq=False)
class Person:
    """A returning visitor. Made by ``audience``."""

    visitor: Visitor
    options: AudienceOptions
    seed: int
    robot: str
    """Empty = a person; ``crawler`` or ``clicker``."""
    next_visit_ms: int
    _wish: Vector = field(default_factory=lambda: np.zeros(0))
    _page: int = 0

    @property
    def number(self) -> int:
        """Among all who come, from 0."""
        return self.visitor.number

    @property
    def user_id(self) -> str | None:
        """None = known by the session alone."""
        return f"u{self.number}" if self.visitor.is_known else None

    def arrive(self) -> None:
        """Begin a visit: the wish of the moment, a step of drift, and when the visit after it will be."""
        visit = self.visitor
        stream = np.random.default_rng((self.seed, VISIT_STREAM, self.number, visit.visit_count))
        visit.taste = towards(visit.taste, visit.options.drift, stream)
        self._wish = towards(visit.taste, 0.4, stream)
        self._page = 0
        visit.visit_count += 1
        self.next_visit_ms = _busy_moment(self.next_visit_ms + DAY_MS // 12, visit.options.return_ms_mean, stream)

    def page(self, shop: SimulatedShop, now_ms: int) -> VisitedPage:
        """Return the page that is in front of the person now."""
        liking = _SHARPNESS * (shop.vector @ self._wish - _MIDDLE) + 0.6 * shop.appeal
        attraction = _CLICK_MAX / (1.0 + np.exp(-self.options.signal * liking))
        session_id = f"s{self.number}-{self.visitor.visit_count}"
        return VisitedPage(self, session_id, now_ms, attraction, shop.on_sale(now_ms), self._page)

    def react(self, shop: SimulatedShop, page: VisitedPage, slate: Products) -> Reaction:
        """Look at a slate, click, look around, go on or leave; the wish follows what was looked at."""
        key = (self.seed, PAGE_STREAM, self.number, self.visitor.visit_count, page.number)
        stream = np.random.default_rng(key)
        luck = stream.random(len(shop.item_ids))
        attention = stream.random(PAGES_MAX * 4)[: len(slate)]
        taste_luck = stream.gumbel(size=len(shop.item_ids))
        organic, cart, purchase, leaves = stream.random(4).tolist()
        pause_ms = int(stream.exponential(_ROBOT_PAGE_MS if self.robot else _PAGE_MS)) + 500
        looked_at = attention < (1.0 + np.arange(len(slate))) ** -self.options.position_bias
        clicked = self._clicked(page, slate, looked_at, luck)
        viewed = int(slate[clicked]) if clicked >= 0 else self._found(shop, page, organic, taste_luck)
        acts: tuple[str, ...] = ()
        if viewed >= 0:
            bought = cart < _CART and not self.robot
            acts = ("view", "cart", "purchase")[: 1 + bought + (bought and purchase < _PURCHASE)]
            self._wish = _unit((1.0 - _PULL) * self._wish + _PULL * shop.vector[viewed])
        if clicked >= 0:
            looked_at[clicked + 1 :] = False
        self._page += 1
        ends = self._page >= PAGES_MAX or (not self.robot and leaves < 1.0 / self.options.pages_mean)
        return Reaction(looked_at, clicked, viewed, acts, None if ends else page.time_ms + pause_ms)

    def _clicked(self, page: VisitedPage, slate: Products, looked_at: Mask, luck: Vector) -> int:
        """Return the position that is clicked, -1 = none."""
        if self.robot:
            return 0 if self.robot == "clicker" and len(slate) else -1
        wanted = np.flatnonzero(looked_at & (luck[slate] < page.attraction[slate]))
        return int(wanted[0]) if len(wanted) else -1

    def _found(self, shop: SimulatedShop, page: VisitedPage, organic: float, luck: Vector) -> int:
        """Return the product found without the slate, -1 = none."""
        if self.robot == "crawler":
            return (self.number * 7 + self._page) % page.on_sale
        if self.robot or organic >= _ORGANIC:
            return -1
        liking = self.options.signal * (_ORGANIC_SHARPNESS * (shop.vector @ self._wish) + shop.appeal) + luck
        return int(np.argmax(liking[: page.on_sale]))


def audience(seed: int, start_ms: int, options: AudienceOptions) -> list[Person]:
    """Return all who ever come; equal arguments give equal people, and more people change nobody."""
    found: list[Person] = []
    for number in range(options.person_count):
        stream = np.random.default_rng((seed, ROBOT_STREAM, number))
        robot = ("crawler", "clicker")[int(stream.integers(2))] if stream.random() < options.robot_share else ""
        first_ms = _busy_moment(start_ms, options.visitor.return_ms_mean, stream)
        found.append(Person(meet(number, seed, start_ms, options.visitor), options, seed, robot, first_ms))
    return found


def _busy_moment(after_ms: int, mean_ms: int, stream: np.random.Generator) -> int:
    """Return a moment about ``mean_ms`` later, in an hour in which people come."""
    moment = after_ms + int(stream.exponential(mean_ms))
    for _ in range(TRIES_MAX):
        if stream.random() < BUSY[moment // HOUR_MS % 24]:
            break
        moment += int(stream.exponential(HOUR_MS))
    return moment


def _unit(vector: Vector) -> Vector:
    return vector / np.linalg.norm(vector)
