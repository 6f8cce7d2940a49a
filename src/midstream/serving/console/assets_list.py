"""Files that pages of a console load, by name in a list, and the headers that keep a page to them."""

from functools import cache
from pathlib import Path

from midstream.core.errors import Fault
from midstream.engine.requests.schema import PAGE
from midstream.serving.http.problems import RouteUnknown

CONSOLE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_ASSETS = Path(__file__).with_name("assets")
_MEDIA = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@cache
def _assets() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in _ASSETS.iterdir() if path.suffix in _MEDIA}


def asset_of(name: str) -> tuple[bytes, str]:
    """Return content and media type of a file; no text of a request becomes a path.

    Raises:
        RouteUnknown: There is none of this name.
    """
    text = _assets().get(name)
    if text is None:
        raise RouteUnknown((Fault("path", f'"{name[:60]}" is no file of the console.', ", ".join(_assets()), PAGE),))
    return text, _MEDIA[Path(name).suffix]
