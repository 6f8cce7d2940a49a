"""Conditions of a run that its seed draws: maxima, settings, and how often each client does what.

Every run leaves some actions out altogether, so that what only happens without them is met too (swarm testing).

Reference: A. Groce et al., Swarm Testing, ISSTA 2012.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tests.support.dice import Dice
from tests.support.fuzz.declared import Declared, declared

STRICT_FILTER = "item.price <= 50"
"""Of the placement ``strict``."""
IDS_FEW = 48
"""Event ids that are remembered in some runs: fewer than are sent while somebody waits."""
KEEP = "3d"
"""Longer than a run takes, so that whatever is cut was not too old."""
_SIZE = "slate_size = 20"
_DECLARED = "# declared features"
_READS = "# features that are read"
_OTHER_SIZE = "slate_size = 7"
_KNN = '{ kind = "session_knn", entries_max = 5, history_items_max = 4 }'
_PAIRS = '{ kind = "covisitation", limit = 6, history_items_max = 4 }'
_TRENDING = '{ kind = "trending", limit = 6 }'
_BY_SEGMENT = '{ kind = "trending", limit = 6, by_segment = true }'

_LIMITS = """feature_user_items_max = 12
feature_user_values_max = 8
outcome_slates_max = 9
outcome_items_max = 30
outcomes_waiting_max = 4"""
"""Of what features count of pairs, and of what came of slates."""


class Lasting(NamedTuple):
    """Settings that stay through a run: the model of what is right has one value of each."""

    unknown_items: str
    event_ids_max: int
    segment_bytes_max: int
    hot: str
    """Log time that stays in segments."""
    interval: str
    outcome_window: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """What one run is like."""

    texts: tuple[str, ...]
    """Contents that the configuration file has in turn, the first one at the beginning."""
    lasting: Lasting
    clients: int
    acts: Mapping[str, float]
    """Name of a client's action to its weight."""
    turns: Mapping[str, float]
    """Name of an operator's action to its weight."""
    pause_s: float
    """Mean time between two actions of a client."""
    calm_s: float
    """Mean time between two of the operator."""

    @property
    def may_refuse(self) -> bool:
        """Whether an act may be refused for its item."""
        return self.lasting.unknown_items == "reject"


def drawn(dice: Dice, acts: Mapping[str, float], turns: Mapping[str, float]) -> Conditions:
    """Return the conditions of a run: each weight up to four times higher or lower, a quarter of the actions gone."""
    lasting = Lasting(
        unknown_items=dice.choice(("accept", "accept", "hold", "reject")),
        event_ids_max=IDS_FEW if dice.chance(0.3) else 4_096,
        segment_bytes_max=dice.choice((1_500, 3_000, 8_000, 1 << 20)),
        hot=dice.choice(("1ms", "1ms", "1s")),
        interval=dice.choice(("1s", "5s", "1h")),
        outcome_window=dice.choice(("1m", "1h", "7d")),
    )
    first, second = _text(dice, lasting), _text(dice, lasting)
    features = (declared(dice), declared(dice)) if dice.chance(0.6) else (Declared(), Declared())
    texts = _reading(first, features[0]), _reading(second, features[1]), _reading(first, features[1])
    return Conditions(
        # The third differs from the first in features alone; the last needs another plan, and the same state.
        texts=(*dict.fromkeys(texts), texts[0].replace(_SIZE, _OTHER_SIZE)),
        lasting=lasting,
        clients=2 + dice.below(4),
        acts=_swarm(dice, acts),
        turns=_swarm(dice, turns),
        pause_s=dice.choice((0.003, 0.02, 0.2)),
        calm_s=dice.choice((0.02, 0.1, 0.5)),
    )


def _swarm(dice: Dice, weights: Mapping[str, float]) -> Mapping[str, float]:
    found = {name: weight * 4 ** dice.between(-1, 1) for name, weight in weights.items() if dice.chance(0.75)}
    return found or weights


def _reading(text: str, features: Declared) -> str:
    """Return a configuration with features."""
    return text.replace(_DECLARED, features.text).replace(_READS, features.reads)


def _text(dice: Dice, lasting: Lasting) -> str:
    """Return a configuration whose every maximum is met within some hundred events, but for items and documents."""
    segment = dice.choice(("", "user.plan", "context.page"))
    trending = _BY_SEGMENT if segment else _TRENDING
    return f"""
[events.types]
view = {{}}
click = {{}}
cart = {{ weight = {dice.choice(("3.0", "5.0"))} }}
purchase = {{ weight = 8.0 }}
dismiss = {{ weight = -2.0 }}
[items]
unknown_items = "{lasting.unknown_items}"
[items.attributes]
price = "number"
category = "category"
tags = "tags"
fresh = "boolean"
look = "vector:2"
[sessions]
gap = "{dice.choice(("20s", "2m", "30m"))}"
[trending]
segment = "{segment}"
[limits]
users_max = {dice.choice((9, 12))}
items_max = 64
click_items_max = 5
sessions_max = 6
session_items_max = 5
index_sessions_max = 17
index_items_max = 4
index_entries_max = 5
user_ring_max = 4
event_ids_max = {lasting.event_ids_max}
requests_max = 9
hot_items_max = 6
attribute_values_max = 8
item_tags_max = 3
document_bytes_max = 1000000
pair_neighbours_max = 3
pair_items_max = 3
segment_values_max = 2
new_items_max = 6
{_LIMITS}
aliases_max = 30
erased_max = 100
[log]
segment_bytes_max = {lasting.segment_bytes_max}
[feedback]
window = "{lasting.outcome_window}"
[history]
hot = "{lasting.hot}"
keep = "{KEEP}"
[snapshots]
interval = "{lasting.interval}"
{_DECLARED}
[[placements]]
{_SIZE}
{_READS}
sources = [{_KNN}, {trending}, {{ kind = "popular", limit = 6 }}]
repeats = "{dice.choice(("any", "not_last", "none"))}"
deadline = "{dice.choice(("5ms", "50ms", "2s"))}"
[[placements]]
name = "strict"
{_READS}
filter = "{STRICT_FILTER}"
exclude = {{ purchase = "30d", impression = 3 }}
repeats = "none"
sources = [{_KNN}, {_PAIRS}, {{ kind = "recent_items", limit = 6 }}, {_TRENDING}]
"""
