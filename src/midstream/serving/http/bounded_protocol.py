"""HTTP connection: uvicorn's protocol with a maximum and a time-out for all that a client sends or leaves unread.

Invariants, whatever the parser is at:

- What came in since the last progress (a whole head, a byte of a body that is wanted) is at most ``head_bytes_max``:
  heads, chunk sizes and extensions, trailers, blank lines between requests. Nobody waits for the next of it for longer
  than ``head_wait_max``, nor for the rest of a body whose request is answered for longer than ``body_wait_max``.
- One request is answered at a time and what lies behind it in the same read stays bytes, but for a step's worth. While
  a client does not read its answers, nothing further is read or begun.
- What is not HTTP ends the connection with one answer, behind those to all the requests before it.
- ``Upgrade`` is ignored, as RFC 9110, 7.8 lets a server do. llhttp would take a body after it for another protocol; a
  head with it is read again without it.

A body's own bounds are the app's (``body_reader.py``). What arrives whole, as requests do, costs a few assignments.

Reference: RFC 9112, 6 and 7 (framing), 9.3.2 (pipelining); the Go project, CVE-2023-39326 (overhead of chunks).
"""

import asyncio
import sys
from functools import partial
from http import HTTPMethod
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from midstream.serving.http import framing
from midstream.serving.http.admission import FREE
from midstream.serving.http.body_reader import SENT_BODY
from midstream.serving.http.closing_answers import MALFORMED, NO_PLACE, NO_TUNNEL, TOO_LARGE, ClosingAnswer, no_place
from midstream.serving.http.cycle import Cycle, MessageSignal
from midstream.serving.http.lingering import AnswerTransport, Lingering
from midstream.serving.http.read_limits import ConnectionBounds
from midstream.serving.http.responses import ASGI, AT_ONCE, Reply, Scope
from midstream.serving.http.write_watch import WriteWatch

