"""Faults of declarations: each says where, what came, what would be right, and the nearest name."""

import msgspec
import pytest

from midstream.core.durations import Duration
from midstream.events.wire import AttributeKind
from midstream.features.checking import COLUMNS_MAX, FEATURES_MAX, feature_faults
from midstream.features.kinds.kinds import (
    Affinity,
    AnyFeature,
    Boolean,
    CandidateDiversity,
    Category,
    Computed,
    Count,
    ItemAge,
    LastItems,
    Match,
    Number,
    Position,
    Random,
    Rate,
    Vector,
)
from midstream.state.settings import EventType, FoldSettings, read_duration

ATTRIBUTES: dict[str, AttributeKind] = {
    "price": "number",
    "colour": "category",
    "tags": "tags",
    "fresh": "boolean",
    "look": "vector:4",
}
TYPES = FoldSettings().types
VIEWS = Count(name="views", actions=("view",))


def faults(*features):
    """What is wrong with these, beside one another."""
    return list(feature_faults(features, ATTRIBUTES, TYPES))


GOOD = (
    VIEWS,
    Count(name="seen", actions=("impression",), windows=(Duration("1h"), Duration("1d"))),
    Count(name="of_colour", scope="attribute", attribute="colour", actions=("view",), ttl=Duration("7d")),
    Rate(name="rate", actions=("click",), per=("impression",)),
    Affinity(name="leaning", attribute="tags", actions=("view",)),
    Number(name="price"),
    Number(name="budget", scope="request"),
    Number(name="spent", scope="user", reduce="max"),
    Number(name="loudest", attribute="look", reduce="max"),
    Vector(name="look", scope="item", length=4),
    Vector(name="taste", length=3),
    Boolean(name="available"),
    Category(name="colour", values=("red", "blue")),
    Category(name="tag", attribute="tags", form="hashed", buckets=100),
    ItemAge(name="age"),
    Match(name="same", attribute="colour", scope="user", actions=("purchase",)),
    LastItems(name="last"),
    LastItems(name="colours", attribute="colour", form="index", values=("red",)),
    Computed(name="worth", text="log(views) * item.price + twice"),
    Computed(name="twice", text="seen_1h * 2 + context.budget"),
)
BAD: tuple[tuple[AnyFeature, str, str], ...] = (
    (Count(name="Views", actions=("view",)), ".name", "Views"),
    (Number(name="read", attribute="price"), ".name", "read"),
    (Number(name="reward", attribute="price"), ".name", "another column"),
    (Position(name="position"), ".name", '"position"'),
    (Random(name="outcome_view"), ".name", '"outcome_view"'),
    (Category(name="acted_after", attribute="colour", form="one_hot", values=("ms",)), ".name", "acted_after_ms"),
    (Number(name="from", attribute="price"), ".name", "from"),
    (Count(name="a", actions=("veiw",)), ".actions[0]", 'Nearest: "view"'),
    (Count(name="a", actions=()), ".actions", "empty"),
    (Count(name="a", actions=("view", "view")), ".actions", "twice"),
    (Rate(name="a", actions=("click",), per=("impresion",)), ".per[0]", 'Nearest: "impression"'),
    (Count(name="a", actions=("view",), windows=(Duration("1ms"),)), ".windows[0]", "1ms"),
    (Count(name="a", actions=("view",), windows=(Duration("60m"), Duration("1h"))), ".windows", "twice"),
    (Count(name="a", actions=("view",), half_life=(Duration("366d"),)), ".half_life[0]", "366d"),
    (Count(name="a", actions=("view",), ttl=Duration("0s")), ".ttl", "0ms"),
    (Count(name="a", actions=("view",), windows=tuple(Duration(f"{n}h") for n in range(1, 10))), "", "9 windows"),
    (Count(name="a", actions=("view",), attribute="colour"), ".attribute", 'scope "item"'),
    (Count(name="a", actions=("view",), scope="attribute"), ".attribute", "missing"),
    (Count(name="a", actions=("view",), scope="attribute", attribute="price"), ".attribute", "is a number"),
    (Count(name="a", actions=("impression",), scope="session"), ".actions[0]", "no session"),
    (Count(name="a", actions=("dismiss",), scope="session"), ".actions[0]", "no session"),
    (Affinity(name="a", actions=("dismiss",), attribute="colour"), ".actions[0]", "no weight"),
    (Number(name="prize"), ".attribute", 'Nearest: "price"'),
    (Number(name="colour"), ".attribute", "is a category"),
    (Number(name="price", reduce="max"), ".attribute", "is a number"),
    (Number(name="budget", scope="request", reduce="max"), ".reduce", "request"),
    (Number(name="look"), ".attribute", "is a vector:4"),
    (Vector(name="look", scope="item", length=3), ".length", "vector:4"),
    (Vector(name="price", scope="item", length=3), ".attribute", "is a number"),
    (Vector(name="a", scope="item", attribute="lok", length=4), ".attribute", 'Nearest: "look"'),
    (Category(name="look", values=("a",)), ".attribute", "is a vector:4"),
    (CandidateDiversity(name="look"), ".attribute", "is a vector:4"),
    (Match(name="a", attribute="look"), ".attribute", "is a vector:4"),
    (Count(name="a", actions=("view",), scope="attribute", attribute="look"), ".attribute", "is a vector:4"),
    (Boolean(name="price"), ".attribute", "is a number"),
    (Category(name="colour"), ".values", "0 values"),
    (Category(name="colour", values=("a", "a")), ".values", "twice"),
    (Category(name="colour", form="hashed"), ".buckets", "0 came"),
    (Category(name="colour", form="hashed", buckets=9, values=("a",)), ".values", "goes with"),
    (Category(name="colour", values=("a",), buckets=9), ".buckets", "goes with"),
    (ItemAge(name="a", attribute="fresh"), ".attribute", "is a boolean"),
    (CandidateDiversity(name="fresh"), ".attribute", "is a boolean"),
    (Match(name="a", attribute="price"), ".attribute", "is a number"),
    (Match(name="a", attribute="colour", actions=("view",)), ".actions", "session"),
    (Match(name="a", attribute="colour", scope="user", actions=("impression",)), ".actions[0]", "impression"),
    (LastItems(name="a", form="index", values=("red",)), ".form", "no list"),
    (LastItems(name="a", actions=("view",)), ".actions", "session"),
    (Position(name="a", otherwise=float("inf")), ".otherwise", "inf"),
    (Computed(name="a", text="veiws + 1"), ".text", "column 1"),
    (Computed(name="a", text="1 + item.prise"), ".text", 'column 5: "item.prise" is not a declared attribute. Nearest'),
    (Computed(name="a", text="item.colour"), ".text", "is a category"),
    (Computed(name="a", text="item.look"), ".text", "is a vector:4"),
    (Computed(name="a", text="a + 1"), ".text", "a → a"),
    (Computed(name="a", text="1 +"), ".text", "Something is missing."),
)


