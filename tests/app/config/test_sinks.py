"""Constraints of sinks: names, columns that one user or item has alone, tables and addresses."""

import msgspec
import pytest

from midstream.app.config.reader import parse_config
from midstream.core.errors import ConfigInvalid

HEAD = """
[items.attributes]
price = "number"
embedding = "vector:4"
Brand = "category"
[[features]]
name = "views"
kind = "count"
scope = "user"
actions = ["view"]
[[features]]
name = "item_views"
kind = "count"
actions = ["view"]
windows = ["1h", "24h"]
[[features]]
name = "both"
kind = "count"
scope = "user_item"
actions = ["view"]
[[features]]
name = "halved"
kind = "expression"
text = "views / 2"
[[features]]
name = "hour"
kind = "local_time"
[[features]]
name = "user_country"
kind = "boolean"
scope = "user"
"""
REDIS = 'store = { kind = "redis", url = "redis://localhost:6379/0" }'


def sink(columns: str, scope: str = "user", store: str = REDIS, name: str = "rows") -> str:
    return f'[[sinks]]\nname = "{name}"\nscope = "{scope}"\ncolumns = {columns}\n{store}\n'


def faults_of(text: str) -> dict[str, str]:
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(HEAD + text)
    return {each.where.removeprefix("midstream.toml: $.sinks"): str(each) for each in caught.value.faults}


@pytest.mark.parametrize(
    "text",
    [
        sink('["views", "halved", "user.country", "row.recent_items", "row.last_seen"]'),
        sink('["item_views", "item.price", "item.available"]', "item"),
        sink('["views"]', store='store = { kind = "postgresql", url = "postgresql://me@db/shop", password_env = "P" }'),
        sink('["views"]', store='store = { kind = "cassandra", url = "cassandra://a,b:9042/shop" }'),
        sink('["views"]') + sink('["views"]', name="others"),
    ],
)
def test_what_one_user_or_item_has_alone_may_be_written(text: str) -> None:
    """Features of the scope, what is computed from them, and fields."""
    assert parse_config(HEAD + text).sinks


@pytest.mark.parametrize(
    "text, where, says",
    [
        (sink('["viws"]'), "[0].columns[0]", 'Nearest: "views"'),
        (sink("[]"), "[0].columns", "1 to 64"),
        (sink('["item_views"]'), "[0].columns[0]", "read for a item"),
        (sink('["both"]'), "[0].columns[0]", "read for a item and a user"),
        (sink('["hour"]'), "[0].columns[0]", "read for a request"),
        (sink('["halved"]', "item"), "[0].columns[0]", "read for a user"),
        (sink('["user.country"]', "item"), "[0].columns[0]", "item.available"),
        (sink('["item.price"]'), "[0].columns[0]", "row.recent_items"),
        (sink('["item.embedding"]', "item"), "[0].columns[0]", "item.price"),
        (sink('["item.Brand"]', "item"), "[0].columns[0]", "lower case"),
        (sink('["user_country", "user.country"]'), "[0].columns[1]", "both make a column"),
        (sink('["views"]', name="Rows"), "[0].name", "lower case"),
        (sink('["views"]') + sink('["views"]'), "[1].name", "already"),
        (sink('["views"]') + sink('["views"]', name="b", store=f'table = "rows"\n{REDIS}'), "[1].table", '"rows"'),
        (sink('["views"]', store='store = { kind = "redis", url = "http://x" }'), "[0].store.url", '"http"'),
        (
            sink('["views"]', store='store = { kind = "redis", url = "redis://a:secret@x" }'),
            "[0].store.url",
            "password_env",
        ),
        (
            sink('["views"]', store=REDIS.replace(" }", ', password_env = "not a name" }')),
            "[0].store.password_env",
            "no name",
        ),
        (sink('["views"]', store='store = { kind = "mysql", url = "x" }'), "[0].store.kind", "postgresql"),
        (sink('["views"]', store=f'refresh = "1s"\n{REDIS}'), "[0].refresh", "minute"),
        (sink('["views"]', store=f"kolumns = 3\n{REDIS}"), "[0].kolumns", "columns"),
    ],
)
def test_faults_name_the_place_and_what_is_right(text: str, where: str, says: str) -> None:
    """Each in four parts, with the page of sinks."""
    found = faults_of(text)
    assert says in found[where]
    assert "sinks" in found[where]
    assert "secret" not in "".join(found.values())


