"""What a simulated shop sells: products near the middle of their category, and new ones as time goes by."""

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
_SPREAD = 0.22
"""Of a product around its category: in 8 dimensions a distance of 0.6, so neighbouring categories just touch."""
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
class Shop:
    """All products that there ever are, in the order in which they come on sale. Columns of shape (n,)."""

    item_ids: tuple[str, ...]
    category: NDArray[np.int64]
    price: NDArray[np.float64]
    colour: NDArray[np.int64]
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
        }


def open_shop(options: ShopOptions) -> Shop:
    """Return the shop that a seed stands for; equal options give equal shops."""
    count = options.opening_count + options.launch_count
    stream = np.random.default_rng((options.seed, SHOP_STREAM))
    category = stream.permutation(np.arange(count) % len(CATEGORIES))
    vector = np.eye(DIMENSIONS)[category] + stream.normal(scale=_SPREAD, size=(count, DIMENSIONS))
    price: Vector = np.array(_TYPICAL_PRICE)[category] * np.exp(stream.normal(scale=0.4, size=count))
    launch = np.maximum(np.arange(count) - options.opening_count + 1, 0)
    return Shop(
        item_ids=tuple(f"{_PRODUCTS[kind]}-{number:03d}" for number, kind in enumerate(category.tolist(), 1)),
        category=category,
        price=price.round(2),
        colour=stream.integers(len(COLOURS), size=count),
        vector=vector / np.linalg.norm(vector, axis=1, keepdims=True),
        appeal=stream.normal(scale=0.7, size=count),
        released_ms=options.start_ms + launch * options.launch_every_ms,
    )
