"""HTTP client of a midstream server for Feast: bounded, a time for each call, errors in the words of the server."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import NamedTuple

import httpx
import msgspec

from midstream.core.errors import StoreUnavailable
from midstream.engine.stores.address import password_from
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


class PushedValue(NamedTuple):
    """A value of one item or user."""

    id: str
    value: float | bool | None
    time_ms: int


class TimedAnswer(NamedTuple):
    """Values, and the log time that they are of by the clock of the server."""

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
        """
        self.options = options
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

    def read(self, calls: Sequence[ReadCall]) -> list[TimedAnswer]:
        """Return the answers to calls, one after another.

        Raises:
            StoreUnavailable: The server is gone, busy or late.
            StoreRefused: It refuses a call; the text is its own.
        """
        return [self._timed(self._post(READ_PATH, _encoder.encode(each))) for each in calls]

    async def read_async(self, calls: Sequence[ReadCall]) -> list[TimedAnswer]:
        """Return the answers to calls, up to ``AT_ONCE_MAX`` at once; as ``read`` otherwise."""
        client, free = self._async_client(), asyncio.Semaphore(AT_ONCE_MAX)

        async def one(call: ReadCall) -> TimedAnswer:
            async with free:
                try:
                    answer = await client.post(READ_PATH, content=_encoder.encode(call))
                except httpx.HTTPError as error:
                    raise self._unavailable(error) from error
            return self._timed(self._checked(answer))

        return list(await asyncio.gather(*(one(each) for each in calls)))

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
            answer = _set.decode(self._post(f"{SET_PATH}/{feature}", _encoder.encode({"values": told})).content)
            if answer.rejected:
                first = answer.rejected[0]
                more = f" ({len(answer.rejected)} of {len(part)} values)" if len(answer.rejected) > 1 else ""
                message = f"{feature} of {part[first.index].id!r}: {first.came} {first.right}{more}"
                raise StoreRefused(message)
            recorded += answer.recorded
        return recorded

    def close(self) -> None:
        """Close the connections of threads."""
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

    def _post(self, path: str, body: bytes) -> httpx.Response:
        try:
            answer = self._sync.post(path, content=body)
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error
        return self._checked(answer)

    def _unavailable(self, error: httpx.HTTPError) -> StoreUnavailable:
        return StoreUnavailable(f"midstream at {self.options.url}: {type(error).__name__}: {error}")

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            return answer
        text = answer.text[:BODY_CHARS_MAX]
        with suppress(msgspec.DecodeError):
            problem = _problem.decode(answer.content)
            text = problem.detail or problem.title or text
        message = f"midstream at {self.options.url} answers {answer.status_code}: {text}"
        raise StoreUnavailable(message) if answer.status_code in _BUSY else StoreRefused(message)

    def _timed(self, answer: httpx.Response) -> TimedAnswer:
        try:
            found = _read.decode(answer.content)
        except msgspec.DecodeError as error:
            message = f"midstream at {self.options.url} answers what is no read of features: {error}"
            raise StoreRefused(message) from error
        sent = answer.headers.get("date")
        if sent is None:
            return TimedAnswer(found, None)
        return TimedAnswer(found, parsedate_to_datetime(sent) - timedelta(milliseconds=found.state_age_ms))


def _event_id(feature: str, value: PushedValue) -> str:
    told = _encoder.encode((feature, value.id, value.value, value.time_ms))
    return f"feast-{sha256(told).hexdigest()[:32]}"
