"""``/midstream.js``: the browser client as one classic script, for pages of any origin and without a key.

The file is built from ``clients/browser`` and kept beside this module, so that no server needs Node. A page that names
the hash of the content in the address (``?v=HASH``) keeps it for a year; without it a browser asks again after five
minutes, and gets a 304 while the content is the same.
"""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from midstream.serving.http.parsing import query_fields, single

if TYPE_CHECKING:
    from fastapi import FastAPI

SCRIPT_PATH: Final = "/midstream.js"
FILE: Final = Path(__file__).with_name("midstream.js")
_HASH_CHARACTERS: Final = 16
"""Of SHA-256 in hexadecimal: 64 bits tell releases apart."""
_FOR_A_YEAR: Final = "public, max-age=31536000, immutable"
_FOR_MINUTES: Final = "public, max-age=300"
_HEADERS: Final = {
    "access-control-allow-origin": "*",
    "cross-origin-resource-policy": "cross-origin",
    "vary": "accept-encoding",
}


@dataclass(frozen=True, slots=True)
class Script:
    """The script, plain and packed, with the hash that names its content."""

    plain: bytes
    packed: bytes
    version: str


@cache
def script() -> Script:
    """Return the script of this release; it is read and packed once."""
    plain = FILE.read_bytes()
    version = hashlib.sha256(plain).hexdigest()[:_HASH_CHARACTERS]
    return Script(plain, gzip.compress(plain, mtime=0), version)


def add_script_route(app: "FastAPI") -> None:
    """Add the one route."""
    from fastapi import Request, Response

    @app.get(SCRIPT_PATH, include_in_schema=False)
    async def get_script(request: Request) -> Response:
        """The browser client."""
        found = script()
        named = single(query_fields(request.scope, ("v",)), "v")
        is_packed = _takes_gzip(request.headers.get("accept-encoding", ""))
        tag = f'"{found.version}{"-gzip" if is_packed else ""}"'
        kept = _FOR_A_YEAR if named == found.version else _FOR_MINUTES
        headers = {**_HEADERS, "etag": tag, "cache-control": kept}
        if _is_known(tag, request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        if is_packed:
            headers["content-encoding"] = "gzip"
        content = found.packed if is_packed else found.plain
        return Response(content, headers=headers, media_type="text/javascript; charset=utf-8")


def _is_known(tag: str, known: str) -> bool:
    """Return whether a client has a content already (RFC 9110, 13.1.2): any, or one of that tag by weak comparison."""
    named = [each.strip() for each in known.split(",")]
    return named == ["*"] or tag in [each.removeprefix("W/") for each in named]


def _takes_gzip(accepted: str) -> bool:
    """Return whether a client takes gzip (RFC 9110, 12.5.3): it is named, without a weight of nought."""
    for each in accepted.lower().split(","):
        name, _, weight = each.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
