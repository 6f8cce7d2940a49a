"""What no single value of a declared feature can say: names that differ, actions and attributes that exist."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from midstream.core.errors import Fault
from midstream.core.kinds import IMPRESSION
from midstream.core.nearest import nearest
from midstream.events.wire import AttributeKind
from midstream.features.kinds import Declared

PAGE = "docs/features.md"
FEATURES_MAX = 64
COLUMNS_MAX = 256
_KEYED = ("category", "tags")


def feature_faults(
    features: Sequence[Declared], attributes: Mapping[str, AttributeKind], types: Iterable[str]
) -> Iterator[Fault]:
    """Yield everything that is wrong with features whose single values are right.

    Args:
        features: As they stand in the file.
        attributes: Declared item attributes.
        types: Configured interactions.
    """
    names: set[str] = set()
    columns: set[str] = set()
    actions = {*types, IMPRESSION}
    if len(features) > FEATURES_MAX:
        yield Fault("$.features", f"{len(features)} came.", f"At most {FEATURES_MAX}.", PAGE)
    for number, feature in enumerate(features):
        where = f"$.features[{number}]"
        if not feature.name or feature.name in names:
            yield Fault(f"{where}.name", f'"{feature.name}" is there already.', "A name of its own.", PAGE)
        names.add(feature.name)
        yield from _actions(f"{where}.actions", feature.actions, actions)
        yield from _actions(f"{where}.per", getattr(feature, "per", ("impression",)), actions)
        yield from _attribute(where, feature, attributes)
        for column in feature.expressions():
            if column in columns:
                yield Fault(f"{where}.name", f'Two columns are called "{column}".', "A name of its own.", PAGE)
            columns.add(column)
    if len(columns) > COLUMNS_MAX:
        yield Fault("$.features", f"{len(columns)} columns came.", f"At most {COLUMNS_MAX}.", PAGE)


def _actions(where: str, named: tuple[str, ...], known: set[str]) -> Iterator[Fault]:
    right = f"Some of: {', '.join(sorted(known))}"
    if not named:
        yield Fault(where, "No action came.", right, PAGE)
    for number, name in enumerate(named):
        if name not in known:
            came = f'"{name}" is not a configured interaction.{nearest(name, known)}'
            yield Fault(f"{where}[{number}]", came, right, PAGE)


def _attribute(where: str, feature: Declared, attributes: Mapping[str, AttributeKind]) -> Iterator[Fault]:
    is_by_value = feature.scope in {"attribute", "user_attribute"}
    known = [name for name, kind in attributes.items() if kind in _KEYED]
    if is_by_value and feature.attribute not in known:
        came = f'"{feature.attribute}" is no category or tags attribute.{nearest(feature.attribute, known)}'
        yield Fault(f"{where}.attribute", came, f"Attributes: {', '.join(known) or 'none'}", PAGE)
    if not is_by_value and feature.attribute:
        came = f'"{feature.attribute}" came with the scope {feature.scope}, which has none.'
        yield Fault(f"{where}.attribute", came, 'The scope "attribute" or "user_attribute", or no attribute.', PAGE)
