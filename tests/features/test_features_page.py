"""The page of features: every kind is on it, and its tables hold what the code gives for its own example."""

import json
import math
import re
import tomllib
from datetime import datetime
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest

from midstream.app.config.reader import parse_config
from midstream.app.config.schema import Config
from midstream.core.kinds import Kind
from midstream.core.types import Candidates, Models, Query, TimestampMs
from midstream.events.json.decode import decode
from midstream.events.schema import Event, build, cut
from midstream.events.wire import Accept
from midstream.features.declared import declared
from midstream.features.kinds.kinds import AnyFeature
from midstream.features.readers.external import External
from midstream.features.reserved import RESERVED_NAMES
from midstream.state.fold import Fold
from midstream.state.settings import StateLimits
from tests.support.events import served_body

PAGE = Path(__file__).parents[2] / "docs" / "features.md"
TEXT = PAGE.read_text("utf-8").split("\n## Kinds\n")[1].split("\n## ")[0]
ITEMS = ("lamp", "rug", "mug")
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
TABLES = [each for each in TEXT.split("\n\n") if each.startswith("| column | lamp | rug | mug |")]
SHOWN = {name: values for table in TABLES for name, *values in ROW.findall(table)}
LIMITS = StateLimits(users_max=100, items_max=100, sessions_max=100, index_sessions_max=100, event_ids_max=1_000)


def blocks(language):
    """Contents of the blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def example() -> Config:
    """The configuration that all TOML of the page makes."""
    return parse_config("\n".join(sorted(blocks("toml"), key=lambda each: "[[" in each)))


def milliseconds(text):
    return int(datetime.fromisoformat(text).timestamp() * 1_000)


def moment_of(config):
    """The state after the page's log, as of the page's request."""
    lines = blocks("ndjson")[0].strip().encode()
    fold = Fold(msgspec.structs.replace(config.fold_settings(), limits=LIMITS))
    accept = Accept(frozenset(fold.settings.types), 0, attributes=config.items.attributes)
    found = decode(lines, accept, "application/x-ndjson")
    assert not found.rejected
    times = [milliseconds(json.loads(line)["time"]) for line in lines.splitlines()]
    found.batch.rows["log_time_ms"] = times
    first = next(place for place, line in enumerate(lines.splitlines()) if b"request_id" in line)
    slate = Event(Kind.SERVED, user_id="ann", request_id="r1", body=served_body("r1", ITEMS[:2]))
    served = build([slate._replace(log_time_ms=times[first])])
    for batch in (cut(found.batch, 0, first), served, cut(found.batch, first, len(times))):
        fold.apply(fold.log_position, batch)
    told = json.loads(blocks("json")[0])
    query = Query(
        *("r", "home", told["user_id"], told["session_id"], 3),
        now_ms=TimestampMs(milliseconds(told["time"])),
        seed=told["seed"],
        context=told["context"],
        item_fields=told["item_fields"],
    )
    return fold.moment(query, Models({})), fold.vocabulary.item_indices(ITEMS)


def values():
    """Every column of the page's declarations, by name."""
    config = example()
    moment, item_index = moment_of(config)
    candidates = Candidates(item_index, (), np.empty((3, 0), np.float32), np.empty((3, 0), np.int32))
    block = declared(config.features, config.items.attributes)
    return dict(zip(block.names, block.read(moment, candidates).T.tolist(), strict=True))


FOUND = values()


@pytest.mark.parametrize("feature", example().features, ids=lambda each: each.name)
def test_every_kind_reads_no_candidates(feature):
    """No row comes out of no candidates: a filter that leaves nothing is no failure."""
    config = example()
    moment, _ = moment_of(config)
    nothing = Candidates(np.empty(0, np.int32), (), np.empty((0, 0), np.float32), np.empty((0, 0), np.int32))
    block = declared([feature], config.items.attributes, config.features)
    assert block.read(moment, nothing).shape == (0, len(block.names))


def test_reserved_names_are_those_on_the_page():
    """All of them, and no other."""
    section = PAGE.read_text("utf-8").split("### Reserved names")[1].split("\n### ")[0]
    assert set(re.findall(r"`(\w+)`", section.split(", nor\n")[0])) == RESERVED_NAMES


def shown(value):
    return "–" if math.isnan(value) else f"{value:.5g}"


@pytest.mark.parametrize("name", sorted(FOUND))
def test_values_are_those_of_the_code(name):
    """To five digits, and every column is shown."""
    assert [each.strip() for each in SHOWN[name]] == [shown(each) for each in FOUND[name]]


def test_no_column_is_made_up():
    """Each row of the tables is a column."""
    assert set(SHOWN) == set(FOUND)


@pytest.mark.parametrize("kind", get_args(AnyFeature), ids=lambda each: each.__name__)
def test_every_kind_is_explained(kind):
    """By name, with an example, and each option that is not shared by all."""
    tag = kind.__struct_config__.tag
    if kind is External:  # its example is a file, in a section of its own
        assert 'kind = "external"' in PAGE.read_text("utf-8")
        return
    assert f"**`{tag}`**" in TEXT
    assert any(each["kind"] == tag for block in blocks("toml") for each in tomllib.loads(block).get("features", ()))
    if tag not in {"pair_score", "knn_score"}:
        options = {each.name for each in msgspec.structs.fields(kind)} - {"name"}
        assert {each for each in options if f"`{each}`" not in TEXT and f"{each} = " not in TEXT} == set()
