"""Proposals that the same state need not give again: those of an index that other threads have built otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from midstream.core.types import Proposal, Served


@dataclass(frozen=True, slots=True, eq=False)
class ApproximateProposal(Proposal):
    """Items that an index has named: the served record has them, and a rerun takes those."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ApproximateServed(Served):
    """Answer that was made of approximate proposals."""

    approximate: Mapping[str, Proposal]
    """By source."""


def with_approximate(served: Served, proposals: Mapping[str, Proposal]) -> Served:
    """Return an answer with the approximate proposals that it was made of; itself where there are none."""
    if not proposals:
        return served
    own = {each.name: getattr(served, each.name) for each in fields(served)}
    return ApproximateServed(**own, approximate=proposals)


def approximate_of(served: Served) -> Mapping[str, Proposal]:
    """Return the approximate proposals of an answer, by source."""
    return served.approximate if isinstance(served, ApproximateServed) else {}
