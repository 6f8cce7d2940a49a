"""Replay of the log into a fold: at a start, in the snapshot's child, and in the verification of the state."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from midstream.core.errors import LogDamaged
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.child_process import Notify, nobody
from midstream.events.schema import concat, cut
from midstream.state.fold import Fold

Read: TypeAlias = Callable[[LogPosition, int], Sequence[tuple[LogPosition, EventBatch]]]
"""``EventLog.read``."""
READ_EVENTS = 10_000
"""Events read at once: 2 MB at 200 B."""
FOLD_EVENTS = 65_536
"""Events read at once that nothing is done with but folding them: two cores fold a batch in a pipeline, whose begin and
end leave one of them without work for a run of 1,024 each."""
JOINED_BYTES_MAX = 8 << 20
"""Texts of commits that are joined: 10,000 events with bodies of 800 bytes. A longer commit stays by itself."""


def batches(
    read: Read, after: LogPosition, upto: LogPosition, events: int | None = None
) -> Iterator[tuple[LogPosition, EventBatch]]:
    """Yield the events from one position to before another, in order, about so many (``READ_EVENTS``) at a time.

    Small commits are joined: folding, redacting or writing a thousand events in one call is a hundred times as fast as
    in a call for each.

    Raises:
        LogDamaged: A checksum does not match, or the log ends before ``upto``.
    """
    limit = READ_EVENTS if events is None else events
    while after < upto:
        found = read(after, limit)
        if not found:
            message = f"the log has no events from position {after} to {upto}"
            raise LogDamaged(message)
        for first, batch in _joined(found):
            kept = cut(batch, 0, upto - first)
            yield first, kept
            after = LogPosition(first + len(kept))
            if after >= upto:
                return


def _joined(found: Sequence[tuple[LogPosition, EventBatch]]) -> Iterator[tuple[LogPosition, EventBatch]]:
    """Yield batches joined into as few as have room for their texts."""
    begin, byte_count = 0, 0
    for place, (_, batch) in enumerate(found):
        if place > begin and byte_count + len(batch.text) > JOINED_BYTES_MAX:
            yield found[begin][0], concat([each for _, each in found[begin:place]])
            begin, byte_count = place, 0
        byte_count += len(batch.text)
    yield found[begin][0], concat([each for _, each in found[begin:]])


def catch_up(fold: Fold, read: Read, upto: LogPosition, notify: Notify = nobody) -> int:
    """Fold the events between the fold's position and ``upto``; return their number."""
    began = fold.log_position
    for first, batch in batches(read, began, upto, FOLD_EVENTS):
        fold.apply(first, batch)
        notify("folding", fold.log_position, upto)
    return upto - began
