"""Constraints of filters: names of acts, ages and counts, and exclusions that would remove a source's proposals."""

from collections.abc import Iterator, Mapping

from midstream.app.config.bounds import within
from midstream.app.config.schema import AnyFilter, Config, Custom, Placement, option_place
from midstream.app.config.served_constraints import FILTERS, served_faults
from midstream.core.durations import Duration, parse_duration_ms
from midstream.core.errors import Fault
from midstream.core.kinds import IMPRESSION
from midstream.core.nearest import nearest
from midstream.core.paths import step
from midstream.ranking.filters.acted import ActedOptions
from midstream.ranking.filters.repeats import Repeats
from midstream.ranking.filters.served_lately import NAMES, ServedOptions
from midstream.retrieval.repeat import RepeatItems
from midstream.state.users.users import SEEN_COUNT_MAX

SOURCES = "/docs/sources.md"
WINDOW_MS_MAX = 365 * 86_400_000


def filter_faults(config: Config, placement: Placement, where: str) -> Iterator[Fault]:
    """Yield the faults of a placement's filters; ``app.config.expressions`` checks its texts."""
    names: set[str] = set()
    for place, part in placement.filter_parts():
        name = "" if isinstance(part, Custom) else part.name
        if name in names:
            yield Fault(
                f"{where}.{option_place(place, 'name')}", f'"{name}" is there already.', "A name of its own.", FILTERS
            )
        names |= {name} - {""}
        if isinstance(part, ActedOptions):
            known = {*config.events.types, IMPRESSION, *(() if place.endswith("]") else NAMES)}
            yield from _acts(config, part.exclude, known, f"{where}.{option_place(place, 'exclude')}")
        elif isinstance(part, ServedOptions):
            yield from _served(config, part.exclude, f"{where}.{option_place(place, 'exclude')}")
        yield from _of_sources(placement, part, f"{where}.{place}")


def _acts(config: Config, exclude: Mapping[str, str | int], known: set[str], where: str) -> Iterator[Fault]:
    """Yield the faults of exclusions by acts."""
    for name, told in exclude.items():
        place = f"{where}{step(name)}"
        if name not in known:
            came = f'"{name}" is not a configured interaction.{nearest(name, known)}'
            right = f"Interactions: {', '.join(sorted(known))}"
            yield Fault(place, came, f'{right}; for slates kind = "served_lately"' if name in NAMES else right, FILTERS)
        # Of acts only those in the user's ring are counted, so a higher count would never be reached.
        yield from _excluded(place, told, SEEN_COUNT_MAX if name == IMPRESSION else config.limits.user_ring_max)


def _served(config: Config, exclude: Mapping[str, str | int], where: str) -> Iterator[Fault]:
    """Yield the faults of exclusions by served slates."""
    for name, told in exclude.items():
        place = f"{where}{step(name)}"
        if name in NAMES:
            yield from served_faults(config, name, told, place)
        else:
            came = f'"{name}" is none of the slates that are looked at.{nearest(name, NAMES)}'
            yield Fault(place, came, f"One of {', '.join(sorted(NAMES))}.", FILTERS)


def _excluded(place: str, told: str | int, count_max: int) -> Iterator[Fault]:
    """Yield a fault unless an exclusion is an age or a count."""
    if isinstance(told, int):
        yield from within(place, told, 1, count_max, FILTERS)
        return
    try:
        yield from within(place, parse_duration_ms(told), 1_000, WINDOW_MS_MAX, FILTERS)
    except ValueError as error:
        yield Fault(place, f"{error}.", 'An age such as "30d", or a count such as 5.', FILTERS)


def _of_sources(placement: Placement, part: AnyFilter, where: str) -> Iterator[Fault]:
    """Yield how a filter would remove again all that a source ``repeat`` of the placement proposes."""
    for source in placement.sources:
        if not isinstance(source, RepeatItems):
            continue
        if isinstance(part, Repeats) and part.allow != "any":
            came = f'"{part.allow}" removes items of the session that the source {source.name} proposes.'
            place = option_place(where, "allow")
            yield Fault(place, came, f'{place.rpartition(".")[2]} = "any"', SOURCES)
        exclude = part.exclude if isinstance(part, ActedOptions) else {}
        for name in source.actions:
            told = exclude.get(name)
            if isinstance(told, int) or (told is not None and _is_longer(told, source.min_gap)):
                came = f"{told} removes what the source {source.name} proposes: items with a {name}."
                right = f'An age of at most its min_gap, such as "{source.min_gap}", or nothing.'
                yield Fault(f"{option_place(where, 'exclude')}{step(name)}", came, right, SOURCES)


def _is_longer(told: str, duration: Duration) -> bool:
    """Return whether an age is above a duration; one that cannot be read has a fault of its own."""
    try:
        return parse_duration_ms(told) > duration.ms
    except ValueError:
        return False
