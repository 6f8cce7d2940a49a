"""Checks that many relations of a configuration share: a number within bounds, a name of a usable length."""

from collections.abc import Iterable, Iterator

from midstream.core.errors import Fault
from midstream.events.faults import shown

PAGE = "docs/configuration.md"
NAME_BYTES_MAX = 64
"""Of UTF-8. Every row repeats its interaction's name, and has one byte for the length, so 255 would be the end."""
WINDOW_MS_MAX = 365 * 86_400_000
"""A year."""


def within(where: str, value: float, low: float, high: float, page: str = PAGE) -> Iterator[Fault]:
    """Yield a fault unless a number lies within bounds; NaN does not."""
    if not low <= value <= high:
        yield Fault(where, f"{value} came.", f"From {low:,} to {high:,}.", page)


def name_faults(where: str, name: str) -> Iterator[Fault]:
    """Yield a fault unless a name has a usable length, and can be read as it stands: it comes back in every table."""
    length = len(name.encode())
    if not 1 <= length <= NAME_BYTES_MAX:
        yield Fault(where, f"The name has {length} bytes.", f"From 1 to {NAME_BYTES_MAX}.", PAGE)
    elif not name.isprintable() or name != name.strip():
        yield Fault(where, f"{shown(name)} came.", "Text without a space at its ends, line breaks and the like.", PAGE)


def listed(names: Iterable[str]) -> str:
    """Return names in order, with commas."""
    return ", ".join(sorted(names))
