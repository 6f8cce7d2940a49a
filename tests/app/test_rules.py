"""Rules in the file: what is wrong with one is said, and what they did is in the slate, in its record and counted."""

import msgspec
import pytest

from midstream.app.config.reader import parse_config
from midstream.app.wiring import plans
from midstream.core.errors import ConfigInvalid, RequestInvalid
from midstream.engine.types import Ask
from midstream.ranking.rules.traces import ServedTrace
from tests.support.rig import SMALL, Rig, view

HEAD = """
[items.attributes]
category = "category"
price = "number"

[[placements]]
slate_size_max = 30
"""
PIN = 'kind = "pin", name = "a", items = ["x"], positions = [0]'
SOURCE = 'sources = [{ kind = "popular" }]\n'


def rule(text: str) -> str:
    """A placement of one rule."""
    return f"{HEAD}rules = [{{ {text} }}]"


@pytest.mark.parametrize(
    "text, where, came",
    [
        ('kind = "pins", name = "a"', "rules[0].kind", 'Nearest: "pin"'),
        ('kind = "pin", items = ["x"], positions = [0]', "rules[0].name", "missing"),
        ('kind = "pin", name = "", items = ["x"], positions = [0]', "rules[0].name", "0 bytes"),
        ('kind = "pin", name = "a\\nb", items = ["x"], positions = [0]', "rules[0].name", "came"),
        ('kind = "pin", name = " a", items = ["x"], positions = [0]', "rules[0].name", '" a" came'),
        ('kind = "pin", name = "a", items = [""], positions = [0]', "rules[0].items[0]", "0 characters came"),
        (f'kind = "promote", name = "a", items = ["x", "{"y" * 129}"], min = 0.5', "rules[0].items[1]", "came"),
        ('kind = "pin", name = "popular", items = ["x"], positions = [0]', "rules[0].name", "source or rule already"),
        ('kind = "pin", name = "a", items = ["x", "y"], positions = [0]', "rules[0].positions", "2 items and 1"),
        ('kind = "pin", name = "a", items = ["x", "x"], positions = [0, 1]', "rules[0].items", '"x" is there twice'),
        ('kind = "pin", name = "a", items = ["x", "y"], positions = [3, 3]', "rules[0].positions", "3 is there twice"),
        ('kind = "pin", name = "a", items = ["x"], positions = [30]', "rules[0].positions", "30 came"),
        ('kind = "pin", name = "a", items = ["x"], positions = [-1]', "rules[0].positions", "-1 came"),
        ('kind = "pin", name = "a", items = [], positions = []', "rules[0].positions", "0 came"),
        (f'{PIN}, start = "2026-01-01"', "rules[0].start", '"2026-01-01" came'),
        (f'{PIN}, end = "2026-01-01T00:00:00"', "rules[0].end", "came"),
        (
            f'{PIN}, start = "2026-01-02T00:00:00Z", end = "2026-01-02T01:00:00+01:00"',
            "rules[0].end",
            "is not after start",
        ),
        (f'{PIN}, when = "item.price < 3"', "rules[0].when", "item.price"),
        (f'{PIN}, when = "item.available"', "rules[0].when", "item.available cannot be named here"),
        (f'{PIN}, note = "{"n" * 501}"', "rules[0].note", "501 characters"),
        (
            'kind = "boost", name = "a", where = "item.prise < 3", factor = 2.0',
            "rules[0].where",
            'Nearest: "item.price"',
        ),
        ('kind = "boost", name = "a", where = "item.price < 3", factor = 1.0', "rules[0].factor", "changes nothing"),
        ('kind = "boost", name = "a", where = "item.price < 3", factor = 0.0', "rules[0].factor", "0.0"),
        ('kind = "promote", name = "a", min = 0.5', "rules[0]", "Neither where nor items"),
        ('kind = "promote", name = "a", min = 0.5, items = ["x"], where = "item.available"', "rules[0]", "Both"),
        ('kind = "promote", name = "a", items = ["x"]', "rules[0]", "changes nothing"),
        ('kind = "promote", name = "a", items = ["x"], min = 0.5, max = 0.4', "rules[0].min", "more than max"),
        ('kind = "new_items", name = "a", positions = [4], within = "0s"', "rules[0].within", "0s came"),
        ('kind = "new_items", name = "a", positions = [31]', "rules[0].positions", "31"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said(text: str, where: str, came: str) -> None:
    """Where, what came, what would be right, and the page."""
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(rule(text))
    (fault,) = caught.value.faults
    assert fault.where.endswith(f"$.placements[0].{where}")
    assert came in fault.came
    assert fault.right
    assert fault.page in ("/docs/rules.md", "/docs/configuration.md", "/docs/language.md")


@pytest.mark.parametrize(
    "rules, came",
    [
        (f'[{{ {PIN} }}, {{ kind = "pin", name = "b", items = ["y"], positions = [0] }}]', "0 has the rule a already."),
        (f'[{{ {PIN} }}, {{ kind = "pin", name = "b", items = ["x"], positions = [1] }}]', "x has the rule a already."),
        (f'[{{ {PIN} }}, {{ kind = "new_items", name = "b", positions = [0] }}]', "0 has the rule a already."),
        (f"[{{ {PIN} }}, {{ {PIN.replace('[0]', '[1]').replace('x', 'y')} }}]", "source or rule already"),
        (
            (
                '[{ kind = "promote", name = "a", items = ["x"], min = 0.6 }, '
                '{ kind = "promote", name = "b", items = ["y"], min = 0.5 }]'
            ),
            "The min of a, b are 1.1 together.",
        ),
    ],
)
def test_rules_that_contradict_each_other_are_refused(rules: str, came: str) -> None:
    """Two that are in force together whatever is asked: one position, one item, one name, shares above the whole."""
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(f"{HEAD}rules = {rules}")
    assert [came in fault.came for fault in caught.value.faults] == [True]


@pytest.mark.parametrize("other", ['start = "2027-01-01T00:00:00Z"', """when = 'context.shop == "b"'"""])
def test_rules_of_other_times_or_requests_may_want_the_same(other: str) -> None:
    """One ends when the other begins, or nobody knows whether they meet."""
    first = f'{PIN}, end = "2027-01-01T00:00:00Z"'
    config = parse_config(
        f'{HEAD}rules = [{{ {first} }}, {{ kind = "pin", name = "b", items = ["x"], positions = [0], {other} }}]'
    )
    assert [each.name for each in config.placements[0].rules] == ["a", "b"]


@pytest.mark.parametrize(
    "line, came",
    [
        ('selector = { kind = "custom", path = "a:B" }\nrules = [{ PIN }]', "selector of your own"),
        (
            (
                'selector = { kind = "thompson", acts = "clicks", impressions = "seen" }\n'
                'features = ["clicks", "seen"]\n'
                'rules = [{ kind = "boost", name = "b", where = "item.price < 1", factor = 2.0 }]'
            ),
            "goes by rates alone",
        ),
    ],
)
def test_rules_beside_what_cannot_keep_them_are_refused(line: str, came: str) -> None:
    """A selector of one's own, and boosts beside a selector that reads no scores."""
    features = "".join(
        f'[[features]]\nname = "{name}"\nkind = "count"\nactions = ["{act}"]\nhalf_life = ["30d"]\n'
        for name, act in (("clicks", "view"), ("seen", "impression"))
    )
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(HEAD + line.replace("PIN", PIN) + "\n" + features)
    assert [came in fault.came for fault in caught.value.faults] == [True]


def test_a_slate_of_the_file_has_its_rules_and_says_so() -> None:
    """Pins stand, one that nobody proposed has its rule for a source, a hidden one does not come; the record tells."""
    text = f"""{HEAD}{SOURCE}
caps = [{{ attribute = "category", max = 4 }}]
rules = [
    {{ kind = "pin", name = "hero", items = ["i30", "i31", "gone"], positions = [1, 3, 4] }},
    {{ kind = "promote", name = "cheap", where = "item.price == 1", min = 0.2 }},
    {{ kind = "boost", name = "dear", where = "item.price >= 15", factor = 100.0, when = "context.rich" }},
    {{ kind = "pin", name = "over", items = ["i5"], positions = [0], end = "2001-01-01T00:00:00Z" }},
]
"""
    config = msgspec.structs.replace(parse_config(text), limits=SMALL.limits)

    async def work(rig: Rig) -> None:
        items = [
            {
                "type": "item",
                "item_id": f"i{number}",
                "attributes": {"category": f"c{number % 4}", "price": 19 - number, "available": number != 31},
            }
            for number in range(40)
        ]
        acts = [view(f"i{number}", user=f"u{n}") for number in range(20) for n in range(20 - number)]
        await rig.engine.record(rig.batch(*items))
        await rig.engine.record(rig.batch(*acts))
        plain = await rig.engine.recommend(Ask(n=5))
        assert [item.id for item in plain.items] == ["i0", "i30", "i1", "i2", "i18"]
        rich = await rig.engine.recommend(Ask(n=5, context={"rich": True}))
        assert [item.id for item in rich.items][1] == "i30"
        with pytest.raises(RequestInvalid, match="rich"):
            await rig.engine.recommend(Ask(n=5, context={"rich": "yes"}))
        await rig.engine.record(rig.batch(view("i0", user="u0")))  # what was served is in the log before it
        record = rig.engine.served(plain.request_id)
        assert record is not None
        assert record.retrieved["hero"] == 2
        assert record.removed["available"] == 1
        assert [item.sources for item in record.items][1] == ("hero",)
        assert record.traces == (
            ServedTrace("hero", "unknown", None, 4),
            ServedTrace("hero", "ineligible", "i31", 3),
            ServedTrace("hero", "pinned", "i30", 1),
            ServedTrace("cheap", "promoted", "i18", 4),
        )
        told = rig.engine.metrics.text()
        assert b'midstream_rule_actions_total{placement="default",rule="hero"} 6.0' in told
        assert b'rule="over"' not in told

    Rig(config=config).run(work)


def test_pins_weigh_nothing_in_the_blend() -> None:
    """A pin says where an item stands, and nothing of how good it is."""
    blend = plans(parse_config(rule(PIN)))["default"].scorers[-1]
    assert msgspec.to_builtins(blend)["weights"] == {"a": 0.0}
