"""Visitors of a simulated shop: each has a hidden taste that drifts, and acts by it.

Each visitor has a random stream of their own, so the acts of one never depend on the number of others.
"""

from dataclasses import dataclass, field

import numpy as np

from midstream.simulation.shop import CATEGORIES, DIMENSIONS, SimulatedShop, Vector

VISITOR_STREAM = 1
_ACTS_MAX = 60
"""Of one visit; with 5 on average the chance of more is 0.8^60 = 2e-6."""
_SHARPNESS = 5.0
"""Weight of taste against appeal and chance: a product of the wanted category is e^5 = 150 times as likely to be
looked at as one at a right angle to it."""
_PULL = 0.35
"""How far what was just looked at pulls the wish of the moment towards it."""
_CART, _PURCHASE = 0.12, 0.4
"""Chance that what is looked at goes into the cart, and that this is then bought."""
_THINK_MS = 35_000
"""Between two acts, on average."""


@dataclass(frozen=True, slots=True)
class VisitorOptions:
    """How visitors behave."""

    drift: float = 0.15
    """How far a taste moves from one visit to the next; 0 = never, 1 = as far as the taste is strong."""
    views_mean: float = 5.0
    return_ms_mean: int = 4 * 86_400_000
    known_share: float = 0.7
    """Share of visitors who are signed in; the others are known by their session alone."""


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a visitor does."""

    time_ms: int
    action: str
    """``view``, ``cart`` or ``purchase``."""
    product: int
    """Row of the shop."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Acts of one visitor in one session."""

    session_id: str
    user_id: str | None
    acts: tuple[Act, ...]
    """Oldest first, at least one."""


@dataclass(slots=True, eq=False)
class Visitor:
    """One person, between visits. Made by ``meet``."""

    number: int
    taste: Vector
    """Where in the space of tastes; shape (8,), of length 1."""
    options: VisitorOptions
    stream: np.random.Generator
    is_known: bool
    next_visit_ms: int
    visit_count: int = field(default=0)

    def visit(self, shop: SimulatedShop) -> Visit:
        """Visit the shop at ``next_visit_ms``; afterwards the taste has drifted and the next visit is planned."""
        began_ms = self.next_visit_ms
        acts = self._acts(shop, began_ms)
        self.visit_count += 1
        session_id = f"s{self.number}-{self.visit_count}"
        self.taste = towards(self.taste, self.options.drift, self.stream)
        self.next_visit_ms = acts[-1].time_ms + 1 + int(self.stream.exponential(self.options.return_ms_mean))
        return Visit(session_id, f"u{self.number}" if self.is_known else None, acts)

    def _acts(self, shop: SimulatedShop, now_ms: int) -> tuple[Act, ...]:
        acts: list[Act] = []
        wish = towards(self.taste, 0.4, self.stream)
        count = shop.on_sale(now_ms)
        is_seen = np.zeros(count, dtype=np.bool_)
        while len(acts) < _ACTS_MAX and not is_seen.all():
            liking = _SHARPNESS * (shop.vector[:count] @ wish) + shop.appeal[:count] + self.stream.gumbel(size=count)
            product = int(np.argmax(np.where(is_seen, -np.inf, liking)))
            is_seen[product] = True
            acts.append(Act(now_ms, "view", product))
            if self.stream.random() < _CART:
                now_ms += self._pause_ms()
                acts.append(Act(now_ms, "cart", product))
                if self.stream.random() < _PURCHASE:
                    now_ms += self._pause_ms()
                    acts.append(Act(now_ms, "purchase", product))
            if self.stream.random() < 1 / self.options.views_mean:
                break
            wish = (1 - _PULL) * wish + _PULL * shop.vector[product]
            wish /= np.linalg.norm(wish)
            now_ms += self._pause_ms()
        return tuple(acts)

    def _pause_ms(self) -> int:
        return 1_000 + int(self.stream.exponential(_THINK_MS))


def meet(number: int, seed: int, start_ms: int, options: VisitorOptions) -> Visitor:
    """Return visitor ``number`` of a world, before the first visit; equal arguments give equal visitors."""
    stream = np.random.default_rng((seed, VISITOR_STREAM, number))
    taste = np.zeros(DIMENSIONS)
    favourites = stream.choice(len(CATEGORIES), size=2, replace=False)
    taste[favourites] = (1.0, stream.uniform(0.2, 0.8))
    return Visitor(
        number=number,
        taste=towards(taste / np.linalg.norm(taste), 0.2, stream),
        options=options,
        stream=stream,
        is_known=bool(stream.random() < options.known_share),
        next_visit_ms=start_ms + int(stream.exponential(options.return_ms_mean)),
    )


def towards(vector: Vector, distance: float, stream: np.random.Generator) -> Vector:
    """Return a vector of length 1, about ``distance`` away from another in a random direction."""
    moved = vector + stream.normal(scale=distance / np.sqrt(DIMENSIONS), size=DIMENSIONS)
    return moved / np.linalg.norm(moved)
