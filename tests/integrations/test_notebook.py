"""The notebook of docs/tasks/notebook.md runs as it is printed, with pandas and Polars, and gives the stated dtypes."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import midstream
from tests.support.libraries import library
from tests.support.pages import ROOT, blocks

pytestmark = pytest.mark.integration
PAGE = ROOT / "docs" / "tasks" / "notebook.md"
BLOCKS = blocks(PAGE)
TEXT, NUMBER, WHOLE, LIST = "str", "float32", "int32", "object"
SLATES = {
    "user_id": TEXT,
    "position": WHOLE,
    "item_id": TEXT,
    "score": NUMBER,
    **dict.fromkeys(("request_id", "placement", "tier", "log_position", "error"), TEXT),
    "field.price": "float64",
}
SERVED = {
    **dict.fromkeys(("request_id", "placement", "user_id", "session_id", "tier", "scorer"), TEXT),
    "time": "datetime64[ms, UTC]",
    **dict.fromkeys(("served_position", "log_position"), "int64"),
    "config_hash": TEXT,
    "position": WHOLE,
    "item_id": TEXT,
    "score": NUMBER,
    "propensity": NUMBER,
    "sources": LIST,
    "took_us": "int64",
}


def dtypes(frame):
    """Return the dtype of each column of a frame of pandas."""
    return {name: str(each) for name, each in frame.dtypes.items()}


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Run all blocks of the page in order in a folder with its file; return the names of the last one."""
    library("pandas")
    library("polars")
    monkeypatch.chdir(tmp_path)
    (text,) = [each.text for each in BLOCKS if each.file == "midstream.toml"]
    (tmp_path / "midstream.toml").write_text(text)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        if block.language == "python":
            exec(compile(block.text, str(PAGE), "exec"), names)  # noqa: S102  the page's own blocks
    return names


def test_the_notebook_runs_and_its_frames_have_the_stated_dtypes(notebook):
    """In both libraries, and the values are those of the shop."""
    assert dtypes(notebook["frame"]) == SLATES
    assert dtypes(notebook["features"]) == {"item_id": TEXT, "views": NUMBER, "price": NUMBER}
    assert dtypes(notebook["served"]) == SERVED
    past = dtypes(notebook["past"])
    assert {name: past[name] for name in ("views", "price")} == {"views": NUMBER, "price": NUMBER}
    places = {"row": "int64", "position": WHOLE, "log_position": "int64", "time": "datetime64[ms, UTC]"}
    assert places.items() <= past.items()
    examples = dtypes(notebook["examples"])
    assert {"reward": NUMBER, "outcome_click": "bool", "value": "float64", "views": NUMBER}.items() <= examples.items()
    figures = dtypes(notebook["figures"])
    assert (figures["method"], figures["mean"], figures["questions"]) == (TEXT, "float64", "int64")
    source = dtypes(notebook["source"])
    assert source == figures
    models = notebook["models"].column("method").to_pylist()
    assert set(models) == {"ease", "popular"}
    polars = notebook["by_user"]
    assert sorted(polars["user_id"].to_list()) == ["ann", "bob", "eve"]
    assert sorted(len(each) for each in polars["item_id"]) == [2, 2, 2]
    assert notebook["recorded"].outcome.tolist() == [0] * 6


def test_values_of_the_notebook(notebook):
    """What was served is what was asked, clicks are joined, and the past knows less than now."""
    frame, served, examples = (notebook[name] for name in ("frame", "served", "examples"))
    assert served["request_id"].tolist() == frame["request_id"].tolist()
    assert served["item_id"].tolist() == frame["item_id"].tolist()
    assert examples["outcome_click"].sum() == 3
    assert notebook["features"].set_index("item_id")["price"].isna().to_dict() == {
        "lamp": False,
        "bulb": False,
        "rug": False,
        "sofa": True,
    }
    assert notebook["past"]["views"].isna().tolist() == [True, False]
    assert len(notebook["events"]) == 9


def test_tables_become_frames_of_both_libraries(tmp_path):
    """With fixed dtypes also where something is missing, and columns of either library are taken as ids."""
    pd, pl = library("pandas"), library("polars")
    with midstream.open(tmp_path) as shop:
        shop.record({"type": "view", "user_id": "ann", "item_id": "lamp"})
        for ids in (pd.Series(["ann", "bob"]), pl.Series(["ann", "bob"]), np.array(["ann", "bob"], dtype=object)):
            table = shop.recommend_table(ids, exclude=["lamp"] if isinstance(ids, pl.Series) else ())
            assert isinstance(table, pa.Table)
            frame = pl.from_arrow(table)
            assert frame.schema["position"] == pl.Int32
            assert frame.schema["score"] == pl.Float32
            assert frame.schema["error"] == pl.String
            assert dtypes(table.to_pandas()) == {name: each for name, each in SLATES.items() if "." not in name}
        acts = pd.DataFrame(
            {"item_id": ["a", "b"] * 3, "user_id": list("xxyyzz"), "time": range(1_700_000_000_000, 1_700_000_000_006)}
        )
        for interactions in (acts, pl.DataFrame(acts.to_dict("list"))):
            figures = pl.from_arrow(midstream.evaluate(tmp_path, interactions))
            assert set(figures["questions"].to_list()) == {3}
