"""Producer of a node: queued events become messages of a shared topic, many under way at once, none sent twice.

What is queued while a message is made shares the next one. A message whose fate the broker does not tell in time is
given back as such: it may be in the topic or come to be there, so it is never sent again under another number. When it
is read after all, its events count like those of any node.

An entry too large for one message is sent in parts, each after the one before was read back. So its last events are
never in the topic without its first ones.
"""

import threading
from collections import deque
from dataclasses import dataclass

from midstream.core.errors import AppendFailed, CommitTooSlow, Fault, MidstreamError, Overloaded, TooLarge
from midstream.engine.ingest.input_guard import InputGuard, Superseded
from midstream.engine.ingest.writer import FRAME_EVENTS_MAX, QueueEntry, require_room
from midstream.engine.replication.shared_topic import MESSAGE_BYTES_MAX, SharedTopic, TopicUnavailable
from midstream.engine.replication.topic_message import Events, encode_events, pieces
from midstream.engine.replication.topic_position import PAGE
from midstream.events.schema import concat

_SAID = 0
"""Stands for the number of a message without events; others count from 1."""
AGAIN_S = 0.05
"""Until a message that the client had no room for is offered again."""
MESSAGE_BYTES_AIM = 256_000
"""Bytes of entries that share a message: a thousand events of 200 B; a larger one would only wait for itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """Entries of one message, as they come back."""

    entries: tuple[QueueEntry, ...]
    """When the message was read: of an entry in parts, the last part alone has the ticket."""
    unconfirmed: tuple[QueueEntry, ...]
    """When its fate is unknown: each part has the ticket."""

    @property
    def events(self) -> int:
        """Number of events."""
        return sum(len(entry.batch) for entry in self.entries)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """An entry, or a part of one that does not fit into a message."""

    entry: QueueEntry
    unconfirmed: QueueEntry
    number: int = 0
    """Place among the parts of the entry; 0 = the first or only one."""
    is_alone: bool = False
    """Whether its message has nothing else: a part, and an entry with a condition of its own."""


class TopicProducer:
    """A bounded queue in front of a topic, and the thread that empties it."""

    def __init__(self, topic: SharedTopic, log_id: bytes, process: bytes, *, keeps_event_time: bool) -> None:
        """Append to ``topic`` messages of the process ``process``, 16 random bytes."""
        self.confirmed_messages = 0
        """Messages of events that all in-sync replicas have."""
        self.submitted_entries = 0
        """All that were ever queued, each part of one in parts."""
        self._topic = topic
        self._log_id = log_id
        self._process = process
        self._keeps_event_time = keeps_event_time
        self._queue: deque[_Part] = deque()
        self._sent: dict[int, Sent] = {}
        """Under way: appended, and not read back."""
        self._failed: deque[tuple[int, MidstreamError]] = deque()
        self._number = 0
        self._is_last_broken = False
        """Whether the fate of the last message is unknown."""
        self._said = b""
        """Message without events that was not appended yet; empty = there is none."""
        self._events = 0
        self._bytes = 0
        self._failure: AppendFailed | None = None
        self._is_closing = False
        self._is_over = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="midstream-produce", daemon=True)

    @property
    def queued_events(self) -> int:
        """Events that were taken and not read back."""
        return self._events

    @property
    def is_idle(self) -> bool:
        """Whether nothing is queued or under way."""
        return not self._events

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, entries: tuple[QueueEntry, ...]) -> None:
        """Queue entries, in order.

        Raises:
            Overloaded: The queue is at its maximum, of events or of bytes; nothing was queued.
            AppendFailed: Nothing more is taken.
        """
        parts = [part for entry in entries for part in _parts(entry)]
        with self._wake:
            if self._failure is not None:
                raise self._failure
            if self._is_closing:
                message = "the log is closing"
                raise Overloaded(message)
            events, bytes_count = require_room((part.entry for part in parts), self._events, self._bytes)
            self._queue.extend(parts)
            self.submitted_entries += len(parts)
            self._events += events
            self._bytes += bytes_count
            self._wake.notify_all()

    def read_back(self, process: bytes, number: int) -> Sent | None:
        """Return the entries of a message that was read; None = another process appended it, or it was given back."""
        if process != self._process:
            return None
        with self._wake:
            sent = self._sent.pop(number, None)
            if sent is not None:
                self._leave(sent)
            return sent

    def unconfirmed(self) -> list[tuple[Sent, CommitTooSlow]]:
        """Return what is given back now because its fate is unknown."""
        found: list[tuple[Sent, CommitTooSlow]] = []
        with self._wake:
            while self._failed:
                number, error = self._failed.popleft()
                sent = self._sent.pop(number, None)
                if sent is not None:
                    self._leave(sent)
                    if not isinstance(error, Superseded):
                        message = f"{self._topic.name} did not confirm in time ({error}); they may be durable later"
                        error = CommitTooSlow(message)
                    found.append((sent, error))
        return found

    def supersede(self, process: bytes, number: int, guard: InputGuard) -> None:
        """Note that a message was read and did not count; where it is this producer's, its entries are given back."""
        if process == self._process:
            with self._wake:
                if number in self._sent:
                    self._fail(number, Superseded(guard))

    def say(self, message: bytes) -> None:
        """Append a message without events, in front of what is queued; one that was not appended yet gives way."""
        with self._wake:
            self._said = message
            self._wake.notify_all()

    def close(self) -> None:
        """Take nothing more; what is queued is sent."""
        with self._wake:
            self._is_closing = True
            self._wake.notify_all()

    def give_up(self, failure: AppendFailed | None) -> list[Sent]:
        """End, and return all that was neither read back nor given back; later entries are refused with ``failure``."""
        with self._wake:
            self._is_closing = self._is_over = True
            self._failure = failure
            left = [*self._sent.values(), *(Sent((part.entry,), (part.unconfirmed,)) for part in self._queue)]
            self._sent.clear()
            self._queue.clear()
            self._events = self._bytes = 0
            self._wake.notify_all()
        return left

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join()

    def _leave(self, sent: Sent) -> None:
        self._events -= sent.events
        self._bytes -= sum(entry.bytes_count for entry in sent.entries)
        self._wake.notify_all()

    def turn(self, *, waits: bool = False) -> bool:
        """Append one message; return False when there is none to append, with ``waits`` when there will be none."""
        taken = self._take(waits=waits)
        if taken is None:
            return False
        if isinstance(taken, bytes):
            self._append(_SAID, taken)
            return True
        number, parts = taken
        batch, guard = concat([part.entry.batch for part in parts]), parts[0].entry.guard
        events = Events(batch, self._process, number, self._keeps_event_time, guard)
        self._append(number, encode_events(events, self._log_id))
        return True

    def _run(self) -> None:
        while self.turn(waits=True):
            continue

    def _take(self, *, waits: bool) -> tuple[int, list[_Part]] | bytes | None:
        """Return the parts of the next message, which is under way from then on, or one without events.

        None = there are none, or never.
        """
        with self._wake:
            while not self._is_over and not self._said and not (self._queue and self._may_follow(self._queue[0])):
                if not waits or (not self._queue and self._is_closing):
                    return None
                self._wake.wait()
            if self._is_over:
                return None
            if self._said:
                said, self._said = self._said, b""
                return said
            parts = [self._queue.popleft()]
            events, size = len(parts[0].entry.batch), parts[0].entry.bytes_count
            while self._queue and not parts[0].is_alone and not self._queue[0].is_alone:
                entry = self._queue[0].entry
                events, size = events + len(entry.batch), size + entry.bytes_count
                if events > FRAME_EVENTS_MAX or size > MESSAGE_BYTES_AIM:
                    break
                parts.append(self._queue.popleft())
            self._begin_next()
            sent = Sent(tuple(part.entry for part in parts), tuple(part.unconfirmed for part in parts))
            self._sent[self._number] = sent
            return self._number, parts

    def _begin_next(self) -> None:
        self._number += 1
        self._is_last_broken = False

    def _may_follow(self, part: _Part) -> bool:
        """Return whether the part before was read back, so that it is there.

        Where its fate is unknown this part is given back too.
        """
        if part.number == 0:
            return True
        if not self._is_last_broken:
            return self._number not in self._sent
        self._queue.popleft()
        self._begin_next()
        self._sent[self._number] = Sent((part.entry,), (part.unconfirmed,))
        self._fail(self._number, TopicUnavailable("the part before it was not confirmed"))
        return False

    def _fail(self, number: int, error: MidstreamError) -> None:
        self._is_last_broken |= number == self._number
        self._failed.append((number, error))
        self._wake.notify_all()

    def _append(self, number: int, value: bytes) -> None:
        def confirmed(error: MidstreamError | None) -> None:
            if number == _SAID:
                return
            with self._wake:
                self.confirmed_messages += error is None
                if error is not None:
                    self._fail(number, error)

        while not self._is_over:
            try:
                self._topic.append(value, confirmed)
            except TopicUnavailable:
                with self._wake:
                    self._wake.wait(AGAIN_S)
            else:
                return


def _parts(entry: QueueEntry) -> list[_Part]:
    """Return an entry cut into parts that fit into messages.

    Raises:
        TooLarge: One event alone does not fit into a message.
    """
    batches = list(pieces(entry.batch))
    for batch in batches:
        if (size := batch.rows.nbytes + len(batch.text)) > MESSAGE_BYTES_MAX:
            right = f"At most {MESSAGE_BYTES_MAX} bytes, which a message of the shared log may have."
            raise TooLarge((Fault("/events", f"An event of {size} bytes came.", right, PAGE),))
    if len(batches) == 1:
        return [_Part(entry, entry, is_alone=entry.guard is not None)]
    last = len(batches) - 1
    return [
        _Part(
            QueueEntry(batch, entry.ticket if n == last else None, guard=entry.guard),
            QueueEntry(batch, entry.ticket),
            n,
            is_alone=True,
        )
        for n, batch in enumerate(batches)
    ]
