"""Consumer of a table of PostgreSQL: rows as messages of one partition, in the order of their time and key.

A poll reads the rows behind its place whatever wrote them, and hands over those that it has not; see ``sweep`` for what
the position stands for, and ``horizon`` for how far it goes. Each page is one transaction that only reads, and keeps
nothing in its session, so a pooler in transaction mode may stand between. A session is asked one statement at a time,
and is given up when an answer takes too long.
"""

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from os import dup
from typing import Any

import msgspec

from midstream.core.errors import Invalid
from midstream.engine.inputs.broker_consumer import BrokerUnavailable, GonePosition, OpenedTopic, PartitionMessages
from midstream.engine.stores.address import address_of
from midstream.integrations.postgresql.connection import PORT, SCHEME, library, session_settings
from midstream.integrations.postgresql.followed_table import (
    OPERATION,
    FollowedTable,
    FollowedTableOptions,
    identity_of,
    table_of,
)
from midstream.integrations.postgresql.horizon import CLOCK, OPEN, Horizon
from midstream.integrations.postgresql.sweep import KEY_BYTES_MAX, Place, Sweep, TableRow, place_of
from midstream.integrations.postgresql.tables import SETTINGS, flat, said

PARTITION = "0"
PAGE_ROWS_MAX = 2_000
"""Of one statement: 600 kB of usual rows, and so many MB of rows of 1 kB."""
PAGE_BYTES = 8 << 20
"""Of one page that are aimed at: rows of large documents come in smaller ones."""
KEYS_AT_ONCE = 10_000
UNTIMED_MAX = 1_000
"""Rows without a time that are named; a table with more has none at all."""
MISSING_SHARE_MAX = 0.5
MISSING_FREE = 100
"""More than half of the items, and of more than so many, are not deleted at once: a table is emptied by mistake more
often than a shop."""
REFUSED = "midstream_refused"
"""Member of a message that holds no row, and says why."""
Known = Callable[[], Sequence[str]]
"""Returns the ids of all items that are there."""


