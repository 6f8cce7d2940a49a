"""Tables of a real PostgreSQL, and PgBouncer before it: imported at one moment, each row once, with its types."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from midstream.app.ingest.import_file import ImportSummary, import_file
from midstream.app.ingest.import_table import TableOptions, import_table
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.opening import config_of, open_running
from midstream.cli.app import main
from midstream.core.errors import Invalid, StoreUnavailable
from midstream.integrations.postgresql import table_rows
from tests.support.services.server import Server
from tests.support.store_shops import LIMITS, postgresql_session

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
CONFIG = f"""
[items.attributes]
price = "number"
category = "category"
tags = "tags"
on_sale = "boolean"
taste = "vector:2"
stock = "number"
{LIMITS}
"""
MAP = {
    f"attributes.{each}": each for each in ("price", "category", "tags", "on_sale", "taste", "note", "born", "stock")
}
MAP["attributes.brand"] = "details.brand"
CREATE = """
CREATE TABLE {name} (
    id bigint PRIMARY KEY, price numeric(10,2), category text, tags text[], on_sale boolean, taste real[],
    note varchar(40), born timestamp, stock double precision, details jsonb, "json" json, photo bytea,
    updated_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz
)
"""


@pytest.fixture(params=["postgresql", "pgbouncer"])
def server(request: pytest.FixtureRequest) -> Server:
    """The server itself, then the pooler in front of it."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def table(request: pytest.FixtureRequest, postgresql: Server) -> str:
    """A table of products with three rows, of its own for each test."""
    name = "shop_" + re.sub(r"\W+", "_", request.node.name.removeprefix("test_"))[:55].lower()
    with postgresql_session(postgresql.address) as session:
        session.execute(f"DROP TABLE IF EXISTS {name}")
        session.execute(CREATE.format(name=name))
        session.execute(
            f"INSERT INTO {name} VALUES "  # noqa: S608  a name of the test
            "(1, 12.50, 'lamps', '{red,\"b|c\"}', true, '{0.5,1}', 'it''s 🛋', '2026-01-02 03:04:05', 3, "
            "'{\"brand\": \"Aal\"}', '{\n\"a\": 1}', 'x'), "
            "(2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'NaN', NULL, NULL, NULL), "
            "(9223372036854775807, 'NaN', '', '{}', false, NULL, 'a\nb', NULL, 'Infinity', '{}', NULL, NULL)"
        )
    return name


def address(server: Server) -> str:
    return f"postgresql://postgres@{server.address}/postgres"


def shop(tmp_path: Path, name: str = "shop") -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "midstream.toml").write_text(CONFIG)
    return folder


def imported(folder: Path, server: Server, table: str, **more: Any) -> ImportSummary:
    columns = more.pop("columns", MAP)
    options = TableOptions(address(server), table=table, key="id", **more)
    return import_table(folder, config_of(folder), options, ColumnOptions(columns))


