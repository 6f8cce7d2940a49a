"""Columns of a shop that lie in real stores: fetched by configuration alone, and named while a store is gone."""

import asyncio
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from midstream.app.explain.explain import explain_request
from midstream.app.opening import config_to_read, open_shop
from midstream.cli.operate.check import check_folder
from midstream.core.errors import ShapeMismatch, StoreUnavailable
from midstream.engine.stores.online_store import StoreRefused
from midstream.integrations.cassandra.fetch import CassandraFetch, CassandraFetchOptions
from midstream.integrations.postgresql.fetch import PostgresqlFetch, PostgresqlFetchOptions
from midstream.integrations.redis.fetch import RedisFetch, RedisFetchOptions
from midstream.ranking.record.served import ServedRecord
from tests.support.closed_connectors import run
from tests.support.patience import PATIENCE_S
from tests.support.store_shops import (
    STOCK,
    cassandra_session,
    cassandra_shop,
    postgresql_session,
    postgresql_shop,
    redis_client,
    redis_shop,
    shop_of,
)

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
WAYS = ["redis hash", "valkey json", "postgresql table", "postgresql query", "pgbouncer table", "cassandra table"]
FULL_AGAIN_S_MAX = 30.0
"""Behind the moment at which a store is ready again; the figure is printed, and a busy machine is slower than 5 s."""


@pytest.fixture(params=WAYS)
def store_shop(request, servers):
    """A store with the stock of a shop."""
    name, way = request.param.split()
    if name == "pgbouncer":
        servers("postgresql")
    server = servers(name)
    if name in {"redis", "valkey"}:
        shop = redis_shop(server, way)
    elif name == "cassandra":
        shop = cassandra_shop(server)
    else:
        shop = postgresql_shop(server, way, pooler=name == "pgbouncer")
    shop.fill(STOCK)
    return shop


def view(item, user="bob"):
    return {"type": "view", "user_id": user, "item_id": item}


def test_columns_of_a_store_are_served_and_kept_for_a_rerun(store_shop, tmp_path):
    """An item without stock is not served, ids with quotes are ids, and an explanation asks no store."""
    store_shop.write(tmp_path)
    with open_shop(tmp_path, config_to_read(tmp_path)) as shop:
        shop.record([view(each) for each in STOCK])
        answer = shop.recommend("home", user_id="eve")
        assert {each.id for each in answer.items} == {"lamp", "chair", "it's 🛋️", "unknown"}
        assert (answer.tier, answer.failures) == ("full", ())
        shop.record(view("lamp", "eve"))
        record = shop._call(lambda: shop.running.engine.served(answer.request_id))
    assert isinstance(record, ServedRecord)
    assert record.query.item_fields["chair"] == {"stock": 12.5, "on_sale": 0.0}
    assert record.query.item_fields["lamp"] == {"stock": 3.0, "on_sale": 1.0}
    assert "unknown" not in record.query.item_fields
    store_shop.server.freeze()
    try:
        told = explain_request(tmp_path, answer.request_id)
    finally:
        store_shop.server.thaw()
    assert (told.identical, told.differences) == (True, ())


def test_a_check_asks_a_store_when_it_is_told_to(store_shop, tmp_path):
    """Without, it says that it did not; with, a store that is there is good."""
    store_shop.write(tmp_path)
    with open_shop(tmp_path, config_to_read(tmp_path)) as shop:
        shop.record([view(each) for each in STOCK])
    checked = check_folder(tmp_path)
    assert [each.warning for each in checked.findings if each.part == "warehouse"] == [
        "its store was not asked; --connect asks it"
    ]
    assert not checked.problem_count
    checked = check_folder(tmp_path, connect=True)
    assert [(each.problem, each.warning) for each in checked.findings if each.part == "warehouse"] == [("", "")]
    assert not checked.problem_count


def test_a_check_names_a_store_that_is_gone(servers, tmp_path):
    """The reason is the client's own."""
    shop = redis_shop(servers("redis"))
    text = shop.config().replace(shop.server.address, "127.0.0.1:1")
    (tmp_path / "midstream.toml").write_text(text)
    with open_shop(tmp_path, config_to_read(tmp_path)) as opened:
        opened.record(view("lamp"))
    problems = [each.problem for each in check_folder(tmp_path, connect=True).findings if each.part == "warehouse"]
    assert len(problems) == 1
    assert "Redis at 127.0.0.1:1 is not connected" in problems[0]


