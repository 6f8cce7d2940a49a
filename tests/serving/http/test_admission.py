"""Who is answered under overload: what is let in is answered in time, the others are told so at once and cheaply."""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from midstream.core.durations import Duration
from midstream.monitoring.metrics import Metrics
from midstream.serving.http.admission import ANSWERING, CONCERN, FREE, Admission, Quotas
from midstream.serving.http.loop_delay import FEW, STANDING_S, LoopArrivals, Wait
from midstream.serving.options import ServerOptions
from tests.support.virtual_loop import VirtualLoop

ROUTE = "/v1/recommendations"
ANSWER_S = 0.00065
"""CPU of an answer, as measured (docs/benchmarks.md)."""
REFUSAL_S = 0.00003
READ_S = 0.00002
"""Of reading one request off its socket."""
DEADLINE_S = 0.05


@dataclass
class Loop:
    """An event loop as it is: reads all that came, then works it off in order, each answer leaving as it is made; what
    comes meanwhile waits unseen.
    """

    options: ServerOptions = field(default_factory=ServerOptions)
    now: float = 1_000.0
    answer_s: float = ANSWER_S
    seconds: int = 0
    """What is drawn for ``Retry-After``, beside the one that is always there."""

    def __post_init__(self) -> None:
        self.concerns: dict[str, str] = {}
        metrics = Metrics(CollectorRegistry())
        self.admission = Admission(self.options, metrics, self.concerns, lambda: self.now, lambda _: self.seconds)
        self.admission._is_told = True

    def run(
        self, arrivals: list[float], slots: int = 512, stalls: tuple[tuple[float, float], ...] = ()
    ) -> tuple[list[float], list[float]]:
        """Work arrivals off; return the latency of each answer, and of each refusal. ``slots`` = connections: what
        comes when all are busy waits at the client. ``stalls`` = when the machine stands still, and for how long.
        """
        came, still = deque(arrivals), deque(stalls)
        answered: list[float] = []
        refused: list[float] = []
        while came:
            if came[0] > self.now:
                self.now = came[0] + READ_S  # asleep until then
            batch: list[tuple[float, dict[str, object]]] = []
            while came and came[0] <= self.now and len(batch) < slots:
                scope: dict[str, object] = {"client": None}
                self.now += READ_S
                self.admission.arrivals.read(scope)
                batch.append((came.popleft(), scope))
            for at, scope in batch:
                if still and self.now >= still[0][0]:
                    self.now += still.popleft()[1]
                refusal = _sync(self.admission.enter(ROUTE, scope))
                self.now += self.answer_s if refusal is None else REFUSAL_S
                (answered if refusal is None else refused).append(self.now - at)
                if refusal is None:
                    self.admission.leave(ROUTE)
        return answered, refused

    def run_closed(
        self,
        connections: int,
        seconds: float,
        dice: random.Random,
        arrivals: Sequence[float] = (),
    ) -> tuple[list[float], list[float]]:
        """Let so many connections ask again as soon as they have an answer, beside what comes on fresh ones; return the
        latencies of answers and of refusals. Beside a busy process: an answer takes a half longer now and then, and
        nothing runs for 4 ms after a while. A batch has the order in which its questions came.
        """
        end, preempted_at = self.now + seconds, self.now
        waiting = [(self.now, number, -1.0) for number in range(connections)]
        waiting += [(at, connections + number, -1.0) for number, at in enumerate(arrivals)]
        answered: list[float] = []
        refused: list[float] = []
        while self.now < end and waiting:
            waiting.sort()
            if waiting[0][0] > self.now:
                self.now = waiting[0][0] + READ_S
            batch: list[tuple[float, int, dict[str, object]]] = []
            while waiting and waiting[0][0] <= self.now:
                at, number, free_at = waiting.pop(0)
                self.now += READ_S
                scope: dict[str, object] = {"client": None}
                self.admission.arrivals.read(scope, free_at if free_at >= 0 else None)
                batch.append((at, number, scope))
            for at, number, scope in batch:
                refusal = _sync(self.admission.enter(ROUTE, scope))
                self.now += REFUSAL_S if refusal else self.answer_s * dice.choice((1.0, 1.0, 1.5))
                if self.now > preempted_at:
                    self.now, preempted_at = self.now + 0.004, self.now + dice.uniform(0.05, 0.3)
                (refused if refusal else answered).append(self.now - at)
                if refusal is None:
                    self.admission.leave(ROUTE)
                if number < connections:
                    waiting.append((self.now + dice.expovariate(5_000), number, self.now))
        return answered, refused


