"""Catalogue of a simulated shop: products near the middle of their category, and new ones over time.

The attributes of the catalogue explain a product's place in the space of tastes only in part: its category, then a
little by its price and by the words of its title. The rest is hidden: only acts reveal it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
DIMENSIONS = 8
"""Of taste. Categories are eight directions at right angles, so each can be told from all others."""
CATEGORIES = ("lamps", "chairs", "tables", "rugs", "shelves", "plants", "prints", "kitchen")
_PRODUCTS = ("lamp", "chair", "table", "rug", "shelf", "plant", "print", "kitchen")
"""How ids begin, a category each."""
_TYPICAL_PRICE = (45.0, 120.0, 240.0, 90.0, 110.0, 18.0, 30.0, 25.0)
COLOURS = ("black", "white", "oak", "green", "blue", "red")
STYLES = ("nordic", "rustic", "classic", "playful", "industrial", "vintage")
_STYLE_PULL, _PRICE_PULL = 0.35, 0.2
"""How far the style that a title names, and a price that is a standard deviation off, move a product."""
_SPREAD = 0.16
"""Of the hidden part. With the two pulls a product lies 0.6 from its category: neighbouring categories just touch."""
SHOP_STREAM = 0


@dataclass(frozen=True, slots=True)
class ShopOptions:
    """How large a shop is and how fast it grows."""

    seed: int
    start_ms: int
    opening_count: int = 160
    """Products for sale from the first moment."""
    launch_count: int = 40
    """Products that come later, one after another."""
    launch_every_ms: int = 12 * 3_600_000


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedShop:
    """All products that there ever are, in the order in which they come on sale. Columns of shape (n,)."""

    item_ids: tuple[str, ...]
    category: NDArray[np.int64]
    price: NDArray[np.float64]
    colour: NDArray[np.int64]
    style: NDArray[np.int64]
    """Named in the title."""
    vector: Vector
    """Where each lies in the space of tastes, shape (n, 8), of length 1."""
    appeal: NDArray[np.float64]
    """What makes one product sell better than another to everybody."""
    released_ms: NDArray[np.int64]
    """Ascending."""

    def on_sale(self, now_ms: int) -> int:
        """Return how many products are for sale at a time: the first ones."""
        return int(np.searchsorted(self.released_ms, now_ms, side="right"))

    def put_event(self, product: int) -> dict[str, object]:
        """Return the event that puts a product into a catalogue, as ``POST /v1/events`` takes it."""
        return {
            "type": "item",
            "operation": "put",
            "item_id": self.item_ids[product],
            "time": int(self.released_ms[product]),
            "attributes": self.attributes(product),
        }

    def attributes(self, product: int) -> dict[str, object]:
        """Return what a catalogue says of a product."""
        return {
            "category": CATEGORIES[self.category[product]],
            "price": float(self.price[product]),
            "colour": COLOURS[self.colour[product]],
            "title": self._title(product),
        }

    def _title(self, product: int) -> str:
        """Return the words of a product's page."""
        style, colour, kind = (int(each[product]) for each in (self.style, self.colour, self.category))
        return f"{STYLES[style]} {COLOURS[colour]} {_PRODUCTS[kind]}"


def open_shop(options: ShopOptions) -> SimulatedShop:
    """Return the shop that a seed stands for; equal options give equal shops."""
    count = options.opening_count + options.launch_count
    stream = np.random.default_rng((options.seed, SHOP_STREAM))
    category = stream.permutation(np.arange(count) % len(CATEGORIES))
    dearness = stream.normal(size=count)
    price: Vector = np.array(_TYPICAL_PRICE)[category] * np.exp(0.4 * dearness)
    style = stream.integers(len(STYLES), size=count)
    directions = _directions(len(STYLES) + 1, stream)
    vector = np.eye(DIMENSIONS)[category] + stream.normal(scale=_SPREAD, size=(count, DIMENSIONS))
    vector += _STYLE_PULL * directions[style] + _PRICE_PULL * np.outer(dearness, directions[-1])
    launch = np.maximum(np.arange(count) - options.opening_count + 1, 0)
    return SimulatedShop(
        item_ids=tuple(f"{_PRODUCTS[kind]}-{number:03d}" for number, kind in enumerate(category.tolist(), 1)),
        category=category,
        price=price.round(2),
        colour=stream.integers(len(COLOURS), size=count),
        style=style,
        vector=vector / np.linalg.norm(vector, axis=1, keepdims=True),
        appeal=stream.normal(scale=0.7, size=count),
        released_ms=options.start_ms + launch * options.launch_every_ms,
    )


def _directions(count: int, stream: np.random.Generator) -> Vector:
    """Return directions drawn evenly from the sphere, shape (count, 8), of length 1."""
    drawn: Vector = stream.normal(size=(count, DIMENSIONS))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn
