"""Wire form of answers to events: the outcome of each event of a request."""

from collections.abc import Callable

import msgspec

from midstream.core.answers.events import EventsAnswer, Rejection, Result
from midstream.core.types import LogPosition
from midstream.engine.ingest.admitted_batch import RecordedBatch, count_without_dedupe
from midstream.engine.ingest.ingest_service import BULK_BYTES, IngestLimits, IngestService
from midstream.events.json.decode import Rejected
from midstream.events.wire import Accept
from midstream.monitoring.tracing import current
from midstream.serving.options import ServerOptions


class IngestOptions(msgspec.Struct, frozen=True):
    """How a body is to be read and answered."""

    content_type: str = ""
    """Of the body, when it names the format."""
    dry_run: bool = False
    """Decode and judge only."""
    all_results: bool = False
    """Return the outcome of every event, not only of those that were not recorded."""
    only: str = ""
    """The one type that is taken, ``item`` or ``user``; empty = all."""
    refused_types: frozenset[str] = frozenset()
    """Types that the caller's key does not allow."""
    is_probe: bool = False
    """Whether the events are of a freshness probe of the server."""


PLAINLY = IngestOptions()


class Ingest:
    """Hands bodies to the ingest service and answers with their outcome; every route that takes events uses it."""

    def __init__(
        self,
        service: IngestService,
        accept: Callable[[], Accept],
        token: Callable[[LogPosition], str],
        body_bytes_max: int,
    ) -> None:
        """Record through ``service`` the events that ``accept`` allows; ``token`` writes a log position."""
        self.service = service
        self.token = token
        self._accept = accept
        self._body_bytes_max = body_bytes_max
        self._accepted: tuple[Accept, Accept] | None = None
        """The newest terms as they came, and with the bound of bodies."""

    @property
    def accept(self) -> Accept:
        """The terms on which events are taken now; bodies are bounded where they are read."""
        accept = self._accept()
        if self._accepted is not None and self._accepted[0] is accept:
            return self._accepted[1]
        # What a route wraps around the events of a body that has the full size is not the client's doing.
        limits = msgspec.structs.replace(accept.limits, body_bytes_max=2 * self._body_bytes_max)
        self._accepted = accept, msgspec.structs.replace(accept, limits=limits)
        return self._accepted[1]

    async def take(self, body: bytes, how: IngestOptions = PLAINLY) -> EventsAnswer:
        """Record the events of a body; return when all that is acknowledged is durable and applied.

        Args:
            body: One event, a list, ``{"events": [...]}`` or NDJSON.
            how: To read and to answer it.

        Raises:
            MidstreamError: As the service's ``take`` does.
        """
        accept = self.accept
        if how.only:
            accept = msgspec.structs.replace(accept, actions=frozenset(), open_types=frozenset({how.only}))
        if how.refused_types:
            accept = without_types(accept, how.refused_types)
        if how.is_probe:
            accept = msgspec.structs.replace(accept, takes_reserved=True)
        trace = current()
        began_s = 0.0 if trace is None else trace.clock()
        if len(body) < BULK_BYTES:
            admitted = self.service.decode_here(body, accept, how.content_type)
        else:
            admitted = await self.service.decode(body, accept, how.content_type)
        if trace is not None:
            decoded_s = trace.clock()
            trace.add(
                "decode", began_s, decoded_s, {"midstream.events": len(admitted.batch), "midstream.bytes": len(body)}
            )
        if how.dry_run:
            return _answer(RecordedBatch(admitted, self.service.unrecorded(admitted)), None, how)
        settled = await self.service.record(admitted)
        return _answer(settled, self.token(settled.recorded.log_position), how)


def _answer(settled: RecordedBatch, log_position: str | None, how: IngestOptions) -> EventsAnswer:
    """Return the wire form of an outcome; ``log_position`` None = a dry run."""
    admitted = settled.admitted
    if settled.is_plain and not how.all_results:
        without_dedupe = count_without_dedupe(admitted.batch)
        return EventsAnswer(admitted.event_count, 0, (), 0, without_dedupe, log_position, (), how.dry_run)
    counts = settled.counts()
    names = settled.names().tolist()
    return EventsAnswer(
        counts.recorded,
        counts.duplicates,
        tuple(rejection(each) for each in admitted.rejected),
        counts.conflicts,
        counts.without_dedupe,
        log_position,
        tuple(Result(index, name) for index, name in enumerate(names) if how.all_results or name != "recorded"),
        how.dry_run,
    )


def without_types(accept: Accept, refused_types: frozenset[str]) -> Accept:
    """Return the terms for a caller whose key does not allow some types."""
    open_types = accept.open_types - refused_types
    return msgspec.structs.replace(accept, open_types=open_types, forbidden=refused_types)


def limits_of(options: ServerOptions) -> IngestLimits:
    """Return the ingest limits of a server's options."""
    return IngestLimits(options.commit_wait_max.ms / 1_000, options.bulk_decodes_max)


def rejection(rejected: Rejected) -> Rejection:
    """Return an event that was not taken as it is answered."""
    fault = rejected.fault
    return Rejection(rejected.index, fault.where, fault.came, fault.right, fault.page)
