import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import TooLarge
from midstream.serving.http.body_reader import SENT_BODY, BodyLimits, body_at_hand, read_body
from midstream.serving.http.problems import BodyTooSlow, Disconnected

LIMITS = BodyLimits(bytes_max=100, wait_s_max=5.0)


def read(pieces, headers=(), limits=LIMITS):
    """Read a body that arrives in pieces; count how many were taken."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    taken = []

    async def receive():
        taken.append(1)
        return messages[len(taken) - 1]

    return asyncio.run(read_body({"headers": list(headers)}, receive, limits)), len(taken)


@given(st.lists(st.binary(max_size=30), max_size=8).filter(lambda pieces: sum(map(len, pieces)) <= 100))
def test_body_is_what_came(pieces):
    """However it is cut, the body is its pieces end to end."""
    assert read(pieces)[0] == b"".join(pieces)


@given(st.lists(st.binary(min_size=20, max_size=30), min_size=6, max_size=20))
def test_nothing_is_read_beyond_the_maximum(pieces):
    """The piece that goes beyond is the last one that is taken."""
    messages = iter([{"type": "http.request", "body": piece, "more_body": True} for piece in pieces])
    seen = 0

    async def receive():
        nonlocal seen
        message = next(messages)
        seen += len(message["body"])
        return message

    with pytest.raises(TooLarge):
        asyncio.run(read_body({"headers": []}, receive, LIMITS))
    assert 100 < seen <= 100 + 30


@pytest.mark.parametrize("length", [b"101", b"99999999999999999999", b"1" * 10_000])
def test_length_that_is_too_large_is_refused_unread(length):
    """A body that says it is too large is not read at all."""
    with pytest.raises(TooLarge):
        read([], [(b"content-length", length)])


def test_slow_body_is_given_up():
    """A body that does not come is waited for so long and no longer."""

    async def receive():
        await asyncio.Event().wait()

    with pytest.raises(BodyTooSlow):
        asyncio.run(read_body({"headers": []}, receive, BodyLimits(100, 0.02)))


def test_drip_is_given_up():
    """A byte now and then does not extend the wait."""

    async def receive():
        await asyncio.sleep(0.005)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(BodyTooSlow):
        asyncio.run(read_body({"headers": []}, receive, BodyLimits(1_000, 0.1)))


def test_client_that_went_away_is_nobody_to_answer():
    """A disconnect within the body ends the request without an answer."""

    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(Disconnected):
        asyncio.run(read_body({"headers": []}, receive, LIMITS))


@pytest.mark.parametrize(
    "scope, expected",
    [
        ({"headers": [], SENT_BODY: bytearray(b"whole")}, b"whole"),
        ({"headers": [], SENT_BODY: bytearray(100)}, bytes(100)),
        ({"headers": [], SENT_BODY: bytearray(101)}, None),
        ({"headers": [(b"content-encoding", b"gzip")], SENT_BODY: bytearray(b"packed")}, None),
        ({"headers": []}, None),
    ],
    ids=["whole", "at the maximum", "too long", "packed", "not there yet"],
)
def test_a_body_is_at_hand_where_it_is_whole(scope, expected):
    """What is too long, packed or not there yet is left to the reader that refuses, unpacks and waits.

    What is taken is taken once: the connection keeps no copy of it until its next request.
    """
    held = scope.get(SENT_BODY)
    assert body_at_hand(scope, LIMITS) == expected
    if expected is not None:
        assert held == b""
        assert body_at_hand(scope, LIMITS) is None
