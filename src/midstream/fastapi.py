"""FastAPI: the engine in an application, started and stopped with it, its routes behind the application's own auth.

Example:
    >>> from fastapi import FastAPI
    >>> import midstream.fastapi
    >>> engine = midstream.asgi("shop")
    >>> app = FastAPI(lifespan=midstream.fastapi.lifespan(engine))
    >>> app.include_router(midstream.fastapi.router(engine), prefix="/shop")
    >>> "/shop/v1/recommendations" in app.openapi()["paths"]
    True

The lifespan opens the folder when the application starts; nothing is read before.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeAlias, cast
from urllib.parse import unquote

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match, compile_path

from midstream.app.server.hosted_engine import HostedEngine, RouterPart
from midstream.core.errors import DOCUMENTATION_PATH
from midstream.engine.requests.faults import NameUnknown
from midstream.serving.app import described
from midstream.serving.http.admission import ANSWERING
from midstream.serving.http.mounting import sent_below
from midstream.serving.http.responses import Message, Receive, Scope, Send
from midstream.serving.openapi.reference_pages import reference_pages
from midstream.serving.slates.hot_routes import EVENTS_PATH

__all__ = ["lifespan", "router"]

State: TypeAlias = Mapping[str, Any]
Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[Any]]
Document: TypeAlias = dict[str, Any]
_PAGES = f"{DOCUMENTATION_PATH}{{name}}"
_PATH_VALUE = re.compile(r"\{(\w+)\}")
_TAKEN = "midstream.taken"
"""Field of a scope: a dependency has taken a part of the body."""
_SHOWN_SHORT = frozenset({"Problem", "SlateWhy", "Explained"})
"""Types that many operations have: written out in each, they would be most of the document. Their fields are on the
pages docs/http.md and docs/explanations.md."""


def lifespan(
    engine: HostedEngine, own: Callable[[FastAPI], AbstractAsyncContextManager[Any]] | None = None
) -> Lifespan:
    """Return a lifespan that opens the engine before the application's own and closes it after that.

    At the end, after the last answer was sent, acknowledged events are durable and the state is in a snapshot.

    Args:
        engine: Of ``midstream.asgi``.
        own: Lifespan of the application; what it yields is the state of the application.
    """

    @asynccontextmanager
    async def both(app: FastAPI) -> AsyncGenerator[State | None]:
        async with engine:
            if own is None:
                yield None
                return
            async with own(app) as state:
                yield state

    return both


def router(engine: HostedEngine, paths: Sequence[str] | None = None) -> APIRouter:
    """Return a router with the routes of docs/http.md, to be included with a prefix and dependencies such as auth.

    They are in the application's document, and answer as those of a server do: bodies, tokens, request ids, errors. The
    pages that errors name are below the same prefix.

    Args:
        engine: Of ``midstream.asgi``; closed, it answers 503.
        paths: Templates of the routes that are wanted, such as ``["/v1/events", "/v1/recommendations"]``; all when
            None. An application that lets shoppers in beside operators includes two routers with dependencies of
            their own.

    Raises:
        NameUnknown: A path is none of docs/http.md.
    """
    document = described()
    known: dict[str, Document] = document["paths"]
    for number, path in enumerate(paths or ()):
        if path not in known:
            raise NameUnknown(f"paths[{number}]", "path", path, known)
    # A host looks for a route in their order: those of every visitor come first.
    chosen = sorted(known if paths is None else paths, key=lambda path: path not in (ANSWERING | {EVENTS_PATH}))
    operations = {path: frozenset(method.upper() for method in known[path]) for path in chosen}
    operations[f"{DOCUMENTATION_PATH}{{name:path}}"] = frozenset({"GET"})
    schemas: dict[str, Document] = document["components"]["schemas"]
    made = APIRouter()
    for path in chosen:
        for method, operation in known[path].items():
            _add(made, engine, (method, path, operations), cast("Document", _inlined(operation, schemas)))
    answer = _answering(engine, _PAGES, operations)
    made.add_api_route(
        _matching(_PAGES),
        answer,
        methods=["GET"],
        include_in_schema=False,
        name="get midstream page",
        route_class_override=_route_of(_PAGES),
    )
    return made


def _add(
    made: APIRouter,
    engine: HostedEngine,
    route: tuple[str, str, Mapping[str, frozenset[str]]],
    operation: Document,
) -> None:
    method, path, operations = route
    right = next(int(status) for status in operation["responses"] if int(status) < HTTPStatus.MULTIPLE_CHOICES)
    name = str(operation.pop("operationId", f"{method} {path}")).partition("_v1_")[0]
    made.add_api_route(
        _matching(path),
        _answering(engine, path, operations),
        methods=[method.upper()],
        name=name,
        summary=operation.pop("summary", None),
        description=operation.pop("description", ""),
        status_code=right,
        response_class=Response,
        response_description=operation["responses"][str(right)]["description"],
        openapi_extra=operation,
        route_class_override=_route_of(path),
    )


def _route_of(template: str) -> type[APIRoute]:
    """Return a route that has the paths which the engine has for a template, and leaves all others to the host."""
    sent_pattern = compile_path(template)[0]

    class EngineRoute(APIRoute):
        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            match, found = super().matches(scope)
            if match is not Match.NONE and not _is_sent(scope, template, sent_pattern, found["path_params"]):
                return Match.NONE, {}
            return match, found

        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def noted() -> Message:
                message = await receive()
                scope[_TAKEN] = True
                return message

            await super().handle(scope, noted, send)

    return EngineRoute


def _is_sent(scope: Scope, template: str, sent_pattern: re.Pattern[str], values: Mapping[str, str]) -> bool:
    """Return whether the path as it was sent has the values that the host has found in the path as it decoded it."""
    if template == _PAGES:
        return values["name"] in reference_pages()
    own = template.format_map(values)
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    sent: bytes | None = own.encode()
    if raw is not None:
        sent = sent_below(raw.partition(b"?")[0], path.removesuffix(own), own)
    if sent is None:
        return False
    if own == template:
        return True
    match = sent_pattern.match(sent.decode("latin-1"))
    return match is not None and all(unquote(value) == values[name] for name, value in match.groupdict().items())


def _answering(
    engine: HostedEngine, path: str, operations: Mapping[str, frozenset[str]]
) -> Callable[[Request, Response], Awaitable[Response]]:
    async def answer(request: Request, response: Response) -> Response:
        own = path.format_map(request.path_params)
        before = request.scope["path"].removesuffix(own)
        return _Passed(engine, RouterPart(before, operations), (request, response))

    return answer


class _Passed(Response):
    """Answer of the engine, with the headers that dependencies set."""

    def __init__(self, engine: HostedEngine, part: RouterPart, left: tuple[Request, Response]) -> None:
        """Keep the place of the request, and what dependencies left: the body if one has read it, and headers."""
        super().__init__()
        self._engine = engine
        self._part = part
        request, response = left
        self._read: bytes | None = vars(request).get("_body")
        self._set = response.headers.raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the engine answer."""

        async def read_before() -> Message:
            return {"type": "http.request", "body": self._read, "more_body": False}

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *self._set]}
            await send(message)

        if self._read is None and _TAKEN in scope:
            message = (
                "A dependency has taken a part of the body, by request.stream() or request.form(), and the engine "
                "cannot have it again. await request.body() reads it for both: midstream docs tasks/web-frameworks"
            )
            raise RuntimeError(message)
        taken = receive if self._read is None else read_before
        await self._engine.answer_part(self._part, scope, taken, with_headers)
        if self.background is not None:
            await self.background()


def _matching(path: str) -> str:
    """Return a template in which an id may have slashes, as one that was sent as ``%2F`` has for the host."""
    return _PATH_VALUE.sub(r"{\1:path}", path)


def _inlined(part: object, schemas: Mapping[str, Document]) -> object:
    """Return a part of the document with its types written out: their names would be the application's to give."""
    if isinstance(part, dict):
        found = cast("Document", part)
        if "$ref" not in found:
            return {key: _inlined(each, schemas) for key, each in found.items()}
        name = str(found["$ref"]).rpartition("/")[2]
        if name in _SHOWN_SHORT:
            return {"type": "object", "title": name, "description": schemas[name].get("description", name)}
        return _inlined(schemas[name], schemas)
    if isinstance(part, list):
        return [_inlined(each, schemas) for each in cast("Iterable[object]", part)]
    return part
