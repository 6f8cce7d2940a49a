"""Suggested declarations of features for a shop, from figures of its log and catalogue, each with a reason.

A feature with too few events is not proposed. Equal figures give equal declarations, in the same order.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from midstream.core.durations import Duration
from midstream.core.kinds import IMPRESSION
from midstream.events.wire import vector_length
from midstream.features.kinds.kinds import (
    Affinity,
    AnyFeature,
    Boolean,
    Category,
    Count,
    Device,
    ItemAge,
    KnnScore,
    LocalTime,
    Match,
    Number,
    PairScore,
    Rate,
    Referrer,
    Since,
    Statistic,
    Vector,
    columns_of,
)
from midstream.features.reserved import is_reserved

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
WINDOWS = tuple(map(Duration, ("1h", "1d", "7d", "30d")))
EVENTS_MIN = 20
"""Events of a type from which it is counted at all."""
WINDOW_EVENTS_MIN = 100
"""Events of a type that fall into a window on average: with fewer it is empty nearly everywhere."""
COVERAGE_MIN = 0.2
"""Share of the items that have an attribute."""
ONE_HOT_MAX = 8
"""Distinct values up to which a category has a column each."""
VALUE_CHARACTERS_MAX = 60
"""Of the values of a list, which people read."""
VECTOR_COLUMNS_MAX = 32
"""Numbers of a vector up to which each has a column."""
ITEMS_A_VALUE_MIN = 2
"""Items a value on average: in a title or an article number each item has its own."""
KEYS_MAX = 20_000
"""Distinct values of an attribute up to which users lean to some of them."""
TYPES_MAX = 4
"""Types that have features of their own: the most frequent ones."""
ATTRIBUTES_MAX = 12
"""Attributes that have features of their own: those that most items have."""
COLUMNS_MAX = 120
"""About half of the maximum: room for declarations by hand."""
FEATURES_MAX = 48
_AGENT, _REFERRER = "user_agent", ("referrer", "referer")
_NOT_A_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class TypeLook:
    """One type of interaction, or impressions."""

    count: int
    values: int
    """Events that carry a value."""
    weight: float


@dataclass(frozen=True, slots=True)
class AttributeLook:
    """One attribute of the catalogue."""

    kind: str
    """``number``, ``boolean``, ``category`` or ``tags``: as it is declared, else as most of its values are."""
    is_declared: bool
    items: int
    """Items that have it, of those that were looked at."""
    coverage: float
    """Their share of these."""
    values: tuple[str, ...]
    """Distinct texts, the most frequent first, as many as were kept."""
    distinct: int
    """Distinct texts, as far as they were counted."""


@dataclass(frozen=True, slots=True)
class Look:
    """Figures of a log and a catalogue."""

    types: Mapping[str, TypeLook]
    """Interactions that are configured, and ``impression``."""
    span_ms: int
    """From the first interaction to the last, by event time."""
    users: int
    items: int
    sessions: int
    context: tuple[str, ...]
    """Names of context values that interactions carry."""
    attributes: Mapping[str, AttributeLook]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A declaration and why it is proposed."""

    feature: AnyFeature
    why: str
    needs: str = ""
    """Attribute that is to be declared before; empty = none."""


def suggestions(look: Look) -> list[Suggestion]:
    """Return declarations, the most general first; at most ``COLUMNS_MAX`` columns, each name once."""
    parts = (_items(look), _rates(look), _users(look), _attributes(look), _sessions(look), _requests(look))
    found: list[Suggestion] = []
    taken: set[str] = set()
    for each in (one for part in parts for one in part):
        columns = {each.feature.name, *columns_of((each.feature,))[each.feature.name]}
        if not columns & taken and len(taken | columns) <= COLUMNS_MAX and len(found) < FEATURES_MAX:
            found.append(each)
            taken |= columns
    return found


def name_of(*words: str) -> str:
    """Return a name for a feature, of letters, digits and ``_``, a letter first, that is not reserved."""
    name = _word_of("_".join(words))
    return f"f_{name}" if is_reserved(name) else name


