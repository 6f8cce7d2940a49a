"""The promises of ``EventLog`` and ``LogReader`` that types cannot state. Every implementation runs the same checks."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from midstream.core.kinds import Kind, Operation
from midstream.core.protocols import EventLog, LogReader
from midstream.core.types import EventBatch, LogPosition
from midstream.events.schema import ROW, Event, build, concat, text_lengths

_SIZES = (1, 1, 3, 7, 1, 40, 2)
"""Events a batch: single ones between larger ones, so that reads begin and end inside and between batches."""


def check_event_log(make: Callable[[], EventLog]) -> None:
    """Check that what ``make`` returns, a new and empty log each time, keeps every promise of an ``EventLog``.

    Raises:
        AssertionError: A promise is broken; the text says which.
    """
    for check in (_check_empty, _check_append, _check_reads, _check_ownership, _check_log_time, _check_refusals):
        log = make()
        try:
            check(log)
        finally:
            log.close()


def check_log_reader(log: EventLog, make: Callable[[], LogReader]) -> None:
    """Check that what ``make`` returns, a reader of ``log``, keeps every promise of a ``LogReader``.

    Args:
        log: New and empty.
        make: Called when ``log`` has events.

    Raises:
        AssertionError: A promise is broken; the text says which.
    """
    expected = _fill(log)
    reader, end = make(), len(expected)
    _promise(reader.generation == log.generation, "a reader has the generation of its log")
    _promise(reader.begin == 0, "a log of which nothing was cut begins at 0")
    for durable in (0, 1, end // 2, end):
        for after in range(0, durable + 1, 3):
            for limit in (1, 13, end + 5):
                pairs = reader.read(LogPosition(after), limit, LogPosition(durable))
                found = events_in(pairs)
                _promise(not pairs or pairs[0][0] == after, "a read begins exactly at after")
                _promise(found == expected[after : after + len(found)], "a read gives the events at and after after")
                _promise(after + len(found) <= durable, "nothing at or after the durable position is given")
                _promise(len(found) >= min(limit, durable - after), "a read gives limit events where there are as many")
    _promise(
        _refuses(lambda: reader.read(LogPosition(2), 1, LogPosition(1))), "a position that is not durable is refused"
    )
    _promise(_refuses(lambda: reader.read(LogPosition(0), 0, LogPosition(1))), "a limit below 1 is refused")
    batch = sample_batch(end, 2, log.last_log_time_ms)
    more = events_in(reader.read(LogPosition(end), 2, log.append(batch)))
    _promise(more == events_in([(LogPosition(0), batch)]), "what is appended later is read as well")


def sample_batch(first: int, count: int, log_time_ms: int) -> EventBatch:
    """Return a batch that differs from any other ``first``: texts of many lengths, with and without body and time."""
    return build([_event(number, log_time_ms) for number in range(first, first + count)])


def events_in(pairs: Sequence[tuple[LogPosition, EventBatch]]) -> list[bytes]:
    """Return each event that a read gave, as bytes that are equal where all of the event is.

    Raises:
        AssertionError: A pair does not begin where the one before it ended.
    """
    found: list[bytes] = []
    for position, batch in pairs:
        _promise(batch.rows.dtype == ROW, "rows are of the schema's type")
        _promise(position == pairs[0][0] + len(found), "each batch begins where the one before it ended")
        rows = batch.rows.copy()
        rows["text_start"] = 0  # where a text lies is no part of the event
        starts = batch.rows["text_start"].tolist()
        lengths = text_lengths(batch).sum(axis=1).tolist()
        found.extend(
            row.tobytes() + batch.text[start : start + length]
            for row, start, length in zip(rows, starts, lengths, strict=True)
        )
    return found


def _event(number: int, log_time_ms: int) -> Event:
    kind = (Kind.INTERACTION, Kind.ITEM, Kind.IMPRESSION, Kind.TICK)[number % 4]
    return Event(
        kind,
        Operation.PUT if kind == Kind.ITEM else Operation.NONE,
        event_id=f"e{number}",
        action="view" if kind == Kind.INTERACTION else "",
        user_id="u" * (number % 5),
        item_id=f"Größe-{number % 11}",
        session_id="",
        request_id="r" if number % 3 else "",
        body=b"" if number % 2 else b'{"n": %d}' % number,
        event_time_ms=None if number % 3 == 0 else log_time_ms - number,
        value=float("nan") if number % 2 else number / 7,
        quantity=float(number % 4),
        position=number % 6 - 1,
        log_time_ms=log_time_ms,
    )


def _fill(log: EventLog) -> list[bytes]:
    """Append batches; return what must be read, event by event."""
    batches: list[EventBatch] = []
    first = 0
    for size in _SIZES:
        batches.append(sample_batch(first, size, 1_000 + first))
        first += size
        end = log.append(batches[-1])
        _promise(end == first, "append returns the position after the batch's last event")
        _promise(log.end == first, "end is the position that append returned")
    return events_in([(LogPosition(0), concat(batches))])


def _check_empty(log: EventLog) -> None:
    _promise(log.end == 0, "a new log ends at 0")
    _promise(log.last_log_time_ms == 0, "a new log has no log time")
    _promise(list(log.read(LogPosition(0), 10)) == [], "a new log gives nothing")
    _promise(log.append(sample_batch(0, 0, 5)) == 0, "appending no event moves nothing")
    _promise(log.last_log_time_ms == 0, "appending no event gives no log time")


def _check_append(log: EventLog) -> None:
    generation = log.generation
    expected = _fill(log)
    _promise(log.generation == generation, "appending does not change the generation")
    _promise(log.last_log_time_ms == 1_000 + sum(_SIZES[:-1]), "last_log_time_ms is that of the last event")
    _promise(_read_all(log, 0, len(expected)) == expected, "every event comes back as it was, in order")


def _check_reads(log: EventLog) -> None:
    expected = _fill(log)
    end = len(expected)
    for after in range(end + 1):
        for limit in (1, 2, 13, end + 5):
            pairs = log.read(LogPosition(after), limit)
            found = events_in(pairs)
            _promise(not pairs or pairs[0][0] == after, "a read begins exactly at after")
            _promise(found == expected[after : after + len(found)], "a read gives the events at and after after")
            _promise(len(found) >= min(limit, end - after), "a read gives limit events where there are as many")
            _promise(len(found) <= limit + max(_SIZES), "a read gives about limit events, not all")
            _promise(all(len(batch) for _, batch in pairs), "no batch of a read is empty")
    for step in (1, 5, end):
        _promise(_read_all(log, 0, step) == expected, "reads that go on from one another give each event once")
    _promise(log.end == end, "reading does not move the end")


def _check_ownership(log: EventLog) -> None:
    batch = sample_batch(0, 3, 10)
    mine = EventBatch(batch.rows.copy(), batch.text)
    log.append(mine)
    mine.rows["log_time_ms"] = 99
    expected = events_in([(LogPosition(0), batch)])
    _promise(events_in(log.read(LogPosition(0), 3)) == expected, "what happens to a batch later is not in the log")
    log.append(sample_batch(3, 1, 10))
    _promise(log.end == len(batch) + 1, "the same log time may come again")


def _check_log_time(log: EventLog) -> None:
    now_ms, size = 1_000, 2
    log.append(sample_batch(0, size, now_ms))
    back = sample_batch(2, 3, 2_000)
    rows = back.rows.copy()
    rows["log_time_ms"][1] = 1_500
    for batch in (sample_batch(2, 1, 999), EventBatch(rows, back.text)):
        _promise(_refuses(partial(log.append, batch)), "log time that goes back is refused")
        _promise(log.end == size, "nothing of a refused batch is kept")
        _promise(log.last_log_time_ms == now_ms, "a refused batch does not move log time")
    rows["log_time_ms"] = np.array([now_ms, now_ms + 1, now_ms + 1])
    log.append(EventBatch(rows, back.text))
    _promise(log.last_log_time_ms == now_ms + 1, "a batch whose log time stands still or goes on is taken")


def _check_refusals(log: EventLog) -> None:
    _fill(log)
    past = LogPosition(log.end + 1)
    _promise(_refuses(lambda: log.read(past, 1)), "a position that does not exist yet is refused")
    _promise(_refuses(lambda: log.read(LogPosition(-1), 1)), "a negative position is refused")
    _promise(_refuses(lambda: log.read(LogPosition(0), 0)), "a limit below 1 is refused")


def _read_all(log: EventLog, after: int, limit: int) -> list[bytes]:
    found: list[bytes] = []
    while after + len(found) < log.end:
        more = events_in(log.read(LogPosition(after + len(found)), limit))
        _promise(bool(more), "a read before the end gives something")
        found.extend(more)
    return found


def _refuses(call: Callable[[], object]) -> bool:
    try:
        call()
    except ValueError:
        return True
    return False


def _promise(kept: bool, text: str) -> None:  # noqa: FBT001 - the first argument is what the second says
    if not kept:
        raise AssertionError(text)
