"""Inputs of a configuration: every mistake is named at its place with what would be right; no secret is repeated."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.broker_inputs import KafkaInput, PostgresqlInput, PulsarInput, start_text
from midstream.app.config.reader import parse_config
from midstream.app.inputs.services import require_secrets
from midstream.core.errors import ConfigInvalid, Fault

INPUT = '[[inputs]]\nname = "clicks"\nkind = "kafka"\nservers = "localhost:9092"\ntopic = "clicks"\n'


def faults(content: str) -> dict[str, Fault]:
    """Return what is wrong with a file, by place."""
    with pytest.raises(ConfigInvalid) as raised:
        parse_config(content)
    return {each.where.partition("$.")[2]: each for each in raised.value.faults}


def test_five_lines_are_an_input() -> None:
    """The group for displays has the name of the input."""
    (told,) = parse_config(INPUT).inputs
    assert isinstance(told, KafkaInput)
    assert (told.format, told.start, told.client, told.group_name) == (
        "json",
        "earliest",
        "confluent",
        "midstream-clicks",
    )
    assert told.columns.is_plain


@pytest.mark.parametrize(
    "line,place,right",
    [
        ('start = "soon"', "inputs[0].start", "earliest, latest, or a time"),
        ('format = "csv"', "inputs[0].format", "json, ndjson, arrow"),
        ('client = "aiokafka"', "inputs[0].client", "confluent, kafka-python"),
        ('map = { usr = "visitor" }', "inputs[0].map.usr", "user_id"),
        ('set = { type = "vew" }', "inputs[0].set.type", "view"),
        ('set = { value = "much" }', "inputs[0].set.value", "number"),
        ('types = { buy = "purchas" }', "inputs[0].types.buy", "purchase"),
        ('types = { seen = "served" }', "inputs[0].types.seen", "impression"),
        ('time_format = "sec"', "inputs[0].time_format", "ms"),
        ('username = "shop"', "inputs[0].username", "sasl"),
        ('sasl = "PLAIN"', "inputs[0].password_env", "variable of the environment"),
        ('ca_file = "ca.pem"', "inputs[0].ca_file", "tls = true"),
        ('password = "geheim"', "inputs[0].password", "password_env"),
    ],
)
def test_a_mistake_is_named_at_its_place(line: str, place: str, right: str) -> None:
    """With the page of inputs."""
    found = faults(f"{INPUT}{line}\n")
    assert place in found
    assert right in found[place].right + found[place].came
    assert found[place].page == "/docs/inputs.md"


def test_a_secret_among_the_settings_is_refused_and_not_repeated() -> None:
    """Effective configurations and errors are read by many."""
    oauth = "sasl.oauthbearer.assertion.private.key"
    for name in ("sasl.password", "SASL.PASSWORD", f"{oauth}.passphrase", f"{oauth}.pem"):
        found = faults(f'{INPUT}settings = {{ "{name}" = "geheim" }}\n')
        fault = found[f'inputs[0].settings["{name}"]']
        assert "password_env" in fault.right
        assert "geheim" not in repr(fault)
    for line, place in (('password_env = "my geheim!"', "password_env"), ('servers = "geheim@b:1"', "servers")):
        content = INPUT.replace('servers = "localhost:9092"\n', "") if place == "servers" else INPUT
        found = faults(f"{content}{line}\n")
        assert f"inputs[0].{place}" in found
        assert "geheim" not in repr(found)


def test_an_input_of_pulsar_has_two_addresses() -> None:
    """Each of its scheme; the subscription has the name of the input."""
    pulsar = '[[inputs]]\nname = "clicks"\nkind = "pulsar"\ntopic = "clicks"\n'
    addresses = 'service_url = "pulsar://localhost:6650"\nadmin_url = "http://localhost:8080"\n'
    (told,) = parse_config(pulsar + addresses).inputs
    assert isinstance(told, PulsarInput)
    assert told.subscription_name == "midstream-clicks"
    found = faults(pulsar + 'service_url = "localhost:6650"\nadmin_url = "pulsar://localhost:8080"\n')
    assert found.keys() == {"inputs[0].service_url", "inputs[0].admin_url"}
    for scheme, name in (("pulsar", "service_url"), ("http", "admin_url")):
        secret = faults(pulsar + addresses.replace(f"{scheme}://", f"{scheme}://admin:geheim@"))
        assert secret.keys() == {f"inputs[0].{name}"}
        assert "geheim" not in repr(secret)
    assert "inputs[0].kind" in faults(pulsar.replace("pulsar", "rabbit", 1))


@pytest.mark.parametrize(
    "topic, servers, is_refused",
    [
        ("shop-log", "one:9092", True),
        ("shop-log-nodes", "ONE", True),
        ("shop-log", "two:9092", False),
        ("clicks", "one:9092", False),
    ],
)
def test_the_topics_of_a_shared_log_are_no_input(topic: str, servers: str, is_refused: bool) -> None:
    """An input of them reads the positions that it writes there itself, without end."""
    log = '[log]\nkind = "kafka"\nservers = "one:9092"\ntopic = "shop-log"\n'
    text = f'[[inputs]]\nname = "clicks"\nkind = "kafka"\nservers = "{servers}"\ntopic = "{topic}"\n'
    if is_refused:
        assert "inputs[0].topic" in faults(text + log)
    else:
        assert parse_config(text + log).inputs


def test_names_are_their_own() -> None:
    """Positions are kept by name."""
    assert "inputs[1].name" in faults(INPUT + INPUT)


def test_a_time_is_one_with_a_zone_or_utc() -> None:
    """Milliseconds go to the broker."""
    assert start_text("2023-11-14T22:13:20Z") == start_text("2023-11-14 22:13:20") == "1700000000000"
    assert start_text("2023-11-14T23:13:20+01:00") == "1700000000000"
    assert start_text("earliest") == "earliest"
    assert start_text("9" * 19) == start_text("٣") == ""


@given(st.datetimes(datetime(1800, 1, 1), datetime(2400, 1, 1)) | st.integers(0, 10**17))  # noqa: DTZ001  zone: UTC
def test_a_start_that_was_read_is_read_again_unchanged(at: datetime | int) -> None:
    """The command, the route and the consumer each read it; 1796011200000 is no day of the year 1796."""
    first = start_text(at.isoformat() if isinstance(at, datetime) else str(at))
    assert first.isdecimal()
    assert start_text(first) == first
    assert KafkaInput(name="a", topic="t", servers="s", start=first).start_text == first


def test_a_secret_that_is_not_in_the_environment_stops_the_start() -> None:
    """The variable is named."""
    login = 'sasl = "PLAIN"\nusername = "shop"\npassword_env = "SHOP_PASSWORD"\n'
    inputs = parse_config(INPUT + login).inputs
    require_secrets(inputs, {"SHOP_PASSWORD": "geheim"})
    with pytest.raises(ConfigInvalid) as raised:
        require_secrets(inputs, {})
    (fault,) = raised.value.faults
    assert fault.where == "midstream.toml: $.inputs[0].password_env"
    assert "SHOP_PASSWORD" in fault.came


TABLE = (
    '[[inputs]]\nname = "products"\nkind = "postgresql"\nurl = "postgresql://reader@db:5432/shop"\n'
    'table = "public.products"\nkey = "sku"\n'
)


def test_a_table_is_an_input() -> None:
    """Its key is the id; a deleted row says so in a member of its own."""
    (told,) = parse_config(TABLE).inputs
    assert isinstance(told, PostgresqlInput)
    assert (told.topic, told.type, told.updated_at) == ("public.products", "item", "updated_at")
    assert (told.every.ms, told.skew.ms, told.reconcile) == (1_000, 10_000, None)
    assert told.columns.constants == {"type": "item"}
    assert told.columns.columns == {"item_id": "sku", "operation": "midstream_operation"}
    assert told.columns.rows_are_whole
    (users,) = parse_config(f'{TABLE}type = "user"\n').inputs
    assert users.columns.columns["user_id"] == "sku"


@pytest.mark.parametrize(
    "line,place,right",
    [
        ('url = "postgresql://reader:geheim@db/shop"', "inputs[0].url", "password_env"),
        ('url = "mysql://db/shop"', "inputs[0].url", "postgresql://"),
        ('table = "products; DROP TABLE x"', "inputs[0].table", "public.products"),
        ('type = "view"', "inputs[0].type", "item"),
        ('map = { item_id = "id" }', "inputs[0].map.item_id", "key alone"),
        ('map = { prize = "price" }', "inputs[0].map.prize", "attributes.NAME"),
        ('set = { type = "view" }', "inputs[0].type", "item or user"),
        ('type = "user"\nreconcile = "1h"', "inputs[0].reconcile", 'type = "item"'),
        ('set = { type = "user" }\nreconcile = "1h"', "inputs[0].set.type", 'type = "user"'),
        ('map = { operation = "op" }', "inputs[0].map.operation", "deleted_at"),
        ('key = "midstream_operation"', "inputs[0].key", "another name"),
        ('start = "999999999999999999"', "inputs[0].start", "9999"),
        ('skew = "0s"', "inputs[0].skew", "1s"),
        ('every = "1ms"', "inputs[0].every", "100ms"),
        ('topic = "clicks"', "inputs[0].topic", ""),
    ],
)
def test_a_mistake_of_a_table_is_named_at_its_place(line: str, place: str, right: str) -> None:
    """And no secret with it."""
    name = line.partition(" ")[0]
    rest = "".join(f"{each}\n" for each in TABLE.splitlines() if not each.startswith(f"{name} "))
    found = faults(f"{rest}{line}\n")
    assert place in found
    assert right in found[place].right + found[place].came
    assert "geheim" not in repr(found)


@pytest.mark.parametrize(
    "other,is_refused",
    [
        (TABLE, True),
        (TABLE + 'type = "user"\n', False),
        (INPUT + 'set = { type = "item" }\n', True),
        (INPUT + 'types = { product = "item" }\n', True),
        (INPUT, False),
    ],
)
def test_a_table_that_is_compared_is_the_only_source_of_items(other: str, is_refused: bool) -> None:
    """Each of two would delete the items of the other; what a topic brings without a word of it is not known."""
    content = TABLE + 'reconcile = "1h"\n' + other.replace('name = "products"', 'name = "services"')
    if is_refused:
        assert "items of the input" in faults(content)["inputs[0].reconcile"].came
    else:
        parse_config(content)
