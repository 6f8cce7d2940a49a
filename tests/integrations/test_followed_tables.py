# ruff: noqa: S608  names of tables of the tests, and constants
"""Tables of a real PostgreSQL that are followed: late commits, equal times, clocks, deletes, a server that is gone."""

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from midstream.app.config.broker_inputs import PostgresqlInput
from midstream.app.ingest.import_table import TableOptions, import_table
from midstream.app.inputs.consumers import connector_of
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.opening import config_of, open_running
from midstream.core.durations import Duration
from midstream.core.types import LogPosition
from midstream.engine.ingest.log_reader import batches
from midstream.engine.inputs.broker_consumer import BrokerUnavailable
from midstream.events.schema import event_at
from midstream.integrations.postgresql import consumer as consuming
from midstream.integrations.postgresql.consumer import PostgresqlConsumer
from midstream.integrations.postgresql.refused_rows import REFUSED
from midstream.state.fold import Fold
from tests.crash.servers import serving
from tests.support.libraries import library
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.services.server import Server
from tests.support.store_shops import LIMITS, postgresql_session

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
CREATE = """
CREATE TABLE {name} (
    id bigint PRIMARY KEY, price numeric(10,2), updated_at timestamptz DEFAULT now(), deleted_at timestamptz
);
CREATE INDEX ON {name} (updated_at, id)
"""
MAP = {"attributes.price": "price"}
OLD = "now() - interval '1 hour'"


class Shop:
    """A table of products, and the input that follows it."""

    def __init__(self, server: Server, through: Server, name: str) -> None:
        self.server, self.through, self.name = server, through, name
        self.session = postgresql_session(server.address)
        self.session.execute(f"DROP TABLE IF EXISTS {name}")
        self.session.execute(CREATE.format(name=name))

    def run(self, statement: str) -> None:
        """Run a statement in which TABLE is the table, by itself."""
        self.session.execute(statement.replace("TABLE_", self.name))

    def other(self) -> Any:
        """A session whose transaction goes on until it is committed."""
        found = postgresql_session(self.server.address)
        found.autocommit = False
        return found

    def options(self, **more: Any) -> PostgresqlInput:
        url = f"postgresql://{more.pop('user', 'postgres')}@{self.through.address}/postgres"
        told: dict[str, Any] = {"map": MAP, "every": Duration("100ms"), "skew": Duration("0s"), **more}
        return PostgresqlInput(name="shop", url=url, table=f"public.{self.name}", key="id", **told)

    def consumer(self, known: Sequence[str] | None = None, **more: Any) -> PostgresqlConsumer:
        found = connector_of(self.options(**more), known=None if known is None else lambda: known)(None)
        assert isinstance(found, PostgresqlConsumer)
        return found


class Reading:
    """What a consumer hands over."""

    def __init__(self, consumer: PostgresqlConsumer, topic_id: str = "", at: Mapping[str, str] | None = None) -> None:
        self.consumer = consumer
        self.opened = consumer.open(topic_id, at or {})
        self.position = self.opened.next.get("0", "")
        self.rows: list[dict[str, Any]] = []
        self.names: list[str] = []

    def poll(self, wait_s: float = 0.05, rows_max: int = 1_000) -> int:
        """Poll once."""
        found = self.consumer.poll(rows_max, wait_s)
        for part in found:
            self.rows += [msgspec.json.decode(each) for each in part.values if each]
            self.names += part.positions
            self.position = part.next
        return sum(map(len, found))

    def keys(self) -> list[Any]:
        return [each.get("id") for each in self.rows]

    def to(self, *keys: Any) -> "Reading":
        """Poll until exactly these keys were handed over, in any order, and for two sweeps none more."""
        wait_until(lambda: self.poll() < 0 or len(self.rows) >= len(keys))
        for _ in range(3):
            self.poll(0.1)
        assert sorted(map(str, self.keys())) == sorted(map(str, keys))
        return self

    def settle(self) -> str:
        """Poll until the position is that of the newest row; return it."""
        newest = self.consumer.open("", {"0": "no position"}).gone[0].end
        self.consumer.open(self.opened.topic_id, {"0": self.position})
        wait_until(lambda: self.poll() < 0 or self.position == newest)
        return self.position


