"""A logged request is explained later: in the process of whoever asks, and by a child beside a server, alike."""

import asyncio
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest

from midstream.app.config.schema import Config, Placement
from midstream.app.explain.explain import TURNS_MAX, explain_request, explain_through
from midstream.app.opening import open_running, open_shop
from midstream.core.answers.explanations import Explained
from midstream.core.errors import ExplanationFailed, NotFound, Overloaded, RequestInvalid, StoreUnavailable
from midstream.engine.answer.lookups import served_body
from midstream.engine.child_process import Ended
from midstream.engine.explain.explainer import JOB_S_MAX, KEPT_S, WAITING_MAX, Explainer
from midstream.engine.types import Ask
from midstream.ranking.record.served import blank_served
from midstream.state.settings import StateLimits
from tests.support.patience import PATIENCE_S

CONFIG = Config(
    limits=StateLimits(users_max=100, items_max=200, click_items_max=100, sessions_max=100, event_ids_max=1_000)
)


def served(folder) -> str:
    """Record some views in a folder and ask once; return the id of the request."""
    with open_shop(folder, CONFIG) as shop:
        for user in ("bob", "eve"):
            shop.record([{"type": "view", "user_id": user, "item_id": item} for item in ("a", "b", "c")])
        shop.record({"type": "view", "user_id": "ann", "item_id": "a"})
        answer = shop.recommend(user_id="ann", n=2)
        shop.record({"type": "view", "user_id": "ann", "item_id": "c"})
        return answer.request_id


def test_a_request_is_explained_from_the_folder(tmp_path):
    """What led to each item, what made its score, and why another is not there."""
    request_id = served(tmp_path)
    told = explain_request(tmp_path, request_id, ("c", "a", "nobody"))
    assert (told.identical, told.differences) == (True, ())
    assert told.why is not None
    assert tuple(each.id for each in told.why.items) == told.slate
    assert told.why.recent == ("a",)
    by = {each.source: each for each in told.why.items[0].proposed}
    assert [each.id for each in by["covisitation"].led_by] == ["a"]
    for each in told.why.items:
        assert each.parts is not None
        terms = [term for term in each.parts.parts.values() if term is not None]
        assert len(terms) == len(each.parts.parts)
        assert sum(terms) == pytest.approx(each.score, rel=1e-6)
    last = {each.id: each.outcome for each in told.why.asked}
    assert last == {"c": "served", "a": "removed", "nobody": "unknown"}
    assert msgspec.json.decode(msgspec.json.encode(told), type=Explained) == told


def test_who_was_erased_is_not_explained(tmp_path):
    """Nothing is kept of the request, and the error says so."""
    request_id = served(tmp_path)
    with open_shop(tmp_path, CONFIG) as shop:
        shop.erase("ann")
        explainer = shop.running.explainer
        assert explainer is not None
        with pytest.raises(NotFound, match="erased"):
            shop._call(lambda: explainer.begin(request_id))
    with pytest.raises(NotFound, match="erased"):
        explain_request(tmp_path, request_id)


def test_who_was_erased_is_not_explained_after_the_rewrite_either(tmp_path):
    """The record is blank then: not found as before, and what was made of it before the erasure is given to nobody."""

    async def work(explainer, request_id):
        engine = explainer._engine
        position, body = served_body(engine.fold, engine.log, request_id)
        job = explainer.begin(request_id)
        assert await explainer.wait(job, JOB_S_MAX)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("midstream.engine.explain.explainer.served_body", lambda *_: (position, blank_served(body)))
            with pytest.raises(NotFound, match="erased"):
                explainer.begin(request_id)
        assert explainer.begin(request_id) is job

    beside(tmp_path, Children(Ended(b"{}", "")), work)


def test_a_slate_that_continues_another_names_it(tmp_path):
    """Nothing was proposed for it: its explanation says in whose order it read, and whether it came out the same."""
    served(tmp_path)
    with open_shop(tmp_path, CONFIG) as shop:
        first = shop.recommend(user_id="ann", n=1, cursor=True)
        second = shop.recommend(cursor=first.cursor, n=1)
    told = explain_request(tmp_path, second.request_id, ("a",))
    assert (told.identical, told.continues, told.why) == (True, first.request_id, None)
    assert explain_request(tmp_path, first.request_id).continues == ""


