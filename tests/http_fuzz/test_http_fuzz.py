"""HTTP fuzz in short: the campaign with its promises, beside proofs that it sees a server that breaks them."""

import asyncio
import os
from collections import Counter

import pytest

from tests.http_fuzz.campaign import Campaign, Verdict, conclude, logged, served
from tests.http_fuzz.exchange import exchange
from tests.http_fuzz.grammar import Grammar, wire
from tests.support.dice import Dice

pytestmark = [pytest.mark.slow, pytest.mark.service]
REQUESTS = int(os.environ.get("MIDSTREAM_FUZZ_REQUESTS", "4000"))


def test_no_request_breaks_a_server_of_two_processes(tmp_path):
    """Valid requests, each session ended by one mutation: no 5xx, no hang, nothing lost, double or smuggled in."""
    with served(tmp_path, followers=1) as (_, address):
        verdict = asyncio.run(Campaign(address, seed=REQUESTS).run(REQUESTS))
    assert conclude(verdict, logged(tmp_path)) == []
    assert verdict.requests >= REQUESTS
    assert len(verdict.acknowledged) > REQUESTS / 10
    assert len(verdict.refused) > 10
    assert "Traceback" not in (tmp_path / "stderr.txt").read_text()


@pytest.mark.parametrize(
    "answers,fault",
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" * 2, "unreadable: more answers than requests"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.0", "unreadable: more answers than requests"),
        (b"garbage\r\n\r\n", "unreadable: b'garbage"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "unreadable: b'no colon"),
    ],
)
def test_answers_that_no_server_may_send_are_seen(answers, fault):
    """An answer that nobody asked for, and bytes that are none, are faults."""

    async def answered():
        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answers)
            await writer.drain()
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()
            return await exchange(address, [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], ["GET"], half_close=False)

    assert asyncio.run(answered()).fault.startswith(fault)


def test_conclusion_names_what_is_lost_double_or_should_not_be_there():
    """The log is held against what was acknowledged and what was refused."""
    verdict = Verdict(acknowledged={"a": "A", "b": "B"}, refused={"c": "C"})
    assert conclude(verdict, Counter(a=1, b=1, d=1)) == []
    found = conclude(verdict, Counter(a=2, c=1))
    assert found == ["lost: b of B", "double: a", "recorded, though refused: c of C"]


def test_grammar_makes_every_event_id_once():
    """Ids tell what was lost from what was doubled, so none may come twice."""
    grammar = Grammar(Dice(3), "127.0.0.1:1", "e")
    made = [grammar.request() for _ in range(3_000)]
    ids = [each for request in made for each in request.event_ids]
    assert len(ids) == len(set(ids)) > 1_000
    assert all(wire(each, Dice(4)).count(b"Host: 127.0.0.1:1\r\n") == 1 for each in made)
