"""What is wrong with expressions beside one another: names that are not there, circles, and what grows too large."""

from collections.abc import Iterator, Mapping, Sequence

from midstream.core.errors import Fault
from midstream.core.nearest import nearest
from midstream.events.wire import AttributeKind
from midstream.features.feature_text import PAGE, Formula, Reference, parse_formula
from midstream.features.kinds import AnyFeature, Computed
from midstream.state.items import AVAILABLE
from midstream.state.program import Expression

STEPS_MAX = 200
"""Of one expression, written out with all that it names: a comparison of two goes down as far, and Python allows 1,000
calls in one another."""


def expression_faults(features: Sequence[AnyFeature], attributes: Mapping[str, AttributeKind]) -> Iterator[Fault]:
    """Yield everything that is wrong with the texts of expressions.

    Args:
        features: All declared ones.
        attributes: Declared item attributes.
    """
    formulas: dict[str, Formula] = {}
    wheres: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for number, feature in enumerate(features):
        if not isinstance(feature, Computed):
            sizes |= {name: _size(column) for name, column in feature.expressions().items()}
            continue
        where = f"$.features[{number}].text"
        found = parse_formula(feature.text, where)
        if isinstance(found, Formula):
            formulas[feature.name], wheres[feature.name] = found, where
        else:
            yield from found
    columns = [*sizes, *(each.name for each in features if isinstance(each, Computed))]
    for name, formula in formulas.items():
        for reference in formula.references:
            yield from _reference(wheres[name], reference, columns, attributes)
    yield from _together(formulas, wheres, sizes)


def _reference(
    where: str, reference: Reference, columns: Sequence[str], attributes: Mapping[str, AttributeKind]
) -> Iterator[Fault]:
    """Yield a fault unless a name stands for a number."""
    numbers = {
        AVAILABLE: "boolean",
        **{name: kind for name, kind in attributes.items() if kind in {"number", "boolean"}},
    }
    if not reference.scope and reference.name not in columns:
        came = f'{reference.place}: "{reference.name}" is not a column.{nearest(reference.name, columns)}'
        yield Fault(where, came, f"Columns of declared features: {', '.join(columns)[:500]}.", PAGE)
    elif reference.scope == "item" and reference.name not in numbers:
        known = [f"item.{each}" for each in numbers]
        kind = attributes.get(reference.name)
        came = f'"item.{reference.name}" is {f"a {kind}" if kind else "not a declared attribute"}.'
        came = f"{reference.place}: {came}{nearest(f'item.{reference.name}', known)}"
        yield Fault(where, came, f"Number and boolean attributes: {', '.join(known)}.", PAGE)


def _together(formulas: Mapping[str, Formula], wheres: Mapping[str, str], sizes: dict[str, int]) -> Iterator[Fault]:
    """Yield a fault for each text that is too large with what it names, or is made of itself."""
    todo = dict(formulas)
    while ready := [name for name in todo if not _needed(todo, name)]:
        for name in ready:
            size = todo.pop(name).size(lambda each: 1 if each.scope else sizes.get(each.name, 1))
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


def _needed(todo: Mapping[str, Formula], name: str) -> list[str]:
    """Return the columns that a text names and that are texts themselves, of those that are left."""
    return [each.name for each in todo[name].references if not each.scope and each.name in todo]


def _circle(todo: Mapping[str, Formula], name: str) -> list[str]:
    """Return the names of a circle that a text leads into, the first one again at the end."""
    path = [name]
    while (following := _needed(todo, path[-1])[0]) not in path:
        path.append(following)
    return [*path[path.index(following) :], following]


def _size(expression: Expression) -> int:
    """Return the steps of a column, written out."""
    return 1 + sum(map(_size, expression.arguments))
