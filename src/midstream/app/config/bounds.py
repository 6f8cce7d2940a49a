"""Common checks of relations: known names, distinct names, durations, numbers within bounds of other settings."""

from collections.abc import Generator, Iterable, Iterator

from midstream.core.durations import parse_duration_ms
from midstream.core.errors import Fault
from midstream.core.nearest import nearest

PAGE = "/docs/configuration.md"


def within(where: str, value: float, low: float, high: float, page: str = PAGE) -> Iterator[Fault]:
    """Yield a fault unless a number lies within bounds; NaN does not."""
    if not low <= value <= high:
        yield Fault(where, f"{value} came.", f"From {low:,} to {high:,}.", page)


def known(where: str, name: str, names: Iterable[str], what: str, right: str, page: str = PAGE) -> Iterator[Fault]:
    """Yield a fault unless a name is one of ``names``: it is not ``what``, and ``right`` begins their list."""
    names = sorted(names)
    if name not in names:
        came = f'"{name}" is not {what}.{nearest(name, names)}'
        yield Fault(where, came, f"{right}: {', '.join(names) or 'there is none'}.", page)


def distinct(
    names: Iterable[tuple[str, str]], right: str = "A name of its own.", page: str = PAGE, taken: Iterable[str] = ()
) -> Iterator[Fault]:
    """Yield a fault for each name that came before or is ``taken``, of names with the place of each."""
    seen = set(taken)
    for where, name in names:
        if name in seen:
            yield Fault(where, f'"{name}" is there already.', right, page)
        seen.add(name)


def duration_ms(where: str, text: str, right: str, page: str = PAGE) -> Generator[Fault, None, int | None]:
    """Yield a fault unless a text is a length of time; return its milliseconds, None = it is none."""
    try:
        return parse_duration_ms(text)
    except ValueError as error:
        yield Fault(where, f"{error}.", right, page)
        return None


def listed(names: Iterable[str]) -> str:
    """Return names in order, with commas."""
    return ", ".join(sorted(names))
