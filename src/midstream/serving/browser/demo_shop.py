"""Demo shop: a page that uses the browser client on the server's own catalogue, where ``[server] demo_shop`` says so.

The page sends what a visitor does into the log, so a shop's own server answers these addresses with 404.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from midstream.core.errors import Fault
from midstream.engine.requests.schema import PAGE
from midstream.serving.http.problems import RouteUnknown

if TYPE_CHECKING:
    from fastapi import FastAPI

SHOP_PATH: Final = "/demo"
_ASSETS: Final = Path(__file__).with_name("shop")
_MEDIA: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def add_shop_routes(app: "FastAPI", *, is_shown: bool) -> None:
    """Add the page and its files; unless ``is_shown`` they are unknown paths."""
    from fastapi import Response

    @app.get(SHOP_PATH, include_in_schema=False)
    async def get_shop() -> Response:
        """The page."""
        return Response(_file("shop.html", is_shown=is_shown), headers=_HEADERS, media_type="text/html; charset=utf-8")

    @app.get(f"{SHOP_PATH}/assets/{{name}}", include_in_schema=False)
    async def get_asset(name: str) -> Response:
        """Style and script of the page."""
        content = _file(name if Path(name).suffix in _MEDIA else "", is_shown=is_shown)
        return Response(content, headers=_HEADERS, media_type=_MEDIA[Path(name).suffix])


@cache
def _files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in _ASSETS.iterdir() if path.is_file()}


def _file(name: str, *, is_shown: bool) -> bytes:
    """Return a file by its name in a list, so that no text of a request becomes a path.

    Raises:
        RouteUnknown: There is no such file, or this server has no demo shop.
    """
    content = _files().get(name) if is_shown else None
    if content is None:
        right = f"{SHOP_PATH} of midstream demo, or of a server with [server] demo_shop = true."
        raise RouteUnknown((Fault("path", "This server has no such page.", right, PAGE),))
    return content
