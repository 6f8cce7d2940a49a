"""Training data of a ranker: rows with features as of the moment of a served slate or an act.

*Served* rows are the positions of a placement's slates, with their reward, position and propensity. If impressions of
the placement are logged at all, a row is a position that was seen: an item that was not seen was not passed over. A
position with an act was seen too. A slate without any impression gives no rows: its client logs clicks alone, and all
of its rows would be positive. A slate gives rows once its outcome window is over.

*Replayed* rows are the candidates that the placement would have had before each act, without those of sources that read
models, for a log without served slates: the label is the item of the act. Of many candidates some are sampled
uniformly, and each sampled one has the weight of those that it represents, so that sums over the rows estimate those
over all candidates.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from midstream.app.point_in_time.lookup import Past
from midstream.app.point_in_time.replay_examples import (
    PLACE,
    CandidateGroup,
    ReplayCounts,
    ReplayWanted,
    replay_groups,
    replayed_plan,
    source_columns,
)
from midstream.app.point_in_time.served_examples import ServedQuestion, served_examples
from midstream.app.point_in_time.served_requests import ServedRange
from midstream.engine.child_process import Notify, nobody
from midstream.events.loose_arrow import Batch
from midstream.models.rows.examples import Examples

ROW_BYTES = 64
"""Of a row beside its features, at most, while rows are put together."""
_DARK, _YOUNG = "slates_without_an_impression", "slates_younger_than_the_outcome_window"
_OLD = "older_requests_beyond_memory_bytes_max"
OWNERS = "user_id", "session_id"
"""Columns of the owner of a request; the first that exists."""
MODEL_SOURCES = "sources_that_read_models"
"""Of a placement that is replayed: none is asked."""


@dataclass(frozen=True, slots=True)
class RankerQuestion:
    """Which rows."""

    folder: Path
    """Holds ``data``."""
    placement: str
    """Whose slates; empty = those of all, of a file."""
    features: tuple[str, ...]
    """Of the placement, in order; of a file the columns. Those of a replay have what its sources say behind them."""
    bounds: ServedRange
    rows_max: int
    """The newest requests with at most so many rows are kept."""
    place: Path
    """Folder with room for what does not fit into memory."""
    is_replay: bool = False
    seed: int = 0
    """Decides which candidates of a replay are drawn."""
    first_attributes: bool = True
    """Of a replay: see ``ReplayWanted``."""
    mature_ms: int | None = None
    """Slates that were asked for later may still be acted on, and give no rows; None = all give some."""
    actions: Mapping[str, float] = field(default_factory=dict[str, float])
    """Outcomes that are worth something, of a replay the acts that are labels; none = as the configuration says."""
    after_ms: int | None = None
    """Slates that were asked for, and acts that came, up to then have been learned; None = none have."""


@dataclass(frozen=True, slots=True)
class RankerRows:
    """Training rows of a ranker."""

    examples: Examples
    """Requests in the order of the log."""
    left_out: Mapping[str, int]
    """Number of slates and positions without rows, by cause."""
    first_attributes: int = 0
    """Rows of a replay, kept or not, whose attributes the catalogue named later than the act."""


@dataclass(slots=True)
class _Slates:
    """What is found of slates while they are read."""

    impressions: int = 0
    """Positions that were seen."""
    young: int = 0
    """Slates of which more may come."""
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    """Slates and positions that gave no example, by why; known when all are read."""


def ranker_rows(past: Past, question: RankerQuestion, notify: Notify = nobody) -> RankerRows:
    """Return the rows of a placement.

    Raises:
        Invalid: A feature is not declared.
        FeatureFailed: A feature cannot be read.
        LogDamaged: The log cannot be trusted.
    """
    if question.is_replay:
        counts = ReplayCounts()
        plan, _ = replayed_plan(past, question.folder, question.placement)
        columns = (*past.block(question.features).names, *source_columns(plan))
        newest = Newest(columns, question.rows_max)
        for part in _replayed(past, question, columns, counts, notify):
            newest.add(part)
        examples = newest.examples()
        left = {"acts_of_erased_users": counts.erased, "acts_taken_back": counts.taken_back}
        left["acts_on_no_candidate"] = counts.acts - counts.groups
        left[MODEL_SOURCES] = len(counts.sources)
        left[_OLD] = newest.requests - len(examples.time_ms)
        return RankerRows(examples, _any(left), counts.first_attributes)
    slates = _Slates()
    with ExitStack() as stack:
        parts = ((part, slates.impressions) for part in _served(past, question, (slates, stack), notify))
        found = seen_of(parts, past.block(question.features).names, question.rows_max)
    return RankerRows(found.examples, _any({_YOUNG: slates.young, **found.left_out, **slates.left_out}))


def rows_of_batch(batch: Batch, question: RankerQuestion) -> RankerRows:
    """Return the rows of examples that were written to a file, slates in the order of the log."""
    slates = _Slates()
    return _known(_of_served(batch, question, slates), slates)


def rows_of_groups(batch: Batch, features: tuple[str, ...]) -> Examples:
    """Return the rows of a replay that was written to a file; for how many each stands is not there, so each is one."""
    group = np.asarray(batch.column("group")).astype(np.int64)
    begins = np.flatnonzero(np.diff(group, prepend=-1) != 0)
    times = np.asarray(batch.column("time").cast("int64")).astype(np.int64)
    count = len(group)
    has_place = PLACE in batch.schema.names
    place = np.asarray(batch.column(PLACE)).astype(np.int32) if has_place else np.full(count, -1, dtype=np.int32)
    return Examples(
        features,
        _columns([np.asarray(batch.column(name), dtype=np.float32) for name in features], count),
        np.append(begins, count).astype(np.int64),
        np.asarray(batch.column("label")).astype(np.float32),
        time_ms=times[begins],
        weight=np.ones(count, dtype=np.float32),
        position=place,
        propensity=np.full(count, np.nan, dtype=np.float32),
        owner=_owners(batch, begins, group[begins]),
    )


def _owners(batch: Batch, rows: NDArray[np.intp], number: NDArray[np.int64]) -> NDArray[np.uint64] | None:
    """Return whose the requests are that begin at some rows: hashes of the user, else of the session, else of a number.

    None where the batch has neither column.

    Args:
        batch: A part of all that is read.
        rows: First of each request.
        number: Of each request, which no other has, of other parts either.
    """
    names = [name for name in OWNERS if name in batch.schema.names]
    if not names:
        return None
    ids = [np.asarray(batch.column(name).to_pylist(), dtype=object)[rows].tolist() for name in names]
    told = zip(number.tolist(), zip(*ids, strict=True), strict=True)
    owners = (_owner(zip(names, each, strict=True), own) for own, each in told)
    return np.fromiter(owners, dtype=np.uint64, count=len(rows))


def _owner(ids: Iterable[tuple[str, str]], number: int) -> int:
    """Return the hash of the first id that is one; where none is, of a number that no other request has."""
    key = next((f"{name} {each}" for name, each in ids if each), f"request {number}")
    return xxhash.xxh3_64_intdigest(key.encode())


def _known(rows: Examples, slates: _Slates) -> RankerRows:
    """Return what is learned from of what was read."""
    examples, unseen = _seen(rows, is_logged=slates.impressions > 0)
    return RankerRows(examples, _any({_YOUNG: slates.young, **unseen}))


def _any(counts: Mapping[str, int]) -> Mapping[str, int]:
    return {why: count for why, count in counts.items() if count}


def _seen(rows: Examples, *, is_logged: bool) -> tuple[Examples, Mapping[str, int]]:
    """Return the rows that were seen, all where impressions are not logged, and how many were left out by why.

    Args:
        rows: The weight of what was not seen is 0, of all others 1.
        is_logged: Whether impressions are.
    """
    if not is_logged:
        return replace(rows, weight=np.ones_like(rows.weight)), {}
    seen = rows.where(rows.weight > 0)
    sizes = rows.request_sizes
    is_dark = np.add.reduceat(rows.weight, rows.start[:-1]) == 0
    unseen = len(rows) - len(seen) - int(sizes[is_dark].sum())
    left = {_DARK: int(is_dark.sum()), "positions_without_an_impression": unseen}
    return seen, left


class Newest:
    """The newest requests of parts that come one after another, whole, with at most so many rows."""

    def __init__(self, features: tuple[str, ...], rows_max: int) -> None:
        """Begin with nothing."""
        self.requests = 0
        """That came."""
        self._features = features
        self._rows_max = rows_max
        self._held: deque[Examples] = deque()
        self._rows = 0

    def add(self, part: Examples) -> None:
        """Take a part; let go of those before it whose rows no longer find room. Cost: linear over all."""
        self._held.append(part)
        self._rows += len(part)
        self.requests += len(part.time_ms)
        while self._rows - len(self._held[0]) >= self._rows_max:
            self._rows -= len(self._held.popleft())

    def examples(self) -> Examples:
        """Return the requests that find room, in order."""
        none = np.empty(0, dtype=np.float32)
        every = (Examples.of_rows(self._features, none.reshape(0, len(self._features)), none), *self._held)
        sizes = np.concatenate([each.request_sizes for each in every])
        whole = Examples(
            self._features,
            np.concatenate([each.values for each in every]),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            np.concatenate([each.label for each in every]),
            time_ms=np.concatenate([each.time_ms for each in every]),
            weight=np.concatenate([each.weight for each in every]),
            position=np.concatenate([each.position for each in every]),
            propensity=np.concatenate([each.propensity for each in every]),
            owner=_joined_owners(self._held),
        )
        over = len(whole) - self._rows_max
        first = int(np.searchsorted(whole.start, over)) if over > 0 else 0
        return whole.take(np.arange(first, len(sizes))) if first else whole


def _joined_owners(parts: Collection[Examples]) -> NDArray[np.uint64] | None:
    """Return whose the requests of all parts are; None where it is unknown of one of them."""
    owners = [each.owner for each in parts if each.owner is not None]
    return np.concatenate((np.empty(0, dtype=np.uint64), *owners)) if len(owners) == len(parts) else None


def seen_of(parts: Iterable[tuple[Examples, int]], features: tuple[str, ...], rows_max: int) -> RankerRows:
    """Return the newest rows that were seen, all where no impression is logged; unseen ones take no room.

    Args:
        parts: Each with the number of impressions by its end, its own included. Before the first one nothing was seen;
            whether impressions are logged at all is known when one comes.
        features: The columns.
        rows_max: Maximum of kept rows.
    """
    newest, is_logged = Newest(features, rows_max), False
    left: Counter[str] = Counter()
    for part, impressions in parts:
        if impressions and not is_logged:
            is_logged, left[_DARK] = True, newest.requests
            newest = Newest(features, rows_max)
        seen = part
        if is_logged:
            seen, unseen = _seen(part, is_logged=True)
            left.update(unseen)
        if len(seen):
            newest.add(seen)
    rows = newest.examples()
    left[_OLD] = newest.requests - len(rows.time_ms)
    return RankerRows(rows if is_logged else replace(rows, weight=np.ones_like(rows.weight)), _any(left))


def _served(
    past: Past, question: RankerQuestion, found: tuple[_Slates, ExitStack], notify: Notify
) -> Iterator[Examples]:
    """Yield the rows of the placement's slates; ``found`` is told of them, and removes what is laid on disk."""
    slates, stack = found
    bounds = replace(question.bounds, placement=question.placement)
    asked = ServedQuestion(question.folder, bounds, question.place, question.features, question.actions)
    served = served_examples(past, asked, stack, notify)
    read = replace(question, features=past.block(question.features).names)
    for batch in served.batches:
        rows = _of_served(batch, read, slates)
        if len(rows):
            yield rows
    slates.left_out = served.left_out()


