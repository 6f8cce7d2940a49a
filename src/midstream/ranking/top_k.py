"""The selector that takes the highest scores."""

import msgspec
import numpy as np

from midstream.core.types import FeatureFrame, Query, Score, Selection


class TopK(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="top_k"):
    """The highest scores, best first; equal ones in the order of the candidates. Nothing is left to chance."""

    def select(self, query: Query, features: FeatureFrame, score: Score) -> Selection:
        """Return at most ``query.slate_size`` rows, each with propensity 1."""
        order = np.argsort(-score, kind="stable")[: query.slate_size]  # NaN comes last
        chosen = order[np.isfinite(score[order])]
        return Selection(chosen, np.ones(len(chosen), dtype=np.float32))
