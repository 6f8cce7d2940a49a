"""Flask: a blueprint in front of an ASGI app that runs on the event loop of an engine's own thread.

A thread of the web server passes one request on and waits: it reads the body when the app asks for it, and writes the
answer piece by piece. So all state stays with the one thread that owns it, and streams of any length need no memory.

Reference: Eby, PEP 3333, Python Web Server Gateway Interface 1.0.1, 2010.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib import import_module
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias
from urllib.parse import quote, unquote

from midstream.core.errors import ExtraMissing
from midstream.serving.http.responses import ASGI, Message, Scope

if TYPE_CHECKING:
    from concurrent.futures import Future

    from midstream.engine.recommender import Recommender

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PIECE_BYTES = 65_536
"""Read of a body at once."""
_PLAIN = {"CONTENT_TYPE": b"content-type", "CONTENT_LENGTH": b"content-length"}
_OF_THE_SERVER = frozenset((b"connection",))
"""Headers that only the web server may set (PEP 3333, hop-by-hop)."""
Environ: TypeAlias = Mapping[str, Any]


class _Body(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Call(NamedTuple):
    """What the app waits for: a piece of the body, or that a message is on its way."""

    message: Message | None
    """None = a piece of the body is wanted."""
    done: "asyncio.Future[Message]"
    loop: asyncio.AbstractEventLoop

    def answer(self, message: Message) -> None:
        """Go on with the app, unless it waits no longer. Called by the thread of the web server."""

        def go_on() -> None:
            if not self.done.done():
                self.done.set_result(message)

        self.loop.call_soon_threadsafe(go_on)


class _Passage:
    """One request, between the thread of the web server and the event loop of the engine."""

    def __init__(self, body: _Body) -> None:
        self._body = body
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        """At most one of the app at a time, and None behind its end."""
        self._is_read = False

    async def receive(self) -> Message:
        """Return the next piece of the body. Called by the app."""
        return await self._asked(None)

    async def send(self, message: Message) -> None:
        """Hand over a part of the answer. Called by the app."""
        await self._asked(message)

    async def _asked(self, message: Message | None) -> Message:
        loop = asyncio.get_running_loop()
        call = _Call(message, loop.create_future(), loop)
        self._calls.put(call)
        return await call.done

    def messages(self, answering: "Future[None]") -> Iterator[Message]:
        """Yield the parts of the answer, and read the body meanwhile; raise what the app raises."""
        answering.add_done_callback(lambda _: self._calls.put(None))
        try:
            while (call := self._calls.get()) is not None:
                if call.message is None:
                    call.answer(self._piece())
                    continue
                yield call.message
                call.answer({})
            answering.result()
        finally:
            answering.cancel()  # the client is gone before the end

    def _piece(self) -> Message:
        if self._is_read:
            return {"type": "http.disconnect"}
        piece = self._body.read(PIECE_BYTES)
        self._is_read = not piece
        return {"type": "http.request", "body": piece, "more_body": not self._is_read}


def blueprint_of(name: str, recommender: "Recommender", app: Callable[[], Awaitable[ASGI]], mounted: "Mounted") -> Any:  # noqa: ANN401  of a library that is not there to be checked against
    """Return a blueprint that passes all below its prefix on to an app.

    Args:
        name: Of the blueprint.
        recommender: Whose event loop runs the app.
        app: Returns it, on that loop.
        mounted: Returns an app that leaves the start of a path out, which is the application's.

    Raises:
        ExtraMissing: Flask is not installed.
    """
    try:
        flask: Any = import_module("flask")
    except ImportError as error:
        message = 'Flask is not installed: pip install "midstream[flask]"'
        raise ExtraMissing(message) from error
    found: Any = flask.Blueprint(name, __name__)

    def answer(rest: str = "") -> Any:  # noqa: ANN401  as above
        passage = _Passage(flask.request.stream)
        scope = scope_of(flask.request.environ)
        mounted_at = scope["path"].removesuffix(f"/{rest}")

        async def run() -> None:
            await mounted(await app(), mounted_at)(scope, passage.receive, passage.send)

        messages = passage.messages(recommender.submit(run))
        start = next(messages)
        headers = [
            (key.decode("latin-1"), value.decode("latin-1"))
            for key, value in start["headers"]
            if key not in _OF_THE_SERVER
        ]
        pieces = _pieces(messages)
        return flask.Response(pieces, start["status"], headers, direct_passthrough=True)

    for path in ("/", "/<path:rest>"):
        options: dict[str, Any] = {"methods": METHODS, "provide_automatic_options": False, "merge_slashes": False}
        found.add_url_rule(path, "answer", answer, **options)
    return found


Mounted: TypeAlias = Callable[[ASGI, str], ASGI]


def _pieces(messages: Iterator[Message]) -> Iterator[bytes]:
    for message in messages:
        if message.get("body"):
            yield message["body"]


def scope_of(environ: Environ) -> Scope:
    """Return the ASGI scope of a WSGI request; the path as it was sent where the server says it."""
    headers = [
        (key[5:].replace("_", "-").lower().encode("latin-1"), str(value).encode("latin-1"))
        for key, value in environ.items()
        if key.startswith("HTTP_")
    ]
    headers += [(name, str(environ[key]).encode("latin-1")) for key, name in _PLAIN.items() if environ.get(key)]
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": str(environ.get("SERVER_PROTOCOL", "HTTP/1.1")).partition("/")[2],
        "method": environ["REQUEST_METHOD"],
        "scheme": environ["wsgi.url_scheme"],
        "path": _path(environ),
        "query_string": str(environ.get("QUERY_STRING", "")).encode("latin-1"),
        "headers": headers,
        "client": (environ["REMOTE_ADDR"], 0) if environ.get("REMOTE_ADDR") else None,
        "root_path": "",
    }
    sent = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or "")
    if sent.startswith("/"):
        scope["raw_path"] = _whole(sent.partition("?")[0].encode("latin-1", "replace"), environ)
    return scope


def _whole(sent: bytes, environ: Environ) -> bytes:
    """Return the path as it was sent with the part in front that a proxy has taken off, and ``SCRIPT_NAME`` names."""
    missing = _path(environ).removesuffix(unquote(sent))
    script = str(environ.get("SCRIPT_NAME", "")).encode("latin-1").decode("utf-8", "replace")
    return quote(missing).encode() + sent if script.startswith(missing) else sent


def _path(environ: Environ) -> str:
    path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
    return path.encode("latin-1").decode("utf-8", "replace")
