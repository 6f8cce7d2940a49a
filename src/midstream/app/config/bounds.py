"""Common checks of relations: a number within a bound that another setting defines, names in order."""

from collections.abc import Iterable, Iterator

from midstream.core.errors import Fault

PAGE = "/docs/configuration.md"


def within(where: str, value: float, low: float, high: float, page: str = PAGE) -> Iterator[Fault]:
    """Yield a fault unless a number lies within bounds; NaN does not."""
    if not low <= value <= high:
        yield Fault(where, f"{value} came.", f"From {low:,} to {high:,}.", page)


def listed(names: Iterable[str]) -> str:
    """Return names in order, with commas."""
    return ", ".join(sorted(names))
