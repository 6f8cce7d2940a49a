"""Constraints of filters and caps over served slates: the time and the number that the state keeps."""

from collections.abc import Iterator

from midstream.app.config.bounds import within
from midstream.app.config.schema import Config
from midstream.core.durations import parse_duration_ms
from midstream.core.errors import Fault
from midstream.ranking.filters.served_lately import TIMES_MAX

FILTERS = "/docs/filters.md"
AGE_MS_MIN = 1_000


def served_faults(config: Config, name: str, told: str | int, place: str) -> Iterator[Fault]:
    """Yield the faults of an exclusion of served items.

    Args:
        config: Has the time for which slates are held, and the interactions.
        name: ``served`` or ``served_anywhere``.
        told: An age, or a number of times.
        place: Pointer to it.
    """
    if name in config.events.types:
        came = f'"{name}" is an interaction of [events.types] as well.'
        yield Fault(place, came, "Another name for the interaction: here it says what was served.", FILTERS)
    if isinstance(told, int):
        yield from within(place, told, 1, TIMES_MAX, FILTERS)
    else:
        yield from age_faults(config, told, place, 'An age such as "24h", or a number of times such as 3.')


def age_faults(config: Config, told: str, place: str, right: str) -> Iterator[Fault]:
    """Yield the faults of a time over which served items count.

    Args:
        config: Has the time for which slates are held.
        told: The time, as text.
        place: Pointer to it.
        right: Description of valid values, where it is no time.
    """
    window = config.feedback.window
    try:
        age_ms = parse_duration_ms(told)
    except ValueError as error:
        yield Fault(place, f"{error}.", right, FILTERS)
        return
    if not AGE_MS_MIN <= age_ms <= window.ms:
        may = f'From "1s" to [feedback] window, "{window}": so long is it known what was served.'
        yield Fault(place, f'"{told}" came.', may, FILTERS)
