"""uvicorn's HTTP protocol with bounds on a request's head, which uvicorn itself reads for ever.

A body's bounds are the app's (``body.py``); before the head is complete there is no app to ask.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from http import HTTPMethod, HTTPStatus
from typing import Any, Protocol, cast, runtime_checkable

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from midstream.serving.arrivals import Arrivals
from midstream.serving.body import WHOLE
from midstream.serving.reply import AT_ONCE, JSON, NO_STORE, Reply, Scope

_PROBLEM = b'{"type":"urn:midstream:head-too-large","title":"Request line and headers are too long","status":431}'
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
    b"content-type: application/problem+json\r\ncontent-length: %d\r\n\r\n%b" % (len(_PROBLEM), _PROBLEM)
)
_OK = STATUS_LINE[200]
_USUAL = b"content-type: %b\r\ncontent-length: %%d\r\n%b\r\n" % (
    JSON,
    b"".join(b"%b: %b\r\n" % each for each in NO_STORE),
)
"""Headers of what nearly every question is answered with."""


@runtime_checkable
class Counting(Protocol):
    """An app that looks at how requests come in."""

    arrivals: Arrivals


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """How long a request's head may be, and how long it may take."""

    bytes_max: int
    wait_s_max: float


class BoundedProtocol(HttpToolsProtocol):
    """One connection. A head that comes in one piece, as usual clients send it, costs a few assignments."""

    def __init__(  # noqa: D417  the first four are uvicorn's
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: HeadLimits,
        arrivals: Arrivals | None = None,
    ) -> None:
        """Begin to wait for the first head.

        Args:
            limits: Of each head.
            arrivals: Is told of each request.
        """
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._arrivals = arrivals
        self._head_is_open = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._idle_since: float | None = None
        """Of the loop's clock; None = a request is being read or answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head from the first moment on."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._stop_waiting()
        scope = cast("dict[str, Any] | None", self.scope)
        if scope is not None:
            scope.pop(AT_ONCE, None)  # it holds the connection, which holds it
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def data_received(self, data: bytes) -> None:
        """Read on, unless a head that is still open has become too long."""
        self._head_bytes += len(data)
        super().data_received(data)
        if not self._head_is_open or self.transport.is_closing():
            return
        if self._head_bytes > self._limits.bytes_max:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._head_bytes and self._head_timer is None:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """A head has begun, maybe in the piece with which the request before ended."""
        self._head_bytes = self._head_bytes or 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is complete: from here on the app is asked."""
        self._head_is_open = False
        self._stop_waiting()
        if self._arrivals is not None:
            self._arrivals.read(cast("dict[str, Any]", self.scope))
        super().on_headers_complete()
        cast("dict[str, Any]", self.scope)[AT_ONCE] = self._answer_at_once

    def on_message_complete(self) -> None:
        """The body is whole, and the next head may begin."""
        self._head_is_open = True
        self._head_bytes = 0
        super().on_message_complete()
        cast("dict[str, Any]", self.scope)[WHOLE] = True

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for one.

        A timer that is set and unset with each request costs as much as parsing it: one timer stays, and looks when it
        is over for how long nothing has come.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._keep_for(self.timeout_keep_alive)

    def _answer_at_once(self, scope: Scope, reply: Reply) -> bool:
        """Write a usual answer in one piece, the same bytes as uvicorn writes in two after looking at each header.

        Args:
            scope: Of the request.
            reply: The answer.

        Returns:
            Whether it was written; else the answer, the request or the connection is none of the usual, and nothing
            was.
        """
        cycle = self.cycle
        if reply.status != HTTPStatus.OK or reply.media_type is not JSON or reply.headers is not NO_STORE:
            return False
        if cycle.scope is not scope or scope["method"] == HTTPMethod.HEAD or cycle.access_log:
            return False
        if cycle.response_started or cycle.disconnected or cycle.flow.write_paused or not cycle.keep_alive:
            return False
        cycle.response_started = cycle.response_complete = True
        told = [b"%b: %b\r\n" % each for each in cycle.default_headers]
        self.transport.write(b"".join((_OK, *told, _USUAL % len(reply.body), reply.body)))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _unset_keepalive_if_required(self) -> None:
        """Something came: whoever looks finds that it did."""
        self._idle_since = None

    def timeout_keep_alive_handler(self) -> None:
        """Close when nothing has come for long enough; else look again when that may be so."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._keep_for(left_s)
        elif not self.transport.is_closing():
            self.transport.close()

    def _keep_for(self, wait_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(wait_s, self.timeout_keep_alive_handler)

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.wait_s_max, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        """Close without a word: nothing was asked yet."""
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()


def bounded_protocol(limits: HeadLimits, app: object) -> type[asyncio.Protocol]:
    """Return what uvicorn takes for a protocol's class: it only ever calls it.

    Args:
        limits: Of each head.
        app: Is told of each request that was read, if it wants to know (``Arrivals``).
    """
    arrivals = app.arrivals if isinstance(app, Counting) else None
    return cast("type[asyncio.Protocol]", partial(BoundedProtocol, limits=limits, arrivals=arrivals))