@pytest.fixture(params=["postgresql", "pgbouncer"])
def shop(request: pytest.FixtureRequest, postgresql: Server) -> Any:
    """A table of its own for each test, read straight, then through the pooler."""
    name = "follow_" + re.sub(r"\W+", "_", request.node.name.removeprefix("test_"))[:50].lower()
    found = Shop(postgresql, request.getfixturevalue(request.param), name)
    with closing(found.session):
        yield found


@pytest.fixture
def straight_shop(request: pytest.FixtureRequest, postgresql: Server) -> Any:
    """A table that is read without a pooler: those of the tests log everybody in as one role."""
    name = "follow_" + re.sub(r"\W+", "_", request.node.name.removeprefix("test_"))[:50].lower()
    found = Shop(postgresql, postgresql, name)
    yield found
    found.session.close()


def test_a_late_commit_with_an_earlier_time_is_read(shop: Shop) -> None:
    """Rows beyond the oldest open transaction are read at once; the position waits for it, also across a start."""
    shop.run(f"INSERT INTO TABLE_ VALUES (1, 1, {OLD})")
    with closing(shop.consumer()) as consumer, closing(shop.other()) as late:
        late.execute(f"INSERT INTO {shop.name} (id) VALUES (2)")
        time.sleep(0.05)
        shop.run("INSERT INTO TABLE_ (id) VALUES (3)")
        reading = Reading(consumer).to(1, 3)
        assert '"1"]' in reading.position
        with closing(shop.consumer()) as second:
            again = Reading(second, reading.opened.topic_id, {"0": reading.position}).to(3)
            assert set(again.names) <= set(reading.names), "what is read again has its name"
            late.commit()
            again.to(3, 2)
        reading.to(1, 3, 2)
        wait_until(lambda: reading.poll() < 0 or '"3"]' in reading.position)


def test_a_transaction_that_begins_with_reading_is_waited_for(shop: Shop) -> None:
    """It has no number of a writer yet, and writes rows of the time at which it began."""
    with closing(shop.consumer()) as consumer, closing(shop.other()) as late:
        late.execute("SELECT 1")
        time.sleep(0.05)
        shop.run("INSERT INTO TABLE_ (id) VALUES (3)")
        reading = Reading(consumer).to(3)
        assert reading.position == "[]"
        late.execute(f"INSERT INTO {shop.name} (id) VALUES (2)")
        late.commit()
        reading.to(3, 2)


def test_rows_of_one_time_are_paged_by_key(shop: Shop) -> None:
    """A statement writes many rows of one time; each is read once, in pages, and so is each after a start."""
    shop.run(f"INSERT INTO TABLE_ SELECT n, n, {OLD} FROM generate_series(1, 95) AS n")
    with closing(shop.consumer()) as consumer:
        reading = Reading(consumer)
        assert reading.poll(rows_max=30) == 30
        assert consumer.lag() == {"0": 65}
        with closing(shop.consumer()) as second:
            rest = Reading(second, reading.opened.topic_id, {"0": reading.position})
            wait_until(lambda: rest.poll(rows_max=30) < 0 or len(rest.rows) == 65)
            assert reading.keys() + rest.keys() == list(range(1, 96))
            assert second.lag() == {"0": 0}


def test_clocks_that_are_ahead_or_behind_lose_nothing(shop: Shop) -> None:
    """A time in the future is read at once; one that is behind by less than ``skew`` is read as well."""
    with closing(shop.consumer(skew=Duration("1h"))) as consumer:
        shop.run("INSERT INTO TABLE_ VALUES (1, 1, now() + interval '1 day'), (2, 2, now())")
        reading = Reading(consumer).to(1, 2)
        shop.run("INSERT INTO TABLE_ VALUES (3, 3, now() - interval '50 minutes')")
        reading.to(1, 2, 3)
        shop.run("UPDATE TABLE_ SET price = 7 WHERE id = 3")  # its time stays: not seen once it is settled, but now
        reading.to(1, 2, 3, 3)


