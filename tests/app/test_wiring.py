"""From a configuration to plans that answer, components of one's own among them."""

import asyncio
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from midstream.app.config.reader import parse_config
from midstream.app.config.schema import Config
from midstream.app.wiring import fold, plans
from midstream.core.errors import ConfigInvalid
from midstream.core.types import Served
from midstream.ranking.fetched_columns import DeclaredFetch
from midstream.ranking.frame import FAILED_FEATURES_MAX
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import FETCHES_MAX, block_name
from midstream.ranking.record.served import FAILURES_MAX
from midstream.testing.conformance import check_feature, check_source
from tests.support.frozen_shop import SMALL, StillShop

COMPONENTS = """
import sys, msgspec, numpy as np
from midstream.core.durations import Duration
from midstream.core.types import Proposal, Selection
import beside

class Shelf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = "shelf"
    limit: int = 2
    every: Duration = Duration("1h")
    def retrieve(self, moment):
        return Proposal(np.arange(self.limit, dtype=np.int32), beside.falling(self.limit))

class First(msgspec.Struct, frozen=True):
    name: str = "first"
    def keep(self, moment, candidates):
        return candidates.item_index < 3

class Backwards(msgspec.Struct, frozen=True):
    name: str = "backwards"
    async def score(self, query, features, models):
        return np.arange(len(features.values), dtype=np.float32)

class One(msgspec.Struct, frozen=True):
    def select(self, query, features, score):
        return Selection(np.array([score.argmax()]), np.full(1, 0.5, np.float32))

class Nameless(msgspec.Struct, frozen=True):
    x: int = 0

class Leaves(msgspec.Struct, frozen=True):
    limit: int
    name: str = "leaves"
    def retrieve(self, moment): ...
    def __post_init__(self):
        sys.exit(4)

class Plain:
    def __init__(self, x):
        self.x = x

def function():
    pass
"""
BESIDE = "import numpy as np\ndef falling(n): return np.arange(n, 0, -1).astype(np.float32)\n"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with components of one's own."""
    (tmp_path / "components.py").write_text(COMPONENTS)
    (tmp_path / "beside.py").write_text(BESIDE)
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "leaving.py").write_text("import sys; sys.exit(3)")
    (tmp_path / "failing.py").write_text("shelf")
    (tmp_path / "lacking.py").write_text("import not_installed_anywhere")
    yield tmp_path
    sys.modules.pop("beside", None)


def answer(shop: StillShop, text: str, folder: Path, **asked) -> Served:
    """Answer with the first placement of a configuration."""
    (plan, *_) = plans(parse_config(text), folder).values()
    return asyncio.run(recommend(plan, shop.moment, replace(shop.query(), **asked), lambda: math.inf))


def slate(shop: StillShop, served: Served) -> list[str]:
    """Ids of what was served."""
    return shop.ids(served.candidates.item_index[served.selection.chosen].tolist())


@pytest.fixture
def shop() -> StillShop:
    """A catalogue of six, two of them acted on."""
    shop = StillShop()
    for name in "abcdef":
        shop.put(name)
    shop.act("view", "bob", "e", "f", "e", session_id="s1")
    return shop


def test_the_default_plan(shop, tmp_path):
    """One placement; popular is of the floor, the rest are sources; the blend is the last scorer."""
    plan = plans(Config())["default"]
    assert [source.name for source in plan.sources] == ["session_knn", "covisitation", "trending"]
    assert [source.name for source in plan.floor] == ["popular"]
    assert [rule.name for rule in plan.filters] == ["available", "excluded", "repeats", "request_filter"]
    assert [scorer.name for scorer in plan.scorers] == ["blend"]
    assert (plan.slate_size, plan.slate_size_max, plan.deadline_ms) == (20, 100, 50)
    assert plan.config_hash == Config().config_hash
    assert plan.fold_version == Config().fold_settings().version()
    served = answer(shop, "", tmp_path)
    assert slate(shop, served) == ["e", "f", "d", "c", "b"]
    assert served.tier == "full"


