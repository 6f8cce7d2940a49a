"""Gate of API keys: each request of a port has a key that allows its route, or is refused before any route sees it.

As soon as one key was made every route needs one, but health. What a caller may do is left in the scope for the routes
that decide by what a body says. Requests between processes of one server do not pass the gate: the process that
received one from outside has judged it, and tells who the caller is.
"""

import secrets
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, cast

import msgspec

from midstream.core.errors import Fault, MidstreamError
from midstream.ranking.plan import SEARCH, SIMILAR
from midstream.serving.access.api_keys import PAGE, ApiKey
from midstream.serving.access.callers import CALLER, KEY_HEADERS, KEY_NEEDED, Caller, operator_of
from midstream.serving.access.console_session import SESSION_PATH, session_token, sign_in_reply
from midstream.serving.access.cors import is_preflight, preflight_reply, sharing
from midstream.serving.access.key_ring import OPERATOR_WHO, KeyRing, KeyWatch, KnownKey
from midstream.serving.access.measured_app import Measured
from midstream.serving.access.page_merges import PageMerges
from midstream.serving.access.questions import asked_body, require_placements, require_question, scope_missing
from midstream.serving.access.scopes import (
    ADMIN,
    ANY,
    EVENTS,
    HOT,
    METRICS,
    NODES,
    OPEN,
    PLACEMENTS,
    READ,
    RECOMMEND,
    scope_needed,
    template_of,
)
from midstream.serving.access.visitors import MERGE_ROUTE, PAGE_ORIGIN, KnownUsers, PageVisitor, require_json
from midstream.serving.access.visitors import ROUTES as ROUTES_OF_PAGES
from midstream.serving.http.admission import QUOTA_CALLER, RETRY_S, Quotas, whole_s
from midstream.serving.http.body_reader import SENT_BODY, WHOLE, WHOLE_BODY, BodyLimits, read_body
from midstream.serving.http.parsing import any_query_fields, decode_any
from midstream.serving.http.problems import (
    Disconnected,
    KeyNeeded,
    MethodNotAllowed,
    QuotaSpent,
    RouteUnknown,
    ScopeMissing,
    problem_reply,
)
from midstream.serving.http.responses import AT_ONCE, JSON, Message, Receive, Scope, Send, send_reply, sent_path
from midstream.serving.options import ServerOptions

EVENTS_PATH: Final = "/v1/events"
CALLERS_MAX: Final = 10_000
"""Addresses with a quota of one browser key; callers that are remembered."""
_BEARER: Final = b"bearer "
_KEYS_PATH: Final = "/v1/keys/"
_CONSOLE: Final = "/console/"
_READS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_ROUTE_PLACEMENTS: Final = {"/v1/items/search": SEARCH, "/v1/items/{item_id}/similar": SIMILAR}
"""Placement that answers a route whose query names none."""


