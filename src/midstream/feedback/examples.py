"""Training examples from a log: each position of each slate with how it was served and its final outcomes.

One pass over the log through a minimal fold, so an example is the row of the live outcome table when its slate expires,
late outcomes included. Slates come in the order in which they were served; a second reader, which follows behind at the
expiring ones, reads ids and propensities. So memory is that of the table, however long the log.

Slates of erased users give examples as all do: no example has a user.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from midstream.core.kinds import IMPRESSION
from midstream.core.types import EventBatch, LogPosition
from midstream.events.schema import event_at
from midstream.events.served_body import ServedBody, decode_body
from midstream.features.reserved import OUTCOME
from midstream.feedback.rewards import reward
from midstream.state.fold import Fold
from midstream.state.outcomes.outcome_fold import NEVER
from midstream.state.outcomes.outcomes import Outcomes, Slates

if TYPE_CHECKING:
    import pyarrow as pa

Batches: TypeAlias = Iterable[tuple[LogPosition, EventBatch]]


@dataclass(frozen=True, slots=True)
class ExampleOptions:
    """Selection of slates, and rewards."""

    since: LogPosition
    """Slates that were appended at this log position or later; those from before the log begins give no example ..."""
    before: LogPosition
    """... and before this one. Outcomes count up to the end of the log."""
    rewards: Mapping[str, float]
    """Reward of each action; others have 0."""


def outcome_examples(fold: Fold, read: Callable[[], Batches], wanted: ExampleOptions) -> Iterator["pa.RecordBatch"]:
    """Yield the examples, some slates at a time, slates in the order of the log and positions in that of the slate.

    Columns: ``request_id``, ``log_position`` (of the served event), ``placement``, ``plan``, ``tier``, ``position``,
    ``item_id``, ``propensity``, ``impression`` and ``outcome_<action>`` for each configured action (whether it came),
    ``count`` (events in all), ``value`` (sum of value x quantity), ``seen_after_ms`` and ``acted_after_ms`` (null =
    never), ``reward``.

    Args:
        fold: At the beginning of the log; it is used up.
        read: Returns all events from there on, and can be called twice.
        wanted: Selection of slates.

    Cost: one pass over the log, about 1 µs an event, and one over the selected part of it.
    """
    wanted = replace(wanted, since=max(wanted.since, fold.log_position))  # a base knows slates that the log lost
    fold.leave_out(fold.leaves - {Outcomes})
    left: list[Slates] = []
    fold.outcomes.leaving = left.append
    bodies = _Bodies(read())
    for first, batch in read():
        fold.apply(first, batch)
        yield from _examples(left, fold.outcomes, bodies, wanted)
        left.clear()
    yield from _examples(fold.outcomes.held(), fold.outcomes, bodies, wanted)


def example_schema(actions: Iterable[str]) -> "pa.Schema":
    """Return the columns of ``outcome_examples``."""
    import pyarrow as pa  # 0.4 s and 40 MB where it is used

    columns: dict[str, pa.DataType] = {
        "request_id": pa.string(),
        "log_position": pa.int64(),
        **{name: pa.string() for name in ("placement", "plan", "tier")},
        "position": pa.int16(),
        "item_id": pa.string(),
        "propensity": pa.float32(),
        **{name: pa.bool_() for name in (IMPRESSION, *map(_outcome_of, actions))},
        "count": pa.int64(),
        "value": pa.float64(),
        "seen_after_ms": pa.int32(),
        "acted_after_ms": pa.int32(),
        "reward": pa.float32(),
    }
    return pa.schema(columns)


def _outcome_of(action: str) -> str:
    """Return the name of an outcome's column."""
    return action if action == IMPRESSION else f"{OUTCOME}{action}"


class _Bodies:
    """Reads served events at rising log positions, a batch of the log at a time."""

    def __init__(self, batches: Batches) -> None:
        self._batches = iter(batches)
        self._first = LogPosition(0)
        self._batch: EventBatch | None = None

    def at(self, position: int) -> tuple[str, ServedBody]:
        """Return the request id and the body of the served event at a position.

        Raises:
            ValueError: It is before an earlier read, or before the beginning.
        """
        while self._batch is None or position >= self._first + len(self._batch):
            self._first, self._batch = next(self._batches)
        if position < self._first:
            message = f"log position {position} is asked for where the events at hand begin at {self._first}"
            raise ValueError(message)
        event = event_at(self._batch, position - self._first)
        return event.request_id, decode_body(event.body)


def _examples(
    slates: Iterable[Slates], outcomes: Outcomes, bodies: _Bodies, wanted: ExampleOptions
) -> Iterator["pa.RecordBatch"]:
    """Yield a batch for each lot of slates with a selected one."""
    for some in slates:
        at = some.slate["log_position"]
        chosen = np.flatnonzero((at >= wanted.since) & (at < wanted.before))
        if len(chosen):
            yield _example_batch(some, chosen.tolist(), outcomes, bodies, wanted)


def _example_batch(
    slates: Slates, chosen: list[int], outcomes: Outcomes, bodies: _Bodies, wanted: ExampleOptions
) -> "pa.RecordBatch":
    import pyarrow as pa  # 0.4 s and 40 MB where it is used

    texts: dict[str, list[object]] = {name: [] for name in ("request_id", "log_position", "placement", "plan", "tier")}
    item_ids: list[str] = []
    places: list[int] = []
    positions: list[int] = []
    propensity: list[float] = []
    for number in chosen:
        _, _, log_position, _, first, _, length = slates.slate[number].tolist()
        request_id, told = bodies.at(log_position)
        said = (request_id, log_position, told.placement, told.config_hash, told.tier)
        for column, value in zip(texts.values(), said, strict=True):
            column.extend([value] * length)
        item_ids.extend(told.ids)
        places.extend(range(first, first + length))
        positions.extend(range(told.first_position, told.first_position + length))
        propensity.extend(np.frombuffer(told.propensities, dtype="<f4").tolist() or [1.0] * length)
    rows = slates.outcome[places]
    bit_of = {name: outcomes.action_bit(name) for name in (IMPRESSION, *outcomes.actions)}
    columns: dict[str, Any] = {
        **texts,
        "position": positions,
        "item_id": item_ids,
        "propensity": propensity,
        **{_outcome_of(name): (rows["bits"] & np.uint32(bit)) != 0 for name, bit in bit_of.items()},
        "count": rows["count"].astype(np.int64),
        "value": np.ascontiguousarray(rows["value"]),
        **{
            name: np.ma.masked_equal(np.ascontiguousarray(rows[name]), NEVER)
            for name in ("seen_after_ms", "acted_after_ms")
        },
        "reward": reward(rows["bits"], bit_of, wanted.rewards),
    }
    return pa.RecordBatch.from_pydict(columns, schema=example_schema(outcomes.actions))