def _word_of(text: str) -> str:
    word = _NOT_A_NAME.sub("_", text.lower()).strip("_")
    return (word if word[:1].isalpha() else f"f_{word}")[:60]


def _frequent(look: Look) -> list[tuple[str, TypeLook]]:
    """Return the interactions that speak for an item and are frequent enough, the most frequent first."""
    good = [
        (name, each)
        for name, each in look.types.items()
        if name != IMPRESSION and each.weight > 0.0 and each.count >= EVENTS_MIN
    ]
    return sorted(good, key=lambda each: (-each[1].count, each[0]))[:TYPES_MAX]


def _windows(look: Look, count: int) -> tuple[Duration, ...]:
    """Return the windows that are shorter than half the log and are not empty nearly everywhere."""
    return tuple(
        each
        for each in WINDOWS
        if 2 * each.ms <= look.span_ms and count * each.ms / max(1, look.span_ms) >= WINDOW_EVENTS_MIN
    )


def _items(look: Look) -> Iterator[Suggestion]:
    """Yield counts of items."""
    for name, each in _frequent(look):
        windows = _windows(look, each.count)
        days = look.span_ms / DAY_MS
        density = f"{each.count:,} events of {name} in {days:.1f} days on {look.items:,} items"
        if windows:
            yield Suggestion(
                Count(name=name_of("item", name), actions=(name,), windows=windows),
                f"{density}: windows that at least {WINDOW_EVENTS_MIN} of them fall into",
            )
        fading = Count(name=name_of("item", name, "fading"), actions=(name,), half_life=(_half_life(look),))
        yield Suggestion(fading, f"{density}: one number that forgets slowly")
    if look.items >= EVENTS_MIN and look.span_ms >= DAY_MS:
        yield Suggestion(ItemAge(name="item_age"), f"{look.items:,} items over {look.span_ms / DAY_MS:.0f} days")


def _half_life(look: Look) -> Duration:
    """Return a half-life that goes with the length of the log."""
    return Duration("7d") if look.span_ms >= 14 * DAY_MS else Duration("1d")


def _rates(look: Look) -> Iterator[Suggestion]:
    """Yield what a look is worth: per impression where there are some, else per act of the most frequent type."""
    frequent = _frequent(look)
    shown = look.types.get(IMPRESSION, TypeLook(0, 0, 0.0))
    if not frequent:
        return
    per, base = (IMPRESSION, shown) if shown.count >= EVENTS_MIN else frequent[0]
    for name, each in frequent:
        if name != per:
            rate = Rate(name=name_of("item", name, "rate"), actions=(name,), per=(per,), half_life=_half_life(look))
            yield Suggestion(rate, f"{each.count:,} {name} on {base.count:,} {per}: how often one leads to the other")


def _users(look: Look) -> Iterator[Suggestion]:
    """Yield what users do, and when they did it last."""
    frequent = _frequent(look)
    if look.users < EVENTS_MIN:
        return
    for name, each in frequent[:2]:
        mean = f"{each.count / look.users:.1f} {name} a user ({look.users:,} users)"
        count = Count(name=name_of("user", name), scope="user", actions=(name,), half_life=(_half_life(look),))
        yield Suggestion(count, f"{mean}: how busy who asks is")
        yield Suggestion(
            Since(name=name_of("user_since", name), scope="user", actions=(name,)), f"{mean}: how long ago"
        )
    if frequent and frequent[0][1].count >= 3 * look.users:
        name = frequent[0][0]
        same = Count(name=name_of("user_item", name), scope="user_item", actions=(name,))
        yield Suggestion(same, f"users act {frequent[0][1].count / look.users:.1f} times: has this one seen this item")
    for name, each in frequent:
        if each.values >= EVENTS_MIN:
            why = f"{each.values:,} of {each.count:,} {name} carry a value"
            spent = Statistic(name=name_of("user", name, "value"), scope="user", actions=(name,), statistic="mean")
            yield Suggestion(spent, f"{why}: what a user is used to")
            usual = Statistic(name=name_of("item", name, "value"), actions=(name,), statistic="mean")
            yield Suggestion(usual, f"{why}: what the item goes for")


