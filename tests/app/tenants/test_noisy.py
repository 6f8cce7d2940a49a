"""A tenant that floods: it is refused where it asks for too much, and every request of the other one is answered."""

import asyncio
from itertools import count

from midstream.app.tenants import group
from midstream.serving.tenants.fair_turns import FairTurns

STEP_S = 0.0001
FLOOD = 600
QUIET = 30
ACTS = [{"type": "view", "session_id": "s1", "item_id": f"i{number}"} for number in range(20)]


def test_a_flood_of_one_tenant_refuses_nothing_to_another(pair, monkeypatch):
    """Questions and events at once, without any quota: the noisy one gets answers and 503, the quiet one answers.

    Each reading of the clock is a step later than the one before, so each step of an answer is charged the same: where
    the processor is taken away during an answer of one, the other has more turns, as it should.
    """
    readings = count()
    monkeypatch.setattr(group, "FairTurns", lambda _: FairTurns(lambda: next(readings) * STEP_S))

    async def play(server):
        for name in ("red", "blue"):
            await server.of(name, "POST", "/v1/events", ACTS)
        finished = []

        async def ask(name, number):
            body = {"session_id": f"s{number}", "n": 5}
            answer = await (
                server.of(name, "POST", "/v1/recommendations", body)
                if number % 3
                else server.of(name, "POST", "/v1/events", ACTS[:1])
            )
            finished.append((name, answer.status, number % 3 > 0))

        tasks = [asyncio.create_task(ask("red", number)) for number in range(FLOOD)]
        tasks += [asyncio.create_task(ask("blue", number)) for number in range(QUIET)]
        await asyncio.gather(*tasks)
        metrics = (await server.root("GET", "/metrics")).body
        return finished, metrics

    finished, metrics = pair.run(play)
    noisy, quiet = ([status for name, status, _ in finished if name == each] for each in ("red", "blue"))
    assert quiet == [200] * QUIET
    assert set(noisy) == {200, 503}
    assert noisy.count(503) > FLOOD / 2
    assert b'midstream_refusals_total{tenant="red",reason="tenant_queue"}' in metrics
    assert b'midstream_refusals_total{tenant="blue",reason="tenant_queue"}' not in metrics
    answered = [each for each in finished if each[1] == 200]
    # Of questions: an event waits for the disk, and others are answered meanwhile.
    last_quiet = max(place for place, (name, _, is_question) in enumerate(answered) if name == "blue" and is_question)
    assert last_quiet <= 2 * QUIET + 10


def test_a_flood_against_a_quota_is_refused_and_the_other_is_answered(pair):
    """The same with a quota of the root: what is not refused by its queue is a 429, but for a second's worth or two."""

    async def play(server):
        await server.root("PUT", "/v1/tenants/red/quota", {"requests_per_second": 10})
        names = ["red"] * FLOOD + ["blue"] * QUIET
        answers = await asyncio.gather(*(server.of(name, "GET", "/v1/models") for name in names))
        return [(name, each.status) for name, each in zip(names, answers, strict=True)]

    found = pair.run(play)
    assert [status for name, status in found if name == "blue"] == [200] * QUIET
    noisy = [status for name, status in found if name == "red"]
    assert set(noisy) == {200, 429, 503}
    assert noisy.count(200) <= 30
