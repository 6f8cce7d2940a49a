"""Trending source: items with the most recent acts, optionally those of the user's segment.

In a segment an item's share of the heat is a smoothed estimate: its own heat there, and ``segment_prior`` of heat with
the item's share of the whole shop's heat:

    share = (heat in the segment + prior * heat / total heat) / (total heat of the segment + prior)

So a segment with little heat answers as the whole shop does, one with as much as the prior half from its own, and one
with a lot almost from its own alone. A user without a known segment gets the whole shop's list. The score is the share
times the whole shop's heat, so that both are on one scale.

Reference: C. Zhai, J. Lafferty, "A Study of Smoothing Methods for Language Models Applied to Information Retrieval",
ACM TOIS 22(2), 2004, section 2.2, Dirichlet smoothing.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from midstream.core.durations import Duration
from midstream.core.field_bounds import HalfLife, Name
from midstream.core.traits import PROPOSES, Traits
from midstream.core.types import Index, Moment, Proposal
from midstream.retrieval.evidence import Evidence
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.segments.segments import Segments
from midstream.state.settings import WEIGHT_MAX

_READ_TIMES = 4
"""Items read of each list, in limits: the heat of an item further down in both is negligible."""


class Trending(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="trending"):
    """Items with the highest sum of action weights, which halve with each ``half_life``."""

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "trending"
    """Used in answers, metrics and weights."""
    limit: int = 50
    """Items proposed at most."""
    half_life: HalfLife = Duration("6h")
    """The weight of an act halves with each. Each half-life in use keeps a list of its own."""
    by_segment: bool = False
    """Use the segment of the user or of the request's context (``[trending] segment``)."""
    segment_prior: Annotated[float, msgspec.Meta(ge=1, le=WEIGHT_MAX)] = 100.0
    """Heat that the whole shop's list counts for in a segment: that of 100 views just now."""

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the hottest items, the hottest first; none before the first interaction."""
        if self.by_segment:
            segments = moment.table(Segments)
            code = segments.asking(moment.user_index, moment.query.context)
            if code >= 0:
                return self._of_segment(moment, segments, code)
        return Proposal(*moment.table(Items).hottest(self.half_life.ms, self.limit))

    def _of_segment(self, moment: Moment, segments: Segments, code: int) -> Proposal:
        """Return the items with the largest share in a segment; equal ones by id hash. Cost: about 50 µs."""
        items = moment.table(Items)
        whole, _ = items.hottest(self.half_life.ms, _READ_TIMES * self.limit)
        own = segments.hottest(code, _READ_TIMES * self.limit)
        found = np.union1d(whole, own).astype(np.int32)
        prior, all_heat = self.segment_prior, segments.total(-1)
        heat = items.heat(self.half_life.ms, found)
        weighed = segments.heat(code, found) * all_heat + prior * heat
        score = (weighed / (segments.total(code) + prior)).astype(np.float32)
        order = np.lexsort((moment.table(Vocabulary).item_hash[found], -score))[: self.limit]
        return Proposal(found[order], score[order])

    def why(self, moment: Moment, item_index: Index) -> Sequence[Evidence]:
        """Return the heat of each item, its half-life, and with segments the heat there."""
        heat = moment.table(Items).heat(self.half_life.ms, item_index).tolist()
        facts: list[dict[str, str | float]] = [{"heat": each, "half_life": str(self.half_life)} for each in heat]
        if self.by_segment:
            segments = moment.table(Segments)
            code = segments.asking(moment.user_index, moment.query.context)
            if code >= 0:
                for each, own in zip(facts, segments.heat(code, item_index).tolist(), strict=True):
                    each["segment_heat"] = own
        return [Evidence(facts=each) for each in facts]
