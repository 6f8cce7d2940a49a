"""Replicated writer: the way of events into a log that several nodes share, and out of it into this node's own.

Two threads. One appends what was submitted to the shared topic. The other reads all of the topic in its order, writes
it into the node's segments, syncs, and hands it to the owner; own events bring their tickets back. So an event is
acknowledged when all in-sync replicas have it and it is folded here, and positions are the same on every node.

While the broker does not answer, reading and appending are tried again, and what was submitted waits within the maxima
of the queue. What stands in the topic and cannot be read here (another schema version, an offset that retention cut)
ends the writer: nothing is taken any more, and the node answers on with the state that it has.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from midstream.core.errors import AppendFailed, CommitTooSlow, DiskFull, Fault, MidstreamError, Overloaded
from midstream.core.protocols import EventLog
from midstream.core.types import Clock, EventBatch, LogPosition
from midstream.engine.ingest.writer import FRAME_EVENTS_MAX, Errand, QueueEntry, WrittenFrame
from midstream.engine.replication.lease_table import LeaseTable
from midstream.engine.replication.shared_topic import SharedTopic, TopicFacts, TopicRead, TopicRefused, TopicUnavailable
from midstream.engine.replication.topic_message import fingerprint_of
from midstream.engine.replication.topic_position import PAGE, TopicPosition, write_topic_position
from midstream.engine.replication.topic_producer import Sent, TopicProducer
from midstream.engine.replication.topic_tail import TailEvents, TopicTail
from midstream.events.schema import build, concat
from midstream.state.ids.event_ids import fingerprints
from midstream.state.structures.hashing import IdKey

READ_WAIT_S = 0.1
"""How long a read waits for a message: an errand, and the end of a process, wait no longer for the thread."""
READ_MESSAGES_MAX = 1_000
"""Messages of one read; of 256 kB at most, and of one event where many nodes append single ones."""
AGAIN_S = 0.2
"""Until a broker that did not answer is asked again."""
UNREACHABLE_S = 30.0
"""A broker that did not answer so long ago counts as gone no more, where nothing was asked since: a question takes at
most a sixth of it, so the thread stands still for another reason."""
FRAME_BYTES_AIM = 8 << 20
"""A frame ends with the message that reaches it: nine of the largest, or 10,000 events of 800 B."""
POSITION_S = 5.0
"""Between two writes of the topic position: a start reads the messages since the last one again, and passes by them."""
CLOSE_S_MAX = 10.0
"""How long a stop waits for events under way; they may be durable later."""
FULL_AGAIN_S = 1.0
"""Until a frame without room on this node's disk is written again."""


