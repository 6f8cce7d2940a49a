"""What a ranker is fitted on: rows with features as they were when a slate was served, or when an act came.

*Served* rows are the positions of a placement's slates, with their reward, place and propensity. *Replayed* rows are
the candidates that the placement would have had before each act, for a log without served slates: the label is the item
that was acted on. Of many candidates some are drawn, each as likely, and each drawn one counts for as many as it
stands for, so that sums over the rows estimate those over all candidates.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from midstream.app.as_of import Past
from midstream.app.asked_served import ServedRange
from midstream.app.examples import ServedQuestion, served_examples
from midstream.app.replay_examples import Group, ReplayCounts, ReplayWanted, replay_groups
from midstream.engine.child import Notify, nobody
from midstream.events.loose_arrow import Batch
from midstream.models.examples import Examples

ROW_BYTES = 64
"""Of a row beside its features, at most, while rows are put together."""


@dataclass(frozen=True, slots=True)
class RankerQuestion:
    """Which rows."""

    folder: Path
    """Holds ``data``."""
    placement: str
    features: tuple[str, ...]
    """Of the placement, in order: the columns."""
    bounds: ServedRange
    rows_max: int
    """The newest requests with at most so many rows are kept."""
    place: Path
    """Folder with room for what does not fit into memory."""
    is_replay: bool = False
    seed: int = 0
    """Decides which candidates of a replay are drawn."""


def ranker_examples(past: Past, question: RankerQuestion, notify: Notify = nobody) -> Examples:
    """Return the rows of a placement, requests in the order of the log.

    Raises:
        Invalid: A feature is not declared.
        FeatureFailed: A feature cannot be read.
        LogDamaged: The log cannot be trusted.
    """
    with ExitStack() as stack:
        rows = _replayed(past, question, notify) if question.is_replay else _served(past, question, stack, notify)
        return joined(rows, question.features, question.rows_max)


def joined(parts: Iterable[Examples], features: tuple[str, ...], rows_max: int) -> Examples:
    """Return the rows of all parts, in order; of more than may be the newest requests."""
    held: deque[Examples] = deque()
    count = 0
    for each in parts:
        held.append(each)
        count += len(each)
        while count - len(held[0]) >= rows_max:
            count -= len(held.popleft())
    every = (_nothing(features), *held)
    sizes = np.concatenate([each.request_sizes for each in every])
    whole = Examples(
        features,
        np.concatenate([each.values for each in every]),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.concatenate([each.label for each in every]),
        time_ms=np.concatenate([each.time_ms for each in every]),
        weight=np.concatenate([each.weight for each in every]),
        position=np.concatenate([each.position for each in every]),
        propensity=np.concatenate([each.propensity for each in every]),
    )
    first = int(np.searchsorted(whole.start, len(whole) - rows_max)) if len(whole) > rows_max else 0
    return whole.take(np.arange(first, len(sizes))) if first else whole


def _served(past: Past, question: RankerQuestion, stack: ExitStack, notify: Notify) -> Iterator[Examples]:
    asked = ServedQuestion(question.folder, question.bounds, question.place, question.features)
    for batch in served_examples(past, asked, stack, notify).batches:
        found = _of_served(batch, question)
        if len(found):
            yield found


def _of_served(batch: Batch, question: RankerQuestion) -> Examples:
    """Return the rows of one placement among those of a batch."""
    placement = np.asarray(batch.column("placement").to_pylist(), dtype=object)
    rows = np.flatnonzero(placement == question.placement)
    position = np.asarray(batch.column("log_position"))[rows].astype(np.int64)
    begins = np.flatnonzero(np.diff(position, prepend=-1) != 0)

    def column(name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.asarray(batch.column(name), dtype=np.float32)[rows]

    times = np.asarray(batch.column("time").cast("int64")).astype(np.int64)[rows]
    return Examples(
        question.features,
        _columns([column(name) for name in question.features], len(rows)),
        np.append(begins, len(rows)).astype(np.int64),
        column("reward"),
        time_ms=times[begins],
        weight=np.ones(len(rows), dtype=np.float32),
        position=column("position").astype(np.int32),
        propensity=column("propensity"),
    )


def _replayed(past: Past, question: RankerQuestion, notify: Notify) -> Iterator[Examples]:
    wanted = ReplayWanted(question.placement, range_text(question.bounds), seed=question.seed)
    block = past.block(question.features)
    for group in replay_groups(past, question.folder, block, wanted, ReplayCounts(), notify):
        yield _of_group(group, question.features)


def _of_group(group: Group, features: tuple[str, ...]) -> Examples:
    count = len(group.label)
    return Examples(
        features,
        group.values,
        np.array([0, count], dtype=np.int64),
        group.label.astype(np.float32),
        time_ms=np.array([group.event.log_time_ms], dtype=np.int64),
        weight=group.weight,
        position=np.full(count, -1, dtype=np.int32),
        propensity=np.full(count, np.nan, dtype=np.float32),
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


def _nothing(features: tuple[str, ...]) -> Examples:
    none = np.empty(0, dtype=np.float32)
    return Examples(
        features,
        np.empty((0, len(features)), dtype=np.float32),
        np.zeros(1, dtype=np.int64),
        none,
        time_ms=np.empty(0, dtype=np.int64),
        weight=none,
        position=np.empty(0, dtype=np.int32),
        propensity=none,
    )