def test_a_cursor_says_whose_slate_goes_on(tmp_path):
    """A program need not name the placement again, as over HTTP; one that names another is refused."""
    config = msgspec.structs.replace(CONFIG, placements=(Placement(name="home"), Placement(name="other")))
    with open_shop(tmp_path, config) as shop:
        shop.record([{"type": "view", "user_id": "bob", "item_id": item} for item in ("a", "b", "c")])
        first = shop.recommend("home", user_id="ann", n=1, cursor=True)
        assert shop.recommend(cursor=first.cursor, n=1).placement == "home"
        with pytest.raises(RequestInvalid):
            shop.recommend("other", cursor=first.cursor, n=1)
        with pytest.raises(NotFound, match="default"):
            shop.recommend(user_id="ann")


def test_a_server_has_it_made_beside_it(tmp_path):
    """The child says what the folder says, once for all who ask, and a request that nobody knows is refused."""
    request_id = served(tmp_path)

    async def work():
        running = open_running(tmp_path, CONFIG)
        await running.start()
        try:
            explainer = running.explainer
            assert explainer is not None
            job = explainer.begin(request_id, ("b",))
            assert explainer.begin(request_id, ("b",)) is job
            assert await explainer.wait(job, PATIENCE_S)
            with pytest.raises(NotFound):
                explainer.begin("nobody")
            return job
        finally:
            await running.stop()

    job = asyncio.run(work())
    assert (job.error, job.state) == (None, "done")
    assert msgspec.json.decode(job.result, type=Explained) == explain_request(tmp_path, request_id, ("b",))


class Children:
    """Stands for the processes that are run."""

    def __init__(self, ended: Ended | None = None) -> None:
        self.ended = ended
        self.begun = 0
        self.at_once = 0
        self.most = 0

    async def __call__(self, module, order, notify):
        self.begun += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            notify("folding", 1, 2)
            await asyncio.sleep(0 if self.ended else 3_600)
            return self.ended or Ended(b"", "")
        finally:
            self.at_once -= 1


def beside(tmp_path, children: Children, work):
    """Run some work beside an explainer that runs these children."""
    request_id = served(tmp_path)

    async def main():
        running = open_running(tmp_path, CONFIG)
        await running.start()
        explainer = Explainer(running.engine, tmp_path, asyncio.Lock(), children)
        try:
            return await work(explainer, request_id)
        finally:
            await explainer.stop()
            await running.stop()

    return asyncio.run(main())


