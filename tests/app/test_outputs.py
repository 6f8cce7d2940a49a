"""What is written with features beside it: every declaration of the page of features, in each kind of file."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from midstream.app.as_of import AsOfOptions
from midstream.app.as_of_calls import Wanted, write_answers
from midstream.app.examples import write_served_examples
from midstream.app.replay_examples import ReplayWanted, write_replay_examples
from midstream.app.running import config_of, open_shop
from midstream.features.declared import declared
from midstream.features.reserved import is_reserved

PAGE = Path(__file__).parents[2] / "docs" / "features.md"
LIMITS = """
[[features]]
name = "click"
kind = "random"

[[placements]]
name = "home"

[limits]
users_max = 100
items_max = 100
click_items_max = 100
event_ids_max = 1000
sessions_max = 100
index_sessions_max = 100
hot_items_max = 50
new_items_max = 50
requests_max = 100
"""


@pytest.fixture(scope="module")
def shop_folder(tmp_path_factory):
    """A folder that declares what the page declares, in which three were served."""
    folder = tmp_path_factory.mktemp("shop")
    kinds = PAGE.read_text("utf-8").split("\n## Kinds\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```toml\n(.*?)```", kinds, re.DOTALL)
    (folder / "midstream.toml").write_text("\n".join(sorted(blocks, key=lambda each: "[[" in each)) + LIMITS, "utf-8")
    with open_shop(folder) as shop:
        looks = {"price": 4, "colour": "red", "tags": ["home"], "fresh": True, "embedding": [1, 2, 3], "title": "Lamp"}
        shop.record([{"type": "item", "item_id": f"i{number}", "attributes": looks} for number in range(6)])
        for turn in range(3):
            shop.record([{"type": "view", "user_id": f"u{each}", "item_id": f"i{each}"} for each in range(turn, 4)])
            answer = shop.recommend(placement="home", user_id=f"u{turn}", n=3 if turn else 1)
            clicked = {"user_id": f"u{turn}", "item_id": answer.items[0].id, "request_id": answer.request_id}
            shop.record([{"type": "click", **clicked}])
    config = config_of(folder)
    return folder, declared(config.features, config.items.attributes).names


def by_file(folder):
    """Write all four; a table each."""
    questions = folder / "questions.parquet"
    pq.write_table(
        pa.table({"log_position": [8, 12], "user_id": ["u1", "u2"], "items": [["i1", "i2"], ["i3"]]}), questions
    )
    options = AsOfOptions(in_input_order=True)
    write_answers(folder, Wanted(questions, None, folder / "file.parquet", None, None, options))
    write_answers(folder, Wanted(None, "..", folder / "served.parquet", None, None, options))
    write_served_examples(folder, "..", folder / "examples.parquet")
    write_replay_examples(folder, ReplayWanted("home"), folder / "replay.parquet")
    return {name: pq.read_table(folder / f"{name}.parquet") for name in ("file", "served", "examples", "replay")}


def test_each_file_has_every_column_once_and_no_other_name_than_the_reserved(shop_folder):
    """So no feature is taken for what came of it; values of served slates are those of the examples."""
    folder, names = shop_folder
    tables = by_file(folder)
    for table in tables.values():
        columns = table.column_names
        assert len(set(columns)) == len(columns)
        assert columns[-len(names) :] == list(names)
        assert [each for each in columns[: -len(names)] if not is_reserved(each)] == []
        assert table.num_rows
    served, examples = tables["served"], tables["examples"]
    assert examples.column("outcome_click").to_pylist().count(True) == 3
    assert 0.0 < min(examples.column("click").to_pylist()) < max(examples.column("click").to_pylist()) < 1.0
    for name in set(names) - {"place"}:  # known of a slate, and not before it is one
        np.testing.assert_array_equal(served.column(name).to_numpy(), examples.column(name).to_numpy(), name)
