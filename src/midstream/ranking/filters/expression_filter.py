"""Filters by expressions of the language: the placement's condition, and the request's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import msgspec
import numpy as np

from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.field_bounds import Name
from midstream.core.protocols import Filter
from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import Candidates, Mask, Moment, Query
from midstream.features.expressions.names import Names
from midstream.features.language import PLACEMENT, REQUEST, Condition, condition
from midstream.ranking.filters.options import FilterScope

TEXTS_MAX = 256
"""Request texts whose compiled condition is cached: a shop has some dozens, and each takes about 20 kB."""
Meaning: TypeAlias = Condition | tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class ExpressionFilter:
    """Keeps items for which the placement's filter text is known to be true."""

    traits: ClassVar[Traits] = BOUNDED
    condition: Condition
    name: str = "filter"

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        """Return True where the condition holds; an unknown condition does not pass."""
        return self.condition.passes(moment, candidates.item_index)


class ExpressionOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="expression"):
    """A text of the language that an item must be known to be true of."""

    where: str
    name: Name = "expression"

    def compiled(self, scope: FilterScope) -> ExpressionFilter:
        """Return the filter over the text's meaning."""
        found = condition(self.where, scope.names, scope.where, PLACEMENT)
        if not isinstance(found, Condition):
            raise ConfigInvalid(found)
        return ExpressionFilter(found, self.name)


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Keeps items for which the request's own filter text is known to be true; without a text, all."""

    traits: ClassVar[Traits] = BOUNDED
    names: Names
    name: str = "request_filter"
    _meanings: dict[str, Meaning] = field(default_factory=dict[str, Meaning], compare=False, repr=False)
    """They follow from the text and the names alone, so keeping them is no state."""

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        """Return True where the condition holds."""
        text = moment.query.filter
        if text is None:
            return np.ones(len(candidates), dtype=np.bool_)
        found = self.meaning(text)
        if not isinstance(found, Condition):  # the pipeline refused it before; nothing passes what cannot be read
            return np.zeros(len(candidates), dtype=np.bool_)
        return found.passes(moment, candidates.item_index)

    def meaning(self, text: str) -> Meaning:
        """Return the compiled condition of a request's text, or its faults."""
        found = self._meanings.get(text)
        if found is None:
            found = condition(text, self.names, "/filter", REQUEST)
            if len(self._meanings) >= TEXTS_MAX:
                self._meanings.pop(next(iter(self._meanings)))
            self._meanings[text] = found
        return found


@runtime_checkable
class ReadsContext(Protocol):
    """A part that reads values of a request's context, and says which it cannot read."""

    def faults(self, context: Mapping[str, object]) -> tuple[Fault, ...]:
        """Return the faults of a request's context; a missing name is no fault."""
        ...


def request_faults(filters: Sequence[Filter], query: Query, parts: Sequence[ReadsContext] = ()) -> tuple[Fault, ...]:
    """Return the faults of a request's filter text and context, for the filters and further parts of a plan."""
    if query.filter is None and not query.context:
        return ()
    faults: tuple[Fault, ...] = tuple(fault for each in parts for fault in each.faults(query.context))
    for each in filters:
        if isinstance(each, ExpressionFilter):
            faults += each.condition.faults(query.context)
        elif isinstance(each, RequestFilter) and query.filter is not None:
            found = each.meaning(query.filter)
            faults += found.faults(query.context) if isinstance(found, Condition) else found
    return faults
