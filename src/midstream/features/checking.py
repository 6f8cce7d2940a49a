"""Constraints of feature declarations: references to names, uniqueness, combinations of options, bounds."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from typing import cast

from midstream.core.durations import Duration
from midstream.core.errors import Fault
from midstream.core.kinds import IMPRESSION
from midstream.core.nearest import nearest
from midstream.events.wire import AttributeKind, plain_kind, vector_length
from midstream.features.feature_checking import expression_faults
from midstream.features.kinds import kinds
from midstream.features.kinds.kinds import AnyFeature, columns_of
from midstream.features.readers.coding import VALUES_MAX
from midstream.features.reserved import READ, is_reserved
from midstream.state.items.items import AVAILABLE
from midstream.state.outcomes.slate_groups import VARIANT_MARK
from midstream.state.settings import EventType

PAGE = "/docs/features.md"
FEATURES_MAX = 64
COLUMNS_MAX = 256
"""Of all features. A column of 500 candidates takes about 1 µs, so all of them are read in a third of a millisecond."""
NAME_CHARACTERS_MAX = 64
DURATION_MS_MIN, DURATION_MS_MAX = 1_000, 365 * 86_400_000
PLACEMENT_BYTES_MAX = 64
WINDOWS_MAX = 8
"""Windows and half-lives of one count: a window of an item takes 120 bytes."""
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_CODED = ("category", "tags")
_BY_VALUE = ("attribute", "user_attribute")


@dataclass(frozen=True, slots=True)
class DeclarableNames:
    """Names that declarations may use."""

    attributes: Mapping[str, AttributeKind]
    types: Mapping[str, EventType]


def feature_faults(
    features: Sequence[AnyFeature], attributes: Mapping[str, AttributeKind], types: Mapping[str, EventType]
) -> Iterator[Fault]:
    """Yield the faults of declarations whose single values are valid.

    Args:
        features: In the order of the file, which pointers count by.
        attributes: Declared item attributes.
        types: Configured interactions.
    """
    known = DeclarableNames(attributes, types)
    if len(features) > FEATURES_MAX:
        yield Fault("$.features", f"{len(features)} features are declared.", f"At most {FEATURES_MAX}.", PAGE)
        return
    for number, feature in enumerate(features):
        where = f"$.features[{number}]"
        yield from _name(where, feature.name)
        yield from _durations(where, feature)
        yield from _actions(where, feature, known)
        yield from _attribute(where, feature, known)
        yield from _coding(where, feature)
        yield from _options(where, feature, known)
        yield from _outcomes(where, feature)
    yield from _columns(features)
    yield from expression_faults(features, attributes)


def _name(where: str, name: str) -> Iterator[Fault]:
    """Yield a fault unless expressions, files and paths can hold a name."""
    if not _NAME.fullmatch(name) or len(name) > NAME_CHARACTERS_MAX:
        right = f"Small letters, digits and _, a letter first, at most {NAME_CHARACTERS_MAX} of them."
        yield Fault(f"{where}.name", f'"{name[:NAME_CHARACTERS_MAX]}" came.', right, PAGE)
    elif iskeyword(name):
        yield Fault(f"{where}.name", f'"{name}" came.', "Any other word: no expression could name it.", PAGE)
    elif name == READ:
        yield Fault(f"{where}.name", f'"{READ}" came.', f"Any other name: /v1/features/{READ} is taken.", PAGE)


def _durations(where: str, feature: AnyFeature) -> Iterator[Fault]:
    """Yield what is wrong with windows, half-lives and lifetimes."""
    told: dict[str, object] = {each: getattr(feature, each, None) for each in ("windows", "half_life", "ttl")}
    lists = {each: cast("tuple[Duration, ...]", found) for each, found in told.items() if isinstance(found, tuple)}
    named: list[tuple[str, object]] = [
        (f"{where}.{each}[{i}]", one) for each, found in lists.items() for i, one in enumerate(found)
    ]
    named += [(f"{where}.{each}", one) for each, one in told.items()]
    for place, length in named:
        if isinstance(length, Duration) and not DURATION_MS_MIN <= length.ms <= DURATION_MS_MAX:
            yield Fault(place, f"{length} came.", "From 1s to 365d.", PAGE)
    for each, found in lists.items():
        if len(set(found)) < len(found):
            yield Fault(f"{where}.{each}", "One of them stands there twice.", "Each once.", PAGE)
    if sum(map(len, lists.values())) > WINDOWS_MAX:
        came = f"{sum(map(len, lists.values()))} windows and half-lives came."
        yield Fault(where, came, f"At most {WINDOWS_MAX} in one declaration.", PAGE)


def _actions(where: str, feature: AnyFeature, known: DeclarableNames) -> Iterator[Fault]:
    """Yield what is wrong with the events that count."""
    recent = isinstance(feature, kinds.Match | kinds.LastItems)
    possible = [*known.types] if recent else [*known.types, IMPRESSION]
    for field in ("actions", "per"):
        actions: tuple[str, ...] | None = getattr(feature, field, None)
        if actions is None:
            continue
        right = f"Of these: {', '.join(possible)}."
        if not actions and not recent:
            yield Fault(f"{where}.{field}", "It is empty.", right, PAGE)
        if len(set(actions)) < len(actions):
            yield Fault(f"{where}.{field}", "One of them stands there twice.", "Each once.", PAGE)
        for number, action in enumerate(actions):
            place = f"{where}.{field}[{number}]"
            if action not in possible:
                came = f'"{action}" is not an interaction of this configuration.{nearest(action, possible)}'
                yield Fault(place, came, right, PAGE)
            elif getattr(feature, "scope", "") == "session" and not recent:
                yield from _in_session(place, action, known)


def _in_session(where: str, action: str, known: DeclarableNames) -> Iterator[Fault]:
    """Yield a fault for what no session ever counts."""
    if action == IMPRESSION or known.types[action].weight <= 0.0:
        came = f'"{action}" belongs to no session, so it would never be counted.'
        yield Fault(where, came, "Interactions with a weight above 0, or another scope.", PAGE)


_WANTED: Mapping[type, tuple[str, ...]] = {
    kinds.Number: ("number",),
    kinds.Boolean: ("boolean",),
    kinds.Category: _CODED,
    kinds.Vector: ("vector",),
    kinds.ItemAge: ("number",),
    kinds.CandidateDiversity: ("number", *_CODED),
    kinds.Match: _CODED,
    kinds.LastItems: _CODED,
    kinds.Affinity: _CODED,
}
"""Kinds of item attributes that each kind of feature reads; those that count are in ``_attribute``."""


def _attribute(where: str, feature: AnyFeature, known: DeclarableNames) -> Iterator[Fault]:
    """Yield a fault unless an item attribute is declared, of a kind that can be read so, and meant."""
    name, scope = getattr(feature, "attribute", ""), getattr(feature, "scope", "")
    place = f"{where}.attribute"
    if isinstance(feature, kinds.EventFeature):
        if scope in _BY_VALUE:
            yield from _declared(place, name, _CODED, known)
        elif name:
            came = f'"{name}" came with the scope "{scope}".'
            yield Fault(place, came, "An attribute goes with the scopes attribute and user_attribute.", PAGE)
        return
    is_reduced = isinstance(feature, kinds.Number) and feature.reduce is not None
    wanted = ("vector",) if is_reduced else _WANTED.get(type(feature))
    own_name = isinstance(
        feature, kinds.Number | kinds.Boolean | kinds.Category | kinds.Vector | kinds.CandidateDiversity
    )
    is_told = own_name and scope in {"user", "request"}
    is_optional = isinstance(feature, kinds.ItemAge | kinds.LastItems) and not name
    if wanted is not None and not is_told and not is_optional:
        yield from _declared(place, name or (feature.name if own_name else ""), wanted, known)


def _declared(where: str, name: str, wanted: Sequence[str], known: DeclarableNames) -> Iterator[Fault]:
    """Yield a fault unless an attribute of one of these kinds is declared under a name."""
    attributes: Mapping[str, str] = {**known.attributes, **({AVAILABLE: "boolean"} if "boolean" in wanted else {})}
    fitting = [each for each, kind in attributes.items() if plain_kind(kind) in wanted]
    right = f"A declared {' or '.join(wanted)} attribute: {', '.join(fitting) or 'none is declared'}."
    if name not in attributes:
        came = f'"{name}" is not a declared item attribute.{nearest(name, fitting)}' if name else "It is missing."
        yield Fault(where, came, right, PAGE)
    elif plain_kind(attributes[name]) not in wanted:
        yield Fault(where, f'"{name}" is a {attributes[name]}.{nearest(name, fitting)}', right, PAGE)


def _coding(where: str, feature: AnyFeature) -> Iterator[Fault]:
    """Yield what is wrong with how texts become numbers."""
    if not isinstance(feature, kinds.Category | kinds.LastItems):
        return
    values, buckets = feature.values, feature.buckets
    if feature.form == "hashed":
        if values:
            yield Fault(f"{where}.values", "It goes with index and one_hot.", "Only buckets, for hashed.", PAGE)
        if buckets < 2:  # noqa: PLR2004  # one bucket tells nothing apart
            yield Fault(f"{where}.buckets", f"{buckets} came.", "From 2 to 16,777,216, for hashed.", PAGE)
        return
    if not 1 <= len(values) <= VALUES_MAX:
        came = f"{len(values)} values came."
        yield Fault(f"{where}.values", came, f'1 to {VALUES_MAX} texts, or form = "hashed" with buckets.', PAGE)
    if len(set(values)) < len(values):
        yield Fault(f"{where}.values", "One of them stands there twice.", "Each once.", PAGE)
    if isinstance(feature, kinds.Category) and buckets:
        yield Fault(f"{where}.buckets", f"It goes with hashed, not {feature.form}.", "Leave it out.", PAGE)


def _options(where: str, feature: AnyFeature, known: DeclarableNames) -> Iterator[Fault]:
    """Yield what is wrong with the options of single kinds."""
    match feature:
        case kinds.Number(scope="request", reduce=str()):
            right = 'Only with scope = "item" or "user": no context holds a list of numbers.'
            yield Fault(f"{where}.reduce", 'It came with the scope "request".', right, PAGE)
        case kinds.Vector(scope="item", length=length):
            name = feature.attribute or feature.name
            declared = vector_length(known.attributes.get(name, ""))
            if declared and declared != length:
                came = f'{length} came, and "{name}" is a vector:{declared}.'
                yield Fault(f"{where}.length", came, f"{declared}.", PAGE)
        case kinds.LastItems(attribute="", form="index"):
            yield Fault(f"{where}.form", "Items are in no list of values.", 'form = "hashed", or an attribute.', PAGE)
        case kinds.Match(scope="session", actions=actions) | kinds.LastItems(scope="session", actions=actions):
            if actions:
                right = 'Leave it out, or scope = "user": a session keeps its items, not what was done with each.'
                yield Fault(f"{where}.actions", 'It came with the scope "session".', right, PAGE)
        case kinds.Affinity(weighted=True, actions=actions):
            for number, action in enumerate(actions):
                if action == IMPRESSION or (action in known.types and known.types[action].weight <= 0.0):
                    came = f'"{action}" has no weight above 0, so its sums would be no shares.'
                    yield Fault(f"{where}.actions[{number}]", came, "Others, or weighted = false.", PAGE)
        case kinds.Position(otherwise=float() as otherwise) if not math.isfinite(otherwise):
            yield Fault(f"{where}.otherwise", f"{otherwise} came.", "A finite number, or leave it out.", PAGE)
        case _:
            return


def _outcomes(where: str, feature: AnyFeature) -> Iterator[Fault]:
    """Yield what is wrong with a kind that counts positions of slates."""
    if not isinstance(feature, kinds.OutcomeFeature):
        return
    name = feature.placement
    if VARIANT_MARK in name or len(name.encode()) > PLACEMENT_BYTES_MAX:
        right = f"The name of a placement, without {VARIANT_MARK}: slates of its variants count with it."
        yield Fault(f"{where}.placement", f'"{name[:PLACEMENT_BYTES_MAX]}" came.', right, PAGE)
    if isinstance(feature, kinds.OutcomeRate) and IMPRESSION in feature.actions:
        right = "Interactions: a rate is of what was seen."
        yield Fault(f"{where}.actions[{feature.actions.index(IMPRESSION)}]", f'"{IMPRESSION}" came.', right, PAGE)


def _columns(features: Sequence[AnyFeature]) -> Iterator[Fault]:
    """Yield a fault for each name that stands twice or is that of another column, and if there are too many."""
    owners: dict[str, int] = {}
    counts: list[tuple[str, int]] = []
    for number, feature in enumerate(features):
        names = {feature.name: None, **dict.fromkeys(columns_of((feature,))[feature.name])}
        counts.append((feature.name, len(columns_of((feature,))[feature.name])))
        for name in names:
            if is_reserved(name) and name != READ:
                came = f'"{name}" is what another column is called where features are written.'
                yield Fault(f"$.features[{number}].name", came, "None of the reserved names, columns included.", PAGE)
            if name in owners and owners[name] != number:
                came = f'"{name}" is also a name or column of $.features[{owners[name]}].'
                yield Fault(f"$.features[{number}].name", came, "Each name once, columns included.", PAGE)
            owners.setdefault(name, number)
    total = sum(count for _, count in counts)
    if total > COLUMNS_MAX:
        largest = sorted(counts, key=lambda each: -each[1])[:3]
        parts = " + ".join(f"{count} of {name}" for name, count in largest)
        came = f"{total} columns: {parts}{' + …' if len(counts) > len(largest) else ''}."
        yield Fault("$.features", came, f"At most {COLUMNS_MAX} columns of all features.", PAGE)
