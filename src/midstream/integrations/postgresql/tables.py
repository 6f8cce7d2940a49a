"""Rows of tables of PostgreSQL as JSON: columns of a relation and their types, and the expression that makes the JSON.

The server itself makes the JSON of a row, so that every type it has arrives as one that an event can have: numbers as
they are written, arrays as lists, jsonb as it stands, all else as its text. Times are in UTC, and one without a zone is
taken for UTC, as in files. NaN is nothing, as in files.
"""

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from midstream.core.errors import Fault, Invalid, StoreUnavailable
from midstream.core.nearest import nearest
from midstream.integrations.postgresql.connection import library
from midstream.integrations.postgresql.fetch import IDENTIFIER

PAGE = "/docs/data.md"
TABLE = re.compile(rf"(?:{IDENTIFIER.pattern}\.)?{IDENTIFIER.pattern}")
TABLE_RIGHT = "A table or view, with its schema where it is not on the search path: public.products."
NAIVE = "timestamp without time zone"
_MAY_BE_NAN = {"real", "double precision", "numeric"}
_UNREADABLE = {"bytea"}
SETTINGS = (
    "SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true), "
    "set_config('IntervalStyle', 'iso_8601', true), set_config('extra_float_digits', '1', true)"
)
"""Of a transaction, so that a pooler's next client has its own."""


def quoted(name: str) -> str:
    """Return a name as an identifier.

    Example:
        >>> quoted('5" nails')
        '"5"" nails"'
    """
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def relation_of(table: str) -> str:
    """Return a table that ``TABLE`` fits, as it stands in a statement.

    Example:
        >>> relation_of("public.products")
        '"public"."products"'
    """
    return ".".join(map(quoted, table.split(".")))


def columns_of(session: Any, relation: str) -> dict[str, str]:  # noqa: ANN401  a session of the library
    """Return the columns of a relation, each with its type as the server names it."""
    found = session.execute(f"SELECT * FROM {relation} LIMIT 0").description  # noqa: S608  checked, or the operator's
    oids = list({each.type_code for each in found})
    types = dict(session.execute("SELECT oid, format_type(oid, NULL) FROM pg_type WHERE oid = ANY(%s)", (oids,)))
    return {each.name: types[each.type_code] for each in found}


def chosen_columns(columns: Mapping[str, str], fields: Mapping[str, Iterable[str]], where: str) -> tuple[str, ...]:
    """Return the columns that are read.

    Args:
        columns: Of the relation, with their types.
        fields: Of an event, each with the columns, or paths into one of JSON, that it is made of.
        where: Of a mapping, for what is refused: ``--map``.

    Raises:
        Invalid: There is no such column, or its type can be no part of an event.
    """
    faults: list[Fault] = []
    found: dict[str, None] = {}
    for field, names in fields.items():
        for name in names:
            top = name if name in columns else name.partition(".")[0]
            found[top] = None
            if top not in columns:
                came = f'There is no column "{top}".{nearest(top, columns)}'
                faults.append(Fault(f"{where} {field}={name}", came, f"Columns: {', '.join(columns)}", PAGE))
            elif columns[top] in _UNREADABLE:
                came = f'The column "{top}" is of the type {columns[top]}.'
                right = f"Text, numbers, times, arrays or JSON: encode({top}, 'base64') in a view or a query is text."
                faults.append(Fault(f"{where} {field}={name}", came, right, PAGE))
    if faults:
        raise Invalid(tuple(faults))
    return tuple(found)


def row_json(columns: Mapping[str, str], names: Sequence[str]) -> str:
    r"""Return the expression of a row of the relation ``t`` as JSON text of some of its columns.

    Example:
        >>> row_json({"id": "bigint", "price": "numeric"}, ["id", "price"])
        '(SELECT row_to_json(r)::text FROM (SELECT t."id", NULLIF(t."price", \'NaN\') AS "price") AS r)'
    """
    fields = ", ".join(_field(columns[each], each) for each in names)
    return f"(SELECT row_to_json(r)::text FROM (SELECT {fields}) AS r)"  # noqa: S608  names are checked, and quoted


def _field(kind: str, name: str) -> str:
    column = quoted(name)
    if kind == NAIVE:
        return f"t.{column} AT TIME ZONE 'UTC' AS {column}"
    return f"NULLIF(t.{column}, 'NaN') AS {column}" if kind in _MAY_BE_NAN else f"t.{column}"


def flat(text: bytes) -> bytes:
    """Return JSON on one line: a line break is no part of a text in it, but a column of ``json`` keeps its own."""
    return text.replace(b"\n", b" ")


@contextmanager
def told_as_stores_are(name: str) -> Generator[None]:
    """Say errors of the library as those of a source of rows.

    Raises:
        StoreUnavailable: The server is gone, or refuses the login.
        Invalid: It refuses a statement.
    """
    psycopg = library()
    try:
        yield
    except psycopg.OperationalError as error:
        message = f"{name}: {said(error)}"
        raise StoreUnavailable(message) from error
    except psycopg.Error as error:
        right = "A table, or a query, that its role may read as it stands."
        raise Invalid((Fault(name, f"PostgreSQL says: {said(error)}.", right, PAGE),)) from error


def said(error: Exception) -> str:
    """Return what the library says, in one line."""
    lines = [each.strip() for each in str(error).splitlines()]
    return "; ".join(each for each in lines if each and set(each) != {"^"})[:500].rstrip(".") or type(error).__name__
