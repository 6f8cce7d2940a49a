"""Constraints between expressions of features: no circular references, and a bound on their size."""

from collections.abc import Iterator, Mapping, Sequence

from midstream.core.errors import Fault
from midstream.events.wire import AttributeKind
from midstream.features.expressions.names import Names, size_of
from midstream.features.expressions.reading import Text, read_text
from midstream.features.expressions.tree import PAGE
from midstream.features.kinds.expression import SCOPES
from midstream.features.kinds.kinds import AnyFeature, Computed
from midstream.state.expressions.program import column

STEPS_MAX = 200
"""Of one expression, written out with all that it names: a comparison of two goes down as far, and Python allows 1,000
calls in one another."""


def expression_faults(features: Sequence[AnyFeature], attributes: Mapping[str, AttributeKind]) -> Iterator[Fault]:
    """Yield everything that is wrong with the texts of expressions.

    Args:
        features: All declared ones.
        attributes: Declared item attributes.
    """
    sizes = {
        name: size_of(each)
        for feature in features
        if not isinstance(feature, Computed)
        for name, each in feature.expressions().items()
    }
    columns = [*sizes, *(each.name for each in features if isinstance(each, Computed))]
    names = Names(attributes, dict.fromkeys(columns, column(0.0)))
    texts: dict[str, Text] = {}
    wheres: dict[str, str] = {}
    for number, feature in enumerate(features):
        if isinstance(feature, Computed):
            where = f"$.features[{number}].text"
            found = read_text(feature.text, names, where, SCOPES, is_number=True)
            if isinstance(found, Text):
                texts[feature.name], wheres[feature.name] = found, where
            else:
                yield from found
    yield from _together(texts, wheres, sizes)


def _together(texts: Mapping[str, Text], wheres: Mapping[str, str], sizes: dict[str, int]) -> Iterator[Fault]:
    """Yield a fault for each text that is too large with the expressions that it names, or refers to itself."""
    todo = dict(texts)
    while ready := [name for name in todo if not _needed(todo, name)]:
        for name in ready:
            size = size_of(todo.pop(name).column, sizes)
            # One that is too large is reported itself, not again wherever it is named.
            sizes[name] = 1 if size > STEPS_MAX else size
            if size > STEPS_MAX:
                came = f"It has {size} steps, written out with all that it names."
                yield Fault(wheres[name], came, f"At most {STEPS_MAX}.", PAGE)
    told: set[str] = set()
    for name in todo:
        circle = _circle(todo, name)
        if not told & set(circle):
            told |= set(circle)
            came = f"It is made of itself: {' → '.join(circle)}."
            yield Fault(wheres[circle[0]], came, "Name only what can be computed before it.", PAGE)


def _needed(todo: Mapping[str, Text], name: str) -> list[str]:
    """Return the columns that a text names and that are texts themselves, of those that are left."""
    return [each for each in todo[name].columns if each in todo]


def _circle(todo: Mapping[str, Text], name: str) -> list[str]:
    """Return the names of a circle that a text leads into, the first one again at the end."""
    path = [name]
    while (following := _needed(todo, path[-1])[0]) not in path:
        path.append(following)
    return [*path[path.index(following) :], following]
