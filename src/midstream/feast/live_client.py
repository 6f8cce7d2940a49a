"""HTTP client of a midstream server for Feast: bounded, a time for each call and read, errors as the server has it."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import NamedTuple

import httpx
import msgspec

from midstream.core.errors import StoreUnavailable
from midstream.engine.stores.address import http_address_of, password_from
from midstream.engine.stores.online_store import StoreRefused
from midstream.feast.live_reads import ReadAnswer, ReadCall

READ_PATH, SET_PATH = "/v1/features/read", "/v1/features"
CONNECTIONS_MAX = 16
"""Of a process: a server answers some thousand reads a second."""
AT_ONCE_MAX = 4
"""Calls of one read under way at once: one thread answers, and a server that is asked for more than it can answer in
time refuses."""
VALUES_MAX = 1_000
"""Values of a call that sets them."""
BODY_CHARS_MAX = 300
"""Of an answer that is no problem document."""
_BUSY = frozenset((429, 500, 502, 503, 504))
_HEADERS = {"content-type": "application/json"}
_read = msgspec.json.Decoder(ReadAnswer)
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class LiveServerOptions:
    """Where a server is, and how long it may take."""

    url: str
    token_env: str
    """Variable of the environment with a token that a proxy before the server asks for; empty = none."""
    timeout_s: float
    """Of one call."""
    read_timeout_s: float = 10.0
    """Of all calls of one read."""


class PushedValue(NamedTuple):
    """A value of one item or user."""

    id: str
    value: float | bool | None
    time_ms: int


class TimedAnswer(NamedTuple):
    """Values, and the time of the newest event in them by the clock of the server, to a second as its Date is."""

    answer: ReadAnswer
    time: datetime | None


class _Problem(msgspec.Struct, frozen=True):
    detail: str = ""
    title: str = ""


class _Rejected(msgspec.Struct, frozen=True):
    index: int
    came: str
    right: str


class _SetAnswer(msgspec.Struct, frozen=True):
    recorded: int = 0
    duplicates: int = 0
    rejected: tuple[_Rejected, ...] = ()


_problem = msgspec.json.Decoder(_Problem)
_set = msgspec.json.Decoder(_SetAnswer)


class LiveClient:
    """Connections to one server, opened when they are needed; threads may share it."""

    def __init__(self, options: LiveServerOptions, transport: httpx.BaseTransport | None = None) -> None:
        """Prepare; nothing is sent.

        Args:
            options: Of the server.
            transport: Instead of the network, for tests.

        Raises:
            StoreRefused: The address is none, or there is no token.
        """
        self.options = options
        try:
            self._name = f"midstream at {http_address_of(options.url).origin}"
        except ValueError as error:
            message = f"url of online_store: {error} An address such as http://shop:8000; a token is in token_env."
            raise StoreRefused(message) from error
        self._limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
        self._headers = dict(_HEADERS)
        if (token := password_from(options.token_env)) is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._sync = httpx.Client(
            base_url=options.url,
            headers=self._headers,
            timeout=options.timeout_s,
            limits=self._limits,
            transport=transport,
        )
        self._async: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None
        self._threads = ThreadPoolExecutor(AT_ONCE_MAX, thread_name_prefix="midstream-read")

    def read(self, calls: Sequence[ReadCall]) -> list[TimedAnswer]:
        """Return the answers to calls, up to ``AT_ONCE_MAX`` at once.

        Raises:
            StoreUnavailable: The server is gone, busy or late, with a call or with the read as a whole.
            StoreRefused: It refuses a call; the text is its own.
        """
        end = time.monotonic() + self.options.read_timeout_s

        def one(call: ReadCall) -> TimedAnswer:
            left_s = end - time.monotonic()
            if left_s <= 0:
                raise self._late(len(calls))
            return self._timed(self._post(READ_PATH, _encoder.encode(call), min(left_s, self.options.timeout_s)))

        asked: list[Future[TimedAnswer]] = [self._threads.submit(one, each) for each in calls]
        done, late = wait(asked, timeout=self.options.read_timeout_s, return_when="FIRST_EXCEPTION")
        for each in late:
            each.cancel()
        for each in done:
            each.result()  # the error of a call comes before that of those that were left for it
        if late:
            raise self._late(len(calls))
        return [each.result() for each in asked]

    async def read_async(self, calls: Sequence[ReadCall]) -> list[TimedAnswer]:
        """Return the answers to calls, as ``read``, on an event loop."""
        client, free = self._async_client(), asyncio.Semaphore(AT_ONCE_MAX)

        async def one(call: ReadCall) -> TimedAnswer:
            async with free:
                try:
                    answer = await client.post(READ_PATH, content=_encoder.encode(call))
                except httpx.HTTPError as error:
                    raise self._unavailable(error) from error
            return self._timed(self._checked(answer))

        try:
            async with asyncio.timeout(self.options.read_timeout_s):
                return list(await asyncio.gather(*(one(each) for each in calls)))
        except TimeoutError as error:
            raise self._late(len(calls)) from error

    def set_values(self, feature: str, values: Sequence[PushedValue]) -> int:
        """Set values of a feature that is an attribute or a field of a profile; return how many are new.

        A value has an id made of its content, so one that is pushed again is recorded once.

        Raises:
            StoreUnavailable: As of ``read``; what was sent before is recorded.
            StoreRefused: A value is refused; those beside it are recorded.
        """
        recorded = 0
        for start in range(0, len(values), VALUES_MAX):
            part = values[start : start + VALUES_MAX]
            told = [
                {"id": each.id, "value": each.value, "time": each.time_ms, "event_id": _event_id(feature, each)}
                for each in part
            ]
            body = _encoder.encode({"values": told})
            answer = _set.decode(self._post(f"{SET_PATH}/{feature}", body, self.options.timeout_s).content)
            if answer.rejected:
                first = answer.rejected[0]
                more = f" ({len(answer.rejected)} of {len(part)} values)" if len(answer.rejected) > 1 else ""
                message = f"{feature} of {part[first.index].id!r}: {first.came} {first.right}{more}"
                raise StoreRefused(message)
            recorded += answer.recorded
        return recorded

    def close(self) -> None:
        """Close the connections of threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._sync.close()

    async def close_async(self) -> None:
        """Close all connections."""
        self.close()
        if self._async is not None:
            await self._async[1].aclose()
            self._async = None

    def _async_client(self) -> httpx.AsyncClient:
        """Return the client of the running event loop; one of a loop that ended is left to it."""
        loop = asyncio.get_running_loop()
        if self._async is None or self._async[0] is not loop:
            own = self.options
            made = httpx.AsyncClient(
                base_url=own.url, headers=self._headers, timeout=own.timeout_s, limits=self._limits
            )
            self._async = loop, made
        return self._async[1]

    def _post(self, path: str, body: bytes, timeout_s: float) -> httpx.Response:
        try:
            answer = self._sync.post(path, content=body, timeout=timeout_s)
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error
        return self._checked(answer)

    def _unavailable(self, error: httpx.HTTPError) -> StoreUnavailable:
        return StoreUnavailable(f"{self._name}: {type(error).__name__}: {error}")

    def _late(self, calls: int) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._name}: a read of {calls} calls took more than {self.options.read_timeout_s:g} s"
        )

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            return answer
        text = answer.text[:BODY_CHARS_MAX]
        with suppress(msgspec.DecodeError):
            problem = _problem.decode(answer.content)
            text = problem.detail or problem.title or text
        message = f"{self._name} answers {answer.status_code}: {text}"
        raise StoreUnavailable(message) if answer.status_code in _BUSY else StoreRefused(message)

    def _timed(self, answer: httpx.Response) -> TimedAnswer:
        try:
            found = _read.decode(answer.content)
        except msgspec.DecodeError as error:
            message = f"{self._name} answers what is no read of features: {error}"
            raise StoreRefused(message) from error
        try:
            sent = parsedate_to_datetime(answer.headers.get("date", ""))
        except ValueError:  # of a proxy, or none: the values are good without a time
            return TimedAnswer(found, None)
        return TimedAnswer(found, sent - timedelta(milliseconds=found.state_age_ms))


def _event_id(feature: str, value: PushedValue) -> str:
    told = _encoder.encode((feature, value.id, value.value, value.time_ms))
    return f"feast-{sha256(told).hexdigest()[:32]}"
