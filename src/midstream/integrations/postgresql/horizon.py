"""Horizon of a database: the moment before which no transaction that is still open, or yet to begin, has begun.

A transaction that commits late writes rows with a time of long ago, beside rows that were read already. Where the time
of a row is not before the begin of the transaction that writes it, no row of before the horizon can appear any more:
all transactions that could write it have ended.

The server names the begin of a transaction to roles that may see it (``pg_read_all_stats``, or the role itself). Of
others it is known that they are open, and so, from the second look on, before which look they had not begun.
"""

from collections.abc import Mapping
from datetime import datetime

PREPARED = "prepared "
"""Begins the name of a prepared transaction: before, it was an open one of another name."""
CLOCK = "SELECT clock_timestamp()"
OPEN = (
    "SELECT l.virtualtransaction, a.xact_start FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid "
    "WHERE l.locktype = 'virtualxid' AND l.granted AND a.pid <> pg_backend_pid() "
    "AND a.datname = current_database() AND coalesce(a.backend_type, '') <> 'autovacuum worker' "
    "UNION ALL SELECT 'prepared ' || gid, NULL FROM pg_prepared_xacts WHERE database = current_database()"
)
"""Transactions that are open, asked after the clock: one that is not among them has ended, or begins after it."""


class Horizon:
    """The horizon of one server, moved by looks at its open transactions."""

    def __init__(self) -> None:
        """Begin without one."""
        self._begins: Mapping[str, datetime | None] = {}
        """Of each open transaction no later than it began; None = nobody knows."""
        self._looked: datetime | None = None
        self._at: datetime | None = None

    @property
    def open_since(self) -> datetime | None:
        """Begin of the oldest transaction that the last look found open; None = of none it is known."""
        return min((each for each in self._begins.values() if each is not None), default=None)

    def move(self, now: datetime, transactions: Mapping[str, datetime | None]) -> datetime | None:
        """Return the horizon after a look; it never goes back.

        Args:
            now: Of the server's clock, before it was asked for the transactions.
            transactions: Those that are open, each with its begin; None = the server does not tell.

        Returns:
            The moment; None = there is none yet, as a transaction is open of which nobody knows when it began.
        """
        begins: dict[str, datetime | None] = {}
        for name, began in transactions.items():
            if began is not None:
                begins[name] = began
            elif name in self._begins:
                begins[name] = self._begins[name]
            else:
                begins[name] = self._at if name.startswith(PREPARED) else self._looked
        self._begins, self._looked = begins, now
        known = [each for each in begins.values() if each is not None]
        if len(known) == len(begins):
            found = min([now, *known])
            self._at = found if self._at is None else max(self._at, found)
        return self._at
