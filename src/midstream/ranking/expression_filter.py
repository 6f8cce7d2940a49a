"""Filter text as filters: the placement's own, and what a request adds to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from midstream.core.errors import Fault
from midstream.core.protocols import Filter
from midstream.core.types import Candidates, Mask, Moment, Query
from midstream.events.wire import AttributeKind
from midstream.features.expression import Rule
from midstream.features.filter_text import parse

Attributes = tuple[tuple[str, AttributeKind], ...]
RULES_MAX = 256
"""Parsed request texts kept: a shop has some dozens, and each takes about 10 kB."""


@dataclass(frozen=True, slots=True)
class ExpressionFilter:
    """Keeps items for which the placement's filter text is known to be true."""

    rule: Rule
    name: str = "filter"

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        """Return True where the condition holds; what is missing does not pass."""
        return self.rule.passes(moment, candidates.item_index)


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Keeps items for which the request's own filter text is known to be true; without a text, all."""

    attributes: Attributes
    name: str = "request_filter"

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        """Return True where the condition holds."""
        text = moment.query.filter
        if text is None:
            return np.ones(len(candidates), dtype=np.bool_)
        rule = request_rule(text, self.attributes)
        if not isinstance(rule, Rule):  # the pipeline refused it before; nothing passes what cannot be read
            return np.zeros(len(candidates), dtype=np.bool_)
        return rule.passes(moment, candidates.item_index)


@lru_cache(maxsize=RULES_MAX)
def request_rule(text: str, attributes: Attributes) -> Rule | tuple[Fault, ...]:
    """Parse a request's filter text. The result follows from the arguments alone, so keeping it is no state."""
    return parse(text, dict(attributes), "/filter")


def request_faults(filters: Sequence[Filter], query: Query, conditions: Sequence[Rule] = ()) -> tuple[Fault, ...]:
    """Return what is wrong with a request's filter text and with its context, for all filters and rules of a plan."""
    if query.filter is None and not query.context:
        return ()
    faults: tuple[Fault, ...] = tuple(fault for each in conditions for fault in each.faults(query.context))
    for each in filters:
        if isinstance(each, ExpressionFilter):
            faults += each.rule.faults(query.context)
        elif isinstance(each, RequestFilter) and query.filter is not None:
            rule = request_rule(query.filter, each.attributes)
            faults += rule.faults(query.context) if isinstance(rule, Rule) else rule
    return faults