def at(options: str, name: str = "rows", table: str = "rows") -> str:
    return sink('["views"]', store=f'table = "{table}"\nstore = {{ {options} }}', name=name)


def redis(url: str, more: str = "") -> str:
    return f'kind = "redis", url = "{url}"{more}'


def postgresql(url: str, more: str = "") -> str:
    return f'kind = "postgresql", url = "{url}"{more}'


@pytest.mark.parametrize(
    "text, where, says",
    [
        (at(redis("redis://cache/shop")), "[0].store.url", "number of a database"),
        (at(redis("redis://cache", ', prefix = "a b"')), "[0].store.prefix", '"a b"'),
        (at(redis("redis://cache", ', prefix = ""')), "[0].store.prefix", "1 to 64"),
        (at(redis("redis://cache", ', tls_ca = "/ca.pem"')), "[0].store.tls_ca", "tls = true"),
        (at(postgresql("postgresql://me@db", ', schema = "Shop"')), "[0].store.schema", '"Shop"'),
        (at(postgresql("postgresql://me@a,b/shop")), "[0].store.url", "2 hosts"),
        (at('kind = "cassandra", url = "cassandra://a:9042/"'), "[0].store.url", "no keyspace"),
        (at('kind = "cassandra", url = "cassandra://a/s", password_env = "P"'), "[0].store.url", "no user"),
        (at(redis("redis://cache")) + at(redis("redis://CACHE:6379/0"), "b"), "[1].table", '"rows"'),
        (at(postgresql("postgresql://a@db")) + at(postgresql("postgresql://b@db:5432/postgres"), "b"), "[1].table", ""),
        (at(redis("redis://cache"), table="midstream_positions"), "[0].table", "not midstream_positions"),
        (
            at(redis("redis://cache", ', prefix = "shop:"'), "users", "users")
            + at(redis("redis://CACHE:6379/0", ', prefix = "shop:users:"'), "b", "b"),
            "[1].store.prefix",
            '"shop:users:b:" and the keys of "users" with "shop:users:"',
        ),
        (
            at(redis("redis://cache", ', prefix = "shop:users:"'), "b", "b")
            + at(redis("redis://cache", ', prefix = "shop:"'), "users", "users"),
            "[1].store.prefix",
            '"shop:users:" and the keys of "b" with "shop:users:b:"',
        ),
        (sink('["views"]', store=f'every = "31s"\n{REDIS}'), "[0].every", "30s"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_the_start(text: str, where: str, says: str) -> None:
    """What a store would refuse, one table of two sinks however it is written, a wait longer than its call has."""
    found = faults_of(text)
    assert says in found[where]
    assert "sinks" in found[where]


@pytest.mark.parametrize(
    "one, other",
    [
        (redis("redis://cache"), redis("redis://cache/1")),
        (redis("redis://cache"), redis("redis://cache", ', prefix = "other:"')),
        (redis("redis://cache", ', prefix = "shop:"'), redis("redis://cache", ', prefix = "shop:rows"')),
        (redis("redis://cache", ', prefix = "a:"'), redis("redis://cache/1", ', prefix = "a:rows:"')),
        (postgresql("postgresql://db"), postgresql("postgresql://db", ', schema = "shop"')),
        (postgresql("postgresql://db"), redis("redis://db")),
    ],
)
def test_one_name_in_two_places_is_two_tables(one: str, other: str) -> None:
    """Of two databases, prefixes, schemas or systems."""
    assert len(parse_config(HEAD + at(one) + at(other, "others")).sinks) == 2


def test_a_table_of_a_shared_schema_has_a_prefix() -> None:
    """A sink that is named users does not meet the table users of the shop."""
    text = sink('["views"]', store=f"store = {{ {postgresql('postgresql://db')} }}", name="users")
    assert parse_config(HEAD + text).sinks[0].table_name == "midstream_users"
    assert parse_config(HEAD + sink('["views"]', name="users")).sinks[0].table_name == "users"


def test_the_effective_configuration_has_no_password() -> None:
    """A password is in the environment alone: there is no setting that could hold one."""
    text = sink('["views"]', store=REDIS.replace(" }", ', password_env = "REDIS_PASSWORD" }'))
    shown = msgspec.json.encode(parse_config(HEAD + text), enc_hook=str).decode()
    assert '"password_env":"REDIS_PASSWORD"' in shown
    assert '"password"' not in shown
