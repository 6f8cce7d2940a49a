"""Parts of placements whose trouble a test orders: ``kind = "custom", path = "tests.support.alerts.parts:Ordered"``."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray


async def nothing() -> None:
    """Be well."""


ORDERS: dict[str, Callable[[], Awaitable[None]]] = {}
"""What is done during a score, by name of the part; nothing where there is no order."""


class Ordered(msgspec.Struct, frozen=True):
    """A scorer of one's own that does as it is told."""

    name: str = "ordered"

    async def score(self, query: Any, features: Any, models: Any) -> NDArray[np.float32]:
        """Return the same for each candidate, after what was ordered."""
        await ORDERS.get(self.name, nothing)()
        return np.ones(len(features.values), dtype=np.float32)
