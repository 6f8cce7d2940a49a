"""Outputs of a configuration: what is refused, where, and what would be right."""

import pytest

from midstream.app.config.reader import read_config
from midstream.core.errors import ConfigInvalid

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
        ('settings = { "sasl.password" = "x" }', "$.outputs[0].settings", "holds a secret"),
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
