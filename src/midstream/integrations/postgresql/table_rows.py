"""Reading of a whole table or query of PostgreSQL at one moment, in bounded memory.

All rows are of one snapshot: a transaction that only reads, at REPEATABLE READ, with a cursor on the server. So a
pooler in transaction mode may stand between, and a query that would write is refused.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from midstream.core.errors import Fault, Invalid
from midstream.integrations.postgresql.connection import library
from midstream.integrations.postgresql.tables import (
    PAGE,
    SETTINGS,
    chosen_columns,
    columns_of,
    flat,
    relation_of,
    row_json,
    told_as_stores_are,
)

FETCH_ROWS = 1_000
"""Of one answer: 256 MB of the largest rows that may be events, 300 kB of usual ones."""
CONNECT_S_MAX = 10
URL_RIGHT = "postgresql://user@host:5432/database; the password is in PGPASSWORD, in ~/.pgpass or in a service's file."


@dataclass(frozen=True, slots=True)
class TableReading:
    """An open transaction that reads a relation."""

    name: str
    """Host, port and database, for accounts: nothing secret."""
    columns: Mapping[str, str]
    """Of the relation, with their types."""
    session: Any
    relation: str

    def rows(self, fields: Mapping[str, Iterable[str]]) -> Iterator[Sequence[bytes]]:
        """Yield all rows as JSON, some at a time.

        Args:
            fields: Of an event, each with the columns that it is made of.

        Raises:
            Invalid: There is no such column, or the server refuses to read a row.
            StoreUnavailable: The server is gone.
        """
        row = row_json(self.columns, chosen_columns(self.columns, fields, "--map"))
        with (
            told_as_stores_are(self.name),
            self.session.cursor(name="midstream_import", binary=True) as cursor,
        ):
            cursor.execute(f"SELECT convert_to({row}, 'UTF8') FROM {self.relation} AS t")  # noqa: S608  names are checked
            while found := cursor.fetchmany(FETCH_ROWS):
                yield [flat(each) for (each,) in found]


@contextmanager
def reading(url: str, table: str, query: str) -> Generator[TableReading]:
    """Begin to read a table, or what a query returns; the session ends with the block.

    Args:
        url: As libpq takes it, but without a password; what is not in it comes from its variables, services and files.
        table: That ``TABLE`` fits.
        query: Instead of it; one statement that returns rows.

    Raises:
        Invalid: The address is none, has a password in it, or there is nothing of that name.
        StoreUnavailable: The server does not answer, or refuses the login.
    """
    name, settings = source_name(url), _settings(url)
    psycopg = library()
    relation = f"({query.strip().rstrip(';')}\n)" if query else relation_of(table)
    with told_as_stores_are(name):
        session = psycopg.connect(**settings)
    try:
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.read_only = True
        with told_as_stores_are(name):
            session.execute(SETTINGS)
            columns = columns_of(session, relation if not query else f"{relation} AS t")
        yield TableReading(name, columns, session, relation)
    finally:
        session.close()


def source_name(url: str) -> str:
    """Return host, port and database of an address, or its service: nothing secret.

    Raises:
        Invalid: The address is none, or has a password in it.
    """
    found = _settings(url)
    port = f":{found['port']}" if "port" in found else ""
    return f"postgresql://{found.get('host', '')}{port}/{found.get('dbname') or found.get('service') or ''}"


def _settings(url: str) -> dict[str, object]:
    """Return how a session is opened; an address that is refused is not repeated, as it may have a secret in it."""
    psycopg = library()
    try:
        found: dict[str, object] = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        raise Invalid((Fault("postgresql://", "What came is no address of a database.", URL_RIGHT, PAGE),)) from None
    if found.keys() & {"password", "sslpassword"}:
        raise Invalid((Fault("postgresql://", "The address has a password in it.", URL_RIGHT, PAGE),))
    defaults: dict[str, object] = {"application_name": "midstream", "connect_timeout": CONNECT_S_MAX}
    return {**defaults, **found, "client_encoding": "utf8", "prepare_threshold": None}
