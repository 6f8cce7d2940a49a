"""Clock, randomness and addresses of real clients: the only place where a client reads any of them."""

import secrets
import time
import uuid
from urllib.parse import urlsplit

import httpx

from midstream.client.exchange import ClientOptions, ClientSession, Edge, HttpReply, NoReply
from midstream.client.positions import Positions

_UNIFORM_STEPS = 1 << 53


def session_of(url: str, options: ClientOptions) -> ClientSession:
    """Return the session of a new client.

    Raises:
        ValueError: The address is none, or an option is out of its bounds.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        message = f"{url!r} is not the address of a server; right is http://HOST:PORT, with a path behind a mount"
        raise ValueError(message)
    if options.attempts_max < 1 or options.visitors_max < 1:
        message = f"attempts_max={options.attempts_max} and visitors_max={options.visitors_max} are 1 or more"
        raise ValueError(message)
    uniform = lambda: secrets.randbelow(_UNIFORM_STEPS) / _UNIFORM_STEPS  # noqa: E731  one expression
    edge = Edge(time.monotonic, lambda: str(uuid.uuid4()), uniform)
    return ClientSession(url.rstrip("/"), options, edge, Positions(options.visitors_max))


def headers_of(key: str | None) -> dict[str, str]:
    """Return the headers of every request."""
    return {"accept": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}


def reply_of(response: httpx.Response) -> HttpReply:
    """Return an answer as exchanges read it."""
    return HttpReply(response.status_code, response.content, response.headers.get("retry-after", ""))


def no_reply(error: httpx.RequestError) -> NoReply:
    """Return the failure of an attempt: while connecting, nothing was sent."""
    before = isinstance(
        error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.UnsupportedProtocol
    )
    return NoReply(f"{type(error).__name__}: {error}".rstrip(": "), was_sent=not before)
