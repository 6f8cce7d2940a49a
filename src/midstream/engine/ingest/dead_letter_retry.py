"""Retry and removal of dead letters: each is validated by itself with the current configuration.

The letter of a recorded event leaves the file. A removal that was answered is durable, and so is that of a letter whose
event was replaced: nothing else would keep the wrong event from being sent again.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from midstream.core.answers.letters import DeadLetter, RemovedLetters, RetriedLetters
from midstream.core.errors import DiskFull, Fault, Invalid, NotFound, Overloaded, RequestInvalid
from midstream.core.types import TimestampMs
from midstream.engine.ingest.admitted_batch import ERASED_CAME, PAGE, RecordedBatch
from midstream.engine.ingest.ingest_service import IngestService
from midstream.events.dead_letters.dead_letters import DeadLetters, dead_letter
from midstream.events.dead_letters.resending import event_of
from midstream.events.wire import Accept

RETRY_MAX = 1_000
"""Letters of one request: about 0.2 s of work where each is an event of the usual size."""
AT_ONCE_MAX = 100
"""Letters on their way together, so that they share a sync; events of the largest size have 25 MB together."""
_CONFLICT = Fault(
    "/event_id",
    "It was recorded before with other content; the first stays.",
    "Another id, if it is another event.",
    PAGE,
)


def chosen(letters: Sequence[DeadLetter], numbers: Sequence[int]) -> tuple[list[DeadLetter], tuple[int, ...]]:
    """Return the letters of these numbers, and the numbers that have none."""
    by_number = {letter.number: letter for letter in letters}
    wanted = sorted(set(numbers))
    return [by_number[each] for each in wanted if each in by_number], tuple(
        each for each in wanted if each not in by_number
    )


async def retry(
    ingest: IngestService,
    letters: DeadLetters,
    accept: Callable[[], Accept],
    wanted: Sequence[DeadLetter],
    missing: tuple[int, ...],
) -> RetriedLetters:
    """Send letters again, and remove recorded ones from the file.

    Never recorded twice within the time that ids are kept: an event with neither id nor time gets an id of its content
    and number (``events.dead_letters.resending``), and a letter leaves the file only after its event is durable.

    Args:
        ingest: Admits and records.
        letters: The file.
        accept: Current settings of decoding.
        wanted: Letters to send.
        missing: Numbers without a letter, for the report; those that are gone by their turn come to them.

    Raises:
        DiskFull: No room for events now; letters that were recorded before have left the file, the others are kept.
        AppendFailed: The log accepts nothing more.
        CommitTooSlow: A letter may be durable later; it is kept, and is a duplicate then.
        Overloaded: Too many events wait already.
    """
    counts, tried = {"recorded": 0, "duplicate": 0, "refused": 0}, 0
    for start in range(0, len(wanted), AT_ONCE_MAX):
        some = wanted[start : start + AT_ONCE_MAX]
        group = [each for each in some if letters.holds(each.number) and each.number not in letters.sending]
        kept = {each.number for each in group}
        missing += tuple(each.number for each in some if each.number not in kept)  # removed or sent meanwhile
        tried += len(group)
        letters.sending |= kept
        try:
            outcomes = await asyncio.gather(
                *(_one(ingest, letters, accept(), each) for each in group), return_exceptions=True
            )
        finally:
            letters.sending -= kept
        for outcome in outcomes:
            if isinstance(outcome, str):
                counts[outcome] += 1
                ingest.metrics.dead_letters_retried.labels(outcome).inc()
        ingest.show_letters()
        for failure in outcomes:
            if isinstance(failure, BaseException):
                raise failure
    last = max((letter.number for letter in wanted), default=None)
    return RetriedLetters(tried, counts["recorded"], counts["duplicate"], counts["refused"], missing, last)


async def retry_mended(
    ingest: IngestService, letters: DeadLetters, accept: Accept, letter: DeadLetter, mended: str
) -> RetriedLetters:
    """Send an event in place of a letter's own, and remove the letter once the event is durable.

    An event that is refused leaves the letter as it was. At most one event without an id of its own is recorded for a
    letter: it has the id of the letter. The removal is durable on return.

    Args:
        ingest: Admits and records.
        letters: The file.
        accept: Current settings of decoding.
        letter: Letter whose event is replaced; of an order with one rejected item the item alone is sent.
        mended: JSON of the event that replaces it.

    Raises:
        RequestInvalid: The event is refused; the faults point into ``/event``.
        DiskFull: No room for the event; or the event is durable and its letter is there still, or again after a power
            loss: sent again the event is a duplicate.
        AppendFailed: The log accepts nothing more.
        CommitTooSlow: The event may be durable later; sent again it is a duplicate then.
        Overloaded: Too many events wait already, or the letter is being sent.
        NotFound: The letter is gone.
    """
    event = event_of(letter, mended)
    if event is None:
        raise RequestInvalid((Fault("/event", "It is no event.", "One event, a JSON object.", PAGE),))
    if letter.number in letters.sending:
        message = f"letter {letter.number} is being sent just now"
        raise Overloaded(message)
    if not letters.holds(letter.number):
        raise missing_letter(letter.number)
    letters.sending.add(letter.number)
    try:
        return await _sent_mended(ingest, letters, accept, letter, event)
    finally:
        letters.sending.discard(letter.number)


async def _sent_mended(
    ingest: IngestService, letters: DeadLetters, accept: Accept, letter: DeadLetter, event: bytes
) -> RetriedLetters:
    """Send a mended event, and remove its letter; see ``retry_mended``."""
    retried = ingest.metrics.dead_letters_retried
    try:
        settled = await ingest.record(await ingest.decode(event, accept), keeps_rejected=False)
    except Invalid as error:
        retried.labels("refused").inc()
        raise _of_event(error.faults) from error
    outcome = _removed_by(ingest, letters, letter, event, settled)
    retried.labels(outcome or "refused").inc()
    if not outcome:
        raise _of_event(tuple(each.fault for each in settled.admitted.rejected) or (_CONFLICT,))
    ingest.show_letters()
    if letters.holds(letter.number):
        raise _STILL_THERE
    await _secured(letters)
    return RetriedLetters(1, int(outcome == "recorded"), int(outcome == "duplicate"), 0, (), letter.number)


async def remove(ingest: IngestService, letters: DeadLetters, numbers: Sequence[int]) -> RemovedLetters:
    """Remove letters for good: their events are not sent any more. Durable on return.

    Raises:
        DiskFull: The disk does not take it; letters are there still, or are again after a power loss.
    """
    wanted = sorted(set(numbers))
    removed, missing = 0, list[int]()
    for place, number in enumerate(wanted, start=1):
        if not letters.holds(number):
            missing.append(number)
        elif letters.remove(number):
            removed += 1
        else:
            ingest.show_letters()
            raise _STILL_THERE
        if place % AT_ONCE_MAX == 0:
            await asyncio.sleep(0)
    ingest.show_letters()
    if removed:
        await _secured(letters)
    return RemovedLetters(removed, tuple(missing), wanted[-1] if wanted else None)


_STILL_THERE = DiskFull("The disk does not take the removal of a dead letter. Send the request again.")


async def _secured(letters: DeadLetters) -> None:
    """Sync the files on another thread.

    Raises:
        DiskFull: The disk refused.
    """
    try:
        await asyncio.to_thread(letters.secure)
    except OSError as error:
        raise _STILL_THERE from error


def _of_event(faults: Sequence[Fault]) -> RequestInvalid:
    """Return the refusal of an event in the field ``event`` of a request."""
    return RequestInvalid(tuple(replace(each, where=f"/event{each.where}") for each in faults))


def missing_letter(number: object) -> NotFound:
    """Return the refusal of a number without a letter."""
    return NotFound(f'There is no dead letter "{str(number)[:60]}", or not any more.')


async def _one(ingest: IngestService, letters: DeadLetters, accept: Accept, letter: DeadLetter) -> str:
    """Send one letter again; return its outcome."""
    event = event_of(letter)
    if event is None:
        letters.refuse(letter, letter.reason)
        return "refused"
    try:
        settled = await ingest.record(await ingest.decode(event, accept), keeps_rejected=False)
    except Invalid as error:
        letters.refuse(letter, error.faults[0])
        return "refused"
    if outcome := _removed_by(ingest, letters, letter, event, settled):
        return outcome
    rejected = settled.admitted.rejected
    if any(each.fault.came == ERASED_CAME for each in rejected):
        letters.remove(letter.number)  # what is of an erased user is kept nowhere
    else:
        letters.refuse(letter, rejected[0].fault if rejected else _CONFLICT)
    return "refused"


def _removed_by(
    ingest: IngestService, letters: DeadLetters, letter: DeadLetter, event: bytes, settled: RecordedBatch
) -> str:
    """Remove a letter whose event is in the log; return whether it is since now or was, empty = it is not."""
    counts, rejected = settled.counts(), settled.admitted.rejected
    if not (counts.recorded or counts.duplicates):
        return ""
    # Of an order the items that were refused are letters of their own now.
    items = (each for each in rejected if each.fault.came != ERASED_CAME)
    ingest.keep([dead_letter(TimestampMs(letter.time_ms), each.fault, event, each.item) for each in items])
    letters.remove(letter.number)
    return "recorded" if counts.recorded else "duplicate"
