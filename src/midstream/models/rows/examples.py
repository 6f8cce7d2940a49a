"""Examples of row models: named features of each row, its reward, and how it came to be shown.

Rows of one request lie side by side: a ranker compares within a request. What is fitted on is earlier than what is
validated on, as it will be in service, so examples are divided by time and never by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, ShapeMismatch
from midstream.core.types import Index, Mask, Score

INPUTS_MAX = 4_096
"""Columns that a model may read: at 1,000 candidates 16 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Rows of requests, in columns. Immutable; nothing is copied unless rows are taken."""

    names: tuple[str, ...]
    """Of the features, in the order of the columns of ``values``; each once."""
    values: Score
    """(n, len(names)), float32; NaN = unknown."""
    start: NDArray[np.int64]
    """First row of each request, and the number of rows, (requests + 1,); no request is empty."""
    label: NDArray[np.float32]
    """What a row was worth: a reward, or 1 for a click and 0 for none, (n,)."""
    time_ms: NDArray[np.int64]
    """When each request was served, (requests,)."""
    weight: NDArray[np.float32]
    """How much a row counts, 0 or more, (n,)."""
    position: Index
    """Place at which a row was shown, 0 = the first, -1 = unknown, (n,); of candidates of a replay the place in the
    order that would have been shown without the model."""
    propensity: NDArray[np.float32]
    """Probability with which it was shown, above 0 and at most 1; NaN = unknown, (n,)."""
    owner: NDArray[np.uint64] | None = None
    """Whose each request was, the same number for the same user, else session, (requests,); None = unknown. Requests of
    one of them are alike, so what is uncertain is drawn by it."""

    def __post_init__(self) -> None:
        """Check that the columns go together.

        Raises:
            ShapeMismatch: They do not, or one holds what it cannot; the text names it.
        """
        count, requests = len(self.values), len(self.start) - 1
        shapes = {
            "values": (self.values.shape, (count, len(self.names))),
            **{name: (getattr(self, name).shape, (count,)) for name in ("label", "weight", "position", "propensity")},
            "time_ms": (self.time_ms.shape, (requests,)),
            "owner": ((requests,) if self.owner is None else self.owner.shape, (requests,)),
        }
        for name, (came, right) in shapes.items():
            if came != right:
                message = f"{name} of the examples is {came} where {right} is right"
                raise ShapeMismatch(message)
        if len(set(self.names)) != len(self.names):
            message = "two features of the examples have one name"
            raise ShapeMismatch(message)
        fits = (
            requests >= 0 and self.start[0] == 0 and self.start[-1] == count and bool((np.diff(self.start) > 0).all())
        )
        if not fits:
            message = "the requests of the examples do not divide their rows"
            raise ShapeMismatch(message)
        known = self.propensity[~np.isnan(self.propensity)]
        if not (np.isfinite(self.label).all() and np.isfinite(self.weight).all() and (self.weight >= 0).all()):
            message = "a label or a weight of the examples is no number, or a weight is below 0"
            raise ShapeMismatch(message)
        if not ((known > 0) & (known <= 1)).all():
            message = "a propensity of the examples is not above 0 and at most 1"
            raise ShapeMismatch(message)

    @classmethod
    def of_rows(cls, names: Sequence[str], values: Score, label: NDArray[np.float32]) -> "Examples":
        """Return examples of which no more is known: each row its own request, one millisecond after the other."""
        count = len(values)
        return cls(
            tuple(names),
            values,
            np.arange(count + 1, dtype=np.int64),
            label,
            time_ms=np.arange(count, dtype=np.int64),
            weight=np.ones(count, dtype=np.float32),
            position=np.full(count, -1, dtype=np.int32),
            propensity=np.full(count, np.nan, dtype=np.float32),
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.values)

    @property
    def request_sizes(self) -> NDArray[np.int64]:
        """Rows of each request, (requests,)."""
        return np.diff(self.start)

    def take(self, requests: NDArray[np.intp]) -> "Examples":
        """Return the rows of some requests, by number, in that order."""
        sizes = self.request_sizes[requests]
        start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        shift: NDArray[np.int64] = np.repeat(self.start[:-1][requests] - start[:-1], sizes)
        return self._part(shift + np.arange(int(start[-1]), dtype=np.int64), start, requests)

    def where(self, kept: Mask) -> "Examples":
        """Return some of the rows (n,), in order; a request of which none is kept is gone."""
        counts = np.add.reduceat(kept, self.start[:-1], dtype=np.int64) if len(kept) else self.request_sizes
        left = counts > 0
        return self._part(kept, np.concatenate([[0], np.cumsum(counts[left])]).astype(np.int64), left)

    def _part(
        self, rows: NDArray[np.int64] | Mask, start: NDArray[np.int64], requests: NDArray[np.intp] | Mask
    ) -> "Examples":
        """Return some rows, which begin new requests at ``start``, each of which was one of these requests."""
        return Examples(
            self.names,
            self.values[rows],
            start,
            self.label[rows],
            time_ms=self.time_ms[requests],
            weight=self.weight[rows],
            position=self.position[rows],
            propensity=self.propensity[rows],
            owner=None if self.owner is None else self.owner[requests],
        )

    def split(self, later_share: float, gap_ms: int = 0) -> tuple["Examples", "Examples"]:
        """Return the earlier requests and the later ones, each by time, of equal times in the order given.

        Args:
            later_share: Share of the requests that are in the later part, 0 to 1. Requests of the time at the border
                are all in the later part, so no request is later than one of that part.
            gap_ms: How long what a request was worth may take to be known. Requests less than so long before the border
                are in neither part: at the border nobody could have learned from them.
        """
        order = np.argsort(self.time_ms, kind="stable")
        times: NDArray[np.int64] = self.time_ms[order]
        border = len(order) - round(later_share * len(order))
        known = border
        if border < len(order):
            begins = times[border]
            border = int(np.count_nonzero(times < begins))
            known = int(np.count_nonzero((times < begins) & (times <= begins - gap_ms)))
        return self.take(order[:known]), self.take(order[border:])

    def by_propensity(self, weight_max: float) -> NDArray[np.float32]:
        """Return the weights over the propensities, (n,): each row stands for those that were not shown.

        What is unlikely would count without bound, so no row counts more than ``weight_max`` times its weight; a row of
        unknown propensity counts as it is.

        Reference: T. Joachims, A. Swaminathan, T. Schnabel, "Unbiased learning-to-rank with biased feedback", WSDM
        2017; clipping: L. Bottou et al., "Counterfactual reasoning and learning systems", JMLR 2013.
        """
        times = np.minimum(1.0 / np.where(np.isnan(self.propensity), 1.0, self.propensity), weight_max)
        return (self.weight * times).astype(np.float32)


def names_text(names: Sequence[str]) -> NDArray[np.uint8]:
    """Return names as the bytes of one text, a line each, for the arrays of a model."""
    return np.frombuffer("\n".join(names).encode(), dtype=np.uint8)


def names_of(text: NDArray[np.generic]) -> tuple[str, ...]:
    """Return the names of a text.

    Raises:
        ArtifactInvalid: It is no text, has too many names, or one of them twice.
    """
    try:
        names = tuple(text.tobytes().decode().split("\n")) if text.size else ()
    except UnicodeDecodeError as error:
        message = "the names of the inputs are no text"
        raise ArtifactInvalid(message) from error
    if len(names) > INPUTS_MAX or len(set(names)) != len(names):
        message = f"more than {INPUTS_MAX:,} inputs, or one of them twice"
        raise ArtifactInvalid(message)
    return names
