"""Routes of the console: its pages, what is live of them, and the files that a page loads, all of this server.

Pages only read. What a page changes it sends to the routes for programs, as JSON from its own script, so that who may
do what is decided in one place, and a form of another site has no address here.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic_ns
from urllib.parse import unquote

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from midstream.serving.access.console_session import (
    CONSOLE_PATH,
    LIVE_PATH,
    SESSION_PATH,
    ConsoleSessions,
    session_cookies,
)
from midstream.serving.access.key_file import KeyFile
from midstream.serving.console.api_reader import ApiReader
from midstream.serving.console.assets_list import CONSOLE_HEADERS, asset_of
from midstream.serving.console.engine_samples import EngineSamples
from midstream.serving.console.live_metrics import READING_MS_MIN, ConsoleFigures, LiveMetrics, read_samples
from midstream.serving.console.live_pages import LOOK_MS, LivePages, event_of, live_page
from midstream.serving.console.page_address import ConsolePage, PageAddress
from midstream.serving.console.page_templates import Templates
from midstream.serving.console.pages import PAGES, PageMaker
from midstream.serving.http.responses import MOUNTED_AT

STREAM_S_MAX = 60
"""Of one stream; the browser opens the next one. A server that stops ends it."""
STREAMS_MAX = 20
"""Open at once, of all pages. A page beyond it says that it is not live."""


def add_console_routes(
    app: FastAPI,
    keys: KeyFile | None,
    now_ms: Callable[[], int],
    actions: Callable[[], Iterable[str]],
    own: EngineSamples | None = None,
) -> None:
    """Add the pages; they read the routes that ``app`` has when they are asked for.

    Args:
        app: Takes them.
        keys: Of this server; None = it has no folder, and asks nobody for a key.
        now_ms: Wall clock.
        actions: Gives the names of the configured interactions.
        own: Samples for the live figures; None = those of the route ``/metrics``.
    """
    api, templates = ApiReader(app, actions), Templates()
    live, pages = LiveView(api, templates, own), LivePages(api, templates, _monotonic_ms)

    @app.get("/", include_in_schema=False)
    async def get_root(request: Request) -> Response:
        """Where a person who typed the address alone is led."""
        return Response(status_code=303, headers={"location": f"{_base(request)}{CONSOLE_PATH}", **CONSOLE_HEADERS})

    @app.get(CONSOLE_PATH, include_in_schema=False)
    async def get_console(request: Request) -> Response:
        """The first page: what goes on now."""
        return _html(
            templates, request, ConsolePage("now.html", {"figures": await live.figures(), **await live.health()})
        )

    @app.get(LIVE_PATH, include_in_schema=False)
    async def get_live(request: Request) -> Response:
        """The first page's figures each two seconds, or what changed of another ``page``, as server-sent events."""
        path, base = request.query_params.get("page", ""), _base(request)
        if path:
            live_page(path)
        if live.open + pages.open >= STREAMS_MAX:
            return Response(status_code=503, headers={"retry-after": "30", **CONSOLE_HEADERS})
        events = pages.stream(path, base, STREAM_S_MAX * 1_000 // LOOK_MS) if path else live.stream(base)
        return StreamingResponse(events, media_type="text/event-stream", headers=CONSOLE_HEADERS)

    @app.get(f"{CONSOLE_PATH}/assets/{{name}}", include_in_schema=False)
    async def get_asset(name: str) -> Response:
        """Style and script of the pages."""
        return _asset(name)

    _add_session_routes(app, templates, keys, now_ms)
    for path, page_of in PAGES.items():
        app.get(f"{CONSOLE_PATH}{path}", include_in_schema=False)(_route(page_of, api, templates))
    _add_unknown_route(app, templates)


def _add_session_routes(app: FastAPI, templates: Templates, keys: KeyFile | None, now_ms: Callable[[], int]) -> None:
    """Add the page where a key is given, and the two routes that begin a session of the browser and end it."""
    sessions = ConsoleSessions(keys, now_ms)

    @app.get(SESSION_PATH, include_in_schema=False)
    async def get_session(request: Request) -> Response:
        """Where a person gives the browser a key."""
        return _html(templates, request, ConsolePage("session.html"))

    @app.put(SESSION_PATH, include_in_schema=False)
    async def put_session(request: Request) -> Response:
        """Begin a session with the key that this request was let in by; the gate has judged it."""
        return _kept(request, await sessions.begin(request.scope))

    @app.delete(SESSION_PATH, include_in_schema=False)
    async def delete_session(request: Request) -> Response:
        """End the session of this browser."""
        await sessions.end(request.scope)
        return _kept(request, "")


def _add_unknown_route(app: FastAPI, templates: Templates) -> None:
    """Add what answers all other paths below the console; it comes last, as the first route that fits answers."""

    @app.get(f"{CONSOLE_PATH}/{{rest:path}}", include_in_schema=False)
    async def get_unknown(request: Request) -> Response:
        """A page in place of the problem that programs get: whoever types an address has the menu."""
        values = {"path": f"{CONSOLE_PATH}/{unquote(str(request.path_params['rest']))}"}
        return _html(templates, request, ConsolePage("unknown.html", values, HTTPStatus.NOT_FOUND))


def _kept(request: Request, token: str) -> Response:
    response = Response(b"{}", headers=CONSOLE_HEADERS, media_type="application/json")
    for each in session_cookies(request.scope, token):
        response.headers.append("set-cookie", each)
    return response


def _route(page_of: PageMaker, api: ApiReader, templates: Templates) -> Callable[[Request], object]:
    async def get_page(request: Request) -> Response:
        query = {name: value for name, value in request.query_params.items() if value}
        at = PageAddress({name: str(value) for name, value in request.path_params.items()}, query)
        return _html(templates, request, await page_of(api, at))

    return get_page


@dataclass(frozen=True, slots=True, eq=False)
class _MadeEvent:
    """An event of the stream, and what it was made of."""

    figures: ConsoleFigures
    base: str
    event: bytes


class LiveView:
    """Figures that all viewers share, and the streams that are open."""

    def __init__(self, api: ApiReader, templates: Templates, own: EngineSamples | None = None) -> None:
        """Read from ``own`` when somebody looks, where it is None from ``/metrics``."""
        self._api = api
        self._own = own
        self._templates = templates
        self._metrics = LiveMetrics(_monotonic_ms)
        self._reading = asyncio.Lock()
        self._made: _MadeEvent | None = None
        self.open = 0
        """Streams that are sent now."""

    async def figures(self) -> ConsoleFigures:
        """Return the newest figures, read anew where they are old. The first viewer reads, the others wait for it."""
        async with self._reading:
            return await self._read()

    async def _read(self) -> ConsoleFigures:
        found = self._metrics.figures
        if found is None or self._metrics.is_due:
            if self._own is None:
                samples = await asyncio.to_thread(read_samples, await self._api.text("/metrics"))
            else:
                samples = await self._own.read()
            found = await asyncio.to_thread(self._metrics.add, samples)
        return found

    async def health(self) -> dict[str, object]:
        """Return what health says, for the page's head."""
        return {"health": (await self._api.get("/health/ready")).body}

    async def message(self, base: str) -> bytes:
        """Return the first page's figures as an event. It is made once a reading, for all viewers at an address."""
        async with self._reading:
            figures = await self._read()
            made = self._made
            if made is None or made.figures is not figures or made.base != base:
                values = {"figures": figures, **await self.health()}
                text = await asyncio.to_thread(self._templates.render, "now_figures.html", base, values)
                self._made = made = _MadeEvent(figures, base, event_of(text))
            return made.event

    async def stream(self, base: str) -> AsyncIterator[bytes]:
        """Yield the first page's figures as events, until the viewer goes or the time is over."""
        self.open += 1
        try:
            for _ in range(STREAM_S_MAX * 1_000 // READING_MS_MIN):
                yield await self.message(base)
                await asyncio.sleep(READING_MS_MIN / 1_000)
        finally:
            self.open -= 1


def _monotonic_ms() -> int:
    return monotonic_ns() // 1_000_000


def _html(templates: Templates, request: Request, page: ConsolePage) -> Response:
    text = templates.render(page.template, _base(request), page.values)
    return Response(text, page.status, CONSOLE_HEADERS, "text/html; charset=utf-8")


def _base(request: Request) -> str:
    """Return the part of the address before this app's own paths, where it is mounted in another one."""
    mounted_at: str = request.scope.get(MOUNTED_AT) or ""
    return mounted_at


def _asset(name: str) -> Response:
    text, media = asset_of(name)
    return Response(text, headers={**CONSOLE_HEADERS, "cache-control": "no-cache"}, media_type=media)
