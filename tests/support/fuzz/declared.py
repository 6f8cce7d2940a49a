"""Declared features of a run: some of a menu that has every scope, kind of memory and way to grow old once."""

from typing import NamedTuple

from tests.support.dice import Dice

TABLE_NAME = "quality.csv"
TABLE = "id,computed_at,score\n" + "".join(
    f"i{number},{time},{number * 1.5}\n" for number in range(0, 20, 3) for time in ("2020-01-01", "2024-06-01")
)
"""A file from elsewhere, which stays as it is."""
_SETTINGS = f"""
[[tables]]
name = "quality"
path = "{TABLE_NAME}"
time = "computed_at"
"""
_WINDOWS = ("10s", "1m", "1h", "2d")
_HALF_LIVES = ("1m", "2h", "7d")
_MENU: dict[str, str] = {
    "item_recent": 'kind = "count"\nactions = ["view", "click"]\nwindows = ["{window}", "1d"]\nhalf_life = ["{half}"]',
    "item_views": 'kind = "count"\nactions = ["view"]',
    "item_rate": 'kind = "rate"\nactions = ["click", "cart"]\nper = ["impression"]\nhalf_life = "{half}"',
    "item_visitors": 'kind = "unique_count"\nof = "user"\nactions = ["view", "click"]\nttl = "{window}"',
    "item_paid": 'kind = "statistic"\nstatistic = "mean"\nactions = ["cart", "purchase"]',
    "item_paid_last": 'kind = "statistic"\nstatistic = "last"\nactions = ["view", "cart", "purchase"]',
    "user_acts": 'kind = "count"\nscope = "user"\nactions = ["view", "click"]\nweighted = true\nttl = "{window}"',
    "user_idle": 'kind = "since"\nscope = "user"\nactions = ["view", "click", "cart"]',
    "user_spread": 'kind = "statistic"\nscope = "user"\nstatistic = "deviation"\nactions = ["view", "purchase"]',
    "pair_seen": 'kind = "count"\nscope = "user_item"\nactions = ["impression", "view"]\nhalf_life = ["{half}"]',
    "pair_idle": 'kind = "since"\nscope = "user_item"\nactions = ["view", "impression"]\nttl = "{window}"',
    "category_worth": (
        'kind = "count"\nscope = "attribute"\nattribute = "category"\nactions = ["view", "cart"]\nweighted = true'
    ),
    "tag_visits": (
        'kind = "unique_count"\nscope = "attribute"\nattribute = "tags"\nof = "session"\nactions = ["view"]'
    ),
    "user_category": (
        'kind = "count"\nscope = "user_attribute"\nattribute = "category"\nactions = ["view"]\nhalf_life = ["{half}"]'
    ),
    "tag_affinity": 'kind = "affinity"\nattribute = "tags"\nactions = ["view", "click"]\nhalf_life = "{half}"',
    "session_acts": 'kind = "count"\nscope = "session"\nactions = ["view", "click", "cart"]',
    "session_items": 'kind = "unique_count"\nscope = "session"\nof = "item"\nactions = ["view", "click"]',
    "everybody": 'kind = "count"\nscope = "global"\nactions = ["view", "impression"]\nwindows = ["{window}"]',
    "same_category": 'kind = "match"\nattribute = "category"',
    "same_tags": 'kind = "match"\nscope = "user"\nattribute = "tags"\nactions = ["view", "click"]',
    "last_items": 'kind = "sequence"\nlast = 2\nbuckets = 100',
    "beside": 'kind = "pair_score"',
    "alike": 'kind = "knn_score"',
    "plan_number": 'kind = "number"\nscope = "user"\nattribute = "plan"',
    "price": 'kind = "number"',
    "known_for": 'kind = "item_age"',
    "worth": 'kind = "expression"\ntext = "log(if_nan(item.price, 3)) / 2 + item.fresh"',
    "chance": 'kind = "random"',
    "quality": 'kind = "external"\ntable = "quality"\ncolumns = ["score"]',
    "price_diversity": 'kind = "diversity"\nattribute = "price"',
}
"""Options by the name of the feature."""


class Declared(NamedTuple):
    """Parts of a configuration."""

    text: str = ""
    """The declarations."""
    reads: str = ""
    """Settings of a placement that reads them all and keeps what it read."""


def declared(dice: Dice) -> Declared:
    """Return some features of the menu, in an order of their own."""
    left = list(_MENU)
    names = [left.pop(dice.below(len(left))) for _ in range(3 + dice.below(6))]
    found = [_SETTINGS]
    for name in names:
        options = _MENU[name].format(window=dice.choice(_WINDOWS), half=dice.choice(_HALF_LIVES))
        found.append(f'[[features]]\nname = "{name}"\n{options}\n')
    listed = ", ".join(f'"{name}"' for name in names)
    return Declared("".join(found), f"features = [{listed}]\nlog_features = 1.0")