def test_who_asks_gets_a_sensible_answer(shop, tmp_path):
    """Unknown user, unknown item, anonymous session, basket only: never an error, never nothing."""
    for asked in (
        {"user_id": "unknown"},
        {"session_id": "unknown"},
        {"items": ("unknown",)},
        {"items": ("e",)},
        {"user_id": "bob"},
        {"session_id": "s1"},
        {"exclude": ("unknown",)},
    ):
        served = answer(shop, "", tmp_path, **asked)
        assert len(served.selection.chosen) == 5
        assert served.failures == ()
    assert slate(shop, answer(shop, "", tmp_path, items=("e",)))[0] == "f"  # what bob's session went on to
    assert "e" not in slate(shop, answer(shop, "", tmp_path, session_id="s1"))  # the item in view
    empty = StillShop()
    assert slate(empty, answer(empty, "", tmp_path)) == []


def test_every_setting_of_a_placement_reaches_the_plan(tmp_path):
    """Filter text, exclusions, editorial, weights, repeats, sizes, deadline."""
    text = """
        [items.attributes]
        price = "number"
        [[placements]]
        name = "home"
        sources = [{ kind = "trending", half_life = "1h", limit = 3 }]
        weights = { trending = 0.0 }
        filter = "item.price < context.budget"
        exclude = { purchase = "30d", impression = 5 }
        repeats = "any"
        editorial = ["c"]
        slate_size = 3
        slate_size_max = 7
        candidates_max = 200
        deadline = "20ms"
        """
    plan = plans(parse_config(text), tmp_path)["home"]
    assert [source.name for source in plan.floor] == ["popular", "editorial"]
    assert [rule.name for rule in plan.filters] == ["available", "excluded", "acted", "filter", "request_filter"]
    assert (plan.slate_size, plan.slate_size_max, plan.deadline_ms) == (3, 7, 20)
    assert plan.candidates_max == 200
    assert plan.scorers[-1].weight("trending") == 0.0  # type: ignore[attr-defined]


def test_filters_of_a_list_run_behind_the_short_ones_in_its_order(shop, tmp_path):
    """Each is counted by its name; the same filter, short or listed, removes the same; the request's own comes last."""
    begins = '[items.attributes]\nprice = "number"\n[[placements]]\n'
    listed = """
        filter = "item.price > 0"
        filters = [
            { kind = "expression", name = "few", where = "item.price < 9" },
            { kind = "repeats", allow = "none" },
            { kind = "acted", name = "seen_twice", exclude = { view = 2 } },
        ]"""
    for name, price in (("a", 0), ("b", 3), ("c", 20), ("d", 4), ("e", 5), ("f", 6)):
        shop.put(name, price=price)
    made = plans(parse_config(begins + listed))["default"]
    names = ["available", "excluded", "filter", "few", "repeats", "seen_twice", "request_filter"]
    assert [rule.name for rule in made.filters] == names
    assert made.bounded == {*made.part_names}
    served = answer(shop, begins + listed, tmp_path, user_id="bob")
    assert {name: served.removed[name] for name in names[2:6]} == {"filter": 1, "few": 1, "repeats": 0, "seen_twice": 1}
    assert slate(shop, served) == ["f", "d", "b"]
    assert slate(shop, answer(shop, begins + listed, tmp_path, session_id="s1")) == ["d", "b"]
    short = 'repeats = "none"\nfilter = "item.price > 0 and item.price < 9"\nexclude = { view = 2 }'
    for asked in ({"user_id": "bob"}, {"session_id": "s1"}, {}):
        one, other = (slate(shop, answer(shop, begins + each, tmp_path, **asked)) for each in (listed, short))
        assert one == other
    assert made.reads_served is False
    lately = begins + 'filters = [{ kind = "served_lately", exclude = { served = 1 } }]'
    assert plans(parse_config(lately))["default"].reads_served is True


