"""What differs from seed to seed beside the order of things: maxima, settings, who does what how often.

Every run leaves some actions out altogether, so that what only happens without them is met too (swarm testing).

Reference: A. Groce et al., Swarm Testing, ISSTA 2012.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from midstream.app.config import (
    Config,
    ItemsSection,
    LogSection,
    Placement,
    SessionsSection,
    SnapshotsSection,
)
from midstream.core.durations import Duration
from midstream.events.wire import AttributeKind
from midstream.ranking.repeats import Repeat
from midstream.state.settings import Limits, UnknownItems
from midstream.testing.dice import Dice

ATTRIBUTES: dict[str, AttributeKind] = {"price": "number", "category": "category", "tags": "tags", "fresh": "boolean"}
REPEATS: tuple[Repeat, ...] = ("any", "not_last", "none")
STRICT_FILTER = "item.price <= 50"
"""Of the placement ``strict``."""
_LIMITS = Limits(
    users_max=12,
    items_max=64,
    click_items_max=5,
    sessions_max=6,
    session_items_max=5,
    index_sessions_max=17,
    index_items_max=4,
    index_entries_max=5,
    user_ring_max=4,
    event_ids_max=4_096,
    requests_max=9,
    hot_items_max=6,
    attribute_values_max=8,
    item_tags_max=3,
    document_bytes_max=1_000_000,
)
"""Every maximum is met within some hundred events, but for those of items and documents: the oracle has none."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What one run is like."""

    config: Config
    clients: int
    acts: Mapping[str, float]
    """Name of a client's action to its weight."""
    turns: Mapping[str, float]
    """Name of an operator's action to its weight."""
    pause_s: float
    """Mean time between two actions of a client."""
    calm_s: float
    """Mean time between two of the operator."""


def drawn(dice: Dice, acts: Mapping[str, float], turns: Mapping[str, float]) -> Conditions:
    """Return the conditions of a run: each weight up to four times higher or lower, a quarter of the actions gone."""
    return Conditions(
        config=_config(dice),
        clients=2 + dice.below(4),
        acts=_swarm(dice, acts),
        turns=_swarm(dice, turns),
        pause_s=dice.choice((0.003, 0.02, 0.2)),
        calm_s=dice.choice((0.1, 0.4, 2.0)),
    )


def _swarm(dice: Dice, weights: Mapping[str, float]) -> Mapping[str, float]:
    drawn = {name: weight * 4 ** dice.between(-1, 1) for name, weight in weights.items() if dice.chance(0.75)}
    return drawn or weights


def _config(dice: Dice) -> Config:
    limits = _LIMITS
    if dice.chance(0.3):
        limits = msgspec.structs.replace(limits, event_ids_max=48)
    unknowns: tuple[UnknownItems, ...] = ("accept", "accept", "hold", "reject")
    return Config(
        items=ItemsSection(attributes=ATTRIBUTES, unknown_items=dice.choice(unknowns)),
        sessions=SessionsSection(gap=Duration(dice.choice(("20s", "2m", "30m")))),
        limits=limits,
        log=LogSection(segment_bytes_max=dice.choice((2_000, 10_000, 1 << 20))),
        snapshots=SnapshotsSection(interval=Duration(dice.choice(("300ms", "2s", "1h")))),
        placements=tuple(_placements(dice)),
    )


def _placements(dice: Dice) -> Iterable[Placement]:
    yield Placement(repeats=dice.choice(REPEATS), deadline=Duration(dice.choice(("5ms", "50ms", "2s"))))
    yield Placement(name="strict", filter=STRICT_FILTER, exclude={"purchase": "30d", "impression": 3}, repeats="none")
