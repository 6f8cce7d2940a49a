"""Passes over a log piece by piece: one reader while it is read on, a new one where the log is another by now."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from midstream.core.errors import EventsGone, LogDamaged, LogRewritten
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.sinks.log_pieces import LogPieces
from midstream.events.schema import Event, build

COUNT = 40


class Reader:
    """A reader of commits of one event each, which may fail at its next read."""

    begin = LogPosition(0)

    def __init__(self) -> None:
        self.error: Exception | None = None

    def read(self, after: LogPosition, limit: int, durable: LogPosition) -> Sequence[tuple[LogPosition, EventBatch]]:
        if self.error is not None:
            raise self.error
        some = range(after, min(after + limit, durable))
        return [(LogPosition(each), build((Event(Kind.TICK),))) for each in some]


class Opened:
    """Pieces of a log, and the readers that were opened for them."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        """Of all readers that are opened from now on."""
        self.readers: list[Reader] = []
        self.pieces = LogPieces(self.open)

    def open(self) -> Any:
        self.readers.append(Reader())
        self.readers[-1].error = self.error
        return self.readers[-1]

    def next(self, after: int, upto: int) -> list[int]:
        """Return the log positions of the next piece."""
        found = asyncio.run(self.pieces.next(LogPosition(after), LogPosition(upto)))
        return [] if found is None else [found[0] + each for each in range(len(found[1]))]

    def at(self, positions: Sequence[int], upto: int) -> list[int]:
        """Return the log positions of single events."""
        found, _ = asyncio.run(self.pieces.events_at(positions, LogPosition(upto)))
        return [int(each) for each in found]


def test_a_log_that_is_read_on_is_opened_once() -> None:
    """However its end moves, and for single events as well; a pass from elsewhere opens it anew."""
    log, place = Opened(), 0
    for upto in (3, 3, 9, 20, COUNT):
        while found := log.next(place, upto):
            assert found[0] == place
            place = found[-1] + 1
        assert place == upto
        assert log.at([0, upto - 1, upto], upto) == [0, upto - 1]
    assert len(log.readers) == 1
    assert log.next(5, COUNT)[0] == 5
    assert len(log.readers) == 2


@pytest.mark.parametrize("error", [LogDamaged("no"), LogRewritten("no"), EventsGone("no"), FileNotFoundError("no")])
def test_a_reader_that_knows_another_log_gives_place_to_a_new_one(error: Exception) -> None:
    """Nothing is skipped and nothing comes twice; an error that the new one has as well is raised."""
    log = Opened()
    assert log.next(0, 1) == [0]
    log.readers[0].error = error
    assert log.next(1, 2) == [1]
    log.readers[1].error = error
    assert log.at([0, 1], 2) == [0, 1]
    assert len(log.readers) == 3
    log.pieces.forget()
    log.error = error
    with pytest.raises(type(error)):
        log.next(2, 3)
    with pytest.raises(type(error)):
        log.at([0], 3)
