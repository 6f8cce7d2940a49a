"""Numbers of what is in the log. They are written to disk: never renumber, only add."""

from enum import IntEnum


class Kind(IntEnum):
    """The class of an event."""

    INTERACTION = 1
    """An act of a user on an item; the action says which."""
    IMPRESSION = 2
    """The item was seen."""
    ITEM = 3
    """The catalogue changes."""
    USER = 4
    """A profile changes."""
    SERVED = 5
    """A slate was returned."""
    TICK = 6
    """Log time moves on while nothing else happens."""
    CONTROL = 7
    """Placements, rules, aliases change."""
    ERASE = 8
    """A user is to be forgotten."""
    RETRACTION = 9
    """An act of a user, or an impression, is taken back."""


class Operation(IntEnum):
    """What an item or user event does."""

    NONE = 0
    PUT = 1
    PATCH = 2
    DELETE = 3
    MERGE = 4
    """Of users alone: what is known of another id belongs to this one from now on."""


IMPRESSION = "impression"
"""Stands beside the names of the configured interactions wherever one of both is meant."""
RESERVED_TYPES = ("impression", "served", "item", "user", "tick", "control", "erase", "retraction")
"""Values of ``type`` on the wire that no configured interaction may have."""