class KeyGate:
    """ASGI app in front of another one: lets requests in whose key allows them."""

    def __init__(
        self,
        app: Measured,
        keys: KeyWatch,
        options: ServerOptions,
        users: KnownUsers,
        needed: Callable[[Scope], str] = scope_needed,
    ) -> None:
        """Front of an app.

        Args:
            app: Gets the requests that are let in.
            keys: Of its folder.
            options: Sizes and waits of bodies.
            users: Ids in the state.
            needed: Finds the scope that a request needs.
        """
        self._app = app
        self._needed = needed
        self.metrics = app.metrics
        self.arrivals = app.arrivals
        self._keys = keys
        self._users = users
        self._merges = PageMerges(users, app.arrivals.now)
        self._limits = BodyLimits(options.body_bytes_max, options.body_wait_max.ms / 1_000)
        self._open = frozenset((OPEN, NODES, METRICS) if options.open_metrics else (OPEN, NODES))
        self._callers: dict[tuple[KnownKey, str], Caller] = {}
        """Callers of the newest requests: each is made once for many."""
        self._quotas: dict[tuple[str, float, int], Quotas] = {}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Answer one request, or take part in the lifespan."""
        ring = self._keys.ring() if scope["type"] == "http" else None
        if scope["type"] == "http" and scope["method"] not in _READS and _changes_keys(scope["path"]):
            scope.pop(AT_ONCE, None)
            send = self._looking(send)
        if ring is None:
            return self._app(scope, receive, send)
        return self._answer(ring, scope, receive, send)

    async def _answer(self, ring: KeyRing, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose key allows it."""
        page: bytes | None = scope.get(PAGE_ORIGIN)
        if page is not None:
            if is_preflight(scope):
                await send_reply(scope, send, preflight_reply(page))
                return
            scope.pop(AT_ONCE, None)
            send = sharing(send, page)
        try:
            receive = await self._let_in(ring, scope, receive)
        except Disconnected:
            self._note(scope, "gone")
            return
        except MidstreamError as error:
            self._note(scope, _reason(error))
            await send_reply(scope, send, sign_in_reply(scope, error) or problem_reply(error))
            return
        if not self._merges.is_merging(scope):
            await self._app(scope, receive, send)
            return
        scope.pop(AT_ONCE, None)
        answer = _Answered(send)
        try:
            await self._app(scope, receive, answer)
        finally:
            self._merges.end(scope, is_refused=answer.status >= HTTPStatus.BAD_REQUEST)

    def page_origins(self) -> frozenset[bytes]:
        """Return the origins whose pages have a browser key."""
        ring = self._keys.ring()
        return frozenset() if ring is None else ring.origins

    def _looking(self, send: Send) -> Send:
        """Return a ``send`` that has the file of keys looked at before an answer: a change of it holds from then."""

        async def looking(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._keys.look_now()
            await send(message)

        return looking

    def _note(self, scope: Scope, reason: str) -> None:
        """Count a refusal, and end its turn in the queue."""
        self.metrics.key_refusals.labels(reason).inc()
        self.arrivals.begin(scope)
        self.arrivals.refuse()

    async def _let_in(self, ring: KeyRing, scope: Scope, receive: Receive) -> Receive:
        """Judge a request; return where its body is read.

        Raises:
            KeyNeeded: It has no key that is live.
            ScopeMissing: Its key does not allow it.
            RouteUnknown: There is no such route.
            MethodNotAllowed: The path does not have the method.
            QuotaSpent: The key's quota is used up.
            MidstreamError: Its body cannot be read.
        """
        needed, unknown = self._judged(scope)
        if needed in self._open and PAGE_ORIGIN not in scope:
            return receive
        known, caller = await self._identify(ring, scope)
        browser_key = known.stored if known.stored is not None and known.stored.is_browser else None
        if browser_key is None and PAGE_ORIGIN in scope:
            raise ScopeMissing((Fault("origin", f"{caller.who} is no browser key.", "A key with origins.", PAGE),))
        if browser_key is not None and _is_merge(scope):
            needed = EVENTS
        if unknown is not None:
            if ADMIN not in caller.scopes:
                raise unknown
        elif needed != ANY:
            _require_scope(caller, needed, scope["path"])
        self._take_quota(known, caller, scope)
        scope[CALLER] = caller
        if browser_key is not None:
            receive = await self._of_page(browser_key, scope, receive)
        if needed == RECOMMEND and caller.is_limited:
            return await self._limited(caller, scope, receive)
        return receive

    def _judged(self, scope: Scope) -> tuple[str, RouteUnknown | MethodNotAllowed | None]:
        try:
            return self._needed(scope), None
        except (RouteUnknown, MethodNotAllowed) as error:
            return ADMIN, error

    async def _identify(self, ring: KeyRing, scope: Scope) -> tuple[KnownKey, Caller]:
        """Return the key of a request, or that of the session in its cookie, and its caller.

        Raises:
            KeyNeeded: There is none that is live, or there are two.
        """
        sent = [each for each in scope["headers"] if each[0] in KEY_HEADERS]
        if sent:
            key = _key_of(*sent[0]) if len(sent) == 1 else ""
            known = self._keys.identify(ring, key) or await self._keys.identify_token(key)
        else:
            token = session_token(scope["headers"])
            known = self._keys.identify_session(ring, token) or await self._keys.identify_token(token)
        if known is None:
            raise KEY_NEEDED
        client = scope.get("client")
        address = str(client[0]) if client else ""
        if known.who == OPERATOR_WHO:
            return known, Caller(f"{known.who}:{operator_of(scope)}", address, known.scopes, known.placements)
        caller = self._callers.get((known, address))
        if caller is None:
            if len(self._callers) >= CALLERS_MAX:
                self._callers.clear()
            name = "" if known.stored is None else known.stored.name
            caller = Caller(known.who, address, known.scopes, known.placements, name)
            self._callers[known, address] = caller
        return known, caller

    async def _of_page(self, key: ApiKey, scope: Scope, receive: Receive) -> Receive:
        """Judge a request with a browser key by the visitor that it names; return where its body is read again.

        Raises:
            ScopeMissing: It names another visitor than it proves, or the route or a field is not for pages.
            MergeRefused: Its user has its share of merged ids, or no event named the id.
            QuotaSpent: The pages of the key merged as many ids as they may in an hour.
            MidstreamError: The body cannot be read.
        """
        path, is_merge = scope["path"], _is_merge(scope)
        if not (path in ROUTES_OF_PAGES or is_merge) or scope["method"] not in {"GET", "POST"}:
            came = f"{scope['method']} {path[:60]} came with a browser key."
            raise ScopeMissing(
                (Fault("path", came, f"One of: {', '.join((*sorted(ROUTES_OF_PAGES), MERGE_ROUTE))}.", PAGE),)
            )
        now_ms = self._keys.wall_ms()
        ring = self._keys.ring()
        kin = () if ring is None else ring.user_secrets(key, now_ms)
        visitor = PageVisitor(key, kin, scope, now_ms, self._users)
        if scope["method"] == "GET":
            visitor.require_query(any_query_fields(scope))
            return receive
        require_json(scope)
        body = await read_body(scope, receive, self._limits)
        told = decode_any(msgspec.Raw(body), "")
        if is_merge:
            ids = visitor.require_merge(sent_path(scope), told)
            if ids is not None:
                await self._merges.begin(scope, key.id, *ids)
        elif path == EVENTS_PATH:
            visitor.require_events(told)
        elif isinstance(told, dict):
            visitor.require_question(cast("dict[str, Any]", told))
        # What was judged is what the route reads: no other reading of the same bytes is possible.
        headers = scope["headers"]
        if [each for each in headers if each[0] == b"content-type"] != [_AS_JSON]:
            scope["headers"] = [each for each in headers if each[0] != b"content-type"] + [_AS_JSON]
        return replayed(scope, receive, msgspec.json.encode(told))

    def _take_quota(self, known: KnownKey, caller: Caller, scope: Scope) -> None:
        """Count a request for the quota of its key; without one of its own, for that of ``[server]`` by key.

        Many visitors have the same browser key, so there each address has the quota.

        Raises:
            QuotaSpent: It is used up.
        """
        stored = known.stored
        of_whom = caller.address if stored is not None and stored.is_browser else ""
        if stored is None or not stored.quota_per_second:
            scope[QUOTA_CALLER] = f"{known.who} {of_whom}"
            return
        scope[QUOTA_CALLER] = ""
        rate, burst = stored.quota_per_second, stored.quota_burst
        quotas = self._quotas.get((stored.id, rate, burst))
        if quotas is None:
            quotas = self._quotas[stored.id, rate, burst] = Quotas(rate, burst or max(1.0, rate), CALLERS_MAX)
        lacks_s = quotas.take(of_whom, self.arrivals.now())
        if lacks_s:
            self.metrics.refusals.labels("quota").inc()
            raise QuotaSpent(whole_s(lacks_s) + secrets.randbelow(RETRY_S))

    async def _limited(self, caller: Caller, scope: Scope, receive: Receive) -> Receive:
        """Judge a question by what it names; return where its body is read again.

        Raises:
            ScopeMissing: The key does not allow a placement, or the events.
            MidstreamError: The body cannot be read.
        """
        if scope["method"] != "POST":
            of_route = _ROUTE_PLACEMENTS.get(template_of(sent_path(scope)) or "")
            named = [of_route] if of_route else any_query_fields(scope).get("placement", [])
            require_placements(caller, list(named), "placement")
            return receive
        is_judged = WHOLE_BODY in scope
        body = await read_body(scope, receive, self._limits)
        require_question(caller, asked_body(body))
        return receive if is_judged else replayed(scope, receive, body)


class _Answered:
    """A ``send`` that notes the status of an answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        """0 = there was no answer yet."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


_AS_JSON: Final = (b"content-type", JSON)
_BODY_HEADERS: Final = frozenset((b"content-encoding", b"content-length", b"transfer-encoding"))


def _changes_keys(path: str) -> bool:
    """Return whether a request with a method that changes something changes the file of keys."""
    return path == SESSION_PATH or path.startswith(_KEYS_PATH)


def _require_scope(caller: Caller, needed: str, path: str) -> None:
    """Refuse a caller without the scope of a route; a page of the console shows what is read, so it needs that too.

    Raises:
        ScopeMissing: The scope is named.
    """
    if not caller.has(READ if needed == METRICS else needed):
        raise scope_missing(caller, needed)
    if needed == PLACEMENTS and path.startswith(_CONSOLE) and not caller.has(READ):
        raise scope_missing(caller, READ)


def _is_merge(scope: Scope) -> bool:
    """Return whether two users are to be made one, as the app finds the route."""
    return scope["method"] == "POST" and scope["path"] not in HOT and template_of(sent_path(scope)) == MERGE_ROUTE


def _key_of(name: bytes, value: bytes) -> str:
    """Return the key of a header; empty = it has none."""
    if name == b"authorization":
        if value[: len(_BEARER)].lower() != _BEARER:
            return ""
        value = value[len(_BEARER) :]
    return value.strip().decode("latin-1")


def _reason(error: MidstreamError) -> str:
    """Return the label of a refusal in the metrics."""
    if isinstance(error, KeyNeeded):
        return "key"
    if isinstance(error, ScopeMissing):
        return "scope"
    if isinstance(error, QuotaSpent):
        return "quota"
    return "request"


def replayed(scope: Scope, receive: Receive, body: bytes) -> Receive:
    """Return where a body that was read is read again, with the headers of the scope as they are right for it."""
    length = (b"content-length", b"%d" % len(body))
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if [each for each in headers if each[0] in _BODY_HEADERS] != [length]:
        scope["headers"] = [*(each for each in headers if each[0] not in _BODY_HEADERS), length]
    scope[WHOLE], scope[WHOLE_BODY] = True, body
    scope.pop(SENT_BODY, None)  # what was read may be written anew
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again
