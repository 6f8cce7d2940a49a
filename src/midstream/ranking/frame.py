"""Columns of the candidates: merged proposals of the sources, and blocks of features."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import FeatureFailed, ShapeMismatch
from midstream.core.protocols import Feature
from midstream.core.types import Candidates, Failure, FeatureFrame, Index, Mask, Moment, Proposal, Score
from midstream.features.block_inputs import TOGETHER
from midstream.features.declarations import NONE, Declarations
from midstream.features.declared import DeclaredFeatures
from midstream.features.degraded_block import needed_readers
from midstream.features.readers.request_inputs import ItemFieldReader
from midstream.ranking.boundary import Account, RaisedFailure, boundary, raised_by
from midstream.ranking.merge_kernel import merge_rows
from midstream.ranking.plan import FEATURES, block_name, feature_name, lost_columns, owners

FAILED_FEATURES_MAX = 8
"""Named one by one: with their reasons they add 1 kB at most to a served record. Where more fail, their block did."""
_NAMES_MAX = 1_024
"""Cached sets of column names: one of each plan, and one more for each set of sources that failed together."""
_PLAIN: Final = (np.ndarray, np.memmap)
T = TypeVar("T", bound=np.generic)
_UNSIGNED = np.dtype(np.uint32)
_NAN_BITS = np.float32(np.nan).view(_UNSIGNED)
_NO_ITEMS: Index = np.empty(0, dtype=np.int32)
_room = threading.local()


def of_type(came: object, kind: type, right: str) -> None:
    """Refuse a component's result of another type, such as the ``None`` of a function without ``return``.

    Raises:
        ShapeMismatch: Of another type; the text has the type and what would be ``right``.
    """
    if not isinstance(came, kind):
        message = f"{'None' if came is None else type(came).__name__} came where {right} is right"
        raise ShapeMismatch(message)


def of_array(came: object, right: str) -> None:
    """Refuse a component's result that is no plain array: a masked array hides values.

    Raises:
        ShapeMismatch: It is no plain array.
    """
    of_type(came, np.ndarray, right)
    if type(came) not in _PLAIN:
        message = f"{type(came).__name__} came where {right} is right"
        raise ShapeMismatch(message)


def lent(values: NDArray[T]) -> NDArray[T]:
    """Return a read-only view of an array, for a custom component: other components read the array after it.

    Built-in components get the array itself: a read-only one would need further compiled forms of the kernels.
    """
    found = values.view()
    found.flags.writeable = False
    return found


def lent_candidates(candidates: Candidates) -> Candidates:
    """Return candidates with read-only columns. Cost: 1 µs."""
    columns = (lent(candidates.source_score), lent(candidates.source_rank))
    return Candidates(lent(candidates.item_index), candidates.source_names, *columns)


def lent_frame(features: FeatureFrame) -> FeatureFrame:
    """Return a frame with read-only values."""
    return FeatureFrame(features.names, lent(features.values))


def checked(proposal: Proposal, item_count: int) -> Proposal:
    """Return a proposal after checking that its columns have one length and its items exist.

    Raises:
        ShapeMismatch: They do not; the source then counts as failed.
    """
    of_type(proposal, Proposal, "a Proposal")
    item_index, score = proposal.item_index, proposal.score
    of_array(item_index, "an array of item indices")
    of_array(score, "an array of scores")
    if item_index.ndim != 1 or item_index.shape != score.shape:
        message = f"items of shape {item_index.shape} came with scores of shape {score.shape}"
        raise ShapeMismatch(message)
    if item_index.dtype != np.int32 or score.dtype != np.float32:
        message = f"items came as {item_index.dtype}, scores as {score.dtype}: int32 and float32 are right"
        raise ShapeMismatch(message)
    # As unsigned a negative index is larger than every item; the place of the largest is found faster than itself.
    unsigned = item_index.view(_UNSIGNED)
    if len(unsigned) and unsigned[unsigned.argmax()] >= item_count:
        message = f"an item index outside 0 to {item_count - 1}"
        raise ShapeMismatch(message)
    return proposal


def merge(proposals: Mapping[str, Proposal], item_count: int) -> Candidates:
    """Return distinct items in order of first proposal, with one score and one rank column a source.

    Args:
        proposals: By source, ``checked``. Of an item that a source proposes more than once the first place counts:
            nothing is lost by it, so no source fails for it.
        item_count: Number of items there are.

    Cost: about 10 µs for 300 proposals of three sources.
    """
    each = list(proposals.values())
    if not each:
        return Candidates(_NO_ITEMS, (), np.empty((0, 0), np.float32), np.empty((0, 0), np.int32))
    counts = np.array([len(proposal.item_index) for proposal in each], dtype=np.int64)
    stacked = np.concatenate([proposal.item_index for proposal in each])
    values = np.concatenate([proposal.score for proposal in each])
    distinct = np.empty(len(stacked), dtype=np.int32)
    # A row a source: writing to one is twice as fast as to a column.
    score = np.empty((len(each), len(stacked)), dtype=np.float32)
    rank = np.empty((len(each), len(stacked)), dtype=np.int32)
    found = merge_rows(stacked, values, counts, _scratch(item_count), distinct, score, rank)
    return Candidates(distinct[:found], tuple(proposals), score[:, :found].T, rank[:, :found].T)


def take(candidates: Candidates, keep: Mask) -> Candidates:
    """Return the kept candidates, in order: as ``where``, in a third of its time, and nothing is copied if all are."""
    if np.count_nonzero(keep) == len(keep):
        return candidates
    rows = keep.nonzero()[0]
    return Candidates(
        candidates.item_index.take(rows),
        candidates.source_names,
        candidates.source_score.T.take(rows, axis=1).T,
        candidates.source_rank.T.take(rows, axis=1).T,
    )


def _scratch(item_count: int) -> Index:
    """Return an uninitialized buffer with a number for each item, one for each thread.

    It is no state: a cell is read only after it was written for the same request. A new buffer a request would cost a
    page fault an item.
    """
    cells: Index | None = getattr(_room, "cells", None)
    if cells is None or len(cells) < item_count:
        cells = np.empty(max(2 * item_count, 1_024), dtype=np.int32)
        _room.cells = cells
    return cells


def extend(candidates: Candidates, name: str, item_index: Index, first_rank: int) -> Candidates:
    """Return the candidates with further items behind them that only ``name`` proposes, in order, from a rank on."""
    old, new = len(candidates), len(item_index)
    column = len(candidates.source_names)
    score = np.full((column + 1, old + new), np.nan, dtype=np.float32)
    score[:column, :old] = candidates.source_score.T
    score[column, old:] = 0.0
    rank = np.full((column + 1, old + new), -1, dtype=np.int32)
    rank[:column, :old] = candidates.source_rank.T
    rank[column, old:] = np.arange(first_rank, first_rank + new)
    names = (*candidates.source_names, name)
    return Candidates(np.concatenate([candidates.item_index, item_index]), names, score.T, rank.T)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureReader:
    """Reader of feature blocks at one moment; a failure is in the account, and its columns are NaN."""

    moment: Moment
    account: Account
    declared: Declarations = NONE
    """Declared features of the columns; failures carry their names."""

    def frame(self, blocks: tuple[Feature, ...], candidates: Candidates) -> FeatureFrame:
        """Return the columns of the scorers: ``score.<source>``, ``rank.<source>``, then those of each block.

        A rank is 0 for the source's best and NaN where it did not propose the item.
        """
        count = len(candidates.source_names)
        names = _names(candidates.source_names, tuple(block.names for block in blocks))
        # One row a column: scorers read columns.
        by_column = np.empty((len(names), len(candidates)), dtype=np.float32)
        by_column[:count] = candidates.source_score.T
        by_column[count : 2 * count] = ranks_of(candidates)
        start = 2 * count
        for number, block in enumerate(blocks):
            found = self.block(block, candidates, block_name(number))
            by_column[start : start + len(block.names)] = found.T
            start += len(block.names)
        return FeatureFrame(names, by_column.T)

    def block(self, block: Feature, candidates: Candidates, name: str = FEATURES) -> Score:
        """Return the columns of a block, (n, len(names)), read once.

        In a block of declared features, an exception of a reader costs the features that need the reader, each named,
        and no others. A failure of any other kind, or of more features than a record names, costs the block.

        Args:
            block: The block.
            candidates: The rows.
            name: The block's.
        """
        shape = (len(candidates), len(block.names))
        whole = self.account.aside()
        with boundary(name, whole):
            if not isinstance(block, DeclaredFeatures):
                return _whole(block.read(self.moment, candidates), shape)
            attempts = _Attempts(name, self.account.errors)
            values = _whole(block.read(self.moment, candidates, attempts), shape)
            if not attempts.raised:
                return values
            apart = _failed_features(block, attempts.raised, (name, self.declared))
            if 0 < len(apart) <= FAILED_FEATURES_MAX:
                lost = lost_columns({each.component for each in apart}, block.names, self.declared, name)
                values[:, [each in lost for each in block.names]] = np.nan
                self.account.failures.extend(apart)
                return values
            whole.failures.append(next(iter(attempts.raised.values())))
        self.account.failures.append(whole.failures[0])
        return np.full(shape, np.nan, dtype=np.float32)


def ranks_of(candidates: Candidates) -> Score:
    """Return the rank of each candidate in each source, 0 = its best, NaN = not proposed, (sources, n).

    Computed by bits: an assignment under a mask without a pattern takes twice as long. As unsigned integers the bits of
    negative numbers are above those of NaN, and those of any other number below.
    """
    found: Score = candidates.source_rank.T.astype(np.float32)
    bits = found.view(_UNSIGNED)
    np.minimum(bits, _NAN_BITS, out=bits)
    return found


@lru_cache(maxsize=_NAMES_MAX)
def _names(sources: tuple[str, ...], blocks: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Return the names of all columns; the same object each time, so that caches by identity work."""
    of_sources = (*(f"score.{name}" for name in sources), *(f"rank.{name}" for name in sources))
    return sum(blocks, of_sources)


