"""Groups of slates: each combination of placement, plan and tier that came, as one number.

The numbers are in order of appearance. There are as many as a shop has plans in years. When all are given out, a new
group takes the number of the one that served longest ago, once none of its slates can be held any more; while there is
none, what is new, and always names that no configuration can have, are one group, ``other``.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

GROUPS_MAX = 1_024
"""100 placements x 3 tiers x some plans of each; 1,024 x 19 counts of 8 bytes are 156 kB."""
TEXT_BYTES_MAX = 64
"""As long as a name in a configuration may be."""
VARIANT_MARK = "@"
"""In the name of a placement, before what says which variant of it answered (``experiments.names``)."""


def base_placement(name: str) -> str:
    """Return the placement that was asked, also where a variant of it answered.

    Example:
        >>> base_placement("home@colour.blue"), base_placement("home")
        ('home', 'home')
    """
    return name.partition(VARIANT_MARK)[0]


class SlateGroup(NamedTuple):
    """One placement, plan and tier."""

    placement: str
    plan: str
    """Hash of the configuration that answered."""
    tier: str


OTHER = SlateGroup("other", "other", "other")
OTHER_NUMBER = GROUPS_MAX - 1


class SlateGroups:
    """The groups, their numbers, and when each served last."""

    def __init__(self, window_ms: int) -> None:
        """Start without groups; slates are held for ``window_ms`` of log time."""
        self._window_ms = window_ms
        self._number: dict[tuple[str, str, str], int] = {}
        self._names: list[SlateGroup] = []
        self._served_ms = np.zeros(OTHER_NUMBER, dtype=np.int64)

    def number(self, group: tuple[str, str, str], now_ms: int) -> int:
        """Return the number under which a group serves now; a new one for one that is new while there are any."""
        found = self._number.get(group, OTHER_NUMBER)
        if found == OTHER_NUMBER and len(self._names) < OTHER_NUMBER and _may_be_named(group):
            found = len(self._names)
            self._names.append(SlateGroup(*group))
            self._number[group] = found
        if found != OTHER_NUMBER:
            self._served_ms[found] = now_ms
        return found

    def outdated(self, group: tuple[str, str, str], now_ms: int) -> int:
        """Return the number that a group may take over now; -1 = it needs none, or each is in use."""
        if len(self._names) < OTHER_NUMBER or group in self._number or not _may_be_named(group):
            return -1
        oldest = int(self._served_ms.argmin())
        return oldest if now_ms - int(self._served_ms[oldest]) > self._window_ms else -1

    def take_over(self, number: int, group: tuple[str, str, str]) -> None:
        """Give an outdated number to another group."""
        del self._number[self._names[number]]
        self._names[number] = SlateGroup(*group)
        self._number[group] = number

    def named(self, number: int) -> SlateGroup:
        """Return the group of a number that was given out."""
        return OTHER if number == OTHER_NUMBER else self._names[number]

    def numbers(self) -> list[int]:
        """Return all numbers: those given out, rising, and that of ``OTHER``."""
        return [*range(len(self._names)), OTHER_NUMBER]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the names as JSON, and log times, in the order of the numbers."""
        names = np.frombuffer(msgspec.json.encode(self._names), dtype=np.uint8)
        return {"groups": names, "group_served_ms": self._served_ms[: len(self._names)].copy()}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Become the groups whose ``arrays`` are among these."""
        names = msgspec.json.decode(arrays["groups"].tobytes(), type=list[tuple[str, str, str]])
        self._names = [SlateGroup(*each) for each in names]
        self._number = {name: number for number, name in enumerate(self._names)}
        self._served_ms[:] = 0
        self._served_ms[: len(names)] = arrays["group_served_ms"]


def _may_be_named(group: tuple[str, str, str]) -> bool:
    return all(len(text.encode()) <= TEXT_BYTES_MAX for text in group)