def test_two_filters_of_one_name_are_refused(tmp_path):
    """A trace that names a filter must mean one."""
    text = '[[placements]]\nexclude = { view = 2 }\nfilters = [{ kind = "acted", exclude = { purchase = "1d" } }]'
    with pytest.raises(ConfigInvalid, match=r"filters\[0\].name\n.*acted. is there already"):
        plans(parse_config(text), tmp_path)


FEATURES = """
    [[features]]
    name = "views"
    kind = "count"
    actions = ["view"]
    windows = ["1h", "6h"]
    [[features]]
    name = "mine"
    kind = "since"
    scope = "user"
    actions = ["view", "cart"]
    [[features]]
    name = "unread"
    kind = "count"
    scope = "session"
    actions = ["cart"]
    [[placements]]
    name = "home"
    features = ["mine", "views"]
    log_features = 0.5
    [[placements]]
    name = "other"
    """


def test_a_placement_reads_the_features_it_names(tmp_path):
    """As one block, all columns of each, in its own order; what nobody reads is counted all the same."""
    config = parse_config(FEATURES)
    made = plans(config, tmp_path)
    assert [block.names for block in made["home"].features] == [("mine", "views_1h", "views_6h")]
    assert (made["home"].log_features, made["other"].log_features, made["other"].features) == (0.5, 0.0, ())
    assert made["home"].declared.names == ("views", "mine", "unread")
    assert {cell.scope for cell in config.fold_settings().cells} == {"item", "user", "session"}
    assert Config().fold_settings().version() != config.fold_settings().version()