def _attributes(look: Look) -> Iterator[Suggestion]:
    """Yield attributes of items, and how they go with users and sessions."""
    known = {name: each for name, each in look.attributes.items() if each.coverage >= COVERAGE_MIN}
    ordered = sorted(known.items(), key=lambda each: (not each[1].is_declared, -each[1].coverage, each[0]))
    liked = tuple(sorted(name for name, _ in _frequent(look)))
    for name, each in ordered[:ATTRIBUTES_MAX]:
        told = f"{each.coverage:.0%} of the items have {name}"
        needs = "" if each.is_declared else name
        for feature, why in _of_attribute(name, each, liked, look):
            yield Suggestion(feature, f"{told}{why}", needs)


def _of_attribute(
    name: str, attribute: AttributeLook, liked: tuple[str, ...], look: Look
) -> Iterator[tuple[AnyFeature, str]]:
    """Yield features of one attribute, and what of it speaks for each."""
    if attribute.kind == "number":
        yield Number(name=name_of("item", name), attribute=name), ""
    elif attribute.kind == "boolean":
        yield Boolean(name=name_of("item", name), attribute=name), ""
    elif length := vector_length(attribute.kind):
        if length > VECTOR_COLUMNS_MAX:
            return
        yield Vector(name=name_of("item", name), scope="item", attribute=name, length=length), ""
    elif 1 < attribute.distinct <= max(ONE_HOT_MAX, attribute.items / ITEMS_A_VALUE_MIN):
        several = f" with {attribute.distinct:,} values"
        yield _category(name, attribute), several
        if liked and attribute.distinct <= KEYS_MAX and look.users >= EVENTS_MIN:
            affinity = Affinity(name=name_of("user", name, "affinity"), actions=liked, attribute=name)
            yield affinity, f"{several}: how much the user leans to the candidate's"
        if liked:
            yield Match(name=name_of("session", name, "match"), attribute=name), f"{several}: the session's last items"


def _category(name: str, attribute: AttributeLook) -> Category:
    """Return a category as columns, as places in a list, or hashed, by how many values it has and how long they are."""
    is_short = all(1 <= len(each) <= VALUE_CHARACTERS_MAX for each in attribute.values)
    made = Category(name=name_of("item", name), attribute=name, values=tuple(sorted(attribute.values)))
    if attribute.distinct <= ONE_HOT_MAX and is_short and all(_word_of(each) == each for each in attribute.values):
        return msgspec.structs.replace(made, form="one_hot")
    if is_short and len(attribute.values) == attribute.distinct:
        return made
    buckets = 1 << (2 * attribute.distinct).bit_length()
    return msgspec.structs.replace(made, form="hashed", values=(), buckets=min(buckets, 1 << 20))


def _sessions(look: Look) -> Iterator[Suggestion]:
    """Yield what sessions say of the candidate."""
    acts = sum(each.count for _, each in _frequent(look))
    if look.sessions >= EVENTS_MIN and acts >= 2 * look.sessions:
        why = f"{look.sessions:,} sessions with {acts / look.sessions:.1f} acts each"
        yield Suggestion(KnnScore(name="session_knn_score"), f"{why}: what sessions like this one went on to")
        yield Suggestion(PairScore(name="pair_score"), f"{why}: what goes with this session's items")


def _requests(look: Look) -> Iterator[Suggestion]:
    """Yield what the request itself says."""
    days = look.span_ms / DAY_MS
    if days >= 2:  # noqa: PLR2004  # each hour came twice
        yield Suggestion(LocalTime(name="hour", part="hour"), f"{days:.0f} days: each hour came more than once")
    if days >= 14:  # noqa: PLR2004  # as each weekday did
        yield Suggestion(
            LocalTime(name="weekday", part="weekday"), f"{days:.0f} days: each weekday came more than once"
        )
    if _AGENT in look.context:
        yield Suggestion(Device(name="device"), f"events carry {_AGENT} in their context: send it with requests, too")
    for name in _REFERRER:
        if name in look.context:
            yield Suggestion(
                Referrer(name="referrer", context=name), f"events carry {name}: send it with requests, too"
            )
