"""What a slate was served for and by what: placement, plan and tier, each three that came as one number.

The numbers are in order of appearance. There are as many as a shop has plans in years; whatever comes beyond, and names
that no configuration can have, are one group, ``other``, so that sums still hold.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

GROUPS_MAX = 1_024
"""100 placements x 3 tiers x some plans of each; 1,024 x 19 counts of 8 bytes are 156 kB."""
TEXT_BYTES_MAX = 64
"""As long as a name in a configuration may be."""


class SlateGroup(NamedTuple):
    """One placement, plan and tier."""

    placement: str
    plan: str
    """Hash of the configuration that answered."""
    tier: str


OTHER = SlateGroup("other", "other", "other")
OTHER_NUMBER = GROUPS_MAX - 1


class SlateGroups:
    """The groups, and their numbers."""

    def __init__(self) -> None:
        """Begin without any."""
        self._number: dict[tuple[str, str, str], int] = {}

    def number(self, group: tuple[str, str, str]) -> int:
        """Return the number of placement, plan and tier, a new one for one that is new while there are any."""
        found = self._number.get(group)
        if found is not None:
            return found
        if len(self._number) == OTHER_NUMBER or any(len(text.encode()) > TEXT_BYTES_MAX for text in group):
            return OTHER_NUMBER
        self._number[group] = len(self._number)
        return len(self._number) - 1

    def named(self, number: int) -> SlateGroup:
        """Return the group of a number that was given out."""
        return OTHER if number == OTHER_NUMBER else SlateGroup(*tuple(self._number)[number])

    def numbers(self) -> list[int]:
        """Return all numbers: those given out, rising, and that of ``OTHER``."""
        return [*range(len(self._number)), OTHER_NUMBER]

    def array(self) -> NDArray[np.uint8]:
        """Return the names as JSON, in the order of the numbers."""
        return np.frombuffer(msgspec.json.encode(tuple(self._number)), dtype=np.uint8)

    def restore(self, array: NDArray[np.uint8]) -> None:
        """Become the groups whose ``array`` this is."""
        names = msgspec.json.decode(array.tobytes(), type=tuple[tuple[str, str, str], ...])
        self._number = {name: number for number, name in enumerate(names)}
