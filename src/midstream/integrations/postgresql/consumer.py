"""Consumer of a table of PostgreSQL: rows as messages of one partition, in the order of their time and key.

A poll reads the rows behind its place whatever wrote them, and hands over those that it has not; see ``sweep`` for what
the position stands for, and ``horizon`` for how far it goes. Each page is one question of a ``ReadingSession``.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from midstream.core.errors import Fault, Invalid
from midstream.engine.inputs.broker_consumer import BrokerUnavailable, GonePosition, OpenedTopic, PartitionMessages
from midstream.integrations.postgresql.followed_table import (
    OPERATION,
    PAGE,
    ROW_BYTES_MAX,
    START_MS_MAX,
    FollowedTable,
    FollowedTableOptions,
    identity_of,
    repeated_key,
    table_of,
)
from midstream.integrations.postgresql.horizon import CLOCK, OPEN, Horizon
from midstream.integrations.postgresql.reading_session import ReadingSession
from midstream.integrations.postgresql.refused_rows import NAMED_MAX, REFUSED, RefusedRows, notice
from midstream.integrations.postgresql.sweep import AHEAD_MAX, Place, Sweep, TableRow, key_name, place_of
from midstream.integrations.postgresql.tables import flat, said

PARTITION = "0"
PAGE_ROWS_MAX = 2_000
"""Of one statement: 600 kB of usual rows, and so many MB of rows of 1 kB."""
PAGE_ROWS_BEGIN = 100
PAGE_BYTES = 8 << 20
"""Of one page, and one row more: the server sends no more of it. So two polls have 18 MiB at most."""
APART_ROWS = 16
"""Read at once of rows that are asked for by key: with the most bytes that each may have they are 16 MiB."""
KEYS_AT_ONCE = 10_000
LACKING_MAX = 10_000
"""Rows that one comparison has handed over again; further ones wait for the next, which comes at once then."""
RESTORED_MAX = 100_000
"""Rows that are known to have been handed over by comparisons and stay missing, such as those that are no event."""
MISSING_SHARE_MAX = 0.5
MISSING_FREE = 100
"""More than half of the items, and of more than so many, are not deleted at once: a table is emptied by mistake more
often than a shop."""
TRIES_MAX = 3
"""Of a letter: a server that comes and goes has each so often at most."""
_LETTER = f'{{"{REFUSED}"'.encode()
Known = Callable[[], Sequence[str]]
"""Returns the ids of all items that are there."""
Message = tuple[str, bytes]
"""A name, which makes the id of its event, and the content."""


class _Handed(NamedTuple):
    """What one poll handed over."""

    beside: list[Message]
    """Messages beside the sweep."""
    keys: set[str]
    """Of rows."""


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
        self._session = ReadingSession(options.server, options.table, self._begin_anew)
        self._table: FollowedTable | None = None
        self._horizon = Horizon()
        self._settled: datetime | None = None
        self._sweep = Sweep(Place())
        self._is_sweeping = False
        self._behind: int | None = None
        """Rows behind the sweep; None = not counted yet."""
        self._rows_max = PAGE_ROWS_BEGIN
        self._due_s = 0.0
        self._lag: Mapping[str, int] = {}
        self._delay = ""
        self._forget("")

    def _begin_anew(self) -> None:
        """Know nothing of open transactions, as of another server."""
        self._horizon, self._settled = Horizon(), None

    def _forget(self, topic_id: str) -> None:
        """Know nothing of what was handed over, as of another table."""
        self._topic_id = topic_id
        self._refusals = RefusedRows(self._options.key)
        self._is_untimed_counted = False
        self._waiting: deque[Message] = deque()
        """Messages beside the sweep."""
        self._lacking: deque[str] = deque()
        """Keys of rows that the state does not have."""
        self._restored: set[str] = set()
        self._reconcile_s = 0.0
        self._handed: deque[_Handed] = deque(maxlen=3)
        """By the last polls. Those of two may be lost with an error, and the state may not have those of three yet."""
        self._positions: deque[str] = deque(maxlen=4)
        self._tries: Counter[str] = Counter()
        """How often messages were handed over again, of those of the last polls."""

    @property
    def topic(self) -> str:
        """Name of the table."""
        return self._options.table

    def open(self, topic_id: str, positions: Mapping[str, str]) -> OpenedTopic:
        """Begin at the position; of what was handed over, that counts as not handed over which may not be durable."""
        self._lag, self._delay, self._is_sweeping, self._due_s = {}, "", False, 0.0
        with self._session.asking() as session:
            table = table_of(session, self._options)
            if topic_id and topic_id != table.topic_id:
                return OpenedTopic(table.topic_id, {})
            stored = positions.get(PARTITION)
            place = self._begin(session, table) if stored is None else place_of(stored)
            newest = self._place(session, table.newest(is_settled=False))
        if place is None or not self._is_place(table, place):
            return OpenedTopic(table.topic_id, {}, (GonePosition(PARTITION, stored or "", Place().text, newest.text),))
        if table.topic_id != self._topic_id:
            self._forget(table.topic_id)
        self._table, self._sweep = table, self._resumed(place)
        return OpenedTopic(table.topic_id, {PARTITION: place.text})

    def _resumed(self, place: Place) -> Sweep:
        """Return the sweep that goes on at a place; what the last two polls handed over is handed over again."""
        is_own = place.text in self._positions
        lost = [self._handed.pop() for _ in range(min(2, len(self._handed)))]
        for told in (told for each in lost for told in reversed(each.beside)):
            self._tries[told[0]] += 1
            if self._tries[told[0]] < TRIES_MAX or not told[1].startswith(_LETTER):
                self._waiting.appendleft(told)
        self._handed.clear()
        self._positions.clear()
        self._positions.append(place.text)
        return self._sweep.resumed(place, set[str]().union(*(each.keys for each in lost))) if is_own else Sweep(place)

    def poll(self, messages_max: int, wait_s: float) -> Sequence[PartitionMessages]:
        """Return the next rows."""
        if len(self._handed) == self._handed.maxlen:
            self._tries.clear()
        handed = _Handed([], set())
        self._handed.append(handed)
        end_s = time.monotonic() + wait_s
        while True:
            if not self._waiting and self._lacking:
                self._restore(messages_max)
            if self._waiting:
                handed.beside.extend(self._waiting.popleft() for _ in range(min(messages_max, len(self._waiting))))
                return [self._messages(handed.beside)]
            now_s = time.monotonic()
            if not self._is_sweeping and now_s < self._due_s:
                time.sleep(max(0.0, min(self._due_s, end_s) - now_s))
            else:
                before = self._sweep.place
                found = self._page(min(messages_max, self._rows_max), handed.keys)
                if found or self._sweep.place != before:
                    return [self._messages(found)]
            if time.monotonic() >= end_s:
                return []

    def is_outdated(self) -> bool:
        """Return whether the table was made anew."""
        with self._session.asking() as session:
            return self._table is None or identity_of(session, self._options.table).topic_id != self._table.topic_id

    def lag(self) -> Mapping[str, int]:
        """Return how many rows are behind; none before the first sweep has come to its end."""
        return self._lag

    def delay(self) -> str:
        """Return which transaction rows wait for, where no more rows beyond it can be remembered."""
        return self._delay

    def _waited_for(self) -> str:
        since = self._horizon.open_since
        age = "of unknown age" if since is None else f"open since {since.isoformat(' ', 'seconds')}"
        return f"{AHEAD_MAX:,} rows were read beyond a transaction {age}; further rows wait for its end"

    def show(self, positions: Mapping[str, str]) -> None:
        """Tell nobody: the server has no displays of it."""

    def close(self) -> None:
        """End the session."""
        self._session.close()

    def _page(self, rows_max: int, handed: set[str]) -> list[Message]:
        """Return what is to be handed over of the next rows; ``handed`` gets their keys."""
        table = self._table
        if table is None:
            message = f"{self._session.name}: the table is not open"
            raise BrokerUnavailable(message)
        if not self._is_sweeping:
            self._look(table)
            self._sweep.begin()
            self._is_sweeping, self._behind = True, None
        rows, is_end = self._next_rows(table, rows_max)
        self._refuse(
            [each.key for each in rows if not each.is_place], "A key of more than 300 bytes.", "A shorter one."
        )
        found = self._sweep.take(rows)
        is_end &= not self._sweep.is_full
        handed.update(row.key for _, row in found)
        with self._session.asking() as session:
            self._count(session, table, len(rows), is_short=is_end)
        if is_end or self._sweep.is_full:
            self._is_sweeping = False
            self._delay = "" if is_end else self._waited_for()
            self._due_s = time.monotonic() + self._options.every_s
            self._reconcile(table)
        return [(name, row.content or b"") for name, row in found]

    def _next_rows(self, table: FollowedTable, rows_max: int) -> tuple[list[TableRow], bool]:
        """Return the next rows, and whether these are the last ones; few where the server cannot compute one."""
        while True:
            try:
                return self._read(table, rows_max)
            except self._session.library.DataError:
                if rows_max <= APART_ROWS:
                    return self._read_apart(table, rows_max)
                self._rows_max = rows_max = max(APART_ROWS, rows_max // 4)

    def _read(self, table: FollowedTable, rows_max: int) -> tuple[list[TableRow], bool]:
        """Return the next rows, and whether these are the last ones.

        Raises:
            BrokerUnavailable: Two rows of a view cannot be put in order, or the server is gone.
            DataError: Of the library; the server cannot compute a row.
        """
        with self._session.asking(is_raw=True) as session:
            statement, values = table.page(self._sweep.reach, rows_max + 1, PAGE_BYTES)
            cursor = session.cursor(binary=True).execute(statement, {**values, "settled": self._settled})
            found = cursor.fetchall()
            for one, other in pairwise(found):
                if one[:2] == other[:2]:
                    raise Invalid((repeated_key(self._options.key, one[1]),))
        is_end = len(found) <= rows_max and (not found or found[0][5] == len(found))
        if not is_end and len(found) > 1:
            found.pop()  # it was read for the comparison with its neighbour
        size = sum(each[4] for each in found)
        self._rows_max = max(1, min(PAGE_ROWS_MAX, 2 * rows_max, rows_max * PAGE_BYTES // max(1, size)))
        large = [each[1] for each in found if each[3] is None]
        self._refuse(large, f"A row of more than {ROW_BYTES_MAX >> 20} MiB.", "Fewer, or shorter, columns in map.")
        return [TableRow(at, key, is_settled, _flat(content)) for at, key, is_settled, content, _, _ in found], is_end

    def _read_apart(self, table: FollowedTable, rows_max: int) -> tuple[list[TableRow], bool]:
        """Return the next rows without those that the server cannot compute, which are refused."""
        with self._session.asking() as session:
            statement, values = table.heads(self._sweep.reach, rows_max)
            heads = session.execute(statement, {**values, "settled": self._settled}).fetchall()
        found = self._contents(table, [key for _, key, _ in heads])
        rows = [
            TableRow(at, key, is_settled, found[key][1] if key in found and found[key][0] == at else None)
            for at, key, is_settled in heads  # one that was changed since is read again at its new time
        ]
        return rows, len(heads) < rows_max

    def _contents(self, table: FollowedTable, keys: Sequence[str]) -> dict[str, tuple[str, bytes]]:
        """Return time and JSON of rows by key; those that the server cannot compute are refused."""
        found: dict[str, tuple[str, bytes]] = {}
        parts = [keys]
        while parts:
            part = parts.pop()
            try:
                with self._session.asking(is_raw=True) as session:
                    cursor = session.cursor(binary=True).execute(*table.rows(part))
                    found |= {key: (at, flat(content)) for key, at, content in cursor.fetchall() if content is not None}
            except self._session.library.DataError as error:
                if len(part) == 1:
                    right = "A row that the server can compute, such as NULLIF(…, 0) in a view."
                    self._refuse(part, f"PostgreSQL cannot compute the row: {said(error)}.", right)
                else:
                    parts += [part[: len(part) // 2], part[len(part) // 2 :]]
        return found

    def _look(self, table: FollowedTable) -> None:
        """Move the horizon, and name rows without a time."""
        with self._session.asking() as session:
            self._move_horizon(session)
            untimed = [key for (key,) in session.execute(table.untimed(NAMED_MAX), {}) if key is not None]
            count = len(untimed)
            if count >= NAMED_MAX and not self._is_untimed_counted:
                (count,) = session.execute(table.untimed_count(), {}).fetchone()
        came = f"{self._options.updated_at} is NULL or infinite, so nothing tells when the row changes."
        right = f"A time in {self._options.updated_at}: ALTER TABLE … ALTER COLUMN … SET NOT NULL."
        self._refuse(untimed, came, right)
        if count > NAMED_MAX and not self._is_untimed_counted:
            self._is_untimed_counted = True
            told = f"In {count:,} rows {came} {NAMED_MAX:,} of them are named."
            self._waiting.append(notice(f"refused@untimed-{time.monotonic_ns():x}", told, right))

    def _move_horizon(self, session: Any) -> None:  # noqa: ANN401  a session of the library
        (now,) = session.execute(CLOCK).fetchone()
        horizon = self._horizon.move(now, dict(session.execute(OPEN).fetchall()))
        self._settled = None if horizon is None else horizon - timedelta(seconds=self._options.skew_s)

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
            self._waiting.extend(self._refusals.letters(key, came, right))

    def _reconcile(self, table: FollowedTable) -> None:
        """Compare all keys where it is time for that.

        Items that the table does not have are deleted. Rows that the state does not have, though they were read, are
        handed over again: those that a comparison deleted by mistake, and that came back with the times they had.
        """
        every_s = self._options.reconcile_s
        if every_s is None or self._known is None or time.monotonic() < self._reconcile_s:
            return
        known = set(self._known())  # asked first: what appears from now on is not among them
        count = len(known)
        recent = set[str]().union(*(each.keys for each in self._handed))  # the state may not have them yet
        lacking: list[str] = []
        still: set[str] = set()
        with self._session.asking() as session, session.cursor(name="midstream_keys") as cursor:
            cursor.execute(*table.keys(self._sweep.reach))
            while found := cursor.fetchmany(KEYS_AT_ONCE):
                self._session.renew()
                for key, is_passed in found:
                    if key in known:
                        known.discard(key)
                    elif key in self._restored:
                        still.add(key)
                    elif is_passed and key not in recent and len(lacking) < LACKING_MAX:
                        lacking.append(key)
        is_more = len(lacking) == LACKING_MAX
        self._reconcile_s = time.monotonic() + (self._options.every_s if is_more else every_s)
        if len(still) < RESTORED_MAX:
            self._lacking.extend(lacking)
            self._restored = still.union(lacking)
        self._delete(known, count)

    def _delete(self, missing: set[str], count: int) -> None:
        """Have items deleted that the table does not have, of so many."""
        moment = f"{time.monotonic_ns():x}"
        if len(missing) > max(MISSING_FREE, MISSING_SHARE_MAX * count):
            came = f"The table lacks {len(missing):,} of {count:,} items, and none of them was deleted."
            right = "A table that has all items, before it is compared again."
            self._waiting.append(notice(f"reconcile@{moment}", came, right))
            return
        for each in sorted(missing):
            gone = msgspec.json.encode({self._options.key: each, OPERATION: "delete"})
            self._waiting.append((f"{key_name(each)}@gone-{moment}", gone))

    def _restore(self, messages_max: int) -> None:
        """Read rows again that the state does not have, under names that they did not have yet."""
        table, moment, size = self._table, f"{time.monotonic_ns():x}", 0
        while table is not None and self._lacking and len(self._waiting) < messages_max and size < PAGE_BYTES:
            keys = [self._lacking.popleft() for _ in range(min(APART_ROWS, len(self._lacking)))]
            for key, (_, content) in self._contents(table, keys).items():
                self._waiting.append((f"{key_name(key)}@back-{moment}", content))
                size += len(content)

    def _messages(self, found: Sequence[Message]) -> PartitionMessages:
        position = self._sweep.place.text
        self._positions.append(position)
        return PartitionMessages(PARTITION, [content for _, content in found], [name for name, _ in found], position)

    def _begin(self, session: Any, table: FollowedTable) -> Place:  # noqa: ANN401  as above
        """Return where a table without a position begins."""
        start = self._options.start
        if start == "earliest":
            return Place()
        if start != "latest":
            if int(start) > START_MS_MAX:
                raise Invalid((Fault("start", f'"{start}" came.', "A time before the year 10000.", PAGE),))
            return Place(datetime.fromtimestamp(int(start) / 1_000, UTC).isoformat(sep=" "))
        self._move_horizon(session)
        if self._settled is None:
            came = "Transactions are open of which the server does not tell when they began."
            raise Invalid((Fault("start", came, "Their end, or GRANT pg_read_all_stats to the role.", PAGE),))
        return self._place(session, table.newest(is_settled=True))

    def _place(self, session: Any, statement: str) -> Place:  # noqa: ANN401  as above
        row = session.execute(statement, {"settled": self._settled}).fetchone()
        return Place() if row is None else Place(*row)

    def _is_place(self, table: FollowedTable, place: Place) -> bool:
        """Return whether the server can read a position, and rows can be behind it."""
        if "infinity" in place.updated:
            return False
        try:
            with self._session.asking(is_raw=True) as session:
                session.execute(*table.check(place))
        except self._session.library.DataError:
            return False
        return True


def _flat(content: bytes | None) -> bytes | None:
    return None if content is None else flat(content)
