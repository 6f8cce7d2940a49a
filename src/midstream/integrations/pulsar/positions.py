"""Positions in a partition of Pulsar: ledger, entry and place in the entry's batch, of the last message that was read.

They are what a ``MessageId`` is made of, and they order messages: ledgers are numbered upwards by the cluster, entries
within a ledger, messages within an entry, which is a batch. As text ``ledger:entry:place``, so that an
operator can compare a position with what Pulsar's own tools print; −1 as place is the whole entry, −1 as entry the
beginning of the ledger.
"""

import re
from typing import NamedTuple

_POSITION = re.compile(r"(\d{1,19}):(-1|\d{1,19}):(-1|\d{1,10})\Z", re.ASCII)
_WHOLE = 2**31 - 1
"""Behind every place in a batch."""


class PulsarPlace(NamedTuple):
    """One position, taken apart. As tuples, places are in the order of their messages but for −1, see ``order``."""

    ledger: int
    entry: int
    batch: int = -1

    def __str__(self) -> str:
        """Return the text of the position."""
        return f"{self.ledger}:{self.entry}:{self.batch}"

    @property
    def order(self) -> tuple[int, int, int]:
        """What orders it among positions: a whole entry is behind each message of its batch."""
        return self.ledger, self.entry, _WHOLE if self.batch < 0 else self.batch


def full_name(topic: str) -> str:
    """Return the full name of a topic; a bare one is of the namespace ``public/default``.

    Example:
        >>> full_name("clicks")
        'persistent://public/default/clicks'
    """
    return topic if "://" in topic else f"persistent://public/default/{topic}"


def place_of(text: str) -> PulsarPlace | None:
    """Return the place that a text names, None where it is no position.

    Example:
        >>> place_of("12:0:3")
        PulsarPlace(ledger=12, entry=0, batch=3)
    """
    found = _POSITION.match(text)
    return None if found is None else PulsarPlace(int(found[1]), int(found[2]), int(found[3]))
