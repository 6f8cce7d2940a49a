"""Durations as text: ``90s``, ``30m``, ``6h``, ``7d``."""

import re

UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d)")


def parse_duration_ms(text: str) -> int:
    """Return the milliseconds of a duration such as ``6h``.

    Raises:
        ValueError: The text is not a whole number and one of ms, s, m, h, d.

    Example:
        >>> parse_duration_ms("6h")
        21600000
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        message = f"{text!r} is not a duration: a whole number and one of ms, s, m, h, d, such as 30m"
        raise ValueError(message)
    return int(match[1]) * UNIT_MS[match[2]]


class Duration:
    """A length of time that a configuration writes as text, such as ``30m``; ``ms`` are its milliseconds."""

    __slots__ = ("ms",)

    def __init__(self, text: str) -> None:
        """Read the text, or raise ``ValueError``."""
        self.ms: int = parse_duration_ms(text)

    def __str__(self) -> str:
        """Return the text that reads back as this."""
        return format_duration(self.ms)

    def __repr__(self) -> str:
        """Return the call that makes this."""
        return f"Duration({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        """Compare the lengths."""
        return isinstance(other, Duration) and other.ms == self.ms

    def __hash__(self) -> int:
        """Return a hash that goes with ``==``."""
        return self.ms


def format_duration(ms: int) -> str:
    """Return the shortest text that ``parse_duration_ms`` reads back as ``ms``.

    Example:
        >>> format_duration(21_600_000)
        '6h'
    """
    for unit in ("d", "h", "m", "s"):
        if ms and ms % UNIT_MS[unit] == 0:
            return f"{ms // UNIT_MS[unit]}{unit}"
    return f"{ms}ms"
