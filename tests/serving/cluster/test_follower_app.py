"""What an app that follows promises: it answers what its state can, and everything else is the leader's answer."""

import asyncio
import json
import re
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from midstream.core.answers.events import EventsAnswer
from midstream.core.errors import DiskFull, Overloaded
from midstream.engine.listeners import Listener
from midstream.events.json.decode import decode
from midstream.serving.access.api_keys import KeyWish
from midstream.serving.access.callers import CALLER_HEADER, TellingCaller
from midstream.serving.access.gate import KeyGate
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.key_ring import KeyWatch
from midstream.serving.access.visitors import NoUsers
from midstream.serving.app import asgi
from midstream.serving.cluster.follower_app import FollowedApp, recording_at
from midstream.serving.cluster.proxy import LeaderGone, Passage
from midstream.serving.cluster.unix_server import served_at
from midstream.serving.http.draining import DRAINING
from midstream.serving.http.loop_delay import FEW, STANDING_S
from midstream.serving.http.problems import RefusedElsewhere
from midstream.serving.operation import OtherProcesses
from midstream.serving.options import ServerOptions
from tests.support.fakes.engine import FakeEngine

EVENT = {"type": "view", "user_id": "ann", "item_id": "mug", "event_id": "1"}
HERE = {
    ("/v1/recommendations", "get"),
    ("/v1/recommendations", "post"),
    ("/v1/recommendations/batch", "post"),
    ("/v1/rank", "post"),
    ("/v1/pages", "post"),
    ("/v1/items/{item_id}", "get"),
    ("/v1/items/{item_id}/similar", "get"),
    ("/v1/users/{user_id}", "get"),
    ("/v1/users/{user_id}/events", "get"),
    ("/v1/users/{user_id}/values", "get"),
    ("/v1/users/{user_id}/similar", "get"),
    ("/v1/items/{item_id}/users", "get"),
    ("/v1/items/search", "get"),
    ("/v1/features", "get"),
    ("/v1/features/read", "post"),
    ("/v1/features/{name}", "get"),
    ("/health/live", "get"),
}
"""What a follower answers itself, beside requests that its state knows; all other routes are the leader's."""


class Follower(FakeEngine):
    """An engine that follows a fake: it is level unless it is said to be behind."""

    def __init__(self):
        super().__init__()
        self.levels = []
        self.is_full = False
        self.is_behind = False
        self.log = SimpleNamespace(end=7)

    async def reached(self, position, timeout_s):
        self.levels.append((position, timeout_s))
        if self.is_full:
            message = "too many wait"
            raise Overloaded(message)
        return not self.is_behind


class Both:
    """A leader at a unix socket, and the app of its follower."""

    def __init__(self, app, follower, leader, passage):
        self.app = app
        self.follower = follower
        self.leader = leader
        self.passage = passage
        self.is_current = True
        self.leader_asks = False
        self.flushes = 0

    async def flush(self):
        self.flushes += 1

    async def ask(self, method, path, **options):
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)


@asynccontextmanager
async def both(folder, failure=None):
    """Two processes, as far as their apps can tell."""
    leader: Any = FakeEngine(failure=failure)
    follower: Any = Follower()
    passage = Passage(folder / "leader", 5.0)
    found = Both(None, follower, leader, passage)
    elsewhere = OtherProcesses(record=recording_at(passage, found.flush))
    own = asgi(follower, follower.accept, ServerOptions(), elsewhere=elsewhere)
    found.app = FollowedApp(own, follower, passage, found.flush, lambda: found.is_current)
    behind = TellingCaller(asgi(leader, leader.accept, ServerOptions()), lambda: found.leader_asks)
    async with served_at(folder / "leader", behind, ServerOptions()):
        try:
            yield found
        finally:
            passage.close()
            await asyncio.sleep(0.01)  # what is closed is closed in the next turns of the loop


def run(folder, play, **options):
    """Let ``play`` ask both."""

    async def go():
        async with both(folder, **options) as found:
            return await play(found)

    return asyncio.run(go())


def requests_of(engine):
    """Return how many requests an engine's app counted."""
    text = engine.metrics.text().decode()
    return sum(float(each) for each in re.findall(r"^midstream_requests_total\{.*\} (.*)$", text, re.MULTILINE))


def passed_on(engine):
    """Return how many requests went on."""
    return float(re.findall(r"^midstream_passed_on_total (.*)$", engine.metrics.text().decode(), re.MULTILINE)[0])