def test_rows_without_a_time_are_named_once_and_the_others_go_on(shop: Shop) -> None:
    """With their key, as dead letters; infinity is no time, and holds nothing up."""
    shop.run(f"INSERT INTO TABLE_ VALUES (1, 1, NULL), (2, 2, {OLD}), (3, 3, 'infinity')")
    with closing(shop.consumer()) as consumer:
        reading = Reading(consumer).to(1, 2, 3)
        named = [each for each in reading.rows if REFUSED in each]
        assert all("updated_at is NULL or infinite" in each[REFUSED] for each in named)
        assert sorted(each["id"] for each in named) == ["1", "3"]
        assert '"2"]' in reading.position
        Reading(consumer).to(2)  # letters of before the last two polls are durable
        Reading(consumer).poll()


def test_deleted_rows_are_deletes(shop: Shop) -> None:
    """By their column, and by a comparison of all keys that holds for deletes while nobody followed."""
    shop.run(f"INSERT INTO TABLE_ VALUES (1, 1, {OLD}, NULL), (2, 2, {OLD}, now())")
    known = ["1", "2", "gone"]
    with closing(shop.consumer(known, deleted_at="deleted_at", reconcile=Duration("1h"))) as consumer:
        reading = Reading(consumer).to(1, 2, 2, "gone")
        Reading(consumer, reading.opened.topic_id, {"0": reading.position}).to()  # all of it is durable
    deletes = [each["id"] for each in reading.rows if each.get("midstream_operation") == "delete"]
    assert sorted(map(str, deletes)) == ["2", "2", "gone"]
    assert {"id": 1, "price": 1} in reading.rows


