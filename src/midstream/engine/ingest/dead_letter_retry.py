"""Retry of dead letters: each is validated by itself with the current configuration; recorded ones leave the file."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from midstream.core.errors import Fault, Invalid
from midstream.engine.ingest.admitted_batch import ERASED_CAME, PAGE
from midstream.engine.ingest.ingest_service import IngestService
from midstream.events.dead_letters.dead_letters import DeadLetter, DeadLetters, dead_letter
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


class Retried(msgspec.Struct, frozen=True):
    """Results of a retry: tried = recorded + duplicates + refused."""

    tried: int
    recorded: int
    """In the log now, and no letters any more; of an order, when at least one of its items is."""
    duplicates: int
    """In the log before, and no letters any more."""
    refused: int
    """Refused again, and kept with the reason of today, unless its user was erased."""
    missing: tuple[int, ...] = ()
    """Numbers under which there is no letter."""
    last: int | None = None
    """Highest number that was tried, None = none was: where to go on from."""


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
) -> Retried:
    """Send letters again, and remove recorded ones from the file.

    Never recorded twice within the time that ids are kept: an event with neither id nor time gets an id of its content
    and number (``events.dead_letters.resending``), and a letter leaves the file only after its event is durable.

    Args:
        ingest: Admits and records.
        letters: The file.
        accept: Current settings of decoding.
        wanted: Letters to send.
        missing: Numbers without a letter, for the report.

    Raises:
        DiskFull: No room for events now; letters that were recorded before have left the file, the others are kept.
        AppendFailed: The log accepts nothing more.
        CommitTooSlow: A letter may be durable later; it is kept, and is a duplicate then.
        Overloaded: Too many events wait already.
    """
    counts = {"recorded": 0, "duplicate": 0, "refused": 0}
    for start in range(0, len(wanted), AT_ONCE_MAX):
        group = wanted[start : start + AT_ONCE_MAX]
        outcomes = await asyncio.gather(
            *(_one(ingest, letters, accept(), each) for each in group), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, str):
                counts[outcome] += 1
                ingest.metrics.dead_letters_retried.labels(outcome).inc()
        ingest.show_letters()
        for failure in outcomes:
            if isinstance(failure, BaseException):
                raise failure
    last = max((letter.number for letter in wanted), default=None)
    return Retried(len(wanted), counts["recorded"], counts["duplicate"], counts["refused"], missing, last)


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
    counts, rejected = settled.counts(), settled.admitted.rejected
    if counts.recorded or counts.duplicates:
        # Of an order the items that were refused are letters of their own now.
        items = (each for each in rejected if each.fault.came != ERASED_CAME)
        ingest.keep([dead_letter(letter.time_ms, each.fault, event, each.item) for each in items])
        letters.remove(letter.number)
        return "recorded" if counts.recorded else "duplicate"
    if any(each.fault.came == ERASED_CAME for each in rejected):
        letters.remove(letter.number)  # what is of an erased user is kept nowhere
    else:
        letters.refuse(letter, rejected[0].fault if rejected else _CONFLICT)
    return "refused"
