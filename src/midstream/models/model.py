"""Model protocols: a model scores items from a history, or rows of features.

An *item model* turns a history into a score for every item it knows, so it proposes (``retrieval``). A *row model*
turns rows of features into scores, so it ranks (``ranking``). Both are immutable once fitted, know arrays and no
requests, and are bound to nothing of the process: what was fitted in one process is read in another.

``fit`` stands beside each model, takes its options, and is the same for the same data, options and seed. What a fit
may import (a training library, an extra) is imported inside it; answering needs NumPy, SciPy and our kernels alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, FitStopped
from midstream.core.types import Index, Score
from midstream.models.histories import Histories
from midstream.models.vocabulary import ItemVocabulary

Arrays = Mapping[str, NDArray[np.generic]]


def checked(arrays: Arrays, what: str, wanted: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Refuse arrays of which one is not there, or not of its type (``<f4``) and shape, or holds NaN or infinity.

    Raises:
        ArtifactInvalid: One is so.
    """
    for name, (kind, shape) in wanted.items():
        found = arrays.get(name)
        if found is None or (found.dtype.str, found.shape) != (kind, shape) or not np.isfinite(found).all():
            message = f"{name} of {what} is missing, not {kind} {shape}, or no number"
            raise ArtifactInvalid(message)


class ItemModel(Protocol):
    """Scores every item of its vocabulary by what a history says."""

    @property
    def vocabulary(self) -> ItemVocabulary:
        """The items it knows, by row."""
        ...

    def scores(self, histories: Histories) -> Score:
        """Return a score for each history and item, (histories, items), higher is better, never NaN.

        One history alone gets what it gets among others. An empty history gets one number for all items. A model that
        can say nothing of an item, because nothing in the history is related to it, gives it exactly 0.
        """
        ...

    def best(self, history: Histories, k: int) -> tuple[Index, Score]:
        """Return the k items of the highest scores of one history, best first; equal ones by row.

        The same as sorting ``scores``, less the items that the history says nothing of; items of the history are among
        them. Which these are the model knows: all items of an empty history; else in a model of relations (item to
        item, content) those of a score of exactly 0, whatever the sign of the others; in a model in which everything is
        related to everything (factors, popularity) none.
        """
        ...

    def arrays(self) -> Arrays:
        """Return all that was fitted but the vocabulary."""
        ...


def is_item_model(model: object) -> TypeGuard[ItemModel]:
    """Return whether a model is one that scores items."""
    return hasattr(model, "best") and hasattr(model, "vocabulary")


class RowModel(Protocol):
    """Scores rows of named features."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the features it reads, in order."""
        ...

    def score(self, values: Score) -> Score:
        """Return a number a row of values (n, len(inputs)), NaN = unknown; a row alone gets what it gets among all."""
        ...

    def arrays(self) -> Arrays:
        """Return all that was fitted."""
        ...


def is_row_model(model: object) -> TypeGuard[RowModel]:
    """Return whether a model is one that scores rows."""
    return hasattr(model, "score") and hasattr(model, "inputs")


@dataclass(frozen=True, slots=True)
class Watch:
    """How a fit tells how far it is, and learns that it shall stop."""

    tell: Callable[[str, float], None] | None = None
    """Told what is being done and which share of all is done, 0 to 1."""
    stopped: Callable[[], bool] | None = None
    """Whether to stop: asked at each step."""

    def step(self, text: str, share: float) -> None:
        """Tell of a step; or raise ``FitStopped``."""
        if self.stopped is not None and self.stopped():
            message = f"stopped at {share:.0%}: {text}"
            raise FitStopped(message)
        if self.tell is not None:
            self.tell(text, share)

    def part(self, begin: float, end: float) -> "Watch":
        """Return a watch whose steps are told as a part of a larger whole."""
        tell = self.tell
        if tell is None:
            return self
        return Watch(lambda text, share: tell(text, begin + share * (end - begin)), self.stopped)


QUIET = Watch()


def best_of(scores: Score, k: int) -> Index:
    """Return the rows of the k highest of some scores (n,), best first, of equal ones the lower row first.

    -inf = never. Cost: 0.1 ms of 41,000.
    """
    rows = np.flatnonzero(scores > -np.inf)
    found = scores[rows]
    count = min(k, len(rows))
    if count <= 0:
        return np.empty(0, dtype=np.int32)
    # Most scores of a sparse model are 0, and a partition of many equal numbers is slow (3 ms): what is not above the
    # mean, and above 0, is put aside, where enough is.
    above = found > max(float(found.mean(dtype=np.float64)), 0.0)
    if np.count_nonzero(above) >= count:
        rows, found = rows[above], found[above]
    edge = np.partition(found, len(found) - count)[len(found) - count]
    rows = rows[found >= edge]
    order = np.lexsort((rows, -scores[rows]))
    best: Index = rows[order][:count].astype(np.int32)
    return best


def best_said(scores: Score, k: int) -> tuple[Index, Score]:
    """Return the k items of the highest of some scores (n,), best first, of equal ones the lower row first.

    Items of a score of exactly 0 are left out: a history says nothing of them, as an empty one of any. What speaks
    against an item, a score below 0, is said.
    """
    said = np.where(scores != 0.0, scores, np.float32(-np.inf))
    rows = best_of(said, k)
    return rows, scores[rows]
