"""Tail of a shared topic: messages in their order become events with log times and positions, the same on every node.

Log time is the running maximum of the times at which the broker appended; positions are counts of events. Neither
depends on how a node cuts what it reads. What the node's log has already is counted and passed by. A message that holds
no event of this log is skipped on every node alike, and so is one whose guard names an older version of an input's
positions than the messages before it left: whether a message counts follows from the messages before it alone, so a
pair of topic and log has those versions too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.ingest.input_guard import NEVER_MOVED, InputGuard
from midstream.engine.ingest.writer import TICK_STEP_MS_MAX, stamp
from midstream.engine.replication.lease_table import LeaseTable
from midstream.engine.replication.shared_topic import TopicMessage
from midstream.engine.replication.topic_message import Events, decode_events, fingerprint_of, founding_of
from midstream.engine.replication.topic_position import TopicPair
from midstream.events.schema import cut, texts_of
from midstream.state.control.input_positions import INPUTS_MAX, input_position_of

_BODY = 6
"""Place of the body among the texts of a row."""


@dataclass(frozen=True, slots=True, eq=False)
class TailEvents:
    """Events of one message that the log has not."""

    batch: EventBatch
    """Log times stamped."""
    process: bytes
    """The process that appended the message."""
    number: int
    """Of the message, among those of that process."""


class TopicTail:
    """Place in a topic, and what follows from the messages there."""

    def __init__(self, topic: str, log_id: bytes, pair: TopicPair, log_end: LogPosition, last_log_time_ms: int) -> None:
        """Begin at a pair, at or before the end of a log.

        Args:
            topic: Name, for messages to people.
            log_id: Of the log.
            pair: Where to begin.
            log_end: Of the node's log; events before it are passed by.
            last_log_time_ms: Of the last event before ``log_end``.
        """
        self.offset = pair.offset
        """Of the next message."""
        self.position = LogPosition(pair.log_position)
        """Log position of the first event of the next message."""
        self.inputs = dict(pair.inputs)
        """Version of the positions of each input."""
        self.skipped = 0
        """Messages that hold no event of this log."""
        self.superseded: list[tuple[bytes, int, InputGuard]] = []
        """Process, number and guard of messages that did not count; whoever reads it empties it."""
        self.superseded_count = 0
        self.leases = LeaseTable(fingerprint_of(log_id))
        """Owners of inputs, outputs and sinks."""
        self.appended_ms = 0
        """Time at which the broker appended the last message, 0 = none was read."""
        self._topic = topic
        self._log_id = log_id
        self._log_end = log_end
        self._last_ms = last_log_time_ms

    @property
    def pair(self) -> TopicPair:
        """Pair of the next message."""
        return TopicPair(self.offset, self.position, dict(self.inputs))

    def take(self, messages: Sequence[TopicMessage]) -> Iterator[TailEvents]:
        """Yield the new events of messages; each one is behind the place when it is yielded.

        Raises:
            TopicRefused: A message is of another schema version; the place is before it.
        """
        for message in messages:
            events = decode_events(message.value, self._log_id, self._topic, message.offset)
            self.offset = message.offset + 1
            self.appended_ms = message.appended_ms
            if events is None:
                self.skipped += not self._is_known(message)
                continue
            if events.guard is not None and events.guard.version != self.inputs.get(events.guard.input, NEVER_MOVED):
                self.superseded.append((events.process, events.number, events.guard))
                self.superseded_count += 1
                continue
            self._note_inputs(events.batch)
            known = self._log_end - self.position
            self.position = LogPosition(self.position + len(events.batch))
            if known < len(events.batch):
                batch = cut(self._stamped(events, message.appended_ms), max(0, known), len(events.batch))
                self._last_ms = int(batch.rows["log_time_ms"][-1])
                yield TailEvents(batch, events.process, events.number)

    def _note_inputs(self, batch: EventBatch) -> None:
        """Keep the versions of inputs whose positions the next events move, as the fold keeps them."""
        for row in np.flatnonzero(batch.rows["kind"] == Kind.CONTROL).tolist():
            body = input_position_of(texts_of(batch, row)[_BODY])
            if body is not None and (body.input in self.inputs or len(self.inputs) < INPUTS_MAX):
                self.inputs[body.input] = self.position + row

    def _is_known(self, message: TopicMessage) -> bool:
        """Return whether a message without events is of this log all the same: a claim of a lease, or the founding."""
        is_claim = self.leases.take(message.value, message.offset, message.appended_ms)
        return is_claim or founding_of(message.value) is not None

    def _stamped(self, events: Events, appended_ms: int) -> EventBatch:
        if events.keeps_event_time:
            return stamp(events.batch, self._last_ms, None)
        if len(events.batch) == 1 and events.batch.rows["kind"][0] == Kind.TICK:
            appended_ms = min(appended_ms, self._last_ms + TICK_STEP_MS_MAX)
        return stamp(events.batch, self._last_ms, appended_ms)
