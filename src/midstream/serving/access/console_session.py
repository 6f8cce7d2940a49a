"""Session of the console: a browser's cookie holds a random token that stands for a key, and never the key.

No script reads the cookie (``HttpOnly``), no page of another site makes the browser send it (``SameSite=Strict``), and
requests of other sites are refused before the gate by ``Origin`` and Fetch Metadata. A browser sends a cookie to every
port of a host name: another program there gets a token that ends, and no key. The port is part of the cookie's name, so
that shops on two ports do not sign each other out. A token of an identity provider ends by itself, so it is kept as it
came.

Reference: West and Wilander, Cookies: HTTP State Management Mechanism, 2025 (SameSite, Max-Age).
"""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from http import HTTPStatus
from typing import Final

from midstream.core.errors import Fault, MidstreamError
from midstream.serving.access.api_keys import PAGE
from midstream.serving.access.callers import KEY_HEADERS, KEY_NEEDED, caller_of
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.key_ring import KEY_WHO, OPERATOR_WHO
from midstream.serving.access.key_sessions import SESSION_S_MAX
from midstream.serving.access.key_turns import KeyTurns
from midstream.serving.http.problems import KeyNeeded, ScopeMissing
from midstream.serving.http.responses import MOUNTED_AT, Reply, Scope

CONSOLE_PATH: Final = "/console"
LIVE_PATH: Final = f"{CONSOLE_PATH}/live"
"""A stream of server-sent events."""
SESSION_PATH: Final = "/console/session"
_LACKING: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Not with this key \N{EN DASH} midstream</title>
<link rel="stylesheet" href="{base}/console/assets/console.css">
<body><main id="main"><h1>Not with this key</h1>
<p class="notice bad" role="alert">{why} Keys need the scope <code>admin</code>, the preview of a changed placement
<code>placements</code>, all other pages <code>read</code>.</p>
<p><a href="{base}/console">To the console</a>, or <a href="{base}/console/session">sign in with another key</a>.</p>
</main>
"""
"""Page in place of one that the key of a session does not open: it comes from the gate, before any template."""
_LACKING_HEADERS: Final = (
    (b"content-security-policy", b"default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_NAME: Final = b"midstream_session"
_KEY_NAME: Final = b"midstream_key"
"""Of the cookie in which consoles kept the key itself, before they had sessions."""
_KEY_HEADER: Final = b"x-api-key"


def session_token(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Return the token in the cookies of a request; empty = there is none, or there are two."""
    found = _cookies(headers, cookie_name(headers))
    return found[0].decode("latin-1") if len(found) == 1 else ""


