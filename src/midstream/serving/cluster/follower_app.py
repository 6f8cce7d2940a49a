"""ASGI app of a follower process: answers routes that only read state, and proxies all others to the leader.

The list of local routes is explicit, so a new route goes to the leader until it is added to the list.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from midstream.core.answers.events import EventsAnswer
from midstream.core.answers.problems import Problem
from midstream.core.errors import DOCUMENTATION_PATH, MidstreamError, Overloaded
from midstream.serving.access.callers import OWN_EVENTS, with_caller
from midstream.serving.admin.features import READ_PATH
from midstream.serving.admin.job_routes import AS_OF_PATH
from midstream.serving.browser.script import SCRIPT_PATH
from midstream.serving.cluster.proxy import LeaderGone, Passage
from midstream.serving.http.problems import Disconnected, RefusedElsewhere, problem_of, problem_reply
from midstream.serving.http.responses import Message, Receive, Scope, Send, send_reply
from midstream.serving.openapi.docs_page import DOCS_PATH
from midstream.serving.slates.hot_routes import BATCH_PATH, EVENTS_PATH, PAGES_PATH, RANK_PATH, RECOMMENDATIONS_PATH
from midstream.serving.slates.recommendations import Record

if TYPE_CHECKING:
    from midstream.engine.engine import Engine
    from midstream.serving.app import App

LEVEL_S_MAX = 0.05
"""Maximum wait of a lookup for the events acknowledged before it, the deadline of a placement; then it is proxied."""
_QUESTIONS = frozenset((RECOMMENDATIONS_PATH, BATCH_PATH, RANK_PATH, PAGES_PATH, READ_PATH))
_LOOKUPS = ("/v1/items/", "/v1/users/", "/v1/features")
_PLAIN = frozenset(("/health/live", DOCS_PATH, "/openapi.json", SCRIPT_PATH))
READY_PATH = "/health/ready"
_OF_LEADER = frozenset((READY_PATH, AS_OF_PATH))
"""Of the paths that a follower could answer: what the leader knows alone, and what a process beside it makes."""
_REQUESTS = "/v1/requests/"
_READS = frozenset(("GET", "HEAD"))
_PASSES = frozenset((503, 507))
"""Events cannot be kept now: the question is answered all the same."""
_TAKEN = frozenset((200, 422))
_answer = msgspec.json.Decoder(EventsAnswer)
_problem = msgspec.json.Decoder(Problem)

Flush = Callable[[], Awaitable[None]]
"""Returns when the leader has the served records of this process, so that they precede events that refer to them."""


class FollowedApp:
    """Front of the app of a follower's engine."""

    def __init__(
        self, app: "App", engine: "Engine", leader: Passage, flush: Flush, is_current: Callable[[], bool]
    ) -> None:
        """Answer with ``app`` while ``is_current`` returns that its state is in service; proxy to ``leader``."""
        self._app = app
        self.arrivals = app.arrivals
        """To be told of each request that was read."""
        self.metrics = engine.metrics
        self._engine = engine
        self._leader = leader
        self._flush = flush
        self._is_current = is_current

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the lifespan."""
        if scope["type"] != "http" or await self._is_answered_here(scope):
            await self._app(scope, receive, send)
            return
        self.arrivals.begin(scope)  # it has had its turn: what is asked next does not wait for it
        began = False

        async def noting(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._flush()
            self.metrics.passed_on.inc()
            with suppress(Disconnected):  # the leader counts it: its connection ends as the client's did
                await self._leader.pass_on(with_caller(scope), receive, noting)
        except MidstreamError as error:
            if began:
                raise  # half an answer cannot be taken back: the connection ends
            await send_reply(scope, send, problem_reply(error))

    async def _is_answered_here(self, scope: Scope) -> bool:
        """Return whether this state answers; for a lookup, once it has all events acknowledged before it."""
        path: str = scope["path"]
        method: str = scope["method"]
        if path in _OF_LEADER or not self._is_current():
            return False
        if path in _QUESTIONS:
            return method in {"GET", "POST"}
        if method not in _READS:
            return False
        is_request = path.startswith(_REQUESTS)
        if is_request or path.startswith(_LOOKUPS):
            if not await self._came_level():
                return False
            return not is_request or self._engine.served(path.removeprefix(_REQUESTS)) is not None
        return path in _PLAIN or path.startswith(DOCUMENTATION_PATH)

    async def _came_level(self) -> bool:
        try:
            return await self._engine.reached(self._engine.log.end, LEVEL_S_MAX)
        except Overloaded:
            self.metrics.count_overload("log_position")
            return False


def recording_at(leader: Passage, flush: Flush, caller: bytes = OWN_EVENTS) -> Record:
    """Return a function that records the events of a request at the leader, as those of a caller."""

    async def record(events: bytes) -> EventsAnswer | Problem:
        await flush()
        try:
            reply = await leader.ask("POST", EVENTS_PATH, events, caller=caller)
        except (LeaderGone, Overloaded) as error:
            return problem_of(error)
        if reply.status in _TAKEN:
            return _answer.decode(reply.body)
        if reply.status in _PASSES:
            return _problem.decode(reply.body)
        raise RefusedElsewhere(reply)

    return record