def _sync(work):
    """The result of what does not wait."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError


def poisson(rate: float, seconds: float, start: float, seed: int) -> list[float]:
    """Open-loop arrivals."""
    dice, at, found = random.Random(seed), start, []  # noqa: S311  a seeded load
    while at < start + seconds:
        at += dice.expovariate(rate)
        found.append(at)
    return found


def goodput(loop: Loop, load: float, seconds: float = 3.0, seed: int = 1) -> float:
    """Answers within the deadline, as a share of what one core can answer at all."""
    answered, _ = loop.run(poisson(load / loop.answer_s, seconds, loop.now, seed))
    return sum(each <= DEADLINE_S for each in answered) * loop.answer_s / seconds


@pytest.mark.parametrize("seed", range(3))
def test_overload_leaves_most_of_the_goodput(seed):
    """At twice what can be answered nine in ten of what is possible beside the refusals come in time, at four times
    too; almost all that is let in is in time.
    """
    for load in (2.0, 4.0):
        loop = Loop()
        answered, refused = loop.run(poisson(load / ANSWER_S, 4.0, loop.now, seed))
        in_time = sum(each <= DEADLINE_S for each in answered)
        possible = 4.0 * (1 - load / ANSWER_S * (REFUSAL_S + READ_S)) / (ANSWER_S - REFUSAL_S)
        assert in_time >= 0.9 * possible, load
        assert in_time >= 0.95 * len(answered), load
        assert refused


def test_without_it_nothing_would_come_in_time():
    """The same load where nobody is refused: the test above measures something."""
    loop = Loop(ServerOptions(answer_wait_max=Duration("10s")))
    assert goodput(loop, 2.0) < 0.1


@pytest.mark.parametrize("load, refused_max", [(0.3, 0), (0.7, 0), (0.8, 0), (0.9, 0.001)])
def test_nobody_is_refused_well_below_saturation(load, refused_max):
    """Whatever the random gaps are; at nine tenths of it a queue may stand for a moment."""
    loop = Loop()
    answered, refused = loop.run(poisson(load / (ANSWER_S + READ_S), 20.0, loop.now, 5))
    assert len(refused) <= refused_max * len(answered)
    assert sum(each <= DEADLINE_S for each in answered) >= 0.99 * len(answered)


@pytest.mark.parametrize("answer_s", [ANSWER_S, 0.0025])
@pytest.mark.parametrize("seed", range(3))
def test_what_waits_after_a_standstill_is_answered_while_the_queue_goes_down(answer_s, seed):
    """A machine that stands still for 150 ms nine times in twenty seconds at half of the load: the queue takes longer
    than a tenth of a second to go, and goes down all the time, so hardly anybody is sent away.
    """
    loop = Loop(answer_s=answer_s)
    stalls = tuple((loop.now + 1 + 2 * number, 0.15) for number in range(9))
    answered, refused = loop.run(poisson(0.5 / answer_s, 20.0, loop.now, seed), stalls=stalls)
    assert len(refused) <= 0.005 * len(answered)


@pytest.mark.parametrize("seed", range(3))
def test_a_queue_that_goes_down_is_no_reason_to_answer_too_late(seed):
    """After half a second of standing still at eight tenths of the load most of what waits is too old for anybody. What
    came then and what comes until a tenth of a second later may be late; of the rest hardly any.
    """
    loop = Loop()
    still_at = loop.now + 1.0
    answered, refused = loop.run(poisson(0.8 / ANSWER_S, 6.0, loop.now, seed), stalls=((still_at, 0.5),))
    assert refused
    assert sum(each > DEADLINE_S for each in answered) <= 0.07 * len(answered)


def test_service_is_normal_again_at_once():
    """After ten seconds at four times the load all of half the load is answered, from a tenth of a second on."""
    loop = Loop()
    loop.run(poisson(4 / ANSWER_S, 10.0, loop.now, 2))
    loop.now += 0.05
    answered, refused = loop.run(poisson(0.5 / ANSWER_S, 5.0, loop.now, 3))
    assert len(refused) <= 0.01 * len(answered)
    loop.now += STANDING_S
    answered, refused = loop.run(poisson(0.5 / ANSWER_S, 5.0, loop.now, 4))
    assert refused == []


@given(st.integers(1, 120), st.floats(0.0002, 0.05), st.integers(1, 40), st.floats(3.0, 1_000.0))
def test_a_burst_is_worked_off(size, answer_s, before, before_s):
    """However slow the machine: what comes at once, after a while without, is let in for a tenth of a second."""
    loop = Loop(answer_s=answer_s)
    loop.run([loop.now] * before)
    loop.now += before_s
    answered, refused = loop.run([loop.now] * size)
    assert len(answered) >= min(size, int(STANDING_S / (answer_s + READ_S)))
    assert all(each >= STANDING_S for each in refused)


@given(st.integers(1, FEW - 1), st.floats(0.0002, 2.0), st.integers(2, 60))
def test_a_few_connections_are_never_refused(connections, answer_s, rounds):
    """As many as make no queue may ask for ever, one question after another, also where an answer takes seconds."""
    loop = Loop(answer_s=answer_s)
    for _ in range(rounds):
        assert loop.run([loop.now] * connections)[1] == []


@pytest.mark.parametrize("connections, answer_s", [(16, 0.0011), (16, 0.0018), (30, 0.0008), (9, 0.003)])
@pytest.mark.parametrize("seed", range(2))
def test_what_would_be_in_time_is_answered_however_many_ask_in_a_closed_loop(connections, answer_s, seed):
    """Connections that ask again once they have an answer make a queue of that length and no longer: on a machine that
    is busy with something else their turns take longer than the time to wait, and each would still be answered within
    the deadline. None is sent away.
    """
    loop = Loop(answer_s=answer_s)
    answered, refused = loop.run_closed(connections, 3.0, random.Random(seed))  # noqa: S311  a seeded load
    assert max(answered) <= DEADLINE_S
    assert len(answered) > 0.6 * 3.0 / answer_s
    assert refused == []


@pytest.mark.parametrize("connections, answer_s", [(16, 0.008), (200, 0.0011), (512, ANSWER_S)])
def test_more_connections_than_can_be_answered_in_time_are_refused_so_that_the_others_are(connections, answer_s):
    """Also in a closed loop of clients that never wait as they are told, and although a batch may take longer than the
    time after which a machine that stood still counts as quiet. What is let in is begun in time.
    """
    loop = Loop(answer_s=answer_s)
    answered, refused = loop.run_closed(connections, 3.0, random.Random(1))  # noqa: S311  a seeded load
    assert refused
    later = answered[len(answered) // 10 :]  # those before came while it was no queue yet
    assert sum(each <= DEADLINE_S + 2 * answer_s for each in later) >= 0.95 * len(later)


@pytest.mark.parametrize("load", [1.0, 2.0])
def test_a_closed_loop_takes_nothing_from_the_deadline_of_others(load):
    """Sixteen connections that ask without a pause, beside more than can be answered on fresh ones."""
    loop = Loop()
    fresh = poisson(load / ANSWER_S, 3.0, loop.now, 1)
    answered, refused = loop.run_closed(16, 3.0, random.Random(1), fresh)  # noqa: S311  a seeded load
    assert refused
    assert sum(each <= DEADLINE_S for each in answered) >= 0.95 * len(answered)


def test_a_machine_that_stands_still_is_nobodys_queue():
    """A single request whose turn comes a second late is answered."""
    loop = Loop()
    for _ in range(20):
        scope: dict[str, object] = {}
        loop.admission.arrivals.read(scope)
        loop.now += 1.0
        assert _sync(loop.admission.enter(ROUTE, scope)) is None
        loop.admission.leave(ROUTE)


def test_what_is_refused_says_when_to_come_again():
    """503, a problem document, and seconds from the source that was given; events are not refused meanwhile."""
    loop = Loop()
    loop.run(poisson(4 / ANSWER_S, 2.0, loop.now, 2))
    scopes: list[dict[str, object]] = [{} for _ in range(200)]
    loop.now += 0.01
    for scope in scopes:
        loop.admission.arrivals.read(scope)
    loop.now += 0.3
    found = []
    for number, scope in enumerate(scopes):
        loop.seconds = number % 3
        assert _sync(loop.admission.enter("/v1/events", dict(scope))) is None
        found.append(_sync(loop.admission.enter(ROUTE, scope)))
    assert {each.status for each in found if each} == {503}
    assert {dict(each.headers)[b"retry-after"] for each in found if each} == {b"1", b"2", b"3"}
    assert all(b"urn:midstream:overloaded" in each.body for each in found if each)


def test_answers_that_wait_have_a_short_queue():
    """As many as may are made at once; a few more wait a moment for a place, in order; all others are refused."""
    with closing(VirtualLoop(lambda: 0.0)) as loop:
        options = ServerOptions(answers_max=2, answers_waiting_max=3, answer_wait_max=Duration("40ms"))
        metrics, concerns = Metrics(CollectorRegistry()), dict[str, str]()
        admission = Admission(options, metrics, concerns, loop.time, lambda n: n - 1)
        order: list[int] = []

        async def ask(number: int, work_s: float) -> int:
            reply = await admission.enter(ROUTE, {})
            if reply is not None:
                return reply.status
            try:
                order.append(number)
                await asyncio.sleep(work_s)
            finally:
                admission.leave(ROUTE)
            return 200

        async def all_of() -> list[int]:
            first = [asyncio.ensure_future(ask(number, 0.03)) for number in range(7)]
            await asyncio.sleep(0.001)
            admission.set_gauges()
            text = metrics.text().decode()
            assert "midstream_answers_running 2.0" in text
            assert "midstream_answers_waiting 3.0" in text
            assert concerns[CONCERN]
            return list(await asyncio.gather(*first))

        # Two at once, two after 30 ms, the fifth has waited 40 ms by then.
        assert loop.run_until_complete(all_of()) == [200, 200, 200, 200, 503, 503, 503]
        assert order == [0, 1, 2, 3]
        text = metrics.text().decode()
        assert 'midstream_refusals_total{reason="queue"} 2.0' in text
        assert 'midstream_refusals_total{reason="late"} 1.0' in text

        async def cancelled() -> list[int]:
            busy = [asyncio.ensure_future(ask(10 + number, 0.01)) for number in range(2)]
            waiting = asyncio.ensure_future(ask(12, 0.01))
            await asyncio.sleep(0.005)
            waiting.cancel()
            await asyncio.gather(*busy)
            again = [asyncio.ensure_future(ask(20 + number, 0.01)) for number in range(2)]
            return list(await asyncio.gather(*again))

        assert loop.run_until_complete(cancelled()) == [200, 200]
        loop.run_until_complete(asyncio.sleep(25))
        assert CONCERN not in concerns
        admission.set_gauges()
        assert "midstream_answers_running 0.0" in metrics.text().decode()


@pytest.mark.parametrize("waited_s, status", [(0.0, 200), (0.03, 503)])
def test_the_time_in_the_loop_counts_as_waiting(waited_s, status):
    """A request whose turn comes 30 ms after it was read waits 10 ms for a place, and not 40, before it is too late."""
    with closing(VirtualLoop(lambda: 0.0)) as loop:
        options = ServerOptions(answers_max=1, answer_wait_max=Duration("40ms"))
        admission = Admission(options, Metrics(CollectorRegistry()), {}, loop.time, lambda _: 0)

        async def ask() -> int:
            scope: dict[str, object] = {}
            admission.arrivals.read(scope)
            await asyncio.sleep(waited_s)
            assert await admission.enter(ROUTE, {}) is None
            asyncio.get_running_loop().call_later(0.02, admission.leave, ROUTE)  # a place 20 ms from now
            reply = await admission.enter(ROUTE, scope)
            return 200 if reply is None else reply.status

        assert loop.run_until_complete(ask()) == status
        loop.run_until_complete(asyncio.sleep(25))  # until health names the refusal no more


@given(
    st.floats(0.5, 50.0),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 3), st.floats(0.0, 2.0)), min_size=1, max_size=80),
)
def test_a_caller_never_gets_more_than_the_quota(per_second, burst, asks):
    """In any stretch of time a caller gets the burst and what grows in it; who waits as told gets the next one."""
    quotas = Quotas(per_second, burst, callers_max=10)
    taken: dict[int, list[float]] = {}
    now = 0.0
    for caller, pause in asks:
        now += pause
        if quotas.take(str(caller), now) == 0:
            taken.setdefault(caller, []).append(now)
    for times in taken.values():
        for first in range(len(times)):
            for last in range(first, len(times)):
                assert last - first + 1 <= burst + (times[last] - times[first]) * per_second + 1e-6
    lacks_s = quotas.take("0", now)
    assert lacks_s == 0 or quotas.take("0", now + lacks_s + 1e-6) == 0


def test_a_long_silence_saves_nothing_up():
    """After an hour a caller has the burst, and no more."""
    quotas = Quotas(10.0, 3, callers_max=10)
    assert quotas.take("a", 0.0) == 0
    assert [quotas.take("a", 3_600.0) == 0 for _ in range(5)] == [True, True, True, False, False]


def test_callers_that_are_forgotten_are_bounded():
    """As many as may be are remembered; the one that was not seen for longest goes."""
    quotas = Quotas(0.001, 1, callers_max=3)
    assert [quotas.take(name, 0.0) > 0 for name in "abca"] == [False, False, False, True]
    assert quotas.take("d", 0.0) == 0
    assert len(quotas) == 3
    assert quotas.take("a", 0.0) > 0
    assert quotas.take("b", 0.0) == 0


def test_a_quota_is_a_429_by_header_or_address(make_client, engine):
    """Off by default; with it each caller has its own, health and metrics are free."""
    client = make_client(engine, ServerOptions(quota_per_second=0.01, quota_burst=2, quota_header="X-Caller"))
    ann, bob = {"x-caller": "ann"}, {"X-Caller": "bob"}
    began_s = time.monotonic()
    statuses = [client.post("/v1/recommendations", {}, headers=ann).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = client.get("/v1/placements", headers=ann)
    assert refused.status_code == 429
    assert refused.json()["type"] == "urn:midstream:quota"
    least_s = 100 - math.ceil(time.monotonic() - began_s)
    assert least_s <= int(refused.headers["retry-after"]) == refused.json()["retry_after"] <= 103
    assert client.post("/v1/recommendations", {}, headers=bob).status_code == 200
    assert client.post("/v1/recommendations", {}).status_code == 200  # by its address
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert client.get(path, headers=ann).status_code == 200
    assert 'midstream_refusals_total{reason="quota"} 2.0' in client.get("/metrics").text
    free = make_client(engine)
    assert {free.post("/v1/recommendations", {}).status_code for _ in range(50)} == {200}


def test_what_answers_is_a_route(client):
    """Each route that may be refused is there under that name, and so is each that no quota counts."""
    assert set(client.get("/openapi.json").json()["paths"]) >= ANSWERING | FREE


@pytest.mark.parametrize("refused, goes_down", [(0, True), (9, True), (10, False), (20, False)])
def test_a_queue_goes_down_by_what_was_answered(refused, goes_down):
    """Fewer came than were let in meanwhile; those that were sent away, for whatever reason, left no room."""
    now = [1.0]
    arrivals = LoopArrivals(lambda: now[0])
    for _ in range(30):
        arrivals.read({})
    for number in range(30):
        arrivals.begin({})
        if number < refused:
            arrivals.refuse()
    now[0] += 0.05
    for _ in range(20):
        arrivals.read({})
    assert arrivals.goes_down is goes_down


@pytest.mark.parametrize("batch_s, size, waited_s", [(0.003, 20, 0.0), (0.006, 20, 0.03), (0.05, 7, 0.0)])
def test_a_queue_is_a_matter_of_time(batch_s, size, waited_s):
    """Twenty fast answers are no queue: when the machine stands still behind a second of them nobody is refused. The
    same number of slower ones is; a few are none, however slow.
    """
    now = [1.0]
    arrivals = LoopArrivals(lambda: now[0])

    def batch(count: int, seconds: float) -> Wait:
        for _ in range(count):
            arrivals.read({})
        found = arrivals.begin({})
        for _ in range(1, count):
            now[0] += seconds / (count - 1)
            found = arrivals.begin({})
        return found

    for _ in range(int(1.0 / batch_s)):
        batch(size, batch_s)
    assert batch(20, 0.03).batch_s == pytest.approx(waited_s)


@pytest.mark.parametrize("wait_s_max", [0.001, 0.002, 0.015])
def test_a_batch_that_is_short_as_most_of_it_was_refused_is_no_calm(wait_s_max):
    """A limit below the time of a small batch holds all the same: refusing takes next to nothing."""
    now = [1.0]
    arrivals = LoopArrivals(lambda: now[0])
    refused = asked = 0
    while now[0] < 3.0:
        scopes: list[dict[str, object]] = [{} for _ in range(100)]
        for scope in scopes:
            arrivals.read(scope)
        for scope in scopes:
            is_late = arrivals.begin(scope).batch_s > wait_s_max
            if is_late:
                arrivals.refuse()
            refused, asked = refused + is_late, asked + 1
            now[0] += REFUSAL_S if is_late else ANSWER_S
    let_in = wait_s_max / ANSWER_S + 2  # of each hundred, but for the first tenth of a second
    assert refused / asked > 1 - let_in / 100 - 0.1


def test_a_question_is_no_older_than_the_answer_before_it():
    """Of its connection; what is not known, as on a fresh one, counts as any age."""
    now = [1.0]
    arrivals = LoopArrivals(lambda: now[0])
    for turn in range(3):
        scopes: list[dict[str, object]] = [{} for _ in range(FEW)]
        for number, scope in enumerate(scopes):
            arrivals.read(scope, None if number == 0 else arrivals.now() - 0.01 * number)
        now[0] += 0.06
        found = [arrivals.begin(scope) for scope in scopes]
        if turn == 2:
            assert list(found[0]) == [pytest.approx(0.06), pytest.approx(0.06), math.inf]
            assert [each.age_s_max for each in found[1:]] == pytest.approx([0.06 + 0.01 * n for n in range(1, 8)])


def test_arrivals_cost_nothing_to_whoever_does_not_come_through_a_socket():
    """A request that nobody read has waited for nothing."""
    assert LoopArrivals(lambda: 5.0).begin({}) == Wait(0.0, 0.0, math.inf)
