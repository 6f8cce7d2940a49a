"""Choices that a seed decides: the only source of chance in a simulated run.

Each purpose (a client, the disk, the clock) has dice of its own, so that what one of them draws more or less does not
move what the others draw.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
_BLOCK = 256
"""Numbers drawn at once: one at a time costs 3 µs, in blocks 0.1 µs."""


class Dice:
    """One stream of chance. Equal seeds throw the same."""

    def __init__(self, *seed: int) -> None:
        """Begin the stream that these numbers, none negative, stand for."""
        self._stream = np.random.default_rng(seed)
        self._drawn: list[float] = []

    def share(self) -> float:
        """Return a number from 0 to below 1, all equally likely."""
        if not self._drawn:
            self._drawn = self._stream.random(_BLOCK).tolist()
        return self._drawn.pop()

    def chance(self, share: float) -> bool:
        """Return True in this share of the calls."""
        return self.share() < share

    def below(self, end: int) -> int:
        """Return a whole number from 0 to below ``end``."""
        return int(self.share() * end)

    def between(self, low: float, high: float) -> float:
        """Return a number from ``low`` to ``high``."""
        return low + (high - low) * self.share()

    def choice(self, values: Sequence[T]) -> T:
        """Return one of the values."""
        return values[self.below(len(values))]

    def few(self, most: int) -> int:
        """Return a whole number from 0 to below ``most``, small ones more often: uniform in the logarithm."""
        return int((most + 1) ** self.share()) - 1

    def weighted(self, weights: Mapping[T, float]) -> T:
        """Return a key, each as often as its weight says; the weights need not sum to 1."""
        *others, last = weights.items()
        left = self.share() * sum(weights.values())
        for key, weight in others:
            left -= weight
            if left < 0:
                return key
        return last[0]