def test_every_route_is_answered_where_it_should_be(tmp_path):
    """Of all routes of the document: questions and lookups here, all else there; one that is new is there."""

    async def play(found):
        document = (await found.ask("GET", "/openapi.json")).json()
        here = set()
        for path, methods in document["paths"].items():
            for method in methods:
                before = passed_on(found.follower), requests_of(found.leader)
                await found.ask(method.upper(), path.replace("{", "").replace("}", ""), content=b"{}")
                after = passed_on(found.follower), requests_of(found.leader)
                went_on = after[0] - before[0], after[1] - before[1]
                assert went_on in {(0, 0), (1, 1)}, (method, path)
                if went_on == (0, 0):
                    here.add((path, method))
        return here

    assert run(tmp_path, play) == HERE


@pytest.mark.parametrize("method,path", [("PUT", "/v1/placements"), ("GET", "/nowhere"), ("OPTIONS", "/v1/items/a")])
def test_what_is_no_route_is_refused_by_the_leader(tmp_path, method, path):
    """So a refusal is worded in one place."""

    async def play(found):
        answer = await found.ask(method, path)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(asgi(found.leader, found.leader.accept)), base_url="http://test"
        ) as client:
            own = await client.request(method, path)
        return answer.status_code == own.status_code and answer.content == own.content, passed_on(found.follower)

    assert run(tmp_path, play) == (True, 1)


def test_what_goes_on_is_no_queue_for_questions(tmp_path):
    """Of many events that the leader takes and few questions none seems to have waited: those have had their turn."""

    async def play(found):
        arrivals = found.app.arrivals
        question: dict[str, object] = {}
        for _ in range(2 * FEW):
            arrivals.read({})
            assert (await found.ask("POST", "/v1/events", json=EVENT)).is_success
            await asyncio.sleep(STANDING_S / FEW)
        arrivals.read(question)
        return arrivals.begin(question)

    assert run(tmp_path, play)[1] == 0.0


def test_nothing_is_answered_from_what_is_no_longer_in_service(tmp_path):
    """Once another state is, every request goes on to the leader, questions too."""

    async def play(found):
        found.is_current = False
        await found.ask("POST", "/v1/events", json=EVENT)
        slate = (await found.ask("POST", "/v1/recommendations", json={})).json()
        known = (await found.ask("GET", "/v1/features")).status_code
        return [each["id"] for each in slate["items"]], known, requests_of(found.follower)

    assert run(tmp_path, play) == (["mug"], 200, 0)


def test_all_processes_are_not_ready_while_the_leader_drains(tmp_path):
    """Which alone says so, as all looks at health go to it; and each answers as before."""

    async def play(found):
        ready = [await found.ask("GET", "/health/ready")]
        found.leader.listeners.add(Listener(name="drain", wait=lambda: DRAINING))
        ready.append(await found.ask("GET", "/health/ready"))
        slate = await found.ask("POST", "/v1/recommendations", json={})
        return [each.status_code for each in ready], slate.status_code, passed_on(found.follower)

    assert run(tmp_path, play) == ([200, 503], 200, 2.0)


def test_lookups_wait_for_what_was_acknowledged(tmp_path):
    """Before a lookup the state comes level with the log; when that takes too long, or too many wait, the leader's is
    asked, which is level.
    """

    async def play(found):
        await found.ask("PUT", "/v1/items/mug", json={"price": 1})
        answers = []
        for found.follower.is_behind, found.follower.is_full in ((False, False), (True, False), (False, True)):
            before = passed_on(found.follower)
            status = (await found.ask("GET", "/v1/items/mug")).status_code
            answers.append((status, passed_on(found.follower) - before))
        return found.follower.levels, answers

    levels, answers = run(tmp_path, play)
    assert [position for position, _ in levels] == [7, 7, 7]
    assert 0 < levels[0][1] < 1
    assert answers == [(404, 0), (200, 1), (200, 1)]


def test_request_that_is_not_known_here_may_be_known_there(tmp_path):
    """Its record may be another process's, and on its way."""

    async def play(found):
        own = (await found.ask("POST", "/v1/recommendations", json={})).json()["request_id"]
        here = (await found.ask("GET", f"/v1/requests/{own}")).status_code, passed_on(found.follower)
        found.is_current = False
        other = (await found.ask("POST", "/v1/recommendations", json={})).json()["request_id"]
        found.is_current = True
        return here, (await found.ask("GET", f"/v1/requests/{other}")).status_code, passed_on(found.follower)

    assert run(tmp_path, play) == ((200, 0), 200, 2)


