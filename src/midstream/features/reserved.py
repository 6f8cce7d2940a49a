"""Reserved names of feature columns: those of the other columns in files of features."""

OUTCOME = "outcome_"
"""Prefix of an interaction: the column of examples with its outcome."""
READ = "read"
"""A path of the server."""
_OF_QUESTIONS = ("row", "position", "item_id", "log_position", "time", "user_id", "session_id")
_OF_SLATES = ("request_id", "placement", "plan", "tier", "config_hash", "served_position", "propensity", "score")
_OF_OUTCOMES = ("impression", "count", "value", "seen_after_ms", "acted_after_ms", "reward")
_OF_REPLAY = ("group", "action", "label")
RESERVED_NAMES = frozenset((*_OF_QUESTIONS, *_OF_SLATES, *_OF_OUTCOMES, *_OF_REPLAY, READ))


def is_reserved(name: str) -> bool:
    """Return whether no column of a feature may have this name."""
    return name in RESERVED_NAMES or name.startswith(OUTCOME)
