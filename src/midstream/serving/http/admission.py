"""Admission control of requests: answers now, queues for a moment, or refuses with a Retry-After.

A request is refused early when its answer would come too late to be used: then the others are answered in time, where
otherwise all would be late. Events, catalogue and operation have no queue of their own: a refusal costs a tenth of an
answer, so they wait no longer than the recommendations do.

The number of answers in progress has a constant bound instead of an adaptive one. On one thread only those that wait
(for a log position, for components that wait) are many at once, and the delay, which an adaptive limit would observe,
is measured and acted upon directly (``arrivals``).
"""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

import msgspec

from midstream.core.errors import Overloaded
from midstream.monitoring.metrics import Metrics
from midstream.serving.http.loop_delay import LoopArrivals, Wait
from midstream.serving.http.problems import PROBLEM_JSON, QuotaSpent, problem_of, problem_reply
from midstream.serving.http.responses import NO_STORE, Reply, Scope
from midstream.serving.options import ServerOptions

ANSWERING: Final = frozenset(
    (
        "/v1/recommendations",
        "/v1/recommendations/batch",
        "/v1/rank",
        "/v1/pages",
        "/v1/items/{item_id}/similar",
        "/v1/features/read",
    )
)
"""Routes of recommendations and features: milliseconds of work for a waiting client."""
FREE: Final = frozenset(("/health/live", "/health/ready", "/metrics"))
"""Routes that no quota counts."""
TOLD_S: Final = 10.0
"""Health names a refusal for so long."""
CONCERN: Final = "answers"
CALLER_BYTES_MAX: Final = 64
"""Length of a caller's key: an IPv6 address has 39."""
QUOTA_CALLER: Final = "midstream.quota_caller"
"""Field of a scope: whose quota a request counts for, where its key says so; empty = it was counted already."""
ALL_KNOWN: Final = 3
"""Factor on ``answer_wait_max`` for a request whose whole wait is known: nine tenths of a deadline instead of three,
since no reserve for an unseen wait is needed. The wait is known in a shrinking queue, and on a connection whose last
answer left a short while ago."""
RETRY_S: Final = 3
"""``Retry-After`` is 1 to this."""
LACKS_S_MAX: Final = 86_400
"""Longest wait for a token that is told."""


def whole_s(lacks_s: float) -> int:
    """Return whole seconds until a token, a day at most: of a tiny rate they are beyond every number.

    Example:
        >>> whole_s(0.2), whole_s(1e309)
        (1, 86400)
    """
    return math.ceil(min(lacks_s, LACKS_S_MAX))