def test_as_many_wait_as_may(tmp_path):
    """One runs, some wait, the next is told to come again; a stop ends them."""
    children = Children()

    async def work(explainer, request_id):
        jobs = [explainer.begin(request_id, (f"i{number}",)) for number in range(WAITING_MAX + 1)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            explainer.begin(request_id, ("more",))
        assert not await explainer.wait(jobs[0], 0.01)
        assert [each.state for each in jobs] == ["running"] + ["waiting"] * WAITING_MAX
        return jobs

    jobs = beside(tmp_path, children, work)
    assert [each.state for each in jobs] == ["failed"] * (WAITING_MAX + 1)
    assert (children.begun, children.most, jobs[0].progress) == (1, 1, 0.5)
    assert children.at_once == 0


def test_a_child_that_fails_is_told_and_asked_again(tmp_path):
    """The reason arrives; who asks again gets another child."""
    children = Children(Ended(b"", "LogDamaged: it is gone", is_told=True))

    async def work(explainer, request_id):
        for _ in range(2):
            job = explainer.begin(request_id)
            assert await explainer.wait(job, JOB_S_MAX)
            assert isinstance(job.error, ExplanationFailed)
            assert "it is gone" in str(job.error)

    beside(tmp_path, children, work)
    assert children.begun == 2


def test_a_failure_is_told_to_who_polls(tmp_path):
    """A caller that did not wait to the end gets the reason at its next look, and no other child."""
    children = Children(Ended(b"", "LogDamaged: it is gone", is_told=True))

    async def work(explainer, request_id):
        job = explainer.begin(request_id)
        await job.ended.wait()
        assert explainer.begin(request_id) is job
        assert await explainer.wait(job, 0.01)
        assert isinstance(job.error, ExplanationFailed)
        assert explainer.begin(request_id) is not job

    beside(tmp_path, children, work)


def test_an_error_that_nobody_foresaw_ends_the_job(tmp_path):
    """It is failed, with what was raised, makes room for others, and is made anew when it is asked for again."""

    class Broken(Children):
        async def __call__(self, module, order, notify):
            self.begun += 1
            message = "no such pipe"
            raise RuntimeError(message)

    children = Broken()

    async def work(explainer, request_id):
        jobs: list[Any] = []
        for number in range(WAITING_MAX + 2):
            job = explainer.begin(request_id, (f"i{number}",))
            jobs.append(job)
            assert await explainer.wait(job, JOB_S_MAX)
            assert job.state == "failed"
            assert isinstance(job.error, ExplanationFailed)
            assert "no such pipe" in str(job.error)
        assert explainer.begin(request_id, ("i0",)) is not jobs[0]

    beside(tmp_path, children, work)
    assert children.begun >= WAITING_MAX + 2


def through(monkeypatch, answer):
    """Ask a server that gives one answer, however often; return how often it was asked, and what is said."""
    asked: list[str] = []

    def answered(request):
        asked.append(str(request.url))
        return answer

    made = partial(httpx.Client, transport=httpx.MockTransport(answered))
    monkeypatch.setattr(httpx, "Client", made)
    return asked, lambda: explain_through("http://server", "r-1")


def test_a_server_is_not_asked_for_ever(monkeypatch):
    """One that is never done is given up, with how often it was asked."""
    asked, ask = through(monkeypatch, httpx.Response(202, json={"state": "running"}))
    with pytest.raises(StoreUnavailable, match=f"asked {TURNS_MAX} times"):
        ask()
    assert len(asked) == TURNS_MAX


def test_what_is_no_number_is_read_from_a_server(monkeypatch):
    """An item without a score, and a part of a score that is no number."""
    parts = {"scorer": "own", "parts": {"x": 1.0, "y": None}}
    proposed = [{"source": "own", "rank": 0, "score": None, "facts": {"heat": None}}]
    item = {"id": "a", "outcome": "served", "because": "so", "score": None, "parts": parts, "proposed": proposed}
    head = {"request_id": "r-1", "placement": "default", "log_position": 1, "config_hash": "c", "tier": "full"}
    body = {"scorer": "own", "recent": [], "retrieved": {}, "removed": {}, "candidate_count": 1, "items": [item]}
    told = {"request_id": "r-1", "identical": True, "why": {**head, **body, "unexplained": {"own": "OSError"}}}
    found = through(monkeypatch, httpx.Response(200, json=told))[1]()
    assert found.why is not None
    assert (found.why.items[0].score, found.why.unexplained) == (None, {"own": "OSError"})


def test_results_are_kept_for_a_while(tmp_path):
    """A result that is there is given again, until it is old."""
    children = Children(Ended(b"{}", ""))

    async def work(explainer, request_id):
        first = explainer.begin(request_id)
        await explainer.wait(first, JOB_S_MAX)
        assert explainer.begin(request_id) is first
        first.ended_at -= KEPT_S + 1
        assert explainer.begin(request_id) is not first

    beside(tmp_path, children, work)


def test_asking_changes_nothing(tmp_path):
    """An explanation adds nothing to the log."""
    request_id = served(tmp_path)

    async def work():
        running = open_running(tmp_path, CONFIG)
        await running.start()
        try:
            before = running.engine.log.end
            await running.engine.recommend(Ask(user_id="ann"))
            await asyncio.to_thread(explain_request, tmp_path, request_id)
            return running.engine.log.end - before
        finally:
            await running.stop()

    assert asyncio.run(work()) <= 1  # the served event of the question between