async def check_cancelled(fetch, ids):
    """Cut calls off at every moment; no answer of one comes to another."""
    expected = {each: STOCK[each] for each in ids}
    await fetch.fetch(ids)
    for number in range(60):
        own = ids[number % len(ids) :] + ids[: number % len(ids)]
        cut = asyncio.ensure_future(fetch.fetch(own[:2]))
        await asyncio.sleep(number % 12 / 4_000)
        cut.cancel()
        found = await fetch.fetch(own)
        assert dict(zip(own, found["stock"], strict=True)) == expected


def fetch_of(shop):
    """Return the component of a shop's configuration."""
    from midstream.app.config.reader import parse_config
    from midstream.app.wiring import _fetch

    config = parse_config(shop.config())
    return _fetch(config.fetches[0], "", Path(), {})


def test_a_call_that_is_cut_off_leaves_its_answer_to_nobody(store_shop):
    """A request that ran out of time must not leave its answer to the next one."""
    run(check_cancelled(fetch_of(store_shop), list(STOCK)))


def test_hundreds_of_ids_are_one_call(store_shop):
    """1,000 ids, most of them unknown, in the order of the ids."""
    ids = [*(f"nowhere {number}" for number in range(995)), *STOCK]
    found = run(fetch_of(store_shop).fetch(ids))
    assert found["stock"] == [None] * 995 + [STOCK[each] for each in STOCK]


def test_values_of_another_kind_name_their_key(servers):
    """In a hash, in a text that is no JSON, and a key of another type."""
    address = servers("redis").address
    with redis_client(address) as client:
        client.hset("wrong:lamp", mapping={"stock": "many"})
        client.set("text:lamp", "{")
    kinds = {"stock": "number"}
    options = RedisFetchOptions(url=f"redis://{address}", key="wrong:{id}")
    with pytest.raises(ShapeMismatch, match="stock of 'lamp'"):
        run(RedisFetch(options, kinds).fetch(["lamp"]))
    with pytest.raises(ShapeMismatch, match="text:lamp"):
        run(RedisFetch(RedisFetchOptions(url=options.url, key="text:{id}", layout="json"), kinds).fetch(["lamp"]))
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        run(RedisFetch(RedisFetchOptions(url=options.url, key="text:{id}"), kinds).fetch(["lamp"]))


def test_sessions_of_postgresql_read_alone(servers):
    """A query that writes is refused; ids of other types; two rows of an id; a missing table is named."""
    address = servers("postgresql").address
    with postgresql_session(address) as session:
        session.execute("CREATE SEQUENCE counted")
        session.execute("CREATE TABLE typed (id bigint, own uuid, stock real)")
        session.execute(
            "INSERT INTO typed VALUES (7, '00000000-0000-0000-0000-000000000007', 1.5), (8, NULL, 2), (8, NULL, 3)"
        )
    url, kinds = f"postgresql://postgres@{address}/postgres", {"stock": "number"}

    def ask(ids, **options):
        return run(PostgresqlFetch(PostgresqlFetchOptions(url=url, **options), kinds).fetch(ids))

    assert ask(["lamp", "7", "07"], table="typed", id_type="integer") == {"stock": [None, 1.5, None]}
    own = "00000000-0000-0000-0000-000000000007"
    assert ask([own, "7"], table="typed", id="own", id_type="uuid") == {"stock": [1.5, None]}
    with pytest.raises(ShapeMismatch, match="two rows of 8"):
        ask(["8"], table="typed", id_type="integer")
    with pytest.raises(StoreUnavailable, match="nowhere"):
        ask(["8"], table="nowhere")
    with pytest.raises(StoreUnavailable, match="read-only transaction"):
        ask(["7"], query="SELECT '7' AS id, nextval('counted') AS stock WHERE '7' = ANY(:ids)")


def test_a_table_of_cassandra_may_change_while_it_is_read(servers):
    """A statement that was prepared for the table as it was is prepared again."""
    server = servers("cassandra")
    cassandra_shop(server).fill(STOCK)
    with cassandra_session(server.address) as session:
        session.execute("CREATE TABLE shop.changed (id bigint PRIMARY KEY, stock int)")
        session.execute("INSERT INTO shop.changed (id, stock) VALUES (7, 3)")

        async def work():
            options = CassandraFetchOptions(
                url=f"cassandra://{server.address}", table="shop.changed", id_type="integer"
            )
            fetch = CassandraFetch(options, {"stock": "number"})
            found = [await fetch.fetch(["7", "lamp"])]
            for statement in (
                "ALTER TABLE shop.changed ADD more text",
                "ALTER TABLE shop.changed DROP stock",
                "ALTER TABLE shop.changed ADD stock int",
                "INSERT INTO shop.changed (id, stock) VALUES (7, 4)",
            ):
                await asyncio.to_thread(session.execute, statement)
            found.append(await fetch.fetch(["7", "lamp"]))
            return found

        assert run(work()) == [{"stock": [3.0, None]}, {"stock": [4.0, None]}]


