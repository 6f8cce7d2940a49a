"""Framing of HTTP/1.1 messages: length of a head, length of a body, a head without ``Upgrade``.

Reference: Fielding, Nottingham and Reschke, RFC 9112, HTTP/1.1, 2022, sections 5 to 7; RFC 9110, 7.8.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import unquote

import httptools

Headers = Sequence[tuple[bytes, bytes]]
STEP_BYTES = 1_024
"""Parsed at once where it is not known where a request ends: at most 56 requests of the shortest kind, 2.5 kB each once
they are parsed, so 140 kB a connection. Usual requests are shorter than a step; long bodies are not cut."""
OVERHEAD_MAX = 8
"""Bytes of framing that a byte of a chunked body may have: a body in chunks of one byte has five."""
_LENGTH_DIGITS_MAX = 20
"""Of 2^64, which is as far as the parser counts."""


class HeadRefused(Exception):
    """A head that the parser would have taken: nothing behind it is parsed."""


def request_parser(protocol: object) -> httptools.HttpRequestParser:
    """Return a parser of a connection as uvicorn makes one: bytes behind a ``close`` are no error."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


@lru_cache(maxsize=64)
def target_of(url: bytes) -> tuple[str, bytes, bytes]:
    """Return path, path as it was sent, and query of a request's target; those of the hot routes come again and again.

    Raises:
        HttpParserInvalidURLError: It is none.
        UnicodeDecodeError: Its path is not ASCII.
    """
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    return unquote(path) if "%" in path else path, parsed.path, parsed.query or b""


def head_length(url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the bytes of a head less its method, its version and blanks around values."""
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)


def body_length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the announced length of a body; 0 = none, or chunked."""
    return next((int(value[:_LENGTH_DIGITS_MAX]) for name, value in headers if name == b"content-length"), 0)


def without_upgrade(method: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    r"""Return the bytes of a head that a parser has taken, less its ``upgrade``.

    What it took has no line breaks in it, so the result is the same head to it; ``Connection: upgrade`` alone asks for
    nothing.

    Example:
        >>> without_upgrade(b"GET", b"/", "1.1", [(b"upgrade", b"h2c"), (b"host", b"x")])
        b'GET / HTTP/1.1\r\nhost: x\r\n\r\n'
    """
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    lines.extend(b"%b: %b" % each for each in headers if each[0] != b"upgrade")
    return b"\r\n".join((*lines, b"", b""))
