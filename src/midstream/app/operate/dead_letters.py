"""Dead letters of a folder: read beside a server, retried and removed through it or by an engine of this process."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from midstream.app.config.schema import Config
from midstream.app.opening import DATA_NAME, open_running
from midstream.app.operate.folder_orders import changed
from midstream.app.server_address import server_of
from midstream.app.server_refusals import refusal_of, server_answer, server_client, unavailable
from midstream.core.answers.letters import DeadLetter, RemovedLetters, RetriedLetters
from midstream.core.errors import Fault, FolderLocked, NotFound, RequestInvalid
from midstream.engine.engine import EngineOptions
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.dead_letter_retry import RETRY_MAX, chosen, missing_letter, remove, retry, retry_mended
from midstream.engine.instance import Instance
from midstream.events.dead_letters.dead_letters import DeadLetters, read_letters
from midstream.events.disk import RealDisk
from midstream.events.wire import Accept, Limits

ANSWER_S_MAX = 60.0
"""A request of 1,000 letters of the usual size takes a second; of the largest size, 256 MB, some ten."""
_AGAIN = ". Run it again to go on"
_RETRY_PATH = "/v1/dead-letters/retry"
_REMOVE_PATH = "/v1/dead-letters/remove"


def letters_of(folder: Path) -> list[DeadLetter]:
    """Return the letters kept, by number; a server may have the folder open."""
    return read_letters(DataFolder(folder / DATA_NAME).dead_letters, RealDisk())


def letter_of(folder: Path, number: int) -> DeadLetter:
    """Return the letter of a number.

    Raises:
        NotFound: There is none, or not any more.
    """
    found = next((each for each in letters_of(folder) if each.number == number), None)
    if found is None:
        message = f"there is no dead letter {number}, or not any more"
        raise NotFound(message)
    return found


def resend(folder: Path, config: Config, numbers: Sequence[int]) -> RetriedLetters:
    """Send letters again: through the server that has the folder open, or with an engine of one's own.

    Args:
        folder: Has them.
        config: Of that folder: its terms hold, unless a server does it by those it runs with.
        numbers: Which; empty = all that are there now.

    Raises:
        FolderLocked: A process has the folder open that serves no HTTP.
        StoreUnavailable: The server does not answer, or takes nothing now; letters that were recorded have left the
            file, so that it can be done again.
        DiskFull: No room for events now; as before.
        AppendFailed: The log could not be made durable; as before.
    """
    wanted = list(numbers) or [letter.number for letter in letters_of(folder)]
    if not wanted:
        return RetriedLetters(0, 0, 0, 0)
    try:
        running = open_running(folder, config, EngineOptions(logs_served=False))
    except FolderLocked:
        url = server_of(DataFolder(folder / DATA_NAME))
        if url is None:
            raise
        return _through_server(url, wanted)
    return asyncio.run(_with_engine(running, wanted))


def mend(folder: Path, config: Config, number: int, event: str) -> RetriedLetters:
    """Send an event in place of that of a letter, and remove the letter once the event is durable.

    Args:
        folder: Has the letter.
        config: Of that folder, as ``resend`` has it.
        number: Of the letter.
        event: JSON of the event.

    Raises:
        RequestInvalid: The event is refused; the letter is as it was.
        NotFound: There is no such letter, or not any more.
        FolderLocked: A process has the folder open that serves no HTTP.
        StoreUnavailable: The server does not answer, or takes nothing now.
        DiskFull: No room for the event, or for the removal of the letter.
        AppendFailed: The log could not be made durable.
    """
    body = {"numbers": [number], "event": msgspec.Raw(_checked(event))}

    async def work(running: Instance) -> RetriedLetters:
        letters = _letters(running)
        wanted, missing = chosen(letters.read(), [number])
        if missing:
            raise missing_letter(number)
        return await retry_mended(running.ingest, letters, _terms(running), wanted[0], event)

    def ask() -> bytes | None:
        headers = {"content-type": "application/json"}
        url = server_of(DataFolder(folder / DATA_NAME))
        content = msgspec.json.encode(body)
        return server_answer(
            url, ANSWER_S_MAX, lambda client: client.post(_RETRY_PATH, content=content, headers=headers), refusal_of
        )

    return changed((folder, config), work, ask, msgspec.json.Decoder(RetriedLetters).decode)


def remove_letters(folder: Path, config: Config, numbers: Sequence[int]) -> RemovedLetters:
    """Remove letters for good; durable on return.

    Raises:
        FolderLocked: A process has the folder open that serves no HTTP.
        StoreUnavailable: The server does not answer, or cannot do it now; it can be done again.
        DiskFull: The disk does not take it, as before.
    """
    if not numbers:
        return RemovedLetters(0)

    def ask() -> bytes | None:
        url = server_of(DataFolder(folder / DATA_NAME))
        return None if url is None else msgspec.json.encode(_removed_through(url, numbers))

    async def work(running: Instance) -> RemovedLetters:
        return await remove(running.ingest, _letters(running), numbers)

    return changed((folder, config), work, ask, msgspec.json.Decoder(RemovedLetters).decode)


def _checked(event: str) -> bytes:
    """Return the bytes of an event in JSON.

    Raises:
        RequestInvalid: It is none.
    """
    try:
        msgspec.json.decode(event)
    except msgspec.DecodeError as error:
        raise RequestInvalid((Fault("/event", f"{error}.", "One event, a JSON object.", "/docs/events.md"),)) from error
    return event.encode()


def _letters(running: Instance) -> DeadLetters:
    """Return the letters of an opened folder, or raise ``NotFound``."""
    if running.ingest.dead_letters is None:
        message = "no dead letters are kept here"
        raise NotFound(message)
    return running.ingest.dead_letters


def _terms(running: Instance) -> Accept:
    """Return the terms on which an engine of one's own takes events."""
    return msgspec.structs.replace(running.service.accept, limits=Limits(), now_ms=running.engine.clock())