class Prepare(Protocol):
    """Opens the topic and compares it with what this node knows of it."""

    def __call__(self) -> TopicFacts:
        """Open, or raise what ``SharedTopic.open`` raises."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SharedLog:
    """A topic that a node is to copy, with what is known of it."""

    topic: SharedTopic
    log_id: bytes
    process: bytes
    """16 random bytes that name this process among all that append."""
    position: TopicPosition
    path: Path
    """File of the topic position."""
    prepare: Prepare | None = None
    """Set where the broker did not answer at the start: called by the reading thread until it succeeds."""
    facts: TopicFacts | None = None
    """Of the topic; None = the broker did not answer at the start."""


class ReplicatedWriter:
    """An ``EventWriter`` of a log that several nodes share."""

    def __init__(
        self,
        shared: SharedLog,
        *told: *tuple[EventLog, Clock, Callable[[], float], Callable[[WrittenFrame], None], IdKey],
        keeps_event_time: bool,
    ) -> None:
        """Copy ``shared`` into a log; the other arguments are those of ``LogWriter``.

        Raises:
            TopicRefused: The log ends before every place of the topic that is known.
        """
        self._shared = shared
        self._log, self._clock, self._monotonic, self._deliver, self._key = told
        log, monotonic = self._log, self._monotonic
        position = shared.position.joined_at(log.end)
        if position is None:
            came = f"The log ends at log position {log.end}, before every place of {shared.topic.name} that is known."
            right = "A snapshot of another node: join this node anew by it."
            raise TopicRefused((Fault(str(shared.path), came, right, PAGE),))
        self._position = position
        self._producer = TopicProducer(shared.topic, shared.log_id, shared.process, keeps_event_time=keeps_event_time)
        self._tail = TopicTail(shared.topic.name, shared.log_id, position.newest, log.end, log.last_log_time_ms)
        self._prepare = shared.prepare
        self._written_s = monotonic()
        self._read_messages = 0
        self.facts = shared.facts
        """Of the topic; None = the broker did not answer yet."""
        self._end_s: float | None = None
        """When the log was last known to be at the end of the topic."""
        self._is_at_end = False
        """Whether the last read left nothing behind."""
        self._unavailable = ""
        """What was told of a broker that does not answer; empty while it does."""
        self._unavailable_s = 0.0
        """When it was last told."""
        self.ended = ""
        """Why nothing is taken any more; empty while the writer works."""
        self.position_trouble = ""
        """Why the topic position could not be written; empty once it was."""
        self._errand: Errand | None = None
        self._closing_s: float | None = None
        self._lock = threading.Lock()
        self._pause = threading.Event()
        """Set when the writer closes, which ends a wait."""
        self._thread = threading.Thread(target=self._run, name="midstream-tail", daemon=True)

    @property
    def queued_events(self) -> int:
        """Events that were submitted and not read back."""
        return self._producer.queued_events

    @property
    def submitted_entries(self) -> int:
        """All that were ever queued; as many come back."""
        return self._producer.submitted_entries

    @property
    def position(self) -> TopicPosition:
        """Pairs of topic and log, the newest one at or before the end of the log."""
        return self._position

    @property
    def skipped_messages(self) -> int:
        """Messages since the start of this process that hold no event of this log."""
        return self._tail.skipped

    @property
    def messages(self) -> Mapping[str, int]:
        """Messages since the start of this process, by what became of them."""
        return {
            "appended": self._producer.confirmed_messages,
            "read": self._read_messages,
            "skipped": self._tail.skipped,
            "superseded": self._tail.superseded_count,
        }

    @property
    def superseded_messages(self) -> int:
        """Messages of inputs since the start of this process that did not count, as others had moved the input."""
        return self._tail.superseded_count

    @property
    def leases(self) -> LeaseTable:
        """Owners of inputs, outputs and sinks, as far as the topic was read."""
        return self._tail.leases

    @property
    def name(self) -> tuple[str, bytes]:
        """Fingerprint of the log, and the process that this writer is to other nodes."""
        return fingerprint_of(self._shared.log_id), self._shared.process

    @property
    def trouble(self) -> str:
        """Why the topic is not read now; empty while it is."""
        return self.ended or self._unavailable

    @property
    def is_unreachable(self) -> bool:
        """Whether the broker was asked just now, and did not answer.

        A copy that stands still for another reason, such as a full disk, is none of that.
        """
        return bool(self._unavailable) and self._monotonic() - self._unavailable_s < UNREACHABLE_S

    @property
    def lag_ms(self) -> int | None:
        """How far the log is behind the topic, in log time, at most; None = nothing is known yet.

        It is not more than the time since the log was at the end of the topic, which no difference of clocks touches.
        Before the end it is not more than the age of the newest event read, by this node's clock, either; an age below
        zero says nothing.
        """
        since_ms = None if self._end_s is None else int((self._monotonic() - self._end_s) * 1_000)
        if self._is_at_end:
            return since_ms
        appended_ms = self._tail.appended_ms
        age_ms = self._clock() - appended_ms if appended_ms else None
        return min((each for each in (since_ms, age_ms) if each is not None and each >= 0), default=None)

    def start(self) -> None:
        """Start both threads."""
        self._producer.start()
        self._thread.start()

    def submit(self, *entries: QueueEntry) -> None:
        """Queue entries, in order; their fate comes through ``deliver``.

        Raises:
            Overloaded: The queue is at its maximum; nothing was queued.
            TooLarge: An event alone does not fit into a message; nothing was queued.
            AppendFailed: The log accepts nothing more.
        """
        self._producer.submit(entries)

    def say(self, message: bytes) -> None:
        """Append a message without events, as soon as the topic takes one; a later one takes its place until then."""
        self._producer.say(message)

    def between_frames(self, work: Callable[[EventLog], EventLog]) -> Future[None]:
        """Run a function on the reading thread between two frames, as ``LogWriter`` does.

        Raises:
            Overloaded: The writer is closing, or runs such a function already.
        """
        errand = Errand(work)
        with self._lock:
            if self._closing_s is not None or self._errand is not None:
                message = "the log is closing, or being replaced already"
                raise Overloaded(message)
            self._errand = errand
        return errand.done

    def close(self) -> None:
        """Append what is queued and read it back, or give it up after ``CLOSE_S_MAX``; then end both threads."""
        self._producer.close()
        with self._lock:
            self._closing_s = self._closing_s or self._monotonic()
        self._pause.set()
        if self._thread.ident is None:  # it was never started
            self._shared.topic.close()
            return
        self._thread.join()
        self._producer.join()

    def _run(self) -> None:
        failure: AppendFailed | None = AppendFailed("the log thread ended by a bug; the log of the process says which")
        try:
            while not self._is_over():
                self.turn()
            failure = None
        except AppendFailed as error:
            failure = error
        except MidstreamError as error:  # what stands in the topic, or does not stand there any more
            failure = AppendFailed(str(error))
        finally:
            self._end(failure)

    def turn(self) -> None:
        """Take one turn of the reading thread: an errand, what is given back, and one read.

        Raises:
            AppendFailed: The log accepts nothing more.
            TopicRefused: What stands in the topic cannot be read here.
        """
        self._do_errand()
        self._give_back()
        read = self._read()
        if read is not None:
            self._take_in(read)

    def _is_over(self) -> bool:
        """Return whether the writer closes and nothing can be waited for.

        Before the topic was checked nothing was appended, and the checks may block for long: they are not begun again.
        """
        began_s = self._closing_s
        if began_s is None:
            return False
        is_done = self._errand is None and (self._producer.is_idle or self._prepare is not None)
        return is_done or self._monotonic() > began_s + CLOSE_S_MAX

    def _read(self) -> TopicRead | None:
        """Return what follows in the topic, None = the broker did not answer, or the writer is over."""
        if self._is_over():
            return None
        try:
            if self._prepare is not None:
                self.facts = self._prepare()
                self._prepare = None
                if self._is_over():
                    return None
            read = self._shared.topic.read(self._tail.offset, READ_MESSAGES_MAX, READ_WAIT_S)
        except TopicUnavailable as error:
            self._unavailable, self._unavailable_s = str(error), self._monotonic()
            self._pause.wait(AGAIN_S)
            return None
        self._unavailable = ""
        return read

    def _take_in(self, read: TopicRead) -> None:
        """Write messages into the log and hand each frame over: about ``FRAME_EVENTS_MAX`` events or bytes as many."""
        self._is_at_end &= read.is_end
        self._read_messages += len(read.messages)
        waiting: list[TailEvents] = []
        count = size = 0
        try:
            for events in self._tail.take(read.messages):
                waiting.append(events)
                count += len(events.batch)
                size += events.batch.rows.nbytes + len(events.batch.text)
                if count >= FRAME_EVENTS_MAX or size >= FRAME_BYTES_AIM:
                    frame, waiting, count, size = waiting, [], 0, 0  # what is being stored is never stored again
                    self._store(frame)
        except TopicRefused:  # what stands before a message that cannot be read is good
            self._store(waiting)
            raise
        self._store(waiting)
        self._give_back_superseded()
        if read.is_end:
            self._end_s = self._monotonic()
            self._is_at_end = True
        self._keep_position()

    def _store(self, waiting: list[TailEvents]) -> None:
        """Make events durable in this node's log, then hand them over; without any, do nothing."""
        if not waiting:
            return
        first = self._log.end
        batch = concat([each.batch for each in waiting])
        began_s = self._monotonic()
        self._append_waiting_for_room(batch)
        append_s = self._monotonic() - began_s
        prints = fingerprints(batch, self._key)
        place = 0
        for run, entries in _runs(waiting, self._producer.read_back):
            joined = concat([each.batch for each in run])
            stop = place + len(joined)
            at = LogPosition(first + place)
            self._deliver(WrittenFrame(at, joined, entries, None, append_s, prints[place:stop]))
            place = stop

    def _append_waiting_for_room(self, batch: EventBatch) -> None:
        """Append a frame; while there is no room, do errands, one of which may make some, and give back.

        Raises:
            AppendFailed: The log accepts nothing more, or the writer closes while there is no room.
        """
        told: DiskFull | None = None
        while True:
            try:
                self._log.append(batch)
            except DiskFull as error:
                if self._closing_s is not None:
                    raise
                told = told or error
                self._deliver(WrittenFrame(self._log.end, build(()), (), told, 0.0))
                self._pause.wait(FULL_AGAIN_S)
                self._do_errand()
                self._give_back()
            else:
                return

    def _keep_position(self, *, is_last: bool = False) -> None:
        """Write the topic position now and then; an older one costs a start some reading, so a full disk is no harm.

        Where a frame could not be written the place is ahead of the log, and is not kept.
        """
        if self._tail.pair == self._position.newest or self._tail.position > self._log.end:
            return
        now_s = self._monotonic()
        if not is_last and now_s - self._written_s < POSITION_S:
            return
        self._written_s = now_s
        advanced = self._position.advanced(self._tail.pair)
        try:
            write_topic_position(self._shared.path, advanced)
        except OSError as error:
            self.position_trouble = f"{self._shared.path} could not be written: {error.strerror or error}"
            return
        self.position_trouble = ""
        self._position = advanced

    def _give_back(self) -> None:
        for sent, error in self._producer.unconfirmed():
            self._hand_back(sent, error)

    def _give_back_superseded(self) -> None:
        """Give back own messages that did not count, behind what came before them."""
        superseded, self._tail.superseded = self._tail.superseded, []
        for process, number, guard in superseded:
            self._producer.supersede(process, number, guard)
        if superseded:
            self._give_back()

    def _hand_back(self, sent: Sent, error: AppendFailed | CommitTooSlow) -> None:
        batch = concat([entry.batch for entry in sent.unconfirmed])
        self._deliver(WrittenFrame(self._log.end, batch, sent.unconfirmed, error, 0.0))

    def _do_errand(self) -> None:
        with self._lock:
            errand, self._errand = self._errand, None
        if errand is None or not errand.done.set_running_or_notify_cancel():
            return
        self._log, failure = errand.done_with(self._log)
        if failure is not None:
            raise failure

    def _end(self, failure: AppendFailed | None) -> None:
        """Give up what is left; with a failure nothing is taken any more."""
        self._give_back()
        late = CommitTooSlow(f"{self._shared.topic.name} did not confirm before the stop; the events may be durable")
        for sent in self._producer.give_up(failure):
            self._hand_back(sent, failure or late)
        with self._lock:
            errand, self._errand = self._errand, None
            self._closing_s = self._closing_s or self._monotonic()
        if errand is not None and errand.done.set_running_or_notify_cancel():
            errand.done.set_exception(failure or Overloaded("the log is closing"))
        if failure is not None:  # with nobody's events too: the owner is to know that nothing is taken any more
            self.ended = str(failure)
            self._deliver(WrittenFrame(self._log.end, build(()), (), failure, 0.0))
        self._keep_position(is_last=True)
        self._shared.topic.close()


def _runs(
    waiting: list[TailEvents], read_back: Callable[[bytes, int], Sent | None]
) -> list[tuple[list[TailEvents], tuple[QueueEntry, ...]]]:
    """Return events in runs of this node's own, with their entries, and of others, without."""
    runs: list[tuple[list[TailEvents], tuple[QueueEntry, ...]]] = []
    for each in waiting:
        sent = read_back(each.process, each.number)
        if runs and sent is None and not runs[-1][1]:
            runs[-1][0].append(each)
        elif runs and sent is not None and runs[-1][1]:
            runs[-1] = ([*runs[-1][0], each], (*runs[-1][1], *sent.entries))
        else:
            runs.append(([each], () if sent is None else sent.entries))
    return runs
