"""An online store in memory, which is down on order."""

from collections.abc import Mapping, Sequence

from midstream.core.errors import StoreUnavailable
from midstream.engine.stores.online_store import (
    SCAN_ROWS,
    ScannedIds,
    StoredRows,
    StoredValue,
    StoreKind,
    StoreRows,
    check_ids,
    check_known,
    check_names,
    check_version,
    checked_columns,
)


class MemoryStore:
    """An ``OnlineStore`` whose rows are in ``rows``: by id the version and the values, None = deleted."""

    def __init__(self, columns: Mapping[str, StoreKind], table: str = "rows") -> None:
        """Begin empty."""
        check_names(table, columns)
        self.columns = dict(columns)
        self.left = 0
        self.rows: dict[str, tuple[int, Mapping[str, StoredValue] | None]] = {}
        self.positions: dict[str, str] = {}
        self.is_up = True
        self.writes = 0
        """Calls of ``write`` and ``delete`` that went through."""
        self.is_closed = False

    async def open(self) -> None:
        """Be there."""
        self._check()

    async def read(self, ids: Sequence[str], columns: Sequence[str]) -> StoredRows:
        """Return rows."""
        check_known(columns, self.columns)
        check_ids(ids, are_distinct=False)
        self._check()
        found = [self.rows.get(each, (0, None)) for each in ids]
        return StoredRows(
            [None if values is None else version for version, values in found],
            {name: [None if values is None else values.get(name) for _, values in found] for name in columns},
        )

    async def scan(self, cursor: str) -> ScannedIds:
        """Return the next page, in the order of the ids."""
        self._check()
        found = sorted((each, row[0]) for each, row in self.rows.items() if row[1] is not None and each > cursor)
        page = found[:SCAN_ROWS]
        following = page[-1][0] if len(page) == SCAN_ROWS else None
        return ScannedIds([each for each, _ in page], [version for _, version in page], following)

    async def write(self, rows: StoreRows, version: int) -> None:
        """Replace rows of lower versions."""
        check_version(version)
        columns = checked_columns(rows, self.columns)
        self._check()
        for number, each in enumerate(rows.ids):
            self._put(each, version, {name: values[number] for name, values in columns.items()})
        self.writes += 1

    async def delete(self, ids: Sequence[str], version: int) -> None:
        """Replace rows of lower versions by a fence."""
        check_version(version)
        check_ids(ids, are_distinct=True)
        self._check()
        for each in ids:
            self._put(each, version, None)
        self.writes += 1

    async def position(self, name: str) -> str | None:
        """Return what was set."""
        self._check()
        return self.positions.get(name)

    async def set_position(self, name: str, position: str) -> None:
        """Keep it."""
        self._check()
        self.positions[name] = position

    async def close(self) -> None:
        """Be closed."""
        self.is_closed = True

    def _put(self, each: str, version: int, values: Mapping[str, StoredValue] | None) -> None:
        if each not in self.rows or self.rows[each][0] < version:
            self.rows[each] = version, values

    def _check(self) -> None:
        if not self.is_up:
            message = "the store is down"
            raise StoreUnavailable(message)
