"""What is written with features beside it: every declaration of the page of features, in each kind of file."""

import os
import re
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from midstream.app.opening import config_of, open_shop
from midstream.app.point_in_time.api import LookupRequest, write_answers
from midstream.app.point_in_time.files import write_tables
from midstream.app.point_in_time.lookup import AsOfOptions
from midstream.app.point_in_time.replay_examples import ReplayWanted, write_replay_examples
from midstream.app.point_in_time.served_examples import write_served_examples
from midstream.cli.console import ended_by_sigterm
from midstream.core.errors import Invalid
from midstream.features.declared import declared
from midstream.features.kinds.kinds import columns_by_name, columns_of, impression_features
from midstream.features.reserved import is_reserved
from midstream.ranking.boundary import Account, boundary

PAGE = Path(__file__).parents[2] / "docs" / "features.md"
LIMITS = """
[[features]]
name = "click"
kind = "random"

[[placements]]
name = "home"
features = ["tag"]

[[placements]]
name = "nothing"
filter = "item.price > 1000000"
features = ["tag", "colour", "embedding"]

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
    """A folder that declares what the page declares, in which three were served, and an empty slate."""
    folder = tmp_path_factory.mktemp("shop")
    kinds = PAGE.read_text("utf-8").split("\n## Kinds\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```toml\n(.*?)```", kinds, re.DOTALL)
    (folder / "midstream.toml").write_text("\n".join(sorted(blocks, key=lambda each: "[[" in each)) + LIMITS, "utf-8")
    with open_shop(folder) as shop:
        looks = {"price": 4, "colour": "red", "tags": ["home"], "fresh": True, "embedding": [1, 2, 3], "title": "Lamp"}
        shop.record([{"type": "item", "item_id": f"i{number}", "attributes": looks} for number in range(6)])
        nothing = shop.recommend(placement="nothing", user_id="u0", n=3, deadline_ms=5_000)
        assert (nothing.items, nothing.tier) == ((), "full")
        for turn in range(3):
            shop.record([{"type": "view", "user_id": f"u{each}", "item_id": f"i{each}"} for each in range(turn, 4)])
            answer = shop.recommend(placement="home", user_id=f"u{turn}", n=3 if turn else 1, deadline_ms=5_000)
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
    write_answers(folder, LookupRequest(questions, None, folder / "file.parquet", None, None, options))
    write_answers(folder, LookupRequest(None, "..", folder / "served.parquet", None, None, options))
    write_served_examples(folder, "..", folder / "examples.parquet")
    write_replay_examples(folder, ReplayWanted("home"), folder / "replay.parquet")
    return {name: pq.read_table(folder / f"{name}.parquet") for name in ("file", "served", "examples", "replay")}


def test_each_file_has_every_column_once_and_no_other_name_than_the_reserved(shop_folder):
    """So no feature is taken for what came of it; values of served slates are those of the examples."""
    folder, names = shop_folder
    tables = by_file(folder)
    config = config_of(folder)
    made = columns_by_name(config.features, config.items.attributes)
    shown = impression_features(config.features, made)
    of_shown = {each for name in shown for each in columns_of(config.features)[name]}
    assert shown
    for kind, table in tables.items():
        columns = table.column_names
        assert len(set(columns)) == len(columns)
        # Before an act a count of impressions says what is on screen.
        own = [name for name in names if kind != "replay" or name not in of_shown]
        first = columns.index(own[0])
        assert columns[first : first + len(own)] == own
        others = columns[:first] + columns[first + len(own) :]
        # What sources and the blend say of an item has a name with a dot, which no feature has.
        assert [each for each in others if not is_reserved(each) and "." not in each] == []
        assert table.num_rows
    served, examples = tables["served"], tables["examples"]
    assert examples.column("outcome_click").to_pylist().count(True) == 3
    assert 0.0 < min(examples.column("click").to_pylist()) < max(examples.column("click").to_pylist()) < 1.0
    for name in set(names) - {"place"}:  # known of a slate, and not before it is one
        np.testing.assert_array_equal(served.column(name).to_numpy(), examples.column(name).to_numpy(), name)


def test_the_questions_are_not_replaced(shop_folder):
    """By no other name of their file either; they stay as they were."""
    folder, _ = shop_folder
    questions = folder / "q.csv"
    questions.write_text("log_position,item_id\n3,i1\n")
    (folder / "same.csv").symlink_to(questions)
    for out in (questions, folder / "same.csv", folder / ".." / folder.name / "q.csv"):
        with pytest.raises(Invalid) as raised:
            write_answers(folder, LookupRequest(questions, None, out, None, None, AsOfOptions()))
        (fault,) = raised.value.faults
        assert fault.where == "--out"
    assert questions.read_text() == "log_position,item_id\n3,i1\n"


def test_a_folder_that_is_not_there_is_named(shop_folder):
    """Before anything is read, whatever is written."""
    folder, _ = shop_folder
    out = folder / "none" / "out.parquet"
    for write in (
        lambda: write_answers(folder, LookupRequest(None, "..", out, None, None, AsOfOptions())),
        lambda: write_served_examples(folder, "..", out),
        lambda: write_replay_examples(folder, ReplayWanted("home"), out),
    ):
        with pytest.raises(Invalid) as raised:
            write()
        (fault,) = raised.value.faults
        assert fault.where == "--out"
        assert str(out.parent) in fault.came


def test_no_component_is_blamed_for_a_signal():
    """SIGTERM that comes while a component is at work ends the command: only the component's own exit is its fault."""
    account = Account()
    with pytest.raises(SystemExit) as raised, ended_by_sigterm(), boundary("shelf", account):
        os.kill(os.getpid(), signal.SIGTERM)
    assert (raised.value.code, account.failures) == (128 + signal.SIGTERM, [])


def test_a_command_that_is_told_to_end_leaves_no_part_of_a_file(tmp_path):
    """SIGTERM ends it as an error does; afterwards the signal means what it meant."""
    schema = pa.schema([("number", pa.int64())])

    def rows():
        yield pa.RecordBatch.from_pylist([{"number": 1}], schema=schema)
        os.kill(os.getpid(), signal.SIGTERM)
        yield pa.RecordBatch.from_pylist([{"number": 2}], schema=schema)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(SystemExit) as raised, ended_by_sigterm():
            write_tables(tmp_path / "out.parquet", "parquet", schema, rows())
        assert raised.value.code == 128 + signal.SIGTERM
        assert list(tmp_path.iterdir()) == []
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