def test_a_table_that_was_emptied_deletes_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told instead."""
    monkeypatch.setattr(consuming, "MISSING_FREE", 2)
    with closing(shop.consumer([str(each) for each in range(5)], reconcile=Duration("10s"))) as consumer:
        reading = Reading(consumer)
        wait_until(lambda: reading.poll() > 0)
        assert "lacks 5 of 5 items" in reading.rows[0][REFUSED]
        assert len(reading.rows) == 1


def test_a_table_that_was_made_anew_is_another(shop: Shop) -> None:
    """Its positions say nothing about it."""
    shop.run("INSERT INTO TABLE_ (id) VALUES (1)")
    with closing(shop.consumer()) as consumer:
        reading = Reading(consumer).to(1)
        assert not consumer.is_outdated()
        shop.run("DROP TABLE TABLE_")
        assert consumer.is_outdated()
        with pytest.raises(BrokerUnavailable, match="no table"):
            consumer.open(reading.opened.topic_id, {"0": reading.position})
        shop.run(CREATE.format(name=shop.name))
        anew = consumer.open(reading.opened.topic_id, {"0": reading.position})
        assert anew.topic_id != reading.opened.topic_id
        assert not anew.next


@pytest.mark.parametrize(
    "change,told",
    [
        ("ALTER TABLE TABLE_ DROP COLUMN price", 'no column "price"'),
        ("ALTER TABLE TABLE_ ALTER COLUMN price TYPE bytea USING NULL", "of the type bytea"),
        ("ALTER TABLE TABLE_ ALTER COLUMN updated_at TYPE date", "of the type date"),
        ("ALTER TABLE TABLE_ DROP CONSTRAINT {name}_pkey", "No unique index"),
    ],
)
def test_a_change_of_the_table_is_told_and_mended(shop: Shop, change: str, told: str) -> None:
    """In words, as the input fails; it goes on when the column is back."""
    shop.run(f"INSERT INTO TABLE_ VALUES (1, 1, {OLD})")
    with closing(shop.consumer()) as consumer:
        Reading(consumer).to(1)
        (constraint,) = shop.session.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(%s) AND contype = 'p'", (shop.name,)
        ).fetchone()
        shop.run(change.replace("{name}_pkey", constraint))
        with pytest.raises(BrokerUnavailable) as raised:
            consumer.open("", {})
        assert told in str(raised.value)
        if "DROP COLUMN" in change:
            with pytest.raises(BrokerUnavailable):
                Reading(consumer)
            shop.run("ALTER TABLE TABLE_ ADD COLUMN price numeric")
            Reading(consumer).to(1)


def test_a_role_that_sees_no_other_sessions_loses_nothing(straight_shop: Shop) -> None:
    """It waits for what was open when it looked first."""
    shop = straight_shop
    shop.run("DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    shop.run("GRANT SELECT ON TABLE_ TO reader")
    shop.run(f"INSERT INTO TABLE_ VALUES (1, 1, {OLD})")
    with closing(shop.consumer(user="reader")) as consumer, closing(shop.other()) as late:
        late.execute(f"INSERT INTO {shop.name} (id) VALUES (2)")
        reading = Reading(consumer).to(1)
        assert reading.position == "[]"
        late.commit()
        reading.to(1, 2)
        wait_until(lambda: reading.poll() < 0 or '"2"]' in reading.position)


def test_a_server_that_stands_still_is_given_up(shop: Shop) -> None:
    """A poll ends in time, and the next open goes on."""
    shop.run("INSERT INTO TABLE_ (id) VALUES (1)")
    with closing(shop.consumer(give_up=Duration("1s"))) as consumer:
        reading = Reading(consumer).to(1)
        shop.through.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(BrokerUnavailable):
                reading.poll(5.0)
            assert time.monotonic() - began < 30
        finally:
            shop.through.thaw()
        wait_until(lambda: is_open(consumer))


def is_open(consumer: PostgresqlConsumer) -> bool:
    """Return whether a consumer can be opened again."""
    try:
        consumer.open("", {})
    except BrokerUnavailable:
        return False
    return True


def test_positions_of_an_operator(shop: Shop) -> None:
    """The beginning, the end, a time, a place; what is none is refused with both ends."""
    shop.run("INSERT INTO TABLE_ VALUES (1, 1, '2026-01-02'), (2, 2, '2026-01-03'), (3, 3, '2026-01-04')")
    for start, keys in (("earliest", [1, 2, 3]), ("latest", []), ("2026-01-03T00:00:00Z", [2, 3])):
        with closing(shop.consumer(start=start)) as consumer:
            Reading(consumer).to(*keys)
    with closing(shop.consumer()) as consumer:
        opened = consumer.open("", {})
        Reading(consumer, opened.topic_id, {"0": '["2026-01-03 00:00:00+00","2"]'}).to(3)
        for wrong in ("7", '["soon","2"]', '["2026-01-03","two"]'):
            (gone,) = consumer.open(opened.topic_id, {"0": wrong}).gone
            assert (gone.stored, gone.first) == (wrong, "[]")
            assert '"3"]' in gone.end


def test_deletes_by_a_comparison_have_names_of_their_own(straight_shop: Shop) -> None:
    """Whatever their keys begin with."""
    keys = [f"https://shop.example/catalogue/products/by-name/{each}" for each in ("lamp", "table", "chair")]
    with closing(straight_shop.consumer(keys, reconcile=Duration("1h"))) as consumer:
        reading = Reading(consumer).to(*keys)
    assert len(set(reading.names)) == 3


def test_what_may_not_be_durable_is_told_again_and_nothing_else(straight_shop: Shop) -> None:
    """Of the last two polls, under the same names; and no comparison is made before its time."""
    shop, asked = straight_shop, []

    def known() -> Sequence[str]:
        asked.append(1)
        return ["gone"]

    shop.run(f"INSERT INTO TABLE_ VALUES (1, 1, NULL), (2, 2, {OLD})")
    with closing(connector_of(shop.options(reconcile=Duration("30d")), known=known)(None)) as consumer:
        assert isinstance(consumer, PostgresqlConsumer)
        reading = Reading(consumer)
        wait_until(lambda: reading.poll() < 0 or reading.keys().count("gone") == 1)
        topic_id, at = reading.opened.topic_id, {"0": reading.position}
        again = Reading(consumer, topic_id, at)
        wait_until(lambda: again.poll() < 0 or again.keys().count("gone") == 1)
        assert set(again.names) <= set(reading.names)
        flapping = [
            Reading(consumer, topic_id, at) for _ in range(3) if again.poll() + again.poll() + again.poll() == 0
        ]
        assert [each.poll() for each in flapping] == [0, 0, 0]
        assert len(asked) == 1


def test_a_letter_is_repeated_few_times_by_a_server_that_comes_and_goes(straight_shop: Shop) -> None:
    """Also where each error comes right behind it."""
    straight_shop.run("INSERT INTO TABLE_ VALUES (1, 1, NULL)")
    with closing(straight_shop.consumer()) as consumer:
        letters = 0
        for _ in range(12):
            reading = Reading(consumer)
            reading.poll()
            letters += len(reading.rows)
        assert 2 <= letters <= 3


def test_a_row_that_came_back_with_its_old_time_is_handed_over_again(straight_shop: Shop) -> None:
    """Under a new name, once, and not where it was handed over just now, or is to come."""
    shop, known = straight_shop, ["2"]
    shop.run(f"INSERT INTO TABLE_ VALUES (1, 1, {OLD}), (2, 2, {OLD})")
    with closing(shop.consumer(known, reconcile=Duration("10s"))) as consumer:
        reading = Reading(consumer).to(1, 2)
        consumer._reconcile_s = 0.0
        reading.to(1, 2, 1)
        assert len(set(reading.names)) == 3
        consumer._reconcile_s = 0.0
        reading.to(1, 2, 1)
        known.append("1")
        consumer._reconcile_s = 0.0
        reading.to(1, 2, 1)
        known.remove("1")
        consumer._reconcile_s = 0.0
        reading.to(1, 2, 1, 1)


@pytest.fixture
def view_shop(straight_shop: Shop) -> Any:
    """A view over a table without constraints, which the input follows."""
    shop = straight_shop
    shop.run("DROP VIEW IF EXISTS TABLE__view")
    shop.run(
        "ALTER TABLE TABLE_ DROP CONSTRAINT TABLE__pkey, ALTER COLUMN id DROP NOT NULL, ADD COLUMN b int DEFAULT 1"
    )
    shop.run("CREATE VIEW TABLE__view AS SELECT id, price / b AS price, updated_at, deleted_at FROM TABLE_")
    yield shop
    shop.run("DROP VIEW TABLE__view")


def viewing(shop: Shop, **more: Any) -> PostgresqlConsumer:
    options = msgspec.structs.replace(shop.options(**more), table=f"public.{shop.name}_view")
    found = connector_of(options)(None)
    assert isinstance(found, PostgresqlConsumer)
    return found


def test_rows_of_a_view_without_a_key_are_left_out(view_shop: Shop) -> None:
    """Also behind a position."""
    view_shop.run(f"INSERT INTO TABLE_ VALUES (1, 1, {OLD}), (NULL, 2, {OLD} + interval '1 s'), (3, 3, now())")
    with closing(viewing(view_shop)) as consumer:
        reading = Reading(consumer)
        reading.poll(rows_max=1)
        reading.to(1, 3)


def test_a_view_in_which_a_key_is_not_unique_is_refused(view_shop: Shop) -> None:
    """When it is opened, and when a page has two rows of one key and time."""
    view_shop.run(f"INSERT INTO TABLE_ VALUES (1, 1, {OLD}), (2, 2, {OLD})")
    with closing(viewing(view_shop)) as consumer:
        reading = Reading(consumer).to(1, 2)
        view_shop.run("INSERT INTO TABLE_ SELECT 3, n, '2099-01-01' FROM generate_series(1, 40) AS n")
        with pytest.raises(BrokerUnavailable, match='Several rows have "3"'):
            reading.poll(5.0, rows_max=1)
        with pytest.raises(BrokerUnavailable, match='Several rows have "3"'):
            consumer.open("", {})


@pytest.mark.parametrize("rows_max", [1, 7, 1_000])
def test_a_row_that_the_server_cannot_compute_is_a_letter(view_shop: Shop, rows_max: int) -> None:
    """And the others go on, as does the position."""
    view_shop.run(
        f"INSERT INTO TABLE_ SELECT n, n, {OLD}, NULL, (n NOT IN (3, 150))::int FROM generate_series(1, 300) AS n"
    )
    with closing(viewing(view_shop)) as consumer:
        reading = Reading(consumer)
        wait_until(lambda: reading.poll(rows_max=rows_max) < 0 or len(reading.rows) == 300)
        refused = [each for each in reading.rows if REFUSED in each]
        assert sorted(each["id"] for each in refused) == ["150", "3"]
        assert all("division by zero" in each[REFUSED] for each in refused)
        assert '"300"]' in reading.position


def text_keys(shop: Shop) -> None:
    shop.run("ALTER TABLE TABLE_ ALTER COLUMN id TYPE text")


def test_long_keys_hold_nothing_up(straight_shop: Shop) -> None:
    """A page of them alone is passed; beyond the first thousand they are counted."""
    shop = straight_shop
    text_keys(shop)
    shop.run(f"INSERT INTO TABLE_ SELECT repeat('a', 300) || n, n, {OLD} FROM generate_series(1, 1200) AS n")
    shop.run("INSERT INTO TABLE_ SELECT repeat(E'\\x01', 120), 1, now() - interval '50 minutes'")
    shop.run("INSERT INTO TABLE_ VALUES ('good', 1, now())")
    with closing(shop.consumer()) as consumer:
        reading = Reading(consumer)
        wait_until(
            lambda: reading.poll(rows_max=16) < 0 or (reading.keys().count("good") == 1 and len(reading.rows) >= 1_002)
        )
        assert '"good"]' in reading.position
        told = [each[REFUSED] for each in reading.rows if "id" not in each]
        assert told == ["1,001 rows were refused so far, this one: A key of more than 300 bytes."]


def test_a_name_with_a_percent_sign_is_a_name(straight_shop: Shop) -> None:
    """In all statements."""
    shop = straight_shop
    for name in ("price", "id", "updated_at", "deleted_at"):
        shop.run(f'ALTER TABLE TABLE_ RENAME COLUMN {name} TO "{name}%s"')
    shop.run(f"INSERT INTO TABLE_ VALUES (1, 1, {OLD}, NULL), (2, 2, NULL, NULL), (3, 3, {OLD}, now())")
    options = msgspec.structs.replace(
        shop.options(map={"attributes.price": "price%s"}, deleted_at="deleted_at%s", reconcile=Duration("1h")),
        key="id%s",
        updated_at="updated_at%s",
    )
    with closing(connector_of(options, known=lambda: ["1", "gone"])(None)) as consumer:
        assert isinstance(consumer, PostgresqlConsumer)
        reading = Reading(consumer)
        wait_until(lambda: reading.poll() < 0 or len(reading.rows) == 4)
        assert sorted(str(each["id%s"]) for each in reading.rows) == ["1", "2", "3", "gone"]
        assert {"id%s": 1, "price%s": 1} in reading.rows


def test_the_bytes_of_a_page_are_bounded(straight_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server; a row is there alone where it is larger, and refused where it is too large for any event."""
    monkeypatch.setattr(consuming, "PAGE_BYTES", 100_000)
    shop = straight_shop
    shop.run("ALTER TABLE TABLE_ ADD COLUMN d text")
    shop.run(f"INSERT INTO TABLE_ SELECT n, n, {OLD}, NULL, repeat('x', 30000) FROM generate_series(1, 40) AS n")
    shop.run("UPDATE TABLE_ SET d = repeat('x', 200000) WHERE id = 20")
    shop.run("UPDATE TABLE_ SET d = repeat('x', 2000000) WHERE id = 30")
    with closing(shop.consumer(map={"attributes.d": "d"})) as consumer:
        consumer.open("", {})
        sizes: list[int] = []
        values: list[bytes] = []

        def poll() -> bool:
            found = [each or b"" for part in consumer.poll(1_000, 0.05) for each in part.values]
            values.extend(found)
            sizes.append(sum(map(len, found)))
            return len(values) >= 40

        wait_until(poll)
        assert max(sizes) < 100_000 + 201_000
        (refused,) = (each for each in values if REFUSED.encode() in each)
        assert b"more than 1 MiB" in refused
        assert len(values) == 40


