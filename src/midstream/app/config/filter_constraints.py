"""Constraints of filters: names of acts, ages and counts, and exclusions that would remove a source's proposals."""

from collections.abc import Iterator, Mapping

from midstream.app.config.bounds import distinct, duration_ms, known, within
from midstream.app.config.schema import AnyFilter, Config, Custom, Placement, option_place
from midstream.core.durations import parse_duration_ms
from midstream.core.errors import Fault
from midstream.core.kinds import IMPRESSION
from midstream.core.paths import step
from midstream.ranking.filters.acted import ActedOptions
from midstream.ranking.filters.repeats import Repeats
from midstream.ranking.filters.served_lately import NAMES, TIMES_MAX, ServedOptions
from midstream.ranking.filters.text_match import TextMatch
from midstream.retrieval.recently_viewed import RecentlyViewed
from midstream.retrieval.repeat import RepeatItems
from midstream.retrieval.text_search import TextSearch
from midstream.state.users.user_fold import SEEN_COUNT_MAX

FILTERS, SOURCES = "/docs/filters.md", "/docs/sources.md"
AGE_MS_MIN = 1_000
WINDOW_MS_MAX = 365 * 86_400_000


def search_faults(config: Config) -> Iterator[Fault]:
    """Yield the faults of the searched attributes, and of parts that search where none is."""
    yield from distinct((f"$.items.search[{number}]", name) for number, name in enumerate(config.items.search))
    if config.items.search:
        return
    for number, placement in enumerate(config.placements):
        parts = [(f"sources[{place}]", each) for place, each in enumerate(placement.sources)]
        for place, part in (*parts, *placement.filter_parts()):
            if isinstance(part, TextSearch | TextMatch):
                right = '[items] search = ["title"]: the attributes whose words are searched.'
                yield Fault(f"$.placements[{number}].{place}", "No attribute is searched.", right, SOURCES)


def filter_faults(config: Config, placement: Placement, where: str) -> Iterator[Fault]:
    """Yield the faults of a placement's filters; ``app.config.expressions`` checks its texts."""
    parts = list(placement.filter_parts())
    named = [
        (f"{where}.{option_place(place, 'name')}", each.name) for place, each in parts if not isinstance(each, Custom)
    ]
    yield from distinct(named, page=FILTERS)
    for place, part in parts:
        if isinstance(part, ActedOptions):
            names = {*config.events.types, IMPRESSION, *(() if place.endswith("]") else NAMES)}
            yield from _acts(config, part.exclude, names, f"{where}.{option_place(place, 'exclude')}")
        elif isinstance(part, ServedOptions):
            yield from _served(config, part.exclude, f"{where}.{option_place(place, 'exclude')}")
        yield from _of_sources(placement, part, f"{where}.{place}")


def _acts(config: Config, exclude: Mapping[str, str | int], names: set[str], where: str) -> Iterator[Fault]:
    """Yield the faults of exclusions by acts."""
    for name, told in exclude.items():
        place = f"{where}{step(name)}"
        right = 'For slates kind = "served_lately"; interactions' if name in NAMES else "Interactions"
        yield from known(place, name, names, "a configured interaction", right, FILTERS)
        # Of acts only those in the user's ring are counted, so a higher count would never be reached.
        yield from _excluded(place, told, SEEN_COUNT_MAX if name == IMPRESSION else config.limits.user_ring_max)


def _served(config: Config, exclude: Mapping[str, str | int], where: str) -> Iterator[Fault]:
    """Yield the faults of exclusions by served slates."""
    for name, told in exclude.items():
        place = f"{where}{step(name)}"
        yield from known(place, name, NAMES, "a kind of slates that are looked at", "One of", FILTERS)
        if name in NAMES:
            yield from _served_lately(config, name, told, place)


def _excluded(place: str, told: str | int, count_max: int) -> Iterator[Fault]:
    """Yield a fault unless an exclusion is an age or a count."""
    if isinstance(told, int):
        yield from within(place, told, 1, count_max, FILTERS)
        return
    age_ms = yield from duration_ms(place, told, 'An age such as "30d", or a count such as 5.', FILTERS)
    if age_ms is not None:
        yield from within(place, age_ms, AGE_MS_MIN, WINDOW_MS_MAX, FILTERS)


def _served_lately(config: Config, name: str, told: str | int, place: str) -> Iterator[Fault]:
    """Yield the faults of an exclusion by served slates.

    Args:
        config: Says how long slates are held, and which interactions there are.
        name: ``served`` or ``served_anywhere``.
        told: An age, or a number of times.
        place: Where it stands.
    """
    if name in config.events.types:
        came = f'"{name}" is an interaction of [events.types] as well.'
        yield Fault(place, came, "Another name for the interaction: here it says what was served.", FILTERS)
    if isinstance(told, int):
        yield from within(place, told, 1, TIMES_MAX, FILTERS)
    else:
        yield from age_faults(config, told, place, 'An age such as "24h", or a number of times such as 3.')


def age_faults(config: Config, told: str, place: str, right: str) -> Iterator[Fault]:
    """Yield the faults of a duration over which served items count.

    Args:
        config: Says how long slates are held.
        told: The time, as text.
        place: Where it stands.
        right: What would be right, where it is no time.
    """
    window = config.feedback.window
    age_ms = yield from duration_ms(place, told, right, FILTERS)
    if age_ms is not None and not AGE_MS_MIN <= age_ms <= window.ms:
        may = f'From "1s" to [feedback] window, "{window}": so long is it known what was served.'
        yield Fault(place, f'"{told}" came.', may, FILTERS)


def _of_sources(placement: Placement, part: AnyFilter, where: str) -> Iterator[Fault]:
    """Yield how a filter would remove again all that a source of earlier acts of the placement proposes."""
    for source in placement.sources:
        if not isinstance(source, RepeatItems | RecentlyViewed):
            continue
        if isinstance(part, Repeats) and part.allow != "any":
            came = f'"{part.allow}" removes items of the session that the source {source.name} proposes.'
            place = option_place(where, "allow")
            yield Fault(place, came, f'{place.rpartition(".")[2]} = "any"', SOURCES)
        exclude = part.exclude if isinstance(part, ActedOptions) else {}
        for name in source.actions:
            if (told := exclude.get(name)) is not None and (right := _right_beside(source, told)):
                came = f"{told} removes what the source {source.name} proposes: items with a {name}."
                yield Fault(f"{option_place(where, 'exclude')}{step(name)}", came, right, SOURCES)


def _right_beside(source: RepeatItems | RecentlyViewed, told: str | int) -> str:
    """Return what an exclusion beside a source of earlier acts may be; empty = it may be what it is."""
    if isinstance(source, RepeatItems):
        removes = isinstance(told, int) or _age_ms(told) > source.min_gap.ms
        return f'An age of at most its min_gap, such as "{source.min_gap}", or nothing.' if removes else ""
    removes = told == 1 if isinstance(told, int) else _age_ms(told) >= source.max_age.ms
    return f'An age below its max_age, "{source.max_age}", a count of at least 2, or nothing.' if removes else ""


def _age_ms(told: str) -> int:
    """Return an age; one that cannot be read has a fault of its own and is 0 here."""
    try:
        return parse_duration_ms(told)
    except ValueError:
        return 0
