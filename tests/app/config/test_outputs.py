"""Outputs of a configuration: what is refused, where, and what would be right."""

import pytest

from midstream.app.config.reader import read_config
from midstream.app.inputs.services import require_secrets
from midstream.core.errors import ConfigInvalid

OAUTH = "sasl.oauthbearer.assertion.private.key"

GOOD = """
[[outputs]]
name = "shop"
servers = "broker:9092"
topic = "events"
from = "beginning"
settings = { "compression.type" = "zstd" }
"""


def read(tmp_path, text):
    path = tmp_path / "midstream.toml"
    path.write_text(text, "utf-8")
    return read_config(path)


def test_an_output_is_read(tmp_path):
    """Options have the names of the page."""
    (output,) = read(tmp_path, GOOD).outputs
    assert (output.begin, output.kind, output.records) == ("beginning", "kafka", "events")


@pytest.mark.parametrize(
    "more, where, said",
    [
        ('types = ["veiw"]', "$.outputs[0].types[0]", '"veiw" is not a type of events'),
        ('placements = ["home"]', "$.outputs[0].placements", "Events are of no placement"),
        ('records = "served"\ntypes = ["view"]', "$.outputs[0].types", "Served slates are of one type"),
        ('settings = { "sasl.password" = "x" }', "$.outputs[0].settings", "A secret came"),
        ('settings = { "SASL.PASSWORD" = "x" }', "$.outputs[0].settings", "A secret came"),
        (f'settings = {{ "{OAUTH}.passphrase" = "x" }}', "$.outputs[0].settings", "A secret came"),
        (f'settings = {{ "{OAUTH}.pem" = "x" }}', "$.outputs[0].settings", "A secret came"),
        ('username = "shop"', "$.outputs[0].username", "without sasl"),
        ('sasl = "PLAIN"\npassword_env = "P"', "$.outputs[0].sasl", "without username"),
        ('sasl = "PLAIN"\nusername = "shop"', "$.outputs[0].password_env", "without a password"),
        ('key_file = "key.pem"', "$.outputs[0].key_file", "without certificate_file"),
        ('ca_file = "ca.pem"', "$.outputs[0].ca_file", "tls = true"),
        ('sasl = "PLAIN"\nusername = "u"\npassword_env = "my geheim!"', "$.outputs[0].password_env", "no name"),
        (GOOD, "$.outputs[1].name", '"shop" is there already'),
        ('password = "x"', "$.outputs[0]", "password"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, more, where, said):
    """Each fault has its place and its page."""
    text = GOOD.replace('settings = { "compression.type" = "zstd" }\n', "") if more.startswith("settings") else GOOD
    with pytest.raises(ConfigInvalid) as raised:
        read(tmp_path, f"{text}{more}\n")
    (fault,) = raised.value.faults
    assert where in fault.where
    assert said in f"{fault.came} {fault.right} {fault.where}"
    assert "geheim" not in repr(fault)


PULSAR = """
[[outputs]]
name = "shop"
kind = "pulsar"
service_url = "pulsar://broker:6650"
admin_url = "http://broker:8080"
topic = "persistent://public/default/events"
"""


def test_an_output_to_pulsar_is_read(tmp_path):
    """Its addresses and its token have the names that an input has."""
    (output,) = read(tmp_path, f'{PULSAR}token_env = "SHOP_TOKEN"\n').outputs
    assert (output.kind, output.service_url, output.token_env) == ("pulsar", "pulsar://broker:6650", "SHOP_TOKEN")
    with pytest.raises(ConfigInvalid, match="SHOP_TOKEN"):
        require_secrets((output,), {}, name="outputs")


OTHER = PULSAR.replace('"shop"', '"other"')
INPUT = """
[[inputs]]
name = "clicks"
kind = "pulsar"
service_url = "pulsar://broker:6650"
admin_url = "http://broker:8080"
topic = "events"
"""
KAFKA_INPUT = """
[[inputs]]
name = "clicks"
kind = "kafka"
servers = "other:9092, BROKER"
topic = "events"
"""


LOG = """
[log]
kind = "kafka"
servers = "BROKER, other:9092"
topic = "events"
"""


@pytest.mark.parametrize(
    "text, said",
    [
        (PULSAR.replace("persistent:", "non-persistent:"), "persistent://tenant/namespace/name"),
        (PULSAR.replace("persistent://public/default/events", "shop/default/events"), "persistent://tenant/namespace"),
        (PULSAR.replace("default/events", "default/events-partition-0"), "writes to all its partitions"),
        (PULSAR + OTHER.replace('events"', 'events-partition-0"'), "writes to all its partitions"),
        (PULSAR + OTHER.replace('events"', 'events-partition-0"'), 'is the topic of "shop" already'),
        (PULSAR + OTHER.replace("broker:6650", "BROKER,other:6650"), 'is the topic of "shop" already'),
        (PULSAR + INPUT, 'the input "clicks" reads'),
        (PULSAR + INPUT.replace('"events"', '"persistent://public/default/events-partition-1"'), "would come in again"),
        (GOOD + KAFKA_INPUT, 'the input "clicks" reads'),
        (GOOD + LOG, "the topic of the shared log"),
        (GOOD + LOG + KAFKA_INPUT.replace('"events"', '"clicks"'), "the topic of the shared log"),
        (GOOD.replace('"events"', '"events-nodes"', 1) + LOG, "the topic in which nodes report"),
    ],
)
def test_a_topic_that_no_output_may_have_is_refused(tmp_path, text, said):
    """One that stores nothing, a partition, another output's or the log's, and one whose records would come in."""
    with pytest.raises(ConfigInvalid) as raised:
        read(tmp_path, text)
    assert all(each.where.endswith(".topic") and "outputs[" in each.where for each in raised.value.faults)
    assert said in " ".join(f"{each.came} {each.right}" for each in raised.value.faults)


@pytest.mark.parametrize(
    "text",
    [
        PULSAR + OTHER.replace('events"', 'events2"'),
        PULSAR + OTHER.replace("pulsar://broker", "pulsar://elsewhere"),
        PULSAR + INPUT.replace('"events"', '"clicks"'),
        GOOD + INPUT,
        GOOD + GOOD.replace('"shop"', '"other"'),
        GOOD + KAFKA_INPUT.replace(", BROKER", ""),
        GOOD + LOG.replace("BROKER, ", ""),
        GOOD + LOG.replace('"events"', '"shop-log"'),
        PULSAR + LOG,
    ],
)
def test_topics_that_are_others_are_taken(tmp_path, text):
    """Another name, another cluster, another system; in Kafka two outputs may share a topic."""
    assert read(tmp_path, text).outputs


@pytest.mark.parametrize(
    "text, where, said",
    [
        (GOOD.replace("servers", "service_url"), "$.outputs[0].servers", "It is missing"),
        (f'{GOOD}token_env = "T"', "$.outputs[0].token_env", 'It came with kind = "kafka"'),
        (f'{PULSAR}servers = "a:1"', "$.outputs[0].servers", 'It came with kind = "pulsar"'),
        (f'{PULSAR}settings = {{ "a" = 1 }}', "$.outputs[0].settings", 'It came with kind = "pulsar"'),
        (PULSAR.replace('admin_url = "http://broker:8080"\n', ""), "$.outputs[0].admin_url", "It is missing"),
        (PULSAR.replace("http:", "ftp:"), "$.outputs[0].admin_url", '"ftp://broker:8080" came'),
        (
            PULSAR.replace("//broker:6650", "//me:geheim@broker:6650"),
            "$.outputs[0].service_url",
            "A name or a password",
        ),
        (f'{PULSAR}key_file = "k.pem"', "$.outputs[0].key_file", "without certificate_file"),
        (f'{PULSAR}token_env = "my geheim!"', "$.outputs[0].token_env", "no name"),
        (PULSAR + PULSAR.replace('"shop"', '"other"'), "$.outputs[1].topic", "A topic of its own"),
        (
            PULSAR + PULSAR.replace('"shop"', '"other"').replace("persistent://public/default/", ""),
            "$.outputs[1].topic",
            "A topic of its own",
        ),
    ],
)
def test_what_is_wrong_with_a_broker_is_named(tmp_path, text, where, said):
    """What the kind needs is there, and what it does not read is not."""
    with pytest.raises(ConfigInvalid) as raised:
        read(tmp_path, f"{text}\n")
    fault = raised.value.faults[0]
    assert where in fault.where
    assert said in f"{fault.came} {fault.right}"
    assert "geheim" not in repr(raised.value.faults)


def test_a_variable_that_is_not_set_stops_the_start(tmp_path):
    """In four parts, as one of an input does."""
    login = 'sasl = "PLAIN"\nusername = "shop"\npassword_env = "SHOP_PASSWORD"\n'
    outputs = read(tmp_path, GOOD + login).outputs
    require_secrets(outputs, {"SHOP_PASSWORD": "x"}, name="outputs")
    with pytest.raises(ConfigInvalid) as raised:
        require_secrets(outputs, {}, name="outputs")
    (fault,) = raised.value.faults
    assert fault.where == "midstream.toml: $.outputs[0].password_env"
    assert "SHOP_PASSWORD" in fault.came
