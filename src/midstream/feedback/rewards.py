"""Reward of a slate position: the sum of the rewards of its actions, each once."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from midstream.state.settings import EventType


def rewards_of(configured: Mapping[str, float], types: Mapping[str, EventType]) -> Mapping[str, float]:
    """Return the reward of each action: as configured, 0 for others; by default the types' weights.

    Args:
        configured: ``[feedback] reward``: names of interactions and ``impression``; empty = not configured.
        types: The configured interactions.

    Example:
        >>> rewards_of({}, {"click": EventType(weight=2.0)})
        {'click': 2.0}
        >>> rewards_of({"click": 1.0}, {"click": EventType(), "view": EventType()})
        {'click': 1.0}
    """
    return dict(configured) or {name: each.weight for name, each in types.items()}


def reward(bits: NDArray[np.uint32], bit_of: Mapping[str, int], rewards: Mapping[str, float]) -> NDArray[np.float32]:
    """Return the reward of each position, (n,), from the bits of its actions and the bit of each."""
    found = np.zeros(len(bits), dtype=np.float64)
    for name, worth in rewards.items():
        found += worth * ((bits & np.uint32(bit_of[name])) != 0)
    return found.astype(np.float32)
