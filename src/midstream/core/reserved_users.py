"""Ids of users that only the engine writes: those of its freshness probes.

Nobody merges such an id and no client's event names one: a user into whom it were merged would get the profile of each
probe, and a profile that others write is not the one that the probe looks for.
"""

import re
from typing import Final

PROBE_USER: Final = "midstream-probe"
"""User of the probe of a server; that of a node of a shared log, and of a follower, has its name behind it."""
PROBE_TEXT: Final = PROBE_USER.encode()
"""All ids of probes begin with it."""
_PROBE: Final = re.compile(PROBE_USER + r"(-[0-9a-f]{12})?(-follower-[0-9]+)?")


def is_reserved(user_id: str) -> bool:
    """Return whether a user id is that of a freshness probe."""
    return _PROBE.fullmatch(user_id) is not None