def test_events_of_a_question_are_the_leaders(tmp_path):
    """It records them, what it rejects comes back, and the answer waits for their position; records go before."""

    async def play(found):
        seen = []
        recommend = found.follower.recommend

        async def noting(question, stamp):
            seen.append(question.min_log_position)
            return await recommend(question, stamp)

        found.follower.recommend = noting
        # As if the follower had folded the event by then; else its token were one of the future to this fake.
        await found.follower.record(decode(json.dumps(EVENT).encode(), found.follower.accept()).batch)
        body = {"events": [EVENT, {"type": "vieew"}]}
        slate = (await found.ask("POST", "/v1/recommendations", json=body)).json()
        return slate["events"], slate["read_your_writes"], seen, found.flushes, len(found.leader.events)

    events, read_your_writes, seen, flushes, recorded = run(tmp_path, play)
    assert (events["recorded"], len(events["rejected"]), recorded, flushes) == (1, 1, 1, 1)
    assert read_your_writes is True
    assert seen == [events["log_position"]]


@pytest.mark.parametrize(
    "body,status", [(b'{"events": 7}', 400), (b'{"events": [' + b'{"type": "view"},' * 600 + b"{}]}", 413)]
)
def test_refusal_of_events_is_the_refusal_of_the_question(tmp_path, body, status):
    """What the leader refuses as a whole is answered as the leader does."""

    async def play(found):
        answer = await found.ask("POST", "/v1/recommendations", content=body)
        return answer.status_code, answer.headers["content-type"], len(found.follower.events)

    assert run(tmp_path, play) == (status, "application/problem+json", 0)


def test_question_is_answered_when_events_cannot_be_kept(tmp_path):
    """A full disk at the leader is a problem of the events; the slate goes out, and says that it lacks them."""

    async def play(found):
        answer = await found.ask("POST", "/v1/recommendations", json={"events": [EVENT]})
        return answer.status_code, answer.json()

    status, slate = run(tmp_path, play, failure=DiskFull("no room"))
    assert (status, slate["events_problem"]["status"], slate["read_your_writes"]) == (200, 507, False)


def test_leader_that_is_gone_is_said(tmp_path):
    """What is passed on is a 503; a question is answered without its events."""

    async def play():
        follower: Any = Follower()
        passage = Passage(tmp_path / "nobody", 1.0)

        async def flush():
            return

        elsewhere = OtherProcesses(record=recording_at(passage, flush))
        own = asgi(follower, follower.accept, ServerOptions(), elsewhere=elsewhere)
        found = Both(FollowedApp(own, follower, passage, flush, lambda: True), follower, None, passage)
        write = await found.ask("POST", "/v1/events", json=EVENT)
        question = await found.ask("POST", "/v1/recommendations", json={"events": [EVENT]})
        return write.status_code, question.status_code, question.json()["events_problem"]["status"]

    assert asyncio.run(play()) == (503, 200, 503)


def test_refusals_are_exceptions_of_the_engines_kind(tmp_path):
    """What records at the leader raises what routes know how to answer."""

    async def play(found):
        record = recording_at(found.passage, found.flush)
        with pytest.raises(RefusedElsewhere) as refused:
            await record(b"{")
        return refused.value.reply.status, issubclass(LeaderGone, Exception)

    assert run(tmp_path, play) == (400, True)


def test_key_of_a_follower_holds_at_the_leader(tmp_path):
    """What a key lacks at the follower's port it lacks in what is passed on, whatever the client says of itself."""

    async def play(found):
        file = KeyFile(tmp_path / "keys")
        key = file.create(KeyWish("shop", ("events:write",)), 1, "cli:test").key
        found.app = KeyGate(found.app, KeyWatch(file, lambda: 0.0, lambda: 1), ServerOptions(), NoUsers())
        claim = b'{"who":"key:0","address":"","scopes":["admin"]}'
        headers = {"authorization": f"Bearer {key}", CALLER_HEADER.decode(): claim.decode()}
        events = [EVENT, {"type": "item", "item_id": "mug"}]
        told = (await found.ask("POST", "/v1/events", json=events, headers=headers)).json()
        stranger = await found.ask("POST", "/v1/events", json=events)
        return told["recorded"], len(told["rejected"]), stranger.status_code, passed_on(found.follower)

    assert run(tmp_path, play) == (1, 1, 401, 1.0)


def test_a_process_without_keys_opens_no_other(tmp_path):
    """Where the leader asks for keys, only health and what was judged pass: a request without a caller is refused."""

    async def play(found):
        found.leader_asks = True
        users = await found.ask("DELETE", "/v1/users/ann")
        item = await found.ask("PUT", "/v1/items/mug", json={"price": 1})
        nothing = await found.ask("GET", "/v1/nothing")
        ready = await found.ask("GET", "/health/ready")
        record = recording_at(found.passage, found.flush)
        answer = await record(json.dumps(EVENT).encode())
        assert isinstance(answer, EventsAnswer)
        return [each.status_code for each in (users, item, nothing, ready)], answer.recorded

    assert run(tmp_path, play) == ([401, 401, 401, 200], 1)