def run(*arguments: str) -> object:
    """Run a command; return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def document(folder: Path, item: str) -> dict[str, object]:
    """Return the attributes of an item in the state of a folder."""
    running = open_running(folder, config_of(folder))
    running.engine.log.close()
    fold = running.engine.fold
    return fold.items.document(fold.vocabulary.item_index(item))


def test_each_row_is_an_item_with_its_types_and_is_recorded_once(tmp_path: Path, server: Server, table: str) -> None:
    """Numbers, text, arrays, truth values, times and members of JSON; a second run records nothing."""
    folder = shop(tmp_path)
    # Infinity is no number of an event: that row is refused, and the others are recorded.
    done = imported(folder, server, table)
    assert (done.rows, done.recorded, done.rejected) == (3, 2, 1)
    assert document(folder, "1") == {
        "price": 12.5,
        "category": "lamps",
        "tags": ["red", "b|c"],
        "on_sale": True,
        "taste": [0.5, 1],
        "note": "it's 🛋",
        "born": "2026-01-02T03:04:05+00:00",
        "stock": 3,
        "brand": "Aal",
    }
    assert document(folder, "2") == {}
    (kept,) = (folder / "data" / "import-rejected.ndjson").read_text().splitlines()
    assert "9223372036854775807" in kept
    assert "stock" in kept
    again = imported(folder, server, table)
    assert (again.recorded, again.known, again.rejected) == (0, 2, 1)


def test_null_takes_an_attribute_away_and_earlier_values_may_come_back(
    tmp_path: Path, postgresql: Server, table: str
) -> None:
    """Other than in a file, where an empty cell says nothing: a row of a table says all of its columns."""
    folder = shop(tmp_path)
    imported(folder, postgresql, table)
    with postgresql_session(postgresql.address) as session:
        for price, expected in (("NULL", None), ("12.50", 12.5)):
            session.execute(f"UPDATE {table} SET price = {price} WHERE id = 1")  # noqa: S608  a name of the test
            assert imported(folder, postgresql, table).recorded == 1
            assert document(folder, "1").get("price") == expected
            assert document(folder, "1")["category"] == "lamps"


def test_all_rows_are_of_one_moment(
    server: Server, postgresql: Server, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed while the cursor is open is not seen, and memory holds some rows at a time."""
    monkeypatch.setattr(table_rows, "FETCH_ROWS", 10)
    with postgresql_session(postgresql.address) as session:
        session.execute(f"INSERT INTO {table} (id) SELECT generate_series(10, 59)")
        with table_rows.reading(address(server), table, "") as found:
            rows = found.rows({"item_id": ("id",)})
            first = next(rows)
            session.execute(f"DELETE FROM {table}")  # noqa: S608  as above
            assert len(first) == 10
            assert sum(map(len, rows)) == 43


def test_a_query_and_users(tmp_path: Path, server: Server, table: str) -> None:
    """A percent sign is itself, and a query that would write is refused by the server."""
    folder = shop(tmp_path)
    query = f"SELECT id AS no, category AS taste FROM {table} WHERE note LIKE 'it%'"  # noqa: S608  as above
    options = TableOptions(address(server), query=query, key="no")
    columns = ColumnOptions({"attributes.likes": "taste"}, {"type": "user"})
    done = import_table(folder, config_of(folder), options, columns)
    assert (done.rows, done.recorded) == (1, 1)
    running = open_running(folder, config_of(folder))
    running.engine.log.close()
    assert running.engine.fold.users.value(running.engine.fold.vocabulary.user_index("1"), "likes") == "lamps"
    deleting = TableOptions(address(server), query=f"DELETE FROM {table} RETURNING id", key="id")  # noqa: S608  as above
    with pytest.raises(Invalid):
        import_table(folder, config_of(folder), deleting, ColumnOptions())


def test_a_table_gives_what_a_file_of_the_same_rows_gives(tmp_path: Path, postgresql: Server, table: str) -> None:
    """The same documents of all items."""
    folder, other = shop(tmp_path), shop(tmp_path, "other")
    with postgresql_session(postgresql.address) as session:
        session.execute(f"DELETE FROM {table} WHERE id > 1")  # noqa: S608  as above
        insert = f"INSERT INTO {table} (id, price, category, tags, on_sale) "
        session.execute(
            insert + "SELECT n, n / 4.0, 'c' || n % 5, ARRAY['a', 't' || n % 3], n % 2 = 0 "
            "FROM generate_series(2, 200) AS n"
        )
    names = ("price", "category", "tags", "on_sale")
    columns = {f"attributes.{each}": each for each in names}
    imported(folder, postgresql, table, columns=columns)
    rows = ["id,price,category,tags,on_sale", "1,12.50,lamps,red,true"]
    rows += [f"{n},{n / 4},c{n % 5},a|t{n % 3},{int(n % 2 == 0)}" for n in range(2, 201)]
    (tmp_path / "products.csv").write_text("\n".join(rows))
    import_file(
        other,
        config_of(other),
        tmp_path / "products.csv",
        ColumnOptions({"item_id": "id", **columns}, {"type": "item"}),
    )
    assert all(document(folder, str(n)) == document(other, str(n)) for n in range(2, 201, 37))