class _Attempts:
    """Collects the exception of each reader and continues with the others: an ``Attempt``."""

    __slots__ = ("_boundary", "_caught", "raised")

    def __init__(self, name: str, errors: list[BaseException] | None) -> None:
        """Take the block's name; one boundary serves all readers, as it keeps nothing of its own."""
        own = Account(errors=errors)
        self._caught = own.failures
        self._boundary = boundary(name, own)
        self.raised: dict[int, Failure] = {}

    def __call__(self, reader: int, fill: Callable[[], None]) -> bool:
        """Return whether the reader raised nothing."""
        before = len(self._caught)
        with self._boundary:
            fill()
        if len(self._caught) == before:
            return True
        self.raised[reader] = self._caught[-1]
        return False


def _failed_features(
    block: DeclaredFeatures, raised: Mapping[int, Failure], called: tuple[str, Declarations]
) -> list[Failure]:
    """Return a failure for each feature that needs a reader that raised, in the order of the readers.

    None where readers that are filled together raised and each of them alone did not: the failing one is unknown.
    """
    name, owner = called[0], owners(called[1])
    together = {number for number, reader in enumerate(block.readers) if type(reader) is ItemFieldReader}
    if TOGETHER in raised and not together & raised.keys():
        return []
    needed = needed_readers(block.program)
    found: dict[str, Failure] = {}
    for number in sorted(raised.keys() - {TOGETHER}):
        columns = (each for each, readers in zip(block.names, needed, strict=True) if number in readers)
        features = tuple(dict.fromkeys(owner.get(each, each) for each in columns))
        for each in features:
            reason = raised[number].reason if each == features[0] else f"as {feature_name(name, features[0])}"
            found.setdefault(each, RaisedFailure(feature_name(name, each), reason, raised_by(raised[number])))
    return list(found.values())


