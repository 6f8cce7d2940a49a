"""Letters that are sent again while others send or remove them: each is sent by one, and none that is gone."""

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from midstream.core.answers.letters import DeadLetter, RetriedLetters
from midstream.core.errors import NotFound, Overloaded
from midstream.engine.ingest.dead_letter_retry import remove, retry, retry_mended
from midstream.engine.ingest.ingest_service import IngestService
from midstream.events.dead_letters.dead_letters import DeadLetters
from tests.support.disks import ForgetfulDisk
from tests.support.fakes.engine import FakeEngine

VIEW = {"type": "view", "user_id": "ann"}
REFUSED = VIEW | {"colour": "red"}
"""Its field is unknown; without that it would be an event."""


class Letters:
    """A service whose file has two letters."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.file = DeadLetters(Path("/data/dead-letters.ndjson"), ForgetfulDisk())
        self.service = IngestService(self.engine, dead_letters=self.file)

    async def fill(self) -> list[DeadLetter]:
        """Have two events refused."""
        body = json.dumps([REFUSED, REFUSED]).encode()
        await self.service.record(await self.service.decode(body, self.engine.accept()))
        return self.file.read()

    def mended(self, letter: DeadLetter, **fields: str) -> Coroutine[Any, Any, RetriedLetters]:
        """Send an event in place of that of a letter."""
        return retry_mended(self.service, self.file, self.engine.accept(), letter, json.dumps(VIEW | fields))

    @property
    def recorded(self) -> list[str]:
        """Items of what was recorded."""
        return [each.item_id for each in self.engine.events if each.action]


def test_two_retries_at_once_send_a_letter_once() -> None:
    """Both found it; those that one is sending are none for the other, and are again once it is done."""

    async def both() -> None:
        letters = Letters()
        wanted = await letters.fill()
        sent = (retry(letters.service, letters.file, letters.engine.accept, wanted, ()) for _ in range(2))
        first, second = await asyncio.gather(*sent)
        assert (first.tried, first.refused, first.missing) == (2, 2, ())
        assert (second.tried, second.missing) == (0, (1, 2))
        again = await retry(letters.service, letters.file, letters.engine.accept, wanted, ())
        assert (again.tried, again.missing) == (2, ())

    asyncio.run(both())


def test_letters_that_are_gone_by_their_turn_are_not_sent() -> None:
    """They were read before they were removed."""

    async def late() -> None:
        letters = Letters()
        gone, _ = await letters.fill()
        assert (await remove(letters.service, letters.file, [gone.number])).removed == 1
        done = await retry(letters.service, letters.file, letters.engine.accept, [gone], ())
        assert (done.tried, done.missing) == (0, (gone.number,))
        with pytest.raises(NotFound):
            await letters.mended(gone, item_id="film")
        assert letters.recorded == []

    asyncio.run(late())


def test_one_letter_is_mended_once() -> None:
    """A second mend of it waits for nothing and is told so; the next one finds no letter."""

    async def both() -> None:
        letters = Letters()
        letter, _ = await letters.fill()
        sent = (letters.mended(letter, item_id=each, event_id=each) for each in "xy")
        first, second = await asyncio.gather(*sent, return_exceptions=True)
        assert isinstance(first, RetriedLetters)
        assert first.recorded == 1
        assert isinstance(second, Overloaded)
        with pytest.raises(NotFound):
            await letters.mended(letter, item_id="z")
        assert letters.recorded == ["x"]

    asyncio.run(both())
