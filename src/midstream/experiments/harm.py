"""Harm by which a variant was stopped: a broken guardrail with its figures, kept in the document of its experiment."""

import msgspec

HARMS_MAX = 32
"""Of an experiment: each takes up to 1 kB of its document."""
REASON_CHARACTERS_MAX = 600


class Harm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One broken guardrail of one variant."""

    variant: str
    metric: str
    judged: str
    """What was compared: the metric, or the share of units that have any of it."""
    harm: float | None
    """Relative to the control, above 0 = worse; None = cannot be estimated, as with a control of 0."""
    harm_low: float | None
    """At least this much, at all looks together."""
    harm_high: float | None
    """At most this much, at all looks together; None = there is no bound."""
    harm_max: float
    """That was tolerated."""
    control_units: int
    treated_units: int
    log_position: int
    """Up to which the log was read."""
    reason: str
    """In words."""