@pytest.mark.parametrize(
    "options,columns,told",
    [
        ({"table": "TABLE"}, {}, "No column of ids"),
        ({"table": "TABLE", "key": "idd"}, {}, 'no column "idd". Nearest: "id"'),
        ({"table": "TABLE", "key": "id"}, {"attributes.price": "prize"}, 'no column "prize". Nearest: "price"'),
        ({"table": "TABLE", "key": "id"}, {"attributes.photo": "photo"}, "of the type bytea"),
        ({"table": "TABLE", "key": "id"}, {"item_id": "price"}, "key alone says"),
        ({"table": "TABLE", "key": "id"}, {"type": "category"}, "item or user"),
        ({"table": "no_such", "key": "id"}, {}, "does not exist"),
        ({"table": "a; DROP TABLE b", "key": "id"}, {}, "--query"),
        ({"key": "id"}, {}, "Neither a table nor a query"),
        ({"table": "TABLE", "query": "SELECT 1", "key": "id"}, {}, "Both a table and a query"),
        ({"query": "SELECT nothing", "key": "id"}, {}, "does not exist"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_is_recorded(
    tmp_path: Path, postgresql: Server, table: str, options: dict[str, str], columns: dict[str, str], told: str
) -> None:
    """With what would be right."""
    folder = shop(tmp_path)
    named = {name: table if value == "TABLE" else value for name, value in options.items()}
    with pytest.raises(Invalid) as raised:
        import_table(folder, config_of(folder), TableOptions(address(postgresql), **named), ColumnOptions(columns))
    assert told in str(raised.value)
    assert raised.value.faults[0].page == "/docs/data.md"


def test_a_server_that_does_not_answer_is_told_without_a_secret(
    tmp_path: Path, postgresql: Server, table: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The password is taken from the ways of libpq; one in the address is refused, and never repeated."""
    folder = shop(tmp_path)
    monkeypatch.setenv("PGPASSWORD", "geheim")
    with pytest.raises(StoreUnavailable) as gone:
        import_table(
            folder, config_of(folder), TableOptions("postgresql://a@127.0.0.1:1/b", table, "", "id"), ColumnOptions()
        )
    assert "127.0.0.1:1" in str(gone.value)
    assert "geheim" not in str(gone.value)
    service = tmp_path / "pg_service.conf"
    host, _, port = postgresql.address.partition(":")
    service.write_text(f"[shop]\nhost={host}\nport={port}\nuser=postgres\ndbname=postgres\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    command = ["import", "postgresql://?service=shop", "--table", table, "--key", "id", "-f", str(folder), "--json"]
    assert run(*command, "--map", "attributes.price=price") == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["recorded"], done["file"]) == (3, f"postgresql:///shop {table}")
    for secret in ("postgresql://a:geheim@b/c", "postgresql://a@b/c?password=geheim", "postgresql://a:geheim@b/%zz"):
        assert run("import", secret, "--table", table, "--key", "id", "-f", str(folder)) == 1
        told = "".join(capsys.readouterr())
        assert "geheim" not in told
        assert "PGPASSWORD" in told
    assert all("geheim" not in each.read_text(errors="replace") for each in folder.rglob("*") if each.is_file())


def test_a_server_of_the_folder_takes_the_rows(tmp_path: Path, postgresql: Server, table: str) -> None:
    """As those of a file: with what is taken away."""
    from tests.crash.servers import serving

    folder = shop(tmp_path)
    imported(folder, postgresql, table)
    with serving(folder), postgresql_session(postgresql.address) as session:
        session.execute(f"UPDATE {table} SET price = NULL, note = 'new' WHERE id = 1")  # noqa: S608  as above
        done = imported(folder, postgresql, table)
        assert done.through
        assert (done.recorded, done.known) == (1, 1)
    told = document(folder, "1")
    assert (told.get("price"), told["note"]) == (None, "new")