def read_or_stop(block: Feature, moment: Moment, candidates: Candidates, declared: Declarations = NONE) -> Score:
    """Return the columns of a block outside of an answer: a failure raises instead of giving NaN.

    Raises:
        FeatureFailed: It has the name of each feature and the log position; the cause is the exception, or a group.
    """
    errors: list[BaseException] = []
    account = Account(errors=errors)
    values = FeatureReader(moment, account, declared).block(block, candidates)
    if failures := account.failures:
        told = "; ".join(f"{each.component}: {each.reason}" for each in failures)
        message = f"at log position {moment.log_position} features could not be read. {told}"
        cause = errors[0] if len(errors) == 1 else BaseExceptionGroup("raised by readers", errors)
        raise FeatureFailed(message, tuple(each.component for each in failures)) from cause
    return values


def _whole(values: Score, shape: tuple[int, int]) -> Score:
    """Return the values of a block, of exactly this shape: fewer rows would be spread over all candidates.

    Raises:
        ShapeMismatch: They are of another, or no numbers.
    """
    of_array(values, "an array of values")
    if values.dtype.kind != "f":
        message = f"values came as {values.dtype}: float32 is right"
        raise ShapeMismatch(message)
    if values.shape != shape:
        message = f"values of shape {values.shape} came for candidates and columns {shape}"
        raise ShapeMismatch(message)
    return values


def declared_of(features: FeatureFrame, source_count: int) -> FeatureFrame:
    """Return the columns of a frame from blocks of features, without those of the sources."""
    first = 2 * source_count
    return FeatureFrame(features.names[first:], features.values[:, first:])
