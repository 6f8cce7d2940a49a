"""Application of filters: finds the first filter that removes each candidate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ShapeMismatch
from midstream.core.protocols import Filter
from midstream.core.traits import traits_of
from midstream.core.types import Candidates, Mask
from midstream.ranking.boundary import boundary
from midstream.ranking.frame import lent_candidates, of_array
from midstream.ranking.plan_run import PlanRun


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """First removing filter of each candidate."""

    names: tuple[str, ...]
    """Of the filters, in the order in which they ran."""
    removed_by: NDArray[np.intp]
    """Index of the first filter that removed the candidate, ``len(names)`` = it passed, shape (n,)."""
    is_closed: bool
    """A filter failed, so nothing passes."""

    @property
    def kept(self) -> Mask:
        """True for the candidates that may be served."""
        return cast("Mask", self.removed_by == len(self.names))

    def removed(self, upto: int | None = None) -> Mapping[str, int]:
        """Return the number of removals by filter, over the first ``upto`` candidates."""
        counts = np.bincount(self.removed_by[:upto], minlength=len(self.names) + 1)
        return dict(zip(self.names, counts.tolist(), strict=False))


def sift(run: PlanRun, candidates: Candidates, filters: tuple[Filter, ...] | None = None) -> Verdicts:
    """Apply every filter to every candidate; the first removal counts.

    Each filter sees all candidates, so its result for an item never depends on the filters before it, and the columns
    are copied once instead of once a filter. A filter that fails, or returns another shape, removes all candidates. A
    filter that is not bounded gets read-only columns: a write could replace a candidate that earlier filters checked.

    Args:
        run: Its plan's filters, in the order in which they are named.
        candidates: The rows.
        filters: Instead of all of the plan's.
    """
    if filters is None:
        filters = run.plan.filters
    unwritable = None
    verdict = np.full(len(candidates), len(filters), dtype=np.intp)
    is_closed = False
    for number, rule in enumerate(filters):
        keep: Mask | None = None
        with boundary(rule.name, run.account):
            asked = candidates
            if not traits_of(rule).bounded:
                asked = unwritable = unwritable or lent_candidates(candidates)
            keep = _row_for_row(rule.keep(run.moment, asked), len(candidates))
        if keep is None:
            is_closed = True
            verdict[verdict == len(filters)] = number
        elif np.count_nonzero(keep) < len(keep):
            verdict[~keep & (verdict == len(filters))] = number
    return Verdicts(tuple(rule.name for rule in filters), verdict, is_closed)


def _row_for_row(keep: Mask, count: int) -> Mask:
    """Return a mask with one truth a candidate, or raise ``ShapeMismatch``."""
    of_array(keep, "an array of bool")
    if keep.shape != (count,) or keep.dtype != np.bool_:
        message = f"{keep.dtype} of shape {keep.shape} came where bool of shape ({count},) is right"
        raise ShapeMismatch(message)
    return keep
