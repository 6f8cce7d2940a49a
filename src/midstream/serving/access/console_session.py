"""Session of the console: a browser's cookie holds an API key, for the pages and for what their script sends.

The cookie is no weaker than the header. No script reads it (``HttpOnly``), no page of another site makes the browser
send it (``SameSite=Strict``), and what another site sends is refused before the gate by ``Origin`` and Fetch Metadata.

Reference: West and Wilander, Cookies: HTTP State Management Mechanism, 2025 (SameSite, Max-Age).
"""

from collections.abc import Iterable
from typing import Final

from midstream.serving.http.responses import MOUNTED_AT, Reply, Scope

CONSOLE_PATH: Final = "/console"
LIVE_PATH: Final = f"{CONSOLE_PATH}/live"
"""A stream of server-sent events."""
SESSION_PATH: Final = "/console/session"
SESSION_S_MAX: Final = 12 * 3_600
"""After which a browser forgets the key: a day of work."""
_NAME: Final = b"midstream_key"


def cookie_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the key in the cookies of a request; empty = there is none, or there are two."""
    found = [
        value.strip()
        for name, cookies in headers
        if name == b"cookie"
        for key, _, value in (each.partition(b"=") for each in cookies.split(b";"))
        if key.strip() == _NAME
    ]
    return found[0] if len(found) == 1 else b""


def session_cookie(scope: Scope, key: str, path: str = "") -> str:
    """Return the header that keeps a key in the browser, or takes it away where the key is empty.

    Args:
        scope: Of the request.
        key: Of the person.
        path: Below which the browser sends it; empty = to every path of the app.
    """
    origin = next((value for name, value in scope.get("headers", ()) if name == b"origin"), b"")
    is_secure = scope.get("scheme") == "https" or origin.lower().startswith(b"https://")  # the latter behind a proxy
    secure = "; Secure" if is_secure else ""
    age = SESSION_S_MAX if key else 0
    below = path or _mounted_at(scope) or "/"
    return f"{_NAME.decode()}={key}; Max-Age={age}; Path={below}; HttpOnly; SameSite=Strict{secure}"


def sign_in_reply(scope: Scope) -> Reply | None:
    """Return what leads a person to the page where a key is given; None = no person looks at a page of the console."""
    path: str = scope["path"]
    is_page = path == CONSOLE_PATH or path.startswith(f"{CONSOLE_PATH}/")
    if scope["method"] != "GET" or not is_page or path == LIVE_PATH:
        return None
    where = f"{_mounted_at(scope)}{SESSION_PATH}".encode("latin-1", "replace")
    return Reply(303, b"", headers=((b"location", where), (b"cache-control", b"no-store")))


def _mounted_at(scope: Scope) -> str:
    return scope.get(MOUNTED_AT) or ""
