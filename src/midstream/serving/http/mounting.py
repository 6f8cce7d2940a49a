"""Mounting: an app below a path of another application, with the scope of a request as it has it by itself.

The application decides who may come in by the path as it decodes it, the engine's app finds a route by the path as it
was sent. So both have to be cut at the same slash: ``/shop%2Fv1%2Fevents/v1/erasures`` would be a path below
``/shop/v1/events`` for the one, and ``/v1/erasures`` for the other.
"""

from urllib.parse import unquote

from midstream.core.errors import Fault
from midstream.serving.http.problems import RouteUnknown, problem_reply
from midstream.serving.http.responses import ASGI, MOUNTED_AT, Receive, Scope, Send, send_reply

_PAGE = "/docs/tasks/web-frameworks.md"


def mounted(app: ASGI, mounted_at: str) -> ASGI:
    """Return an app that leaves the part of the path out that is the host's.

    A path that the host decodes to another one than the app has to find answers 404.

    Args:
        app: Gets a request as if it came to itself.
        mounted_at: Start of the path as the host decoded it, without a slash at its end; empty = none.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            found = below(scope, mounted_at)
        except RouteUnknown as error:
            await send_reply(scope, send, problem_reply(error))
            return
        await app(found, receive, send)

    return answer


def below(scope: Scope, mounted_at: str) -> Scope:
    """Return a scope as the engine's app would have it without the host's part of the path.

    Args:
        scope: Of a request.
        mounted_at: As for ``mounted``.

    Raises:
        RouteUnknown: The path as it was sent is not that of the host, or has a slash of the host's part as ``%2F``.
    """
    path: str = scope["path"]
    rest = path.removeprefix(mounted_at)
    found = {**scope, "root_path": "", "path": rest or "/"}
    if mounted_at:
        found[MOUNTED_AT] = mounted_at
    raw: bytes | None = scope.get("raw_path")
    if raw is not None:
        sent = sent_below(raw.partition(b"?")[0], mounted_at, rest)
        if sent is None:
            came = f'"{raw[:60].decode("latin-1")}" came, and is another path below "{mounted_at[:60]}" when decoded.'
            right = "The path of the application as it is; %2F is for a slash inside of an id."
            raise RouteUnknown((Fault("path", came, right, _PAGE),))
        found["raw_path"] = sent or b"/"
    return found


def sent_below(raw: bytes, mounted_at: str, rest: str) -> bytes | None:
    """Return the end of a path as it was sent that is ``rest`` when decoded, or None where it is not below the start.

    Each slash of the start has to be one: no ``%2F``.
    """
    before = b"/".join(raw.split(b"/")[: mounted_at.count("/") + 1])
    found = raw.removeprefix(before)
    return found if unquote(before) == mounted_at and unquote(found) == rest else None