def test_sound_declarations_have_no_faults():
    """Nor has none."""
    assert faults(*GOOD) == []
    assert faults() == []


@pytest.mark.parametrize("feature,where,came", BAD, ids=lambda each: getattr(each, "name", str(each)))
def test_each_mistake_is_one_fault(feature, where, came):
    """With a pointer to the option, in four parts, beside sound ones."""
    (found,) = faults(VIEWS, feature)
    assert found.where == f"$.features[1]{where}"
    assert came in found.came
    assert found.right
    assert found.page == f"/docs/{'language' if where.endswith('.text') else 'features'}.md"


@pytest.mark.parametrize("weight, is_fault", [(-2.0, True), (-0.5, True), (0.0, True), (0.5, False)])
def test_sums_of_weights_have_none_that_is_not_above_zero(weight, is_fault):
    """Shares of a sum need what is added to be above 0; without weights each act is one."""
    types = {**TYPES, "rated": EventType(weight=weight)}
    for weighted in (True, False):
        feature = Affinity(name="a", actions=("view", "rated"), attribute="colour", weighted=weighted)
        found = list(feature_faults((feature,), ATTRIBUTES, types))
        assert [each.where for each in found] == (["$.features[0].actions[1]"] if is_fault and weighted else [])


def test_names_stand_once():
    """A column of one feature is no name of another."""
    (found,) = faults(VIEWS, Random(name="views"))
    assert (found.where, '"views" is also' in found.came) == ("$.features[1].name", True)
    (found,) = faults(Vector(name="taste", length=3), Random(name="taste_1"))
    assert '"taste_1" is also a name or column of $.features[0]' in found.came


def test_how_many_there_may_be():
    """With the sum that led to the number."""
    (found,) = faults(*(Random(name=f"r{number}") for number in range(FEATURES_MAX + 1)))
    assert found.came.startswith(f"{FEATURES_MAX + 1} features")
    (found,) = faults(Vector(name="taste", length=200), Vector(name="style", length=56), VIEWS)
    assert found.came == f"{COLUMNS_MAX + 1} columns: 200 of taste + 56 of style + 1 of views."


def test_expressions_of_expressions_are_bounded():
    """What doubles at each step would never end; what names it is not told of a second time."""
    chain = [
        Computed(name="x0", text="1 + 2"),
        *(Computed(name=f"x{n}", text=f"x{n - 1} + x{n - 1}") for n in range(1, 60)),
    ]
    found = faults(*chain)
    assert [each.where for each in found] == [f"$.features[{n}].text" for n in range(6, 60, 7)]
    assert "steps" in found[0].came


def test_circles_are_told_once():
    """Not again for each that leads into one."""
    (found,) = faults(
        Computed(name="a", text="b + 1"), Computed(name="b", text="c + 1"), Computed(name="c", text="b * 2")
    )
    assert found.where == "$.features[1].text"
    assert found.came == "It is made of itself: b → c → b."


def test_declarations_are_read_from_tables():
    """As a configuration file has them; unknown options are refused."""
    told = {"kind": "rate", "name": "rate", "actions": ["click"], "per": ["impression"], "ttl": "30d"}
    found = msgspec.convert(told, AnyFeature, dec_hook=read_duration)
    assert found == Rate(name="rate", actions=("click",), per=("impression",), ttl=Duration("30d"))
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({**told, "smooth": 3}, AnyFeature, dec_hook=read_duration)
