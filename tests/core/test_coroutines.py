"""Results of coroutines that are run to their end: given back as they are, and never formatted as text."""

import asyncio

import pytest

from midstream.core.coroutines import result_of


class Answer:
    """A result that counts how often it is formatted."""

    def __init__(self):
        self.formatted = 0

    def __repr__(self):
        self.formatted += 1
        return "answer"


async def given(answer):
    await asyncio.sleep(0)
    return answer


def test_a_result_is_not_formatted():
    """By both ways to run one, again and again; a runner that keeps the result formats it twice a run."""
    answer = Answer()
    assert result_of(asyncio.run, given(answer)) is answer
    with asyncio.Runner() as runner:
        for _ in range(3):
            assert result_of(runner.run, given(answer)) is answer
    assert answer.formatted == 0


def test_an_error_comes_through():
    """The coroutine's own, without a group around it."""

    async def failing():
        message = "no"
        raise LookupError(message)

    with pytest.raises(LookupError, match="no"):
        result_of(asyncio.run, failing())