class Quotas:
    """A bucket of tokens a caller; the callers that were seen least recently are forgotten, and begin with a full one.

    Reference: Turner, New directions in communications (or which way to the information age?), IEEE Communications
    Magazine 24(10), 1986: the leaky bucket as a meter.
    """

    def __init__(self, per_second: float, burst: float, callers_max: int) -> None:
        """Token buckets: each caller has at most ``burst`` tokens, and gets ``per_second`` new ones."""
        self._per_second = per_second
        self._burst = burst
        self._callers_max = callers_max
        self._levels: OrderedDict[bytes | str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of callers with a bucket."""
        return len(self._levels)

    def take(self, caller: bytes | str, now: float) -> float:
        """Take a token; return the seconds until there is one, 0 = it was taken."""
        level, at = self._levels.pop(caller, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._per_second)
        lacking = max(0.0, 1.0 - level)
        self._levels[caller] = level if lacking else level - 1.0, now
        if len(self._levels) > self._callers_max:
            self._levels.popitem(last=False)
        return lacking / self._per_second

    def give_back(self, caller: bytes | str) -> None:
        """Give back a token that was taken; a caller who was forgotten since has a full bucket."""
        if caller in self._levels:
            level, at = self._levels[caller]
            self._levels[caller] = min(self._burst, level + 1.0), at


class Admission:
    """Lets requests in, holds a few for a moment, refuses the others."""

    def __init__(
        self,
        options: ServerOptions,
        metrics: Metrics,
        concerns: dict[str, str],
        clock: Callable[[], float],
        below: Callable[[int], int],
    ) -> None:
        """Begin without requests.

        Args:
            options: Maxima, waits, and the quota of a caller.
            metrics: Counts.
            concerns: Of the engine, for health.
            clock: Seconds that never go back.
            below: Returns a random whole number from 0 to its argument, exclusive: refused clients must not all retry
                at once.
        """
        self.arrivals = LoopArrivals(clock)
        self._metrics = metrics
        self._concerns = concerns
        self._clock = clock
        self._below = below
        self._running = 0
        self._running_max = options.answers_max
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._waiting_max = options.answers_waiting_max
        self._wait_s_max = options.answer_wait_max.ms / 1_000
        self._header = options.quota_header.lower().encode()
        burst = options.quota_burst or max(1.0, options.quota_per_second)
        self._quotas = (
            Quotas(options.quota_per_second, burst, options.quota_callers_max) if options.quota_per_second else None
        )
        self._replies = _refusals("More is asked than can be answered in time.")
        self._refused = 0
        self._is_told = False

    async def enter(self, route: str, scope: Scope) -> Reply | None:
        """Return None once a request may begin, or the answer that refuses it. An admitted request has to ``leave``.

        Args:
            route: Template of its path.
            scope: Of the request.
        """
        found = self.enter_at_once(route, scope)
        if not isinstance(found, Wait):
            return found
        return await self.turn(found)

    def enter_at_once(self, route: str, scope: Scope) -> Reply | Wait | None:
        """Do as ``enter`` does where nothing has to be waited for; else return what ``turn`` takes to wait."""
        if route not in ANSWERING:
            self.arrivals.note_begin()
            if self._quotas is None:
                return None
            refusal = self._spent(self._quotas, scope) if route not in FREE else None
            if refusal is not None:
                self.arrivals.refuse()
            return refusal
        wait = self.arrivals.begin(scope)
        refusal = self._refusal(route, scope, wait)
        if refusal is not None:
            self.arrivals.refuse()
            return refusal
        self._metrics.waits.observe(wait.loop_s)
        if self._running < self._running_max:
            self._running += 1
            return None
        return wait

    async def turn(self, wait: Wait) -> Reply | None:
        """Wait for the turn of a request that could not begin at once; return as ``enter`` does."""
        return None if await self._turn(self._wait_s_max - wait.loop_s) else self._refuse("late")

    def _refusal(self, route: str, scope: Scope, wait: Wait) -> Reply | None:
        """Return the answer that refuses a question at once, None = it may begin or wait."""
        if self._quotas is not None and route not in FREE and (spent := self._spent(self._quotas, scope)):
            return spent
        if wait.batch_s > self._wait_s_max and not self._is_young(wait):
            return self._refuse("late")
        if self._running >= self._running_max and len(self._waiting) >= self._waiting_max:
            return self._refuse("queue")
        return None

    def _is_young(self, wait: Wait) -> bool:
        """Return whether a question that waited for longer than usual in its batch did not wait unseen before that."""
        age_s_max = min(wait.age_s_max, wait.batch_s if self.arrivals.goes_down else math.inf)
        return age_s_max <= ALL_KNOWN * self._wait_s_max

    def leave(self, route: str) -> None:
        """Give the place to the first of the queue."""
        if route in ANSWERING:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._running -= 1

    def set_gauges(self) -> None:
        """Set the gauges of answers in progress and of the queue."""
        self._metrics.set_answers(self._running, len(self._waiting))

    async def _turn(self, wait_s: float) -> bool:
        """Wait for a place; return whether there was one in time."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        has_place = False
        try:
            await asyncio.wait((place,), timeout=max(0.0, wait_s))
            has_place = place.done()
        finally:
            if not has_place:
                if place.done():  # the request ended just when it got it
                    self._pass_on()
                else:
                    place.cancel()
                    self._waiting.remove(place)
        return has_place

    def _spent(self, quotas: Quotas, scope: Scope) -> Reply | None:
        """Return the refusal of a caller whose quota is used up."""
        caller = self._caller(scope)
        if caller is None:
            return None
        lacks_s = quotas.take(caller, self._clock())
        if not lacks_s:
            return None
        self._metrics.refusals.labels("quota").inc()
        return problem_reply(QuotaSpent(whole_s(lacks_s) + self._below(RETRY_S)))

    def _caller(self, scope: Scope) -> bytes | str | None:
        """Return the name of a caller: its API key, else the configured header, else the address.

        None = another process of this server has admitted the request already, or its key has a quota of its own.
        """
        named: str | None = scope.get(QUOTA_CALLER)
        if named is not None:
            return named or None
        client = scope.get("client")
        if not client:
            return None
        if self._header:
            for name, value in scope["headers"]:
                if name == self._header:
                    return bytes(value[:CALLER_BYTES_MAX])
        return str(client[0])

    def _refuse(self, reason: str) -> Reply:
        self._metrics.refusals.labels(reason).inc()
        self._refused += 1
        if not self._is_told:
            self._is_told = True
            self._tell()
            asyncio.get_running_loop().call_later(TOLD_S, self._look_again, self._refused)
        return self._replies[self._below(RETRY_S)]

    def _tell(self) -> None:
        self._concerns[CONCERN] = "more was asked than could be answered in time: questions were refused"

    def _look_again(self, refused: int) -> None:
        """Report overload while it lasts."""
        if self._refused > refused:
            self._tell()
            asyncio.get_running_loop().call_later(TOLD_S, self._look_again, self._refused)
            return
        self._is_told = False
        self._concerns.pop(CONCERN, None)


def _refusals(why: str) -> tuple[Reply, ...]:
    """Return the refusals, one for each second of Retry-After: made once, since they have to cost nothing."""
    problem = problem_of(Overloaded(why))
    return tuple(
        Reply(
            problem.status,
            msgspec.json.encode(msgspec.structs.replace(problem, retry_after=seconds)),
            PROBLEM_JSON,
            (*NO_STORE, (b"retry-after", b"%d" % seconds)),
        )
        for seconds in range(1, RETRY_S + 1)
    )
