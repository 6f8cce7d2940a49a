"""Fetches through a folder, as docs/fetches.md has them: served, recorded, explained without the system, trained on."""

import re
from pathlib import Path

import pytest

import midstream
from midstream.app.config.reader import parse_config
from midstream.app.explain.explain import explain_request
from midstream.app.opening import config_to_read, open_shop
from midstream.app.point_in_time.served_requests import question_of
from midstream.core.errors import ConfigInvalid
from midstream.ranking.record.served import ServedRecord

PAGE = (Path(__file__).parents[2] / "docs" / "fetches.md").read_text("utf-8")
LIMITS = """
[limits]
users_max = 100
items_max = 1_000
click_items_max = 100
sessions_max = 100
event_ids_max = 1_000
"""
COUNTED = """
import pathlib


class Counted(Stock):
    async def fetch(self, ids):
        with open(__file__ + ".asked", "a") as file:
            print(*ids, file=file)
        if pathlib.Path(__file__ + ".down").read_text():
            raise ConnectionError("the warehouse is down")
        return await super().fetch(ids)
"""


def block(language: str) -> str:
    """Return the first block of the page in a language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


class Warehouse:
    """The folder of the page, in which it is counted how often the warehouse is asked; it can be down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        code = block("python") + COUNTED
        (folder / "components.py").write_text(code.replace("__file__", repr(str(folder / "components.py"))))
        self.file = block("toml").replace("components:Stock", "components:Counted") + LIMITS
        (folder / "midstream.toml").write_text(self.file.replace('"20ms"', '"10s"'))
        self.down(is_down=False)

    def down(self, *, is_down: bool) -> None:
        (self.folder / "components.py.down").write_text("down" * is_down)

    def asked(self) -> list[str]:
        path = self.folder / "components.py.asked"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(name="warehouse")
def _warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path)


def test_the_example_of_the_page_serves_what_is_in_stock(warehouse):
    """By tier and stock; the record has both, and the shop answers the same while the warehouse is down."""
    with open_shop(warehouse.folder, config_to_read(warehouse.folder)) as shop:
        shop.record([{"type": "view", "user_id": "bob", "item_id": each} for each in ("lamp", "desk", "chair", "sofa")])
        shop.recommend("home", user_id="eve", deadline_ms=9_000)
        answers = {user: shop.recommend("home", user_id=user, deadline_ms=9_000) for user in ("ann", "eve")}
        slates = {user: {each.id for each in answer.items} for user, answer in answers.items()}
        assert slates == {"ann": {"lamp", "chair"}, "eve": {"chair"}}
        assert len(warehouse.asked()) == 1  # what is young enough is not asked again
        ann = answers["ann"].request_id
        shop.record({"type": "view", "user_id": "ann", "item_id": "lamp"})  # behind the served records
        record = shop._call(lambda: shop.running.engine.served(ann))
    assert isinstance(record, ServedRecord)
    assert dict(record.query.context) == {"tier": "gold", "budget": 80.0}
    assert record.query.item_fields["chair"] == {"stock": 11.0}
    assert "sofa" not in record.query.item_fields
    warehouse.down(is_down=True)
    told = explain_request(warehouse.folder, ann, ("desk",))
    assert (told.identical, told.differences) == (True, ())
    assert told.why is not None
    assert [(each.id, each.outcome) for each in told.why.asked] == [("desk", "removed")]
    rows = midstream.features_of_served(warehouse.folder, features=["stock"]).to_pylist()
    stock = {row["item_id"]: row["stock"] for row in rows if row["request_id"] == ann}
    assert stock == {"lamp": 2.0, "chair": 11.0}
    assert len(warehouse.asked()) == 1
    question = question_of(record, 0, has_positions=True)
    assert question.query.item_fields["chair"] == {"stock": 11.0, "position": float(question.items.index("chair"))}


def test_a_system_that_is_down_is_named(warehouse):
    """Nothing is known to be in stock then, and the answer says why."""
    warehouse.down(is_down=True)
    with open_shop(warehouse.folder, config_to_read(warehouse.folder)) as shop:
        shop.record([{"type": "view", "user_id": "bob", "item_id": "lamp"}])
        answer = shop.recommend("home", user_id="ann", deadline_ms=9_000)
    assert (answer.tier, [each.id for each in answer.items]) == ("reduced", [])
    assert [each.component for each in answer.failures] == ["warehouse"]
    assert answer.failures[0].reason == "ConnectionError: the warehouse is down"


def faults(text: str) -> list[tuple[str, str]]:
    """Return what is wrong with a file."""
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(text)
    return [(each.where, each.came) for each in caught.value.faults]


FETCH = """
[[fetches]]
name = "stock"
of = "item"
component = { kind = "custom", path = "components:Stock" }
columns = { stock = "number" }
"""
USER = """
[[fetches]]
name = "crm"
of = "user"
component = { kind = "custom", path = "components:Customers" }
columns = { member = "boolean" }
"""


HOME = '[[placements]]\nname = "home"\n'
THERE = "is there already."


@pytest.mark.parametrize(
    "text, where, came",
    [
        (FETCH + FETCH, "fetches[1].name", f'"stock" {THERE}'),
        (FETCH.replace('"number"', '"category"'), "fetches[0].columns.stock", '"category" came for a column of items.'),
        (FETCH.replace('{ stock = "number" }', "{}"), "fetches[0].columns", "0 came."),
        (FETCH + 'age_max = "2d"', "fetches[0].age_max", "2d came."),
        (FETCH + 'timeout = "0s"', "fetches[0].timeout", "0s came."),
        (
            FETCH.replace('path = "components:Stock"', "options = {}"),
            "fetches[0].component.path",
            "It has neither a path nor a name.",
        ),
        (
            FETCH + HOME + 'fetches = ["stok"]',
            "placements[0].fetches[0]",
            '"stok" is not a declared fetch. Nearest: "stock".',
        ),
        (FETCH + HOME + 'fetches = ["stock", "stock"]', "placements[0].fetches[1]", f'"stock" {THERE}'),
        (
            FETCH + FETCH.replace('name = "stock"', 'name = "shelf"') + HOME + 'fetches = ["stock", "shelf"]',
            "placements[0].fetches[1]",
            '"shelf" and "stock" both have a column stock of the item.',
        ),
    ],
)
def test_what_is_wrong_with_a_fetch_is_told_at_load(text, where, came):
    """Names, kinds, bounds, and what a placement lists."""
    assert (f"midstream.toml: $.{where}", came) in faults(text)


def test_a_text_that_reads_a_column_as_another_kind_is_told_at_load():
    """The declared kind holds for a placement that lists the fetch, and for no other."""
    home = USER + '[[placements]]\nname = "home"\nfilter = "context.member > 3"\n'
    parse_config(home)
    ((where, _),) = faults(home + 'fetches = ["crm"]\n')
    assert where == "midstream.toml: $.placements[0].filter"
    parse_config(home.replace("> 3", "== true") + 'fetches = ["crm"]\n')


def test_a_component_without_the_method_is_refused(tmp_path):
    """What a fetch has is told with the path that names it."""
    (tmp_path / "components.py").write_text(
        "import msgspec\n\n\nclass Stock(msgspec.Struct, frozen=True):\n    limit: int = 1\n"
    )
    (tmp_path / "midstream.toml").write_text(FETCH + LIMITS + '[[placements]]\nname = "home"\nfetches = ["stock"]\n')
    with pytest.raises(ConfigInvalid) as caught, open_shop(tmp_path, config_to_read(tmp_path)):
        pass
    assert [each.where for each in caught.value.faults] == ["midstream.toml: $.fetches[0].component.path"]
