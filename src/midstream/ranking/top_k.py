"""The selector that takes the highest scores."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.types import FeatureFrame, Query, Score, Selection


class TopK(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="top_k"):
    """The highest scores, best first; equal ones in the order of the candidates. Nothing is left to chance."""

    def select(self, query: Query, features: FeatureFrame, score: Score) -> Selection:
        """Return at most ``query.slate_size`` rows, each with propensity 1."""
        chosen = best_first(score)[: query.slate_size]
        return Selection(chosen, np.ones(len(chosen), dtype=np.float32))


def best_first(score: Score) -> NDArray[np.intp]:
    """Return the rows of the scores that are numbers, best first; equal ones in the order of the candidates."""
    order = np.argsort(-score, kind="stable")  # NaN comes last
    return order[np.isfinite(score[order])]
