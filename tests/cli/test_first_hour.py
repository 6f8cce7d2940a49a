"""A newcomer's first hour, command by command: two files of a shop, a ranker, and answers that name its version.

The files are the first clicks of a public shop and its products, written as exports of two programs would be. They go
in in both orders. Where the data folder is missing this skips, and in CI fails.
"""

import csv
import gzip
import json
import os
import re
from pathlib import Path

import pytest

from benchmarks.quality.data_folder import DATA_VARIABLE, data_folder
from midstream.app.opening import open_shop
from midstream.cli.app import main

SET, FILE = "eshop-clothing-2008", "e-shop_clothing_2008.csv.gz"
CLICKS = 1_200
CONFIG = """
[items.attributes]
price = "number"
category = "category"

[[features]]
name = "clicks"
kind = "count"
scope = "item"
actions = ["click"]

[[models]]
name = "ranker"
kind = "ftrl"
placement = "home"
examples = "replay"

[[placements]]
name = "home"
sources = [{ kind = "session_knn" }, { kind = "popular" }]
filter = "item.price < 60"
scorers = [{ kind = "model", name = "ranker" }]
features = ["clicks"]
"""
IMPORTS = {
    "clicks": "clicks.csv --type click --map session_id=session,item_id=product,time=when --time-format iso",
    "products": "products.csv --type item --map item_id=sku,attributes.price=cost,attributes.category=shelf",
}


def rows() -> list[dict[str, str]]:
    """The first clicks of the shop."""
    folder = data_folder(os.environ, Path(__file__).parents[2])
    if folder is None or not (folder / SET).is_dir():
        reason = f"{SET} is not there: {DATA_VARIABLE} names no folder that holds it, and none is beside the checkout"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with gzip.open(folder / SET / FILE, "rt", newline="", encoding="utf-8") as file:
        return [row for row, _ in zip(csv.DictReader(file, delimiter=";"), range(CLICKS), strict=False)]


def write_files(folder: Path) -> None:
    """Write clicks and products; a click has the day of the file and a second of its own."""
    found = rows()
    with (folder / "clicks.csv").open("w", newline="", encoding="utf-8") as file:
        told = csv.writer(file)
        told.writerow(["session", "product", "when"])
        for second, row in enumerate(found):
            day = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
            when = f"{day}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"
            told.writerow([row["session ID"], row["page 2 (clothing model)"], when])
    products = {row["page 2 (clothing model)"]: row for row in reversed(found)}
    with (folder / "products.csv").open("w", newline="", encoding="utf-8") as file:
        told = csv.writer(file)
        told.writerow(["sku", "cost", "shelf"])
        told.writerows([sku, row["price"], f"shelf {row['page 1 (main category)']}"] for sku, row in products.items())


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Return a function that runs a command where the files are; it gives status, what was printed, what was said."""
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def call(words):
        with pytest.raises(SystemExit) as left:
            main(words.split())
        told = capfd.readouterr()
        return left.value.code, told.out, told.err

    return call


@pytest.mark.parametrize("order", [("products", "clicks"), ("clicks", "products")], ids="-then-".join)
def test_two_files_in_either_order_give_a_ranker_that_all_name(tmp_path, run, order):
    """Each command ends with 0 and names the next; recommend, explain, check, models and Python name one version."""
    Path("midstream.toml").write_text(CONFIG, encoding="utf-8")
    status, out, _ = run("check")
    assert (status, "midstream train ranker" in out) == (0, True)
    for name in order:
        status, out, said = run(f"import {IMPORTS[name]}")
        assert (status, "midstream import --undo" in out, "columns that go nowhere" in said) == (0, True, False)
        assert ("so they are of now" in said) == (name == "products" and order[0] == "clicks")
    status, out, said = run("train ranker")
    assert status == 0, said
    (promotion,) = re.findall(r"^next: midstream (models promote ranker \S+)$", out, re.MULTILINE)
    version = promotion.split()[-1]
    assert run(promotion)[0] == 0

    status, out, _ = run("check --json")
    assert (status, json.loads(out)["models"]["home"]) == (0, {"ranker": version})
    status, out, _ = run("recommend home --session 7 --json")
    answer = json.loads(out)
    assert (status, answer["tier"], answer["models"]) == (0, "full", {"ranker": version})
    assert answer["items"]
    assert f"model: ranker {version}" in run("recommend home --session 7 --explain")[2]
    assert version in run("models list")[1]
    with open_shop(tmp_path) as shop:
        served = shop.recommend("home", session_id="7")
    assert (served.models, [each.id for each in served.items]) == (
        {"ranker": version},
        [each["id"] for each in answer["items"]],
    )
    status, out, said = run(f"explain {served.request_id}")
    assert (status, f"ranker {version}" in out + said) == (0, True)


def test_a_file_is_imported_again_with_the_right_type(run):
    """A wrong type is no trap: what it recorded is taken back, and the same file goes in as what it is."""
    Path("midstream.toml").write_text(CONFIG, encoding="utf-8")
    wrong = IMPORTS["clicks"].replace("--type click", "--type purchase")
    (undo,) = re.findall(r"midstream (import --undo \S+) takes it back", run(f"import {wrong}")[1])
    status, out, _ = run(undo)
    assert (status, f"{CLICKS:,} events taken back" in out) == (0, True)
    status, out, _ = run(f"import {IMPORTS['clicks']}")
    assert (status, f"{CLICKS:,} recorded" in out) == (0, True)
    status, out, _ = run(f"import {IMPORTS['clicks']}")
    assert (status, f"{CLICKS:,} were in the log before" in out) == (0, True)
