"""Streams of events without sockets and threads, settled two pieces at a time as ``serving.events.bulk`` does."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec

from midstream.core.answers.events import Result
from midstream.core.errors import MidstreamError
from midstream.core.types import LogPosition
from midstream.engine.ingest.admitted_batch import RecordedBatch
from midstream.engine.types import Outcome
from midstream.events.pieces import Piece, line_pieces
from midstream.serving.events.bulk import IN_FLIGHT_MAX
from midstream.serving.events.ingest import Ingest
from midstream.serving.slates.bulk_changes import CatalogueSubject, as_lines
from tests.support.fuzz.ledger import Broken


class BrokenOff(MidstreamError):
    """The client went away in the middle of a body."""


class StreamBody:
    """The bytes of a stream as they arrive."""

    def __init__(self, content: bytes, block_bytes: int, ends_at: int | None = None) -> None:
        """Let them arrive in blocks; at ``ends_at`` the client goes away, None = it stays."""
        self._left = memoryview(content)[:ends_at]
        self._block_bytes = block_bytes
        self._is_whole = ends_at is None

    def read(self, size: int, /) -> bytes:
        """Return the next block, nothing at the end.

        Raises:
            BrokenOff: This was the last that came.
        """
        size = min(size, self._block_bytes)
        block, self._left = bytes(self._left[:size]), self._left[size:]
        if not block and not self._is_whole:
            raise BrokenOff
        return block


class Streamed(NamedTuple):
    """What became of a stream."""

    results: list[tuple[LogPosition, Result]]
    """Of each event that was settled: a log position that it stands before if it was taken, and its outcome."""
    failure: MidstreamError | None
    """Why the rest was not settled; None = there is none."""


async def stream(
    ingest: Ingest, body: StreamBody, noun: CatalogueSubject | None, delay_s: Callable[[], float]
) -> Streamed:
    """Record the events of a stream.

    Args:
        ingest: Records them.
        body: NDJSON.
        noun: Of the route for many items or users, whose lines need not say what they are; None = events.
        delay_s: Time until the next piece is there.
    """
    accept, rewrite = ingest.accept, None
    if noun is not None:
        accept = msgspec.structs.replace(accept, actions=frozenset(), open_types=frozenset({noun.kind}))
        rewrite = partial(as_lines, noun=noun, operation="put")
    turn = asyncio.Lock()
    told = Streamed([], None)

    async def settle(piece: Piece) -> None:
        admitted = ingest.service.admit(piece.decoded, piece.part)
        told.results.extend(_results(piece, await ingest.service.record(admitted, turn)))

    flights: deque[asyncio.Task[None]] = deque()
    failure: MidstreamError | None = None
    try:
        for piece in line_pieces(body, accept, rewrite):
            await asyncio.sleep(delay_s())
            flights.append(asyncio.create_task(settle(piece)))
            if len(flights) >= IN_FLIGHT_MAX:
                await flights.popleft()
    except MidstreamError as error:
        failure = error
    for outcome in await asyncio.gather(*flights, return_exceptions=True):
        if isinstance(outcome, MidstreamError):
            failure = failure or outcome
        elif outcome is not None:
            raise outcome
    return told._replace(failure=failure)


def _results(piece: Piece, settled: RecordedBatch) -> list[tuple[LogPosition, Result]]:
    """Return what became of each event of a piece, numbered as in the stream."""
    taken, outcome = settled.admitted, settled.recorded.outcome
    names = dict.fromkeys(range(taken.event_count), "duplicate")
    names.update((each.index, "rejected") for each in taken.rejected)
    for of, name in ((Outcome.CONFLICT, "conflict"), (Outcome.RECORDED, "recorded")):
        names.update(dict.fromkeys(taken.event_index[outcome == of].tolist(), name))
    counts = settled.counts()
    if sum(counts[:4]) != len(names) or counts.recorded != list(names.values()).count("recorded"):
        raise Broken(f"{len(names)} events of a piece came to {counts}")
    return [(settled.recorded.log_position, Result(piece.first + index, name)) for index, name in sorted(names.items())]
