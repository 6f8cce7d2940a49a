"""Labels of held slates for online metrics: placement, plan, tier and models, and segments by the request's context.

Group and outcomes of a slate are in the table of the join; what it was made with is in its served record, which is read
from the log, a batch at a time in the order of the log. A slate whose record the log holds no more has the label
``GONE`` there, and counts for its user.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from midstream.core.types import EventBatch, LogPosition
from midstream.events.schema import event_at
from midstream.events.served_body import ServedBody, decode_body
from midstream.events.siphash import id_hash
from midstream.feedback.online_metrics import MetricOptions, OnlineMetrics, SlateLabels
from midstream.state.fold import Fold
from midstream.state.outcomes.outcomes import Slates

NONE: Final = "none"
"""Label of a slate without a model, or without a value of the segment."""
GONE: Final = "gone"
_READ_EVENTS: Final = 512
"""Events of one read: commits of single events are read some hundred at a time, and few for nothing where served events
are rare."""
Read = Callable[[LogPosition, int], Sequence[tuple[LogPosition, EventBatch]]]


def online_metrics(
    fold: Fold, read: Read, begin: LogPosition, options: MetricOptions, segments: Sequence[str] = ()
) -> OnlineMetrics:
    """Return the metrics of the slates that a state holds.

    Args:
        fold: The state; nothing is folded meanwhile.
        read: Reads its log, as ``EventLog.read`` does.
        begin: Position of the first event that the log still holds.
        options: Windows and actions.
        segments: Keys of the request's context, each a label ``context.KEY``.

    Cost: 20 µs a slate of the longest window, which is the time of reading its record.
    """
    found, bodies = OnlineMetrics(options), ServedRecords(read, begin)
    since_ms = options.now_ms - max(options.windows_ms)
    for some in fold.outcomes.held():
        if len(some) and int(some.slate["log_time_ms"][-1]) > since_ms:
            found.add(some, _labels(some, fold, bodies, since_ms, segments))
    return found


class ServedRecords:
    """Served records at rising log positions."""

    def __init__(self, read: Read, begin: LogPosition) -> None:
        """Read with ``read`` what is not before ``begin``."""
        self._read = read
        self._begin = begin
        self._ahead: deque[tuple[LogPosition, EventBatch]] = deque()
        """Batches that were read, at and after the position that came last."""

    def at(self, position: int) -> tuple[str, ServedBody] | None:
        """Return the session and the record of a served event; None = the log does not hold it, or it is unreadable.

        Each commit is read once for all positions in it.
        """
        if position < self._begin:
            return None
        while self._ahead and self._ahead[0][0] + len(self._ahead[0][1]) <= position:
            self._ahead.popleft()
        if not self._ahead:
            self._ahead.extend(self._read(LogPosition(position), _READ_EVENTS))
        first, batch = self._ahead[0]
        event = event_at(batch, position - first)
        try:
            return event.session_id, decode_body(event.body)
        except ValueError:
            return None  # of another release, or redacted to nothing: the label says so


def _labels(some: Slates, fold: Fold, bodies: ServedRecords, since_ms: int, segments: Sequence[str]) -> SlateLabels:
    """Return the labels of some slates; records of slates before a time are not read."""
    groups = [fold.outcomes.group(number) for number in some.slate["group"].tolist()]
    values: dict[str, list[str]] = {
        "placement": [group.placement for group in groups],
        "plan": [group.plan for group in groups],
        "tier": [group.tier for group in groups],
        "model": [],
        **{f"context.{key}": [] for key in segments},
    }
    session = some.slate["user"].astype(np.uint64)
    times, positions = some.slate["log_time_ms"].tolist(), some.slate["log_position"].tolist()
    for number, (served_ms, position) in enumerate(zip(times, positions, strict=True)):
        known = bodies.at(position) if served_ms > since_ms else None
        if known is not None and known[0]:
            session[number] = id_hash(known[0], fold.vocabulary.id_key)
        values["model"].append(GONE if known is None else models_label(known[1].models))
        for key in segments:
            values[f"context.{key}"].append(GONE if known is None else segment_of(known[1], key))
    return SlateLabels(values, session)


def models_label(versions: Mapping[str, str]) -> str:
    """Return name and version of each model, as one label."""
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) or NONE


def segment_of(record: ServedBody, key: str) -> str:
    """Return the segment of a slate: the value of a key of its request's context, ``NONE`` without one."""
    value = record.context.get(key)
    return NONE if value is None else str(value)