def test_latest_waits_for_open_transactions(straight_shop: Shop) -> None:
    """What commits late is read, and a time of infinity is no end."""
    shop = straight_shop
    shop.run(f"INSERT INTO TABLE_ VALUES (1, 1, {OLD}), (4, 4, 'infinity')")
    with closing(shop.consumer(start="latest")) as consumer, closing(shop.other()) as late:
        late.execute(f"INSERT INTO {shop.name} (id) VALUES (2)")
        time.sleep(0.05)
        shop.run("INSERT INTO TABLE_ (id) VALUES (3)")
        reading = Reading(consumer)
        late.commit()
        reading.to(2, 3, 4)
        assert consumer.open(reading.opened.topic_id, {"0": '["infinity","4"]'}).gone


def test_rows_that_wait_for_a_transaction_are_no_stall(straight_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they wait for is said."""
    monkeypatch.setattr("midstream.integrations.postgresql.sweep.AHEAD_MAX", 10)
    shop = straight_shop
    with closing(shop.consumer()) as consumer, closing(shop.other()) as late:
        late.execute("SELECT 1")
        time.sleep(0.05)
        shop.run("INSERT INTO TABLE_ SELECT n, n FROM generate_series(1, 30) AS n")
        reading = Reading(consumer)
        wait_until(lambda: reading.poll() < 0 or consumer.delay() != "")
        assert "open since 20" in consumer.delay()
        assert consumer.lag()["0"] > 0
        late.commit()
        wait_until(lambda: reading.poll() < 0 or len(reading.rows) == 30)
        wait_until(lambda: reading.poll() < 0 or consumer.delay() == "")


def test_a_comparison_is_given_up_as_well(shop: Shop) -> None:
    """A server that stands still while the keys are read ends the poll."""
    shop.run(f"INSERT INTO TABLE_ SELECT n, n, {OLD} FROM generate_series(1, 10) AS n")

    def known() -> Sequence[str]:
        shop.through.freeze()
        return ["gone"]

    options = shop.options(reconcile=Duration("1h"), give_up=Duration("1s"))
    with closing(connector_of(options, known=known)(None)) as consumer:
        consumer.open("", {})
        began = time.monotonic()
        try:
            with pytest.raises(BrokerUnavailable):
                consumer.poll(1_000, 30.0) and consumer.poll(1_000, 30.0)
            assert time.monotonic() - began < 30
        finally:
            shop.through.thaw()


CONFIG = f"""
[snapshots]
interval = "1s"

[items.attributes]
price = "number"
{LIMITS}
[[inputs]]
name = "shop"
kind = "postgresql"
url = "postgresql://postgres@{{address}}/postgres"
table = "{{table}}"
key = "id"
map = {{{{ "attributes.price" = "price" }}}}
every = "100ms"
skew = "1s"
deleted_at = "deleted_at"
reconcile = "10s"
"""


def folder_of(tmp_path: Path, shop: Shop) -> Path:
    (tmp_path / "midstream.toml").write_text(CONFIG.format(address=shop.through.address, table=shop.name))
    return tmp_path


def view(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{url}/v1/inputs", timeout=PATIENCE_S).json()["inputs"][0]
    return found


def documents(folder: Path) -> dict[str, object]:
    """Return the attributes of all items, when state and log folded anew were found equal."""
    running = open_running(folder, config_of(folder))
    log, fold = running.engine.log, running.engine.fold
    pairs = list(batches(log.read, LogPosition(0), log.end))
    log.close()
    whole = Fold(fold.settings)
    names: list[str] = []
    for first, batch in pairs:
        whole.apply(first, batch)
        names += [each.event_id for each in (event_at(batch, row) for row in range(len(batch))) if each.item_id]
    assert whole.digest() == fold.digest()
    assert len(set(names)) == len(names), "a version of a row stands in the log once"
    ids = fold.vocabulary.item_ids(library("numpy").arange(fold.items.count, dtype="int32"))
    return {each: fold.items.document(index) for index, each in enumerate(ids) if fold.items.exists(index)}


@pytest.mark.crash
def test_kills_of_the_node_lose_and_repeat_nothing(shop: Shop, tmp_path: Path) -> None:
    """Three rounds amid changes, one of them of a transaction that is open through a kill; then all is as in the table.

    And as an import of the same rows leaves it.
    """
    folder = folder_of(tmp_path, shop)
    shop.run("INSERT INTO TABLE_ SELECT n, n FROM generate_series(1, 500) AS n")
    late = shop.other()
    with ExitStack() as stack:
        stack.enter_context(closing(late))
        process, url = stack.enter_context(serving(folder))
        for number in range(3):
            late.execute(f"UPDATE {shop.name} SET price = {number}.5, updated_at = now() WHERE id = 1")
            for step in range(40):
                shop.run(f"UPDATE TABLE_ SET price = price + 1, updated_at = now() WHERE id % 40 = {step} AND id > 1")
            shop.run(f"INSERT INTO TABLE_ VALUES ({1000 + number}, 5)")
            shop.run(f"UPDATE TABLE_ SET deleted_at = now(), updated_at = now() WHERE id = {500 - number}")
            shop.run(f"DELETE FROM TABLE_ WHERE id = {400 - number}")
            process.kill()
            process.wait()
            late.commit()
            process, url = stack.enter_context(serving(folder))
        wait_until(lambda: view(url)["lag"] == 0 and view(url)["events"] > 0)
        with closing(shop.consumer()) as consumer:
            newest = consumer.open("", {"0": "x"}).gone[0].end
        wait_until(lambda: view(url)["partitions"][0]["position"] == newest)
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    other = tmp_path / "other"
    other.mkdir()
    (other / "midstream.toml").write_text(CONFIG.partition("[[inputs]]")[0])
    query = f"SELECT id, price FROM {shop.name} WHERE deleted_at IS NULL"
    table = TableOptions(f"postgresql://postgres@{shop.through.address}/postgres", query=query, key="id")
    import_table(other, config_of(other), table, ColumnOptions(MAP))
    assert documents(folder) == documents(other)


def test_a_server_that_is_gone_is_told_and_read_on(straight_shop: Shop, tmp_path: Path) -> None:
    """Health names the input while it fails; what was written meanwhile is read when the server is back."""
    shop = straight_shop
    folder = folder_of(tmp_path, shop)
    shop.run("INSERT INTO TABLE_ (id, price) VALUES (1, 1)")
    with serving(folder) as (_, url):
        wait_until(lambda: view(url)["events"] == 1)
        shop.session.close()
        shop.server.down()
        wait_until(lambda: view(url)["state"] == "failing")
        assert "PostgreSQL at" in view(url)["problem"]
        ready = httpx.get(f"{url}/health/ready", timeout=PATIENCE_S)
        assert "PostgreSQL at" in ready.text
        shop.server.up()
        shop.session = postgresql_session(shop.server.address)
        shop.run("UPDATE TABLE_ SET price = 2, updated_at = now() WHERE id = 1")
        wait_until(lambda: view(url)["events"] >= 2 and view(url)["state"] == "reading")
        metrics = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text
        assert 'midstream_input_lag{input="shop",partition="0"} 0.0' in metrics
        told = view(url)["partitions"][0]["position"]
        assert told.startswith("[")