def _of_served(batch: Batch, question: RankerQuestion, slates: _Slates) -> Examples:
    """Return the rows of one placement among those of a batch; what was not seen has a weight of 0."""
    times = np.asarray(batch.column("time").cast("int64")).astype(np.int64)
    placement = np.asarray(batch.column("placement").to_pylist(), dtype=object)
    is_own = (placement == question.placement) | (not question.placement)
    if question.after_ms is not None:
        is_own &= times > question.after_ms
    position = np.asarray(batch.column("log_position")).astype(np.int64)
    if question.mature_ms is not None:
        is_young = is_own & (times > question.mature_ms)
        slates.young += len(np.unique(position[is_young]))
        is_own &= ~is_young
    rows = np.flatnonzero(is_own)
    begins = np.flatnonzero(np.diff(position[rows], prepend=-1) != 0)

    def column(name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.asarray(batch.column(name), dtype=np.float32)[rows]

    impression = np.asarray(batch.column("impression"))[rows].astype(np.bool_)
    slates.impressions += int(impression.sum())
    was_acted_on = np.asarray(batch.column("acted_after_ms").is_valid())[rows]
    sizes = np.diff(np.append(begins, len(rows)))
    is_told = np.repeat(np.logical_or.reduceat(impression, begins), sizes) if len(rows) else impression
    return Examples(
        question.features,
        _columns([column(name) for name in question.features], len(rows)),
        np.append(begins, len(rows)).astype(np.int64),
        column("reward"),
        time_ms=times[rows][begins],
        weight=(is_told & (impression | was_acted_on)).astype(np.float32),
        position=column("position").astype(np.int32),
        propensity=column("propensity"),
        owner=_owners(batch, rows[begins], position[rows][begins]),
    )


def _replayed(
    past: Past, question: RankerQuestion, columns: tuple[str, ...], counts: ReplayCounts, notify: Notify
) -> Iterator[Examples]:
    labels = tuple(question.actions)
    text, seed, is_first = range_text(question.bounds), question.seed, question.first_attributes
    wanted = ReplayWanted(question.placement, text, labels, seed=seed, first_attributes=is_first)
    block = past.block(question.features)
    for group in replay_groups(past, question.folder, block, wanted, counts, notify):
        yield _of_group(group, columns)


def _of_group(group: CandidateGroup, features: tuple[str, ...]) -> Examples:
    count, ids = len(group.label), (group.event.user_id, group.event.session_id)
    return Examples(
        features,
        np.hstack((group.values, group.said)),
        np.array([0, count], dtype=np.int64),
        group.label.astype(np.float32),
        time_ms=np.array([group.event.log_time_ms], dtype=np.int64),
        weight=group.weight,
        position=group.place,
        propensity=np.full(count, np.nan, dtype=np.float32),
        owner=np.array([_owner(zip(OWNERS, ids, strict=True), group.log_position)], dtype=np.uint64),
    )


def range_text(bounds: ServedRange) -> str:
    """Return a range as ``FROM..TO``: by log positions, or by times where there are any."""
    first = str(bounds.first) if bounds.since_ms is None else str(bounds.since_ms)
    if bounds.until_ms is not None:
        return f"{first}..{bounds.until_ms}"
    return f"{first}..{'' if bounds.stop is None else bounds.stop}"


def _columns(
    columns: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]], count: int
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return np.stack(columns, axis=1) if columns else np.empty((count, 0), dtype=np.float32)