@pytest.mark.parametrize("way", ["freeze", "kill"])
@pytest.mark.parametrize("name", ["redis", "valkey", "postgresql", "pgbouncer", "cassandra"])
def test_a_store_that_is_gone_costs_no_answer(name, way, servers, tmp_path, request, capsys):
    """Under load: every request is answered, by ``reduced`` with the name of the fetch; back within 5 s."""
    is_long = request.config.getoption("--long")
    if name == "valkey" and not is_long:
        pytest.skip("the client is that of Redis, which is stopped; --long stops Valkey too")
    if name == "pgbouncer":
        servers("postgresql")
    server = servers(name)
    shop = shop_of(server)
    shop.fill(STOCK)
    shop.write(tmp_path, timeout="500ms", deadline="10s")
    gone_s = 30.0 if is_long else 2.5
    told: list[tuple[float, str, tuple[str, ...], float]] = []
    done = threading.Event()
    with open_shop(tmp_path, config_to_read(tmp_path)) as opened:
        opened.record([view(each) for each in STOCK])
        wait_until_full(opened)

        def load():
            while not done.is_set():
                began = time.monotonic()
                answer = opened.recommend("home", user_id="eve")
                took_s = time.monotonic() - began
                told.append((began, answer.tier, tuple(each.component for each in answer.failures), took_s))

        threads = [threading.Thread(target=load) for _ in range(2)]
        for each in threads:
            each.start()
        try:
            time.sleep(1)
            gone_at = time.monotonic()
            getattr(server, way)()
            time.sleep(gone_s)
            server.up()
            back_at = time.monotonic()
            wait_until_full(opened)
            time.sleep(1)
        finally:
            done.set()
            for each in threads:
                each.join(PATIENCE_S)
            server.up()
    tiers = Counter(tier for _, tier, _, _ in told)
    reduced = [each for each in told if each[1] == "reduced"]
    assert set(tiers) == {"full", "reduced"}
    assert {names for _, _, names, _ in reduced} == {("warehouse",)}
    missing = [each for each in told if each[0] > gone_at + 1 and each[0] + each[3] < gone_at + gone_s]
    assert {tier for _, tier, _, _ in missing} == {"reduced"}
    after_s = min(began + took_s for began, tier, _, took_s in told if tier == "full" and began > back_at) - back_at
    slowest_s = max(each[3] for each in told)
    with capsys.disabled():
        print(
            f"\n{name} {way} {gone_s:.0f} s: {len(told)} answers of {len(told)}, {len(reduced)} reduced, "
            f"slowest {slowest_s * 1_000:.0f} ms, full {after_s:.1f} s after the store was ready"
        )
    assert after_s < 5


def wait_until_full(opened):
    """Ask until an answer has its columns."""
    until = time.monotonic() + PATIENCE_S
    while opened.recommend("home", user_id="ann").tier != "full":
        assert time.monotonic() < until, "no full answer"
        time.sleep(0.05)


def test_a_user_of_redis_needs_no_right_to_scripts(servers, monkeypatch):
    """Then each hash is a command; the password is in the environment, and a wrong one is a refusal."""
    address = servers("redis").address
    shop = redis_shop(servers("redis"))
    shop.fill(STOCK)
    with redis_client(address) as client:
        client.acl_setuser(
            "reader", enabled=True, passwords=["+secret"], keys=["*"], commands=["+hmget", "+ping", "+client"]
        )
    options = RedisFetchOptions(
        url=f"redis://reader@{address}", password_env="SHOP_REDIS", key="hash:{shop}:{id}", fields={"stock": "qty"}
    )
    fetch = RedisFetch(options, {"stock": "number"})
    monkeypatch.setenv("SHOP_REDIS", "secret")
    assert run(fetch.fetch(["lamp", "nowhere"])) == {"stock": [3.0, None]}
    monkeypatch.setenv("SHOP_REDIS", "wrong")
    with pytest.raises(StoreRefused, match="refuses the client"):
        run(fetch.fetch(["lamp"]))
    monkeypatch.delenv("SHOP_REDIS")
    with pytest.raises(StoreRefused, match="SHOP_REDIS"):
        run(fetch.fetch(["lamp"]))
