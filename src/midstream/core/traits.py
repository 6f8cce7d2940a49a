"""Traits of components: what the pipeline may assume of one. A class declares them in ``traits``; they are read here.

They are those of the class itself and of no parent: what a subclass overrides may wait, or take any time.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Traits:
    """What a component promises beyond its Protocol. Without a declaration nothing is assumed."""

    waits: bool = True
    """A scorer may give way while it waits, so it runs under a timer, which costs 10 µs."""
    pure: bool = False
    """What a source proposes follows from the user, the session and its items, the context and the time alone: a page
    asks equal ones once for all of its slates."""
    bounded: bool = False
    """The work has a bound and waits for nothing, and what was given is not written to. So its time is that of the
    processor and not that of the clock, and its columns need no protection."""
    reads_served: bool = False
    """It goes by what was served before: an answer waits for the records of slates that the same asker was given."""


UNDECLARED = Traits()
BOUNDED = Traits(waits=False, bounded=True)
"""Of the engine's own filters, scorers and selectors."""
PROPOSES = Traits(waits=False, pure=True, bounded=True)
"""Of the engine's own sources."""


def traits_of(component: object) -> Traits:
    """Return what the class of a component declares."""
    found = type(component).__dict__.get("traits")
    return found if isinstance(found, Traits) else UNDECLARED
