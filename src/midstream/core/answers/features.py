"""Answers to reads of features, as they are written."""

from collections.abc import Mapping, Sequence

import msgspec


class ItemValues(msgspec.Struct, frozen=True, gc=False):
    """One item, in the order of the request."""

    id: str
    values: Sequence[float | None]
    """In the order of ``features``, exactly as scorers read them; None = unknown, NaN where it is made."""


class FeatureReadAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Feature values, all of one log position."""

    features: tuple[str, ...]
    """Names of the columns."""
    items: list[ItemValues]
    log_position: str
    state_age_ms: int
    ages_ms: Mapping[str, int | None]
    """By feature: milliseconds since it counted its last event; None = it counted none, or counts nothing."""
    read_your_writes: bool | None = None


class PastFeaturesAnswer(msgspec.Struct, frozen=True):
    """Feature values as of a past moment, made from the log."""

    time: int
    """The moment, as it was asked for."""
    features: tuple[str, ...]
    """Names of the columns."""
    items: list[ItemValues]
    log_position: int
    """Number of events that were seen: all whose log time is before the moment."""