def _removed_through(url: str, numbers: Sequence[int]) -> RemovedLetters:
    """Have the server that has the folder open remove them, as many at a time as it takes."""
    done: list[RemovedLetters] = []
    with server_client(url, ANSWER_S_MAX, _AGAIN) as client:
        for part in _parts(numbers):
            answer = client.post(_REMOVE_PATH, json={"numbers": part})
            if not answer.is_success:
                raise unavailable(answer, url, _AGAIN)
            done.append(msgspec.json.decode(answer.content, type=RemovedLetters))
    return RemovedLetters(
        sum(each.removed for each in done), tuple(number for each in done for number in each.missing), max(numbers)
    )


async def _with_engine(running: Instance, numbers: Sequence[int]) -> RetriedLetters:
    """Record the letters of these numbers with an engine that was opened for it."""
    letters = running.ingest.dead_letters
    if letters is None:
        return RetriedLetters(0, 0, 0, 0, tuple(numbers))
    async with running:
        terms = _terms(running)
        return await retry(running.ingest, letters, lambda: terms, *chosen(letters.read(), numbers))


def _through_server(url: str, numbers: Sequence[int]) -> RetriedLetters:
    """Have the server that has the folder open send them, as many at a time as it takes."""
    done: list[RetriedLetters] = []
    with server_client(url, ANSWER_S_MAX, _AGAIN) as client:
        for part in _parts(numbers):
            answer = client.post(_RETRY_PATH, json={"numbers": part})
            if not answer.is_success:
                raise unavailable(answer, url, _AGAIN)
            done.append(msgspec.json.decode(answer.content, type=RetriedLetters))
    return RetriedLetters(
        sum(each.tried for each in done),
        sum(each.recorded for each in done),
        sum(each.duplicates for each in done),
        sum(each.refused for each in done),
        tuple(number for each in done for number in each.missing),
        max((each.last for each in done if each.last is not None), default=None),
    )


def _parts(numbers: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(numbers), RETRY_MAX):
        yield list(numbers[start : start + RETRY_MAX])
