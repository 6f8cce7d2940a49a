"""Faults of a million rows, told as a few: those that are alike are counted, and the first of each is kept.

Two are alike when the same would be right at the same place of a row, whatever its number and whatever came.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from midstream.core.errors import Fault

GROUPS_MAX = 20
"""Kinds that are told apart: of more than a screen nobody reads."""
_ROW = re.compile(
    r"^(?:letter \d+(?:: line \d+)?|line \d+|row \d+)|(?<=\bevents/)\d+|(?<=\bitems/)\d+|(?<=\[)\d+(?=\])"
)
"""Number of a row or of a place in a list; those in the name of a column stay."""


@dataclass(frozen=True, slots=True)
class FaultGroup:
    """Faults that are alike."""

    first: Fault
    count: int


class FaultGroups:
    """What is wrong with rows, in bounded memory however many there are."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        """Begin with some."""
        self._groups: dict[tuple[str, str, str], FaultGroup] = {}
        self.others = 0
        """Faults of further kinds than are told apart."""
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault, count: int = 1) -> None:
        """Count a fault. Cost: some µs."""
        key = (_ROW.sub("0", fault.where), fault.right, fault.page)
        known = self._groups.get(key)
        if known is not None:
            self._groups[key] = replace(known, count=known.count + count)
        elif len(self._groups) < GROUPS_MAX:
            self._groups[key] = FaultGroup(fault, count)
        else:
            self.others += count

    @property
    def groups(self) -> Sequence[FaultGroup]:
        """Return the kinds, the most frequent first, of equal ones the one that came first."""
        return sorted(self._groups.values(), key=lambda each: -each.count)