def test_the_scorer_of_the_page_reads_a_feature(tmp_path):
    """That of docs/features.md, written into components.py, beside the declaration at the page's top."""
    page = (Path(__file__).parents[2] / "docs" / "features.md").read_text("utf-8")
    (tmp_path / "components.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    text = page.partition("```toml\n")[2].partition("```")[0]
    config = parse_config(text + 'scorers = [{ kind = "custom", path = "components:Bought" }]\n')
    shop = StillShop(msgspec.structs.replace(config.fold_settings(), limits=SMALL.limits))
    for number in range(4):
        shop.put(f"i{number}")
    shop.see("ann", "i1", "i2", "i2")
    shop.act("purchase", "ann", "i2")
    made = plans(config, tmp_path)["home"]
    served = asyncio.run(recommend(made, shop.moment, shop.query(), lambda: math.inf))
    assert served.failures == ()
    assert served.scorer == "bought"
    assert slate(shop, served)[0] == "i2"
    check_feature(made.features[0], shop.moment(), served.candidates)


def test_equal_files_make_equal_plans_and_other_features_others(tmp_path):
    """So that an order to read the file again finds that nothing has changed, or what has."""
    assert plans(parse_config(FEATURES), tmp_path) == plans(parse_config(FEATURES), tmp_path)
    longer = FEATURES.replace("6h", "7h")
    assert (
        plans(parse_config(longer), tmp_path)["home"].features
        != plans(parse_config(FEATURES), tmp_path)["home"].features
    )


def test_the_fold_keeps_the_lists_that_sources_read(tmp_path):
    """A half-life of a source has its list."""
    config = parse_config(
        '[[placements]]\nsources = [{ kind = "trending", half_life = "1h" }]\n[limits]\nusers_max = 9'
    )
    state = fold(config)
    assert state.settings == config.fold_settings()
    plan = plans(config, tmp_path)["default"]
    shop = StillShop(config.fold_settings())
    served = asyncio.run(recommend(plan, shop.moment, shop.query(), lambda: math.inf))
    assert served.failures == ()


CUSTOM = """
[[placements]]
sources = [{ kind = "custom", path = "components:Shelf", options = { limit = 4, every = "2h" } }]
filters = [{ kind = "custom", path = "components:First" }]
scorers = [{ kind = "custom", path = "components:Backwards" }]
selector = { kind = "custom", path = "components:One" }
"""


def test_components_of_one_s_own(shop, folder):
    """Each kind is loaded from the file beside the configuration, with its options, and takes part."""
    path = list(sys.path)
    served = answer(shop, CUSTOM, folder)
    assert served.failures == ()
    assert served.scorer == "backwards"
    assert served.retrieved["shelf"] == 4
    assert served.removed["first"] > 0
    assert served.selection.propensity.tolist() == [0.5]
    assert sys.path == path


def test_all_parts_but_those_of_one_s_own_are_bounded_by_work(folder):
    """Whether a part of one's own waits nobody knows, so it is judged by the clock."""
    for text, own in ((CUSTOM, {"shelf", "first", "backwards", "selector"}), ("", set())):
        for made in plans(parse_config(text), folder).values():
            expected = own if made.name == "default" else set()
            assert {*made.part_names} - made.bounded == expected


def test_an_edited_component_is_loaded_anew(shop, folder):
    """The next plan has the new code; two folders may each have a module of the same name."""
    assert answer(shop, CUSTOM, folder).retrieved["shelf"] == 4
    (folder / "components.py").write_text(COMPONENTS.replace("self.limit", "1"))
    assert answer(shop, CUSTOM, folder).retrieved["shelf"] == 1


@pytest.mark.parametrize(
    "part, says",
    [
        ('path = "components:Shelv"', 'Nearest: "Shelf"'),
        ('path = "components:function"', "has no type 'function'"),
        ('path = "components"', "'components' came"),
        ('path = "componets:Shelf"', "cannot be imported"),
        ('path = "broken:Shelf"', "cannot be read"),
        ('path = "lacking:Shelf"', "not_installed_anywhere"),
        ('path = "leaving:Shelf"', "it raised SystemExit: 3"),
        ('path = "failing:Shelf"', "it raised NameError: name 'shelf' is not defined"),
        ('path = "components:Leaves", options = { limit = 1 }', "components:Leaves raised SystemExit: 4"),
        ('path = "components:Nameless"', "has no name and no retrieve"),
        ('path = "components:Plain"', "says nothing about its options"),
        ('path = "components:Shelf", options = { limt = 4 }', "limt"),
        ('path = "components:Shelf", options = { limit = "4" }', "limit"),
        ('path = "components:Shelf", options = { every = "4" }', "every"),
    ],
)
def test_a_component_that_cannot_be_loaded_is_a_fault(folder, part, says):
    """With the place in the file, what came and what would be right."""
    config = parse_config(f'[[placements]]\nsources = [{{ kind = "trending" }}, {{ kind = "custom", {part} }}]')
    with pytest.raises(ConfigInvalid) as caught:
        plans(config, folder)
    (fault,) = caught.value.faults
    assert fault.where.startswith("midstream.toml: $.placements[0].sources[1].")
    assert says in str(fault)
    assert fault.came.endswith(".")
    assert not any(name.startswith("midstream_custom") and name.endswith("lacking") for name in sys.modules)


@pytest.mark.parametrize("name", ["blend", "cut"])
def test_two_parts_of_one_name_are_a_fault(folder, name):
    """A failure names a part, and a count of what was removed does: it must mean one."""
    config = parse_config(
        f'[[placements]]\nsources = [{{ kind = "custom", path = "components:Shelf", options = {{ name = "{name}" }} }}]'
    )
    with pytest.raises(ConfigInvalid, match=f"Two parts are called {name}"):
        plans(config, folder)


def full(sources: int = 8, filters: int = 8, scorers: int = 8) -> str:
    """A placement with so many parts of one's own, and every part that there can be beside them."""

    def own(kind: str, count: int) -> str:
        return ", ".join(
            f'{{ kind = "custom", path = "components:{kind}", options = {{ name = "{kind}{n}" }} }}'
            for n in range(count)
        )

    features = "".join(
        f'[[features]]\nname = "f{n}"\nkind = "count"\nactions = ["view"]\n' for n in range(FAILED_FEATURES_MAX)
    )
    return f"""
{features}
[[placements]]
sources = [{own("Shelf", sources)}]
filters = [{own("First", filters)}]
scorers = [{own("Backwards", scorers)}]
selector = {{ kind = "plackett_luce" }}
editorial = ["i1"]
exclude = {{ purchase = "30d", served = "1h" }}
repeats = "none"
filter = "item.available"
features = [{", ".join(f'"f{n}"' for n in range(FAILED_FEATURES_MAX))}]
rules = [{{ kind = "pin", name = "first", items = ["i1"], positions = [0] }}]
"""


class Elsewhere:
    """A system outside."""

    async def fetch(self, ids):
        return {each: [1.0] for each in ids}


def test_a_served_record_names_whatever_can_fail(folder):
    """Of the largest placement each part but the blend, without which there is no answer, and features one by one."""
    fetches = tuple(DeclaredFetch(f"fetch{n}", "user", {}, Elsewhere(), 0, 1.0, "") for n in range(FETCHES_MAX))
    plan = replace(plans(parse_config(full()), folder)["default"], fetches=fetches)
    parts = {*plan.part_names} - {plan.scorers[-1].name, block_name(0)}
    assert len(parts) + FAILED_FEATURES_MAX == FAILURES_MAX


@pytest.mark.parametrize(
    "name",
    [
        *(
            "editorial",
            "cut",
            "given",
            "page",
            "unknown",
            "cursor",
            "arrangement",
            "selector",
            "pins",
            "blend",
            "similar",
        ),
        *("availability", "available", "excluded", "repeats", "features", "features.f0", "caps.category", "diversity"),
        *("popular", "request_filter", "Shelf0"),
    ],
)
def test_a_rule_has_a_name_of_its_own(folder, name):
    """Traces, counts and reasons name rules and parts alike; one that is not there yet may come."""
    text = f"""
[items.attributes]
category = "category"
[[placements]]
sources = [{{ kind = "custom", path = "components:Shelf", options = {{ name = "Shelf0" }} }}]
caps = [{{ attribute = "category", max = 2 }}]
rules = [{{ kind = "promote", name = "fine", items = ["i1"], min = 0.2 }},
         {{ kind = "promote", name = "{name}", items = ["i2"], min = 0.2 }}]
"""
    with pytest.raises(ConfigInvalid) as caught:
        plans(parse_config(text), folder)
    (fault,) = caught.value.faults
    assert fault.where == "midstream.toml: $.placements[0].rules[1].name"
    assert name in fault.came
    assert (fault.right, fault.page) == ("A name of its own.", "/docs/rules.md")


@pytest.mark.parametrize("part", ["sources", "filters", "scorers"])
def test_no_placement_has_more_parts_than_a_record_names(folder, part):
    """Nine of a kind are refused where they stand."""
    with pytest.raises(ConfigInvalid) as caught:
        plans(parse_config(full(**{part: 9})), folder)
    assert [each.where for each in caught.value.faults] == [f"midstream.toml: $.placements[0].{part}"]


def test_the_example_of_the_docs_works(tmp_path):
    """The source of docs/sources.md, written into components.py and named as there, proposes and conforms."""
    page = (Path(__file__).parents[2] / "docs" / "sources.md").read_text("utf-8")
    (tmp_path / "components.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    line = page.rpartition("```toml\n")[2].partition("```")[0]
    attributes = '[items.attributes]\nprice = "number"\n'
    config = parse_config(f"{attributes}[[placements]]\n{line}")
    plan = plans(config, tmp_path)["default"]
    shop = StillShop()
    for number in range(9):
        shop.put(f"i{number}", price=float(number % 5))
    shop.put("no price")
    (source,) = plan.sources
    proposal = check_source(source, shop.moment())
    assert proposal is not None
    assert shop.ids(proposal.item_index.tolist()) == ["i4", "i3", "i8", "i2", "i7"]


@pytest.mark.parametrize("page", ["filters", "language", "selectors", "sources"])
def test_the_toml_of_the_docs_can_be_read(page, folder):
    """Each block of the pages is a configuration, or the part of a placement."""
    text = (Path(__file__).parents[2] / "docs" / f"{page}.md").read_text("utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```toml\n")[1:]]
    assert blocks
    for block in blocks:
        whole = block if "[[placements]]" in block else f"[[placements]]\n{block}"
        assert plans(parse_config(whole), folder)