if TYPE_CHECKING:
    from collections import deque


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    app: Any
    scope: Any
    parser: httptools.HttpRequestParser
    cycle: Cycle
    pipeline: "deque[tuple[Cycle, ASGI]]"  # type: ignore[assignment]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        bounds: ConnectionBounds,
    ) -> None:
        """Begin to wait for the first head, within ``bounds``."""
        super().__init__(config, server_state, app_state, _loop)
        self._limits = bounds.limits
        self._places = bounds.places
        self._arrivals = bounds.arrivals
        self._count = bounds.count
        self.address, self._has_place = "", True  # of the client; a process of this machine has no address
        self._running: Cycle | None = None  # begun last; ``cycle`` is what was parsed last
        self._rest = b""
        """Read and not parsed yet: reading is paused meanwhile."""
        self._closing_answer: ClosingAnswer | None = None
        """Nothing further is parsed, and this ends the connection once all before it is answered."""
        self._lingering: Lingering | None = None
        """The last word is said, and what still comes is thrown away."""
        self._head_is_open = True  # or none has begun: the last message is whole
        self._head_bytes = 0  # since the last message was whole, as far as it is known
        self._body_bytes = self._overhead = 0
        """Of a body that is being read; and bytes of framing beyond those that its bytes allow."""
        self._thrown_away = 0  # of a body whose request is answered
        self._read_timer: asyncio.TimerHandle | None = None
        self._watch = cast("WriteWatch", None)  # of what the client does not read
        self._answers = cast("AnswerTransport", None)
        """Both are made when there is a transport."""
        self._task: asyncio.Task[None] | None = None
        self._spare_since, self._free_at = 0.0, cast("float | None", None)  # the same by the clock of arrivals

    # What the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head from the first moment on."""
        super().connection_made(transport)
        self._watch = WriteWatch(transport, self.loop, self.timeout_keep_alive)
        self._answers = AnswerTransport(transport, self._end)
        self._wait(self._limits.head_wait_s_max)
        self._spare_since = self.loop.time()
        self.address = self.client[0] if self.client else ""
        if self._places is not None:
            self._has_place = self._places.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more, and let everything go that was read and not begun."""
        super().connection_lost(exc)
        self._stop_waiting()
        self._watch.stop()
        if self._lingering is not None:
            self._lingering.stop()
        self._unset_keepalive_if_required()
        if self._places is not None:
            self._places.leave(self)
        running = self._running
        if self._closing_answer is None and (self._is_answering or self.pipeline or self._rest):
            self._count("left")
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        for cycle in (running, self.cycle, *(each for each, _ in self.pipeline)):
            if cycle is not None:
                scope = cast("Scope", cycle.scope)
                scope.pop(AT_ONCE, None)  # it holds the connection, which holds it
                scope.pop(SENT_BODY, None)  # a route that has not begun is to see that the client has gone
        self.pipeline.clear()
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Parse arriving bytes, unless reading has ended."""
        if self._lingering is not None:
            self._lingering.throw_away(len(data))
            return
        if self._closing_answer is not None:
            return
        if self._rest:
            self._rest += data
            return
        self._read(data)

    def pause_writing(self) -> None:
        """The client does not read its answers: neither read nor begin anything for it until it does."""
        super().pause_writing()
        self.flow.pause_reading()
        self._watch.begin(partial(self._count, "unread_answer"))

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if not self._is_ended:
            self._watch.stop()
            self._go_on()

    # What the parser calls

    def on_message_begin(self) -> None:
        """A head has begun, maybe in the piece with which the request before ended."""
        self._head_bytes = self._head_bytes or 1
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. A trailer is none: the request is judged by then; but the parser heeds a ``close`` in it."""
        if not self._head_is_open:
            self.cycle.keep_alive = self.cycle.keep_alive and self.parser.should_keep_alive()
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete: the app is called from here on."""
        parser = self.parser
        if parser.should_upgrade():
            return  # it is parsed again without that, see _ignore_upgrade
        if self._head_bytes > self._limits.head_bytes_max or len(self.headers) > self._limits.head_lines_max:
            self._require_short()
        scope: dict[str, Any] = self.scope
        version = parser.get_http_version()
        if version != "1.1":
            scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        scope["path"], scope["raw_path"], scope["query_string"] = framing.target_of(self.url)
        self._take(scope, keep_alive=version != "1.0" and parser.should_keep_alive())

    def _take(self, scope: dict[str, Any], *, keep_alive: bool) -> None:
        """Begin the request whose head is complete, or queue it behind the one before."""
        app: ASGI = self.app
        if not self._has_place and not self._is_let_in(scope["path"]):
            app, keep_alive = no_place, False
        elif self._arrivals is not None:
            self._arrivals.read(scope, self._free_at)
            self._free_at = None
        self.cycle = cycle = Cycle(  # pyright: ignore[reportIncompatibleVariableOverride]
            scope=scope,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            transport=self._answers,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=MessageSignal(),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive and self._has_place,
            on_response=self.on_response_complete,
        )
        scope[AT_ONCE] = self._answer_at_once
        self._head_is_open = False
        self._body_bytes = self._overhead = 0
        if self._read_timer is not None:
            self._stop_waiting()
        if (self._running is None or self._running.response_complete) and not self.flow.write_paused:
            self._begin(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

    def on_body(self, body: bytes) -> None:
        """A piece of a body; that of an answered request is dropped."""
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.is_on = True
        if cycle.message_event.waiter is not None:
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The body is whole, and the next head may begin."""
        if self._head_is_open:
            return  # that of an upgrade, which is parsed again
        self._head_is_open = True
        self._head_bytes = 0
        cycle = self.cycle
        if cycle.response_complete:
            self._stop_waiting()
            (self._be_idle if cycle.keep_alive else self.close)()
            return
        cycle.end_body()

    # What the app brings about

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for one."""
        self.server_state.total_requests += 1
        if self._is_ended:
            self._watch.begin()
        elif self.pipeline or self._rest or self.flow.write_paused or self._closing_answer is not None:
            self._go_on()
        else:
            self.flow.resume_reading()
            self._be_idle()

    def _answer_at_once(self, scope: Scope, reply: Reply) -> bool:
        """Write the answer to the request that is being answered in one piece, where that can be done."""
        cycle = self._running
        return cycle is not None and cycle.scope is scope and cycle.write_at_once(reply)

    # Places

    @property
    def spare_since(self) -> float | None:
        """Since when nothing is being answered and all answers are read; None = something is, or some are not."""
        is_busy = self._lingering is None and (self._is_answering or self.pipeline)
        if is_busy or self.transport.get_write_buffer_size():
            return None
        return self._spare_since

    def _is_let_in(self, path: str) -> bool:
        """Return whether a request is answered on a connection that found no place when it was made."""
        if path in FREE or self._places is None:
            return True
        self._has_place = self._places.place_after_all(self)
        if not self._has_place:
            self._count(NO_PLACE.reason)
            self.logger.warning("Requests were refused with 503: there are too many connections (midstream docs http).")
        return self._has_place

    # One request after the other

    @property
    def _is_answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _begin(self, cycle: Cycle, app: ASGI) -> None:
        self._running = cycle
        self._task = task = self.loop.create_task(cycle.run_asgi(app))  # type: ignore[arg-type]
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _go_on(self) -> None:
        """Begin what waits, parse what is held, read what comes: each when what is before it is answered and read."""
        if self.flow.write_paused or self._is_ended:
            return
        if self.pipeline and not self._is_answering:
            cycle, app = self.pipeline.pop()
            if cycle.is_broken:
                self._say_last()
                return
            self._begin(cycle, app)
        if self._rest and not self._is_answering:
            rest, self._rest = self._rest, b""
            self._read(rest)
        if self._closing_answer is not None:
            if not self._is_answering:
                self._say_last()
        elif not self.pipeline and not self._rest:
            self.flow.resume_reading()
            if not self._is_answering:
                self._be_idle()

    def _read(self, data: bytes) -> None:
        """Parse what came, and see that the rest of a head comes in time."""
        if len(data) <= framing.STEP_BYTES:
            self._parse(data)
        else:
            self._parse_in_steps(data)
        if self._head_is_open and self._head_bytes and self._read_timer is None and self._closing_answer is None:
            self._wait(self._limits.head_wait_s_max)

    @property
    def _is_ended(self) -> bool:
        return self._lingering is not None or self.transport.is_closing()

    def _parse_in_steps(self, data: bytes) -> None:
        """Parse until a request is whole that has to wait for the one before; hold the rest."""
        view, at = memoryview(data), 0
        while at < len(view) and not (self._closing_answer or self._is_ended):
            if self._head_is_open and (self._is_answering or self.flow.write_paused):
                self._rest = bytes(view[at:])
                self.flow.pause_reading()
                return
            step = framing.STEP_BYTES
            if not self._head_is_open:
                step = max(step, framing.body_length(self.cycle.scope["headers"]) - self._body_bytes)
            self._parse(view[at : at + step])
            at += step

    def _parse(self, data: bytes | memoryview) -> None:
        """Parse one step, and weigh what came."""
        cycle, before = None if self._head_is_open else self.cycle, self._body_bytes
        handled = sys.exception()  # by the app whose answer lets this go on: Python names it as the cause of all below
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(bytes(data[upgrade.args[0] :]))
            return
        except httptools.HttpParserError as error:
            self._refuse_malformed(None if error.__context__ is handled else error.__context__)
            return
        if self._head_is_open:
            if self._head_bytes > self._limits.head_bytes_max:
                self._refuse(TOO_LARGE)
        elif cycle is self.cycle:
            self._weigh(len(data), self._body_bytes - before)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse a head again without its ``Upgrade``, and then what came behind it."""
        method = self.parser.get_method()
        if method == HTTPMethod.CONNECT.encode():
            self._refuse(NO_TUNNEL)
            return
        self._count("upgrade_ignored")
        head = framing.without_upgrade(method, self.url, self.parser.get_http_version(), self.headers)
        # Behind a ``close`` and an upgrade the other one takes no byte any more.
        self.parser = framing.request_parser(self)
        self._parse(head + rest)

    # Maxima

    def _require_short(self) -> None:
        """Look at a head that may be too long: some of what came with it may be a body.

        Raises:
            HeadRefused: It is.
        """
        is_long = framing.head_length(self.url, self.headers) > self._limits.head_bytes_max
        if is_long or len(self.headers) > self._limits.head_lines_max:
            self._refuse(TOO_LARGE)
            raise framing.HeadRefused

    def _weigh(self, came: int, of_body: int) -> None:
        """Count bytes within a body: framing overhead, or a body that is dropped."""
        if self.cycle.response_complete:
            self._thrown_away += came
            if self._thrown_away > self._limits.body_bytes_max:
                self._count("unwanted_body")
                self._linger()
            return
        self._overhead = max(0, self._overhead + came - (1 + framing.OVERHEAD_MAX) * of_body)
        if self._overhead > self._limits.head_bytes_max:
            self._refuse(TOO_LARGE)

    def _refuse_malformed(self, cause: BaseException | None) -> None:
        if self._closing_answer is not None:  # said where the head was read
            return
        if cause is None or isinstance(cause, (UnicodeDecodeError, httptools.HttpParserInvalidURLError)):
            self.logger.warning("Connections were ended with 400: what came is no HTTP/1.1 (midstream docs http).")
        else:
            self.logger.error("A request's head could not be read.", exc_info=cause)
        self._refuse(MALFORMED)

    def _refuse(self, words: ClosingAnswer) -> None:
        """Parse nothing further, and end the connection with these words behind the answers to all before it."""
        self._closing_answer = words
        self._count(words.reason)
        self._stop_waiting()
        self._rest = b""
        self.flow.pause_reading()
        if not self._head_is_open:
            if self.cycle.response_complete:
                self._linger()  # what is wrong belongs to a request that has its answer
                return
            self.cycle.break_off()
            if self.cycle is self._running and self._task is not None:
                self._task.add_done_callback(self._on_broken)
        if not self._is_answering and not self.pipeline:
            self._say_last()

    def _on_broken(self, _task: asyncio.Task[None]) -> None:
        """The app has finished a request whose body broke off: without an answer of the app, send this one."""
        (self._linger if self._running is not None and self._running.response_started else self._say_last)()

    def _say_last(self) -> None:
        if self._closing_answer is not None and not self._is_ended:
            self.transport.write(self._closing_answer.written(self.server_state.default_headers))
            self._linger()

    def _end(self) -> None:
        """The answer is the last: close, and linger where its client may still be sending."""
        (self._linger if self._closing_answer is not None or self._rest or not self._head_is_open else self.close)()

    def _linger(self) -> None:
        if not self._is_ended:
            self._lingering = Lingering(self.transport, self.loop, self.close)
            self._watch.begin()

    # Time-outs

    def _be_idle(self) -> None:
        """Wait for the next request, or for the end of a body whose request is answered.

        One timer stays, and looks for how long nothing was asked: setting one with each costs as much as parsing.
        """
        self._spare_since = self.loop.time()
        self._free_at = None if self._arrivals is None else self._arrivals.now()
        if self.timeout_keep_alive_task is None:
            self._keep_for(self.timeout_keep_alive)
        if not self._head_is_open:
            self._thrown_away = 0
            self._wait(self._limits.body_wait_s_max)

    def timeout_keep_alive_handler(self) -> None:
        """Close when nothing was asked for long enough; else look again when that may be so."""
        self.timeout_keep_alive_task = None
        if self._is_answering or self._read_timer is not None or self.flow.write_paused:
            return  # other timers run, and this one is set again behind the next answer
        left_s = self._spare_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._keep_for(left_s)
        elif not self._is_ended:
            self.close()

    def _keep_for(self, wait_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(wait_s, self.timeout_keep_alive_handler)

    def _wait(self, wait_s: float) -> None:
        """Wait for the rest of a head, or of a body that nobody wants."""
        self._stop_waiting()
        self._read_timer = self.loop.call_later(wait_s, self._stop_reading)

    def _stop_waiting(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _stop_reading(self) -> None:
        """Close without a word: nothing was asked yet, or the answer is given."""
        self._read_timer = None
        if self._is_ended:
            return
        if self._is_answering or self.pipeline:
            self._wait(self._limits.head_wait_s_max)
            return
        self._count("head_too_slow" if self._head_is_open else "unwanted_body")
        self.close()

    def shutdown(self) -> None:
        """The server stops: nothing is lingered for, and a stream of events ends; its client asks for the next one."""
        if self._lingering is None and (self._running is None or not self._running.is_endless):
            super().shutdown()
        else:
            self.close()

    def close(self) -> None:
        """Close once what was answered is read, or nothing of it is for long enough."""
        self.transport.close()
        self._watch.begin()  # its client may not read the last answer
