"""Fetches from stores in the configuration: what is wrong is said before anybody is asked."""

import pytest

from midstream.app.config.reader import parse_config
from midstream.app.wiring import plans
from midstream.core.errors import ConfigInvalid
from midstream.core.types import Models
from midstream.integrations.postgresql.fetch import PostgresqlFetchOptions, statement_of

REDIS = 'kind = "redis", url = "redis://cache:6379/0"'
POSTGRESQL = 'kind = "postgresql", url = "postgresql://reader@db/shop"'
CASSANDRA = 'kind = "cassandra", url = "cassandra://one,two/shop"'


def text_of(component: str) -> str:
    """Return a configuration with one fetch."""
    return (
        f'[[fetches]]\nname = "stock"\nof = "item"\ncomponent = {{ {component} }}\ncolumns = {{ stock = "number" }}\n'
        '[[placements]]\nname = "home"\nfetches = ["stock"]\n'
    )


@pytest.mark.parametrize(
    "component",
    [
        REDIS,
        REDIS + ', key = "stock:{{id}}", layout = "json", fields = { stock = "qty on hand" }, password_env = "SHOP_1"',
        POSTGRESQL + ', table = "shop.Stock", id = "sku", id_type = "uuid", pooler = true, tls = true',
        POSTGRESQL + ', query = "SELECT sku AS id, 1 AS stock FROM s WHERE sku = ANY(:ids)"',  # noqa: S608  of a configuration
        CASSANDRA + ', table = "stock", consistency = "quorum", datacenter = "dc1", give_up = "2s"',
        'kind = "cassandra", url = "cassandra://one", table = "shop.stock"',
    ],
)
def test_a_store_is_configured_without_code(component, tmp_path):
    """Equal options are equal components, which a change of another placement leaves where they are."""
    config = parse_config(text_of(component))
    one, two = (plans(config, tmp_path, models=Models({})) for _ in range(2))
    assert one["home"].fetches == two["home"].fetches


@pytest.mark.parametrize(
    "component, where, came",
    [
        ('kind = "mysql"', "component.kind", "mysql"),
        (REDIS + ", port = 1", "component.port", "not a setting"),
        ('kind = "redis"', "component.url", "missing"),
        (REDIS.replace("cache", "me:secret@cache"), "component.url", "a password in it"),
        (REDIS.replace("redis:", "rediss:"), "component.url", 'scheme "rediss"'),
        (REDIS.replace("/0", "/shop"), "component.url", '"shop" came as the number of a database'),
        (REDIS.replace("cache", "one,two"), "component.url", "2 hosts came"),
        (REDIS + ', password_env = "s3cret!"', "component.password_env", "no name of a variable"),
        (REDIS + ', tls_ca = "ca.pem"', "component.tls_ca", "tls is false"),
        (REDIS + ', key = "stock"', "component.key", '"stock" came'),
        (REDIS + ', key = "{id}:{id}"', "component.key", "came"),
        (REDIS + ', fields = { stok = "qty" }', "component.fields.stok", '"stok" is not one of columns'),
        (REDIS + ", connections_max = 65", "component.connections_max", "65"),
        (REDIS + ', give_up = "1ms"', "component.give_up", "1ms came"),
        (POSTGRESQL, "component.table", "neither a table nor a query"),
        (POSTGRESQL + ', table = "a", query = ":ids"', "component.table", "both"),
        (POSTGRESQL + ', query = "SELECT id::ids"', "component.query", "0 places for ids"),
        (POSTGRESQL + ', table = "a.b.c"', "component.table", '"a.b.c" came'),
        (POSTGRESQL + ", table = 'a\"b'", "component.table", "came as a name"),
        (POSTGRESQL + ', table = "a", id = "id; --"', "component.id", '"id; --" came as a name'),
        (POSTGRESQL + ', table = "a", fields = { stock = "1, 2" }', "component.fields.stock", '"1, 2" came as a name'),
        (CASSANDRA, "component.table", "no table"),
        (CASSANDRA.replace("/shop", "") + ', table = "stock"', "component.table", "no keyspace"),
        (CASSANDRA + ', table = "stock", id = "1"', "component.id", '"1" came as a name'),
        (CASSANDRA + ', table = "stock", password_env = "SHOP"', "component.url", "no user"),
    ],
)
def test_a_wrong_store_is_named(component, where, came):
    """Where it is, what came, and never the password."""
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(text_of(component))
    faults = [each for each in caught.value.faults if each.where.endswith(f"fetches[0].{where}") and came in each.came]
    assert faults, str(caught.value)
    assert "secret" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_what_an_operator_writes_stands_in_a_query_as_it_is():
    """A cast is no place for ids, and a percent sign is none of the driver's."""
    options = PostgresqlFetchOptions(
        url="", query="SELECT sku AS id, qty::int AS stock FROM s WHERE sku = ANY(:ids) AND sku LIKE 'a%';"
    )
    assert statement_of(options, {"stock": "number"}) == (
        'SELECT "id", "stock" FROM (SELECT sku AS id, qty::int AS stock FROM s '
        "WHERE sku = ANY(%(ids)s::text[]) AND sku LIKE 'a%%') AS asked"
    )