class PostgresqlConsumer:
    """Follows one table. A ``BrokerConsumer``."""

    def __init__(self, options: FollowedTableOptions, known: Known | None = None) -> None:
        """Prepare; nobody is asked.

        Args:
            options: Which table.
            known: For the comparison of all keys; None = there is none.
        """
        self._options = options
        self._known = known
        self._library = library()
        self._settings = session_settings(options.server, is_read_only=True)
        self._name = f"PostgreSQL at {address_of(options.server.url, SCHEME, PORT).shown}"
        self._session: Any = None
        self._table: FollowedTable | None = None
        self._horizon = Horizon()
        self._settled: datetime | None = None
        self._sweep = Sweep(Place())
        self._is_sweeping = False
        self._behind: int | None = None
        """Rows behind the sweep; None = not counted yet."""
        self._rows_max = PAGE_ROWS_MAX
        self._due_s = self._reconcile_s = 0.0
        self._told: set[str] = set()
        """Keys of rows that were refused."""
        self._waiting: deque[tuple[str, bytes]] = deque()
        """Messages beside the rows, each with its name."""
        self._lag: Mapping[str, int] = {}

    @property
    def topic(self) -> str:
        """Name of the table."""
        return self._options.table

    def open(self, topic_id: str, positions: Mapping[str, str]) -> OpenedTopic:
        """Begin at the position; what was handed over before counts as not handed over."""
        self._lag, self._is_sweeping = {}, False
        self._due_s = self._reconcile_s = 0.0
        self._waiting.clear()
        self._told.clear()
        with self._asking() as session:
            table = table_of(session, self._options)
            if topic_id and topic_id != table.topic_id:
                return OpenedTopic(table.topic_id, {})
            stored = positions.get(PARTITION)
            place = self._begin(session, table) if stored is None else place_of(stored)
            newest = self._newest(session, table)
        if place is None or not self._is_place(table, place):
            return OpenedTopic(table.topic_id, {}, (GonePosition(PARTITION, stored or "", Place().text, newest.text),))
        self._table, self._sweep = table, Sweep(place)
        return OpenedTopic(table.topic_id, {PARTITION: place.text})

    def poll(self, messages_max: int, wait_s: float) -> Sequence[PartitionMessages]:
        """Return the next rows."""
        end_s = time.monotonic() + wait_s
        while True:
            if self._waiting:
                return [self._messages([self._waiting.popleft() for _ in range(min(messages_max, len(self._waiting)))])]
            now_s = time.monotonic()
            if not self._is_sweeping and now_s < self._due_s:
                time.sleep(max(0.0, min(self._due_s, end_s) - now_s))
            else:
                before = self._sweep.place
                found = self._page(min(messages_max, self._rows_max))
                if found or self._sweep.place != before:
                    return [self._messages(found)]
            if time.monotonic() >= end_s:
                return []

    def is_outdated(self) -> bool:
        """Return whether the table was made anew."""
        with self._asking() as session:
            return self._table is None or identity_of(session, self._options.table).topic_id != self._table.topic_id

    def lag(self) -> Mapping[str, int]:
        """Return how many rows are behind; none before the first sweep has come to its end."""
        return self._lag

    def show(self, positions: Mapping[str, str]) -> None:
        """Tell nobody: the server has no displays of it."""

    def close(self) -> None:
        """End the session."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _page(self, rows_max: int) -> list[tuple[str, bytes]]:
        """Return what is to be handed over of the next rows, each with its name."""
        table = self._table
        if table is None:
            message = f"{self._name}: the table is not open"
            raise BrokerUnavailable(message)
        if not self._is_sweeping:
            self._look(table)
            self._sweep.begin()
            self._is_sweeping, self._behind = True, None
        with self._asking() as session:
            statement, values = table.page(self._sweep.reach, rows_max)
            cursor = session.cursor(binary=True).execute(statement, {**values, "settled": self._settled})
            rows = [TableRow(at, key, settled, flat(row)) for at, key, settled, row in cursor.fetchall()]
            size = sum(len(each.content) for each in rows)
            self._rows_max = max(1, min(PAGE_ROWS_MAX, 2 * rows_max, rows_max * PAGE_BYTES // max(1, size)))
            is_end = len(rows) < rows_max
            found = self._sweep.take([each for each in rows if len(each.key.encode()) <= KEY_BYTES_MAX])
            is_end |= self._sweep.is_full
            long = [each.key for each in rows if len(each.key.encode()) > KEY_BYTES_MAX]
            self._refuse(long, f"A key of more than {KEY_BYTES_MAX} bytes.", "A shorter one.")
            self._count(session, table, len(rows), is_short=len(rows) < rows_max)
        if is_end:
            self._is_sweeping = False
            self._due_s = time.monotonic() + self._options.every_s
            self._reconcile(table)
        return [(name, row.content) for name, row in found]

    def _look(self, table: FollowedTable) -> None:
        """Move the horizon, and name rows without a time."""
        with self._asking() as session:
            (now,) = session.execute(CLOCK).fetchone()
            horizon = self._horizon.move(now, dict(session.execute(OPEN).fetchall()))
            untimed = [key for (key,) in session.execute(table.untimed(UNTIMED_MAX)) if key is not None]
        self._settled = None if horizon is None else horizon - timedelta(seconds=self._options.skew_s)
        right = f"A time in {self._options.updated_at}: ALTER TABLE … ALTER COLUMN … SET NOT NULL."
        self._refuse(untimed, f"{self._options.updated_at} is NULL, so nothing tells when the row changes.", right)

    def _count(self, session: Any, table: FollowedTable, rows: int, *, is_short: bool) -> None:  # noqa: ANN401  a session
        """Keep the number of rows behind this sweep that were not handed over; it is asked for once a sweep."""
        if is_short:
            self._behind = 0
        elif self._behind is not None:
            self._behind = max(1, self._behind - rows)
        else:
            statement, values = table.behind(self._sweep.reach)
            (count,) = session.execute(statement, values).fetchone()
            self._behind = max(1, int(count) - self._sweep.ahead_count) if count else 0
        self._lag = {PARTITION: self._behind}

    def _refuse(self, keys: Sequence[str], came: str, right: str) -> None:
        """Have rows named as dead letters, each once."""
        for key in keys:
            if key not in self._told and len(self._told) < UNTIMED_MAX:
                self._told.add(key)
                told = {REFUSED: came, "right": right, self._options.key: key}
                self._waiting.append((f"refused@{key[:40]}", msgspec.json.encode(told)))

    def _reconcile(self, table: FollowedTable) -> None:
        """Have items deleted that the table does not have, where it is time for that."""
        every_s = self._options.reconcile_s
        if every_s is None or self._known is None or time.monotonic() < self._reconcile_s:
            return
        known = set(self._known())  # asked first: what appears from now on is not among them
        count = len(known)
        with self._asking(is_whole=True) as session, session.cursor(name="midstream_keys") as cursor:
            cursor.execute(table.keys())
            while found := cursor.fetchmany(KEYS_AT_ONCE):
                known.difference_update(key for (key,) in found)
        self._reconcile_s = time.monotonic() + every_s
        if len(known) > max(MISSING_FREE, MISSING_SHARE_MAX * count):
            came = f"The table lacks {len(known):,} of {count:,} items, and none of them was deleted."
            told = {REFUSED: came, "right": "A table that has all items, before it is compared again."}
            self._waiting.append((f"reconcile@{time.monotonic_ns():x}", msgspec.json.encode(told)))
            return
        moment = f"{time.monotonic_ns():x}"
        for each in sorted(known):
            gone = msgspec.json.encode({self._options.key: each, OPERATION: "delete"})
            self._waiting.append((f"{each[:40]}@gone-{moment}", gone))

    def _messages(self, found: Sequence[tuple[str, bytes]]) -> PartitionMessages:
        return PartitionMessages(
            PARTITION, [content for _, content in found], [name for name, _ in found], self._sweep.place.text
        )

    def _begin(self, session: Any, table: FollowedTable) -> Place:  # noqa: ANN401  as above
        """Return where a table without a position begins."""
        start = self._options.start
        if start == "latest":
            return self._newest(session, table)
        if start == "earliest":
            return Place()
        return Place(datetime.fromtimestamp(int(start) / 1_000, UTC).isoformat(sep=" "))

    def _newest(self, session: Any, table: FollowedTable) -> Place:  # noqa: ANN401  as above
        row = session.execute(table.newest()).fetchone()
        return Place() if row is None else Place(*row)

    def _is_place(self, table: FollowedTable, place: Place) -> bool:
        """Return whether the server can read a position."""
        try:
            with self._asking(is_raw=True) as session:
                session.execute(*table.check(place))
        except self._library.DataError:
            return False
        return True

    @contextmanager
    def _asking(self, *, is_raw: bool = False, is_whole: bool = False) -> Generator[Any]:
        """Give a session in a transaction that only reads, and close it where that fails.

        Args:
            is_raw: Errors of values are those of the library.
            is_whole: The transaction may take as long as it does.

        Raises:
            BrokerUnavailable: The server does not answer, refuses the login, or cannot read the table.
        """
        is_good = False
        give_up_s = self._options.server.give_up.ms / 1_000
        try:
            if self._session is None:
                self._session = self._library.connect(**self._settings, client_encoding="utf8")
                self._horizon, self._settled = Horizon(), None
            session = self._session
            with _given_up_after(session, None if is_whole else give_up_s), session.transaction():
                session.execute("SET TRANSACTION READ ONLY")
                session.execute(SETTINGS)
                yield session
            is_good = True
        except self._library.DataError as error:
            is_good = True
            if is_raw:
                raise
            raise BrokerUnavailable(f"{self._name}: {said(error)}") from error
        except Invalid as error:
            is_good = True
            told = "; ".join(f"{each.where}: {each.came} Right: {each.right}" for each in error.faults)
            raise BrokerUnavailable(f"{self._name}, table {self.topic}: {told}") from error
        except (self._library.Error, OSError) as error:
            raise BrokerUnavailable(f"{self._name}: {said(error)}") from error
        finally:
            if not is_good:
                self.close()


@contextmanager
def _given_up_after(session: Any, wait_s: float | None) -> Generator[None]:  # noqa: ANN401  a session of the library
    """End a session whose server has not answered in time, as one that stands still would be waited for for ever."""
    if wait_s is None:
        yield
        return
    line = socket.socket(fileno=dup(session.fileno()))

    def give_up() -> None:
        with suppress(OSError):  # the server has ended it
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(wait_s, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        line.close()
