"""Spans of a traced request's events on their way: queue, append with its sync, fold."""

from midstream.monitoring.tracing import RequestTrace


class CommitSpans:
    """Filled on the thread that owns the state, from what the log thread measured."""

    def __init__(self, trace: RequestTrace) -> None:
        """Begin when the events are queued."""
        self._trace = trace
        self._queued_s = trace.clock()
        self._durable_s = self._queued_s

    def note_durable(self, append_s: float, events: int) -> None:
        """Note that the events are durable; call it when the owner hears of it.

        Args:
            append_s: Time of the append, sync included. The way from one thread to the other counts as queue.
            events: In the frame, which other requests shared.
        """
        self._durable_s = self._trace.clock()
        began_s = max(self._queued_s, self._durable_s - append_s)
        self._trace.add("queue", self._queued_s, began_s)
        self._trace.add("log append and sync", began_s, self._durable_s, {"midstream.frame_events": events})

    def note_applied(self) -> None:
        """Note that the events are in the state."""
        self._trace.add("fold", self._durable_s, self._trace.clock())
