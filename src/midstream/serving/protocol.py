"""uvicorn's HTTP protocol with bounds on a request's head, which uvicorn itself reads for ever.

A body's bounds are the app's (``body.py``); before the head is complete there is no app to ask.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from midstream.serving.arrivals import Arrivals
from midstream.serving.body import WHOLE

_PROBLEM = b'{"type":"urn:midstream:head-too-large","title":"Request line and headers are too long","status":431}'
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
    b"content-type: application/problem+json\r\ncontent-length: %d\r\n\r\n%b" % (len(_PROBLEM), _PROBLEM)
)


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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head from the first moment on."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._stop_waiting()

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

    def on_headers_complete(self) -> None:
        """The head is complete: from here on the app is asked."""
        self._head_is_open = False
        self._stop_waiting()
        if self._arrivals is not None:
            self._arrivals.read(cast("dict[str, Any]", self.scope))
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole, and the next head may begin."""
        self._head_is_open = True
        self._head_bytes = 0
        super().on_message_complete()
        cast("dict[str, Any]", self.scope)[WHOLE] = True

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