def cookie_name(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the name of the cookie at the port that a browser asks: shops on two ports of a host have two.

    Example:
        >>> cookie_name([(b"host", b"127.0.0.1:8765")]), cookie_name([(b"host", b"shop.example")])
        (b'midstream_session_8765', b'midstream_session')
    """
    host = next((value for name, value in headers if name == b"host"), b"")
    port = host.rpartition(b":")[2]
    return _NAME + b"_" + port if port.isdigit() and b":" in host else _NAME


class ConsoleSessions:
    """Sessions that this server begins and ends, in turns: the file of keys is locked and flushed."""

    def __init__(self, file: KeyFile | None, now_ms: Callable[[], int]) -> None:
        """Keep them in a file of keys; None = this server has no folder, and asks nobody for a key.

        ``now_ms`` is the wall clock.
        """
        self._file = file
        self._now_ms = now_ms
        self._turns = KeyTurns()

    async def begin(self, scope: Scope) -> str:
        """Begin a session for the caller of a request, whom the gate has let in; return the token of its cookie.

        Args:
            scope: Of the request. A session that its cookie has ends.

        Returns:
            The token; empty = nobody is asked for a key here.

        Raises:
            KeyNeeded: The request has a cookie and no key: a session does not prolong itself.
            ScopeMissing: The key is that of the machine's operator, which names no person.
            NotFound: The key was revoked meanwhile.
            Overloaded: Another change of the keys has the file for too long.
            KeysUnreadable: The file of keys is damaged, or the disk fails.
        """
        caller, file = caller_of(scope), self._file
        if caller is None or file is None:
            return ""
        if not any(name in KEY_HEADERS for name, _ in scope["headers"]):
            raise KEY_NEEDED
        kind, _, key_id = caller.who.partition(":")
        if kind == OPERATOR_WHO:
            right = "A key of a person: midstream keys create NAME --scope SCOPE --folder FOLDER makes one."
            raise ScopeMissing((Fault("x-api-key", "The operator's key of the machine came.", right, PAGE),))
        if kind != KEY_WHO:
            await self.end(scope)
            return _provider_token(scope)
        before, now_ms = session_token(scope["headers"]), self._now_ms()
        return await self._turns.changed(lambda: file.begin_session(key_id, now_ms, before))

    async def end(self, scope: Scope) -> None:
        """End the session of a request's cookie.

        Raises:
            Overloaded: Another change of the keys has the file for too long.
            KeysUnreadable: The file of keys is damaged, or the disk fails.
        """
        token, file = session_token(scope["headers"]), self._file
        if token and file is not None:
            await self._turns.changed(lambda: file.end_session(token))


def session_cookies(scope: Scope, token: str, paths: Sequence[str] = ("",)) -> Sequence[str]:
    """Return the headers that keep a token in the browser, or take it away where the token is empty.

    A key that an earlier console left in the browser is taken away with either: it has no end of its own.

    Args:
        scope: Of the request.
        token: Of the session.
        paths: Below which the browser sends it; an empty one = to every path of the app.
    """
    headers: Sequence[tuple[bytes, bytes]] = scope.get("headers", ())
    kept = [_cookie(scope, cookie_name(headers), token, path) for path in paths]
    if _cookies(headers, _KEY_NAME):
        kept += (_cookie(scope, _KEY_NAME, "", path) for path in paths)
    return kept


def _cookie(scope: Scope, name: bytes, value: str, path: str) -> str:
    """Return the header that keeps a cookie of a name, or takes it away where its value is empty."""
    origin = next((sent for header, sent in scope.get("headers", ()) if header == b"origin"), b"")
    is_secure = scope.get("scheme") == "https" or origin.lower().startswith(b"https://")  # the latter behind a proxy
    secure = "; Secure" if is_secure else ""
    age = SESSION_S_MAX if value else 0
    below = path or _mounted_at(scope) or "/"
    return f"{name.decode()}={value}; Max-Age={age}; Path={below}; HttpOnly; SameSite=Strict{secure}"


def sign_in_reply(scope: Scope, error: MidstreamError) -> Reply | None:
    """Return what leads a person to the page where a key is given, or says that this key does not open the page.

    Args:
        scope: Of the request.
        error: Why it was refused.

    Returns:
        None = no person looks at a page of the console, or another key changes nothing.
    """
    if not asks_for_page(scope):
        return None
    if isinstance(error, ScopeMissing) and _reads_html(scope):
        text = _LACKING.format(
            base=escape(_mounted_at(scope)), why=escape(error.faults[0].came if error.faults else "")
        )
        return Reply(HTTPStatus.FORBIDDEN, text.encode(), b"text/html; charset=utf-8", _LACKING_HEADERS)
    return led_to(scope, SESSION_PATH) if isinstance(error, KeyNeeded) else None


def _reads_html(scope: Scope) -> bool:
    return any(name == b"accept" and b"text/html" in value for name, value in scope.get("headers", ()))


def asks_for_page(scope: Scope) -> bool:
    """Return whether a person looks at a page of the console: what is not one is asked for by programs."""
    path: str = scope["path"]
    is_page = path == CONSOLE_PATH or path.startswith(f"{CONSOLE_PATH}/")
    return scope["method"] == "GET" and is_page and path != LIVE_PATH


def led_to(scope: Scope, path: str) -> Reply:
    """Return what leads a browser to another path of the app."""
    where = f"{_mounted_at(scope)}{path}".encode("latin-1", "replace")
    return Reply(303, b"", headers=((b"location", where), (b"cache-control", b"no-store")))


def _cookies(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> Sequence[bytes]:
    """Return the values of all cookies of a name in a request."""
    return [
        value.strip()
        for name, cookies in headers
        if name == b"cookie"
        for key, _, value in (each.partition(b"=") for each in cookies.split(b";"))
        if key.strip() == wanted
    ]


def _provider_token(scope: Scope) -> str:
    sent = next((value for name, value in scope["headers"] if name == _KEY_HEADER), b"").decode("latin-1").strip()
    return "" if set(sent) & set(';, \t"') else sent


def _mounted_at(scope: Scope) -> str:
    return scope.get(MOUNTED_AT) or ""
