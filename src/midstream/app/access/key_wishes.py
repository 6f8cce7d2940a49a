"""Wishes for API keys as a command line writes them, in types."""

import math

from midstream.core.durations import parse_duration_ms
from midstream.core.errors import ConfigInvalid, Fault
from midstream.serving.access.api_keys import PAGE, KeyWish

RATE_MAX = 1_000_000
_RIGHT_RATE = "Requests a second, such as 100/s or 0.5/s, and behind a colon how many at once: 100/s:500."


def key_wish(
    name: str, scopes: tuple[str, ...], expires: str = "", quota: str = "", origins: tuple[str, ...] = ()
) -> KeyWish:
    """Return a wish.

    Args:
        name: Of the key.
        scopes: As they were written.
        expires: Duration; empty = it does not expire.
        quota: Rate; empty = that of the server.
        origins: Of the pages of a browser key.

    Raises:
        ConfigInvalid: A duration or a rate is none.
    """
    rate, burst = read_quota(quota)
    return KeyWish(name, scopes, read_duration(expires, "--expires"), rate, burst, origins)


def browser_origins(origins: tuple[str, ...], *, is_browser: bool) -> tuple[str, ...]:
    """Return the origins of a key, none for a key of a server.

    Raises:
        ConfigInvalid: There are origins and it is no browser key, or the other way round.
    """
    if is_browser == bool(origins):
        return origins
    came = "--browser came without one." if is_browser else "It came without --browser."
    right = "Both: a browser key is public, and limited to the pages of its origins; or neither."
    raise ConfigInvalid((Fault("--origin", came, right, PAGE),))


def read_duration(text: str, where: str) -> int:
    """Return the milliseconds of an option; 0 when it is empty.

    Raises:
        ConfigInvalid: It is no duration, or none at all.
    """
    if not text:
        return 0
    try:
        found = parse_duration_ms(text)
    except ValueError:
        found = 0
    if not found:
        raise ConfigInvalid((Fault(where, f"{text[:50]!r} came.", "A duration such as 90d, 12h or 30m.", PAGE),))
    return found


def read_grace(text: str) -> int:
    """Return the milliseconds of an option that may be none.

    Raises:
        ConfigInvalid: It is no duration.
    """
    return 0 if text in {"0", "0s"} else read_duration(text, "--grace")


def read_quota(text: str) -> tuple[float, int]:
    """Return the requests a second and at once of a rate.

    Raises:
        ConfigInvalid: It is none.

    Example:
        >>> read_quota("100/s:500"), read_quota("0.5/s"), read_quota("")
        ((100.0, 500), (0.5, 0), (0.0, 0))
    """
    if not text:
        return 0.0, 0
    rate, _, burst = text.partition(":")
    try:
        found = float(rate.removesuffix("/s")), int(burst or "0")
    except ValueError:
        found = math.nan, 0
    if not (0 < found[0] <= RATE_MAX and 0 <= found[1] <= RATE_MAX and rate.endswith("/s")):
        raise ConfigInvalid((Fault("--quota", f"{text[:50]!r} came.", _RIGHT_RATE, PAGE),))
    return found
