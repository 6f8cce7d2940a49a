"""Suggestions for a folder: TOML that can be put behind its configuration, and passes the check."""

import json
import time

import pytest

from midstream.app.config.reader import parse_config
from midstream.app.ingest.import_file import import_file
from midstream.app.opening import config_of
from midstream.app.operate.feature_suggestions import suggest
from midstream.cli.operate.check import check_folder
from midstream.cli.operate.init import starter_files, write_new
from midstream.features.kinds.kinds import Vector

SMALL = """
[limits]
users_max = 1000
items_max = 1000
click_items_max = 100
sessions_max = 1000
index_sessions_max = 1000
event_ids_max = 1000
requests_max = 100
hot_items_max = 1000
feature_user_items_max = 1000
feature_user_values_max = 1000
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder as ``midstream init`` makes it, with its example imported."""
    folder = tmp_path_factory.mktemp("shop")
    write_new(folder, starter_files(int(time.time() * 1_000)))
    import_file(folder, config_of(folder), folder / "example.ndjson")
    return folder


def test_what_is_printed_passes_the_check_behind_the_configuration(shop):
    """Every feature read by a placement; again it proposes nothing that is there; the text is the same each time."""
    before = (shop / "midstream.toml").read_text()
    text = suggest(shop, config_of(shop))
    assert text == suggest(shop, config_of(shop))
    names = text.rpartition("# features = ")[2]
    # Behind the file the last table is a placement, which then reads them.
    (shop / "midstream.toml").write_text(f"{before}\nfeatures = {names}\n{text}")
    try:
        config = config_of(shop)
        findings = check_folder(shop).findings
        assert [each for each in findings if each.problem] == []
        assert len(config.features) > 5
        assert "\n[[features]]" not in suggest(shop, config)
    finally:
        (shop / "midstream.toml").write_text(before)


def test_each_declaration_has_its_reason(shop):
    """A comment line right above."""
    lines = suggest(shop, config_of(shop)).splitlines()
    starts = [at for at, line in enumerate(lines) if line.removeprefix("# ") == "[[features]]"]
    assert starts
    assert all(lines[at - 1].startswith("# ") and len(lines[at - 1]) > 10 for at in starts)


def test_attributes_that_are_not_declared_are_named(tmp_path):
    """As a table where the file has none, which stands by itself; else as a comment, and what reads them too."""
    attributes = {"size": 3.5, "is_new": True, "größe": 1, "no.name": 2, "class": 3}
    events = [{"type": "item", "item_id": f"i{each}", "attributes": attributes} for each in range(30)]
    (tmp_path / "items.ndjson").write_text("\n".join(map(json.dumps, events)))
    file = tmp_path / "midstream.toml"
    file.write_text(SMALL)
    import_file(tmp_path, config_of(tmp_path), tmp_path / "items.ndjson")
    config = parse_config(SMALL + suggest(tmp_path, config_of(tmp_path)))
    assert config.items.attributes == {"size": "number", "is_new": "boolean"}
    assert {each.name for each in config.features} == {"item_is_new", "item_size"}
    declared = f'{SMALL}[items.attributes]\nis_new = "boolean"\n'
    file.write_text(declared)
    text = suggest(tmp_path, config_of(tmp_path))
    assert [each.name for each in parse_config(declared + text).features] == ["item_is_new"]
    assert '# size = "number"' in text
    assert '\n# [[features]]\n# name = "item_size"' in text


def test_lists_of_equal_length_are_vectors(tmp_path):
    """Where nearly all have it; lists of any length are none."""
    events = [
        {"type": "item", "item_id": f"i{each}", "attributes": {"look": [each, 0.5, -1], "odd": [1] * (each % 5)}}
        for each in range(30)
    ]
    (tmp_path / "items.ndjson").write_text("\n".join(map(json.dumps, events)))
    (tmp_path / "midstream.toml").write_text(SMALL)
    import_file(tmp_path, config_of(tmp_path), tmp_path / "items.ndjson")
    config = parse_config(SMALL + suggest(tmp_path, config_of(tmp_path)))
    assert config.items.attributes == {"look": "vector:3"}
    assert config.features == (Vector(name="item_look", scope="item", attribute="look", length=3),)


def test_an_empty_folder_has_nothing_to_suggest(tmp_path):
    """Still valid TOML."""
    (tmp_path / "midstream.toml").write_text(SMALL)
    text = suggest(tmp_path, config_of(tmp_path))
    assert parse_config(text).features == ()
    assert "no events" in text
