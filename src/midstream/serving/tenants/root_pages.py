"""Pages of the root: a console with all tenants, the OpenAPI document, and the reference pages.

The console uses the style, script and templates of that of a shop. Its page shows what ``GET /v1/tenants`` answers, and
its script sends changes to the routes for programs. The session of a person is kept in two cookies, one for the pages
and one for the routes, so that no tenant of the port, which has cookies of its own, is sent that of the root.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Final, TypeAlias
from urllib.parse import unquote

import msgspec

from midstream.core.errors import DOCUMENTATION_PATH, Fault
from midstream.core.nearest import nearest
from midstream.serving.access.console_session import (
    CONSOLE_PATH,
    SESSION_PATH,
    ConsoleSessions,
    asks_for_page,
    led_to,
    session_cookies,
)
from midstream.serving.access.key_file import KeyFile
from midstream.serving.console.assets_list import CONSOLE_HEADERS, asset_of
from midstream.serving.console.page_templates import Templates
from midstream.serving.http.problems import RouteUnknown
from midstream.serving.http.responses import JSON, NO_STORE, Receive, Reply, Scope, sent_path
from midstream.serving.openapi.docs_page import DOCS_HEADERS, DOCS_PATH, docs_page
from midstream.serving.openapi.reference_pages import reference_page, reference_pages
from midstream.serving.tenants.root_document import root_document
from midstream.serving.tenants.types import PAGE, TenantList

PageRoute: TypeAlias = Callable[[str, Scope, Receive], Awaitable[Reply]]
SECTIONS: Final = (("", "Tenants"),)
_HTML: Final = b"text/html; charset=utf-8"
_KEPT_AT: Final = (CONSOLE_PATH, "/v1")


class RootPages:
    """Routes of pages, which read alone."""

    def __init__(self, tenants: Callable[[], TenantList], keys: KeyFile, now_ms: Callable[[], int]) -> None:
        """Show what ``tenants`` returns, to those who signed in with one of the ``keys``."""
        self._tenants = tenants
        self._sessions = ConsoleSessions(keys, now_ms)
        self._templates = Templates(SECTIONS)
        self.routes: Mapping[tuple[str, str], PageRoute] = {
            ("GET", "/openapi.json"): _document,
            ("GET", DOCS_PATH): _docs,
            ("GET", f"{DOCUMENTATION_PATH}{{name:path}}"): _reference,
            ("GET", "/"): _led,
            ("GET", CONSOLE_PATH): self._console,
            ("GET", f"{CONSOLE_PATH}/assets/{{name}}"): _file,
            ("GET", SESSION_PATH): self._session,
            ("PUT", SESSION_PATH): self._sign_in,
            ("DELETE", SESSION_PATH): self._sign_out,
        }

    def unknown(self, scope: Scope) -> Reply | None:
        """Return the page for an unknown address below the console; None = no person looks at it."""
        if not asks_for_page(scope):
            return None
        text = self._templates.render("unknown.html", "", {"path": unquote(sent_path(scope))})
        return Reply(HTTPStatus.NOT_FOUND, text.encode(), _HTML, _encoded(CONSOLE_HEADERS))

    async def _console(self, _name: str, _scope: Scope, _receive: Receive) -> Reply:
        tenants = msgspec.to_builtins(self._tenants().tenants)
        return _page(self._templates.render("tenants.html", "", {"tenants": tenants}))

    async def _session(self, _name: str, _scope: Scope, _receive: Receive) -> Reply:
        return _page(self._templates.render("root_session.html", "", {}))

    async def _sign_in(self, _name: str, scope: Scope, _receive: Receive) -> Reply:
        return _kept(scope, await self._sessions.begin(scope))

    async def _sign_out(self, _name: str, scope: Scope, _receive: Receive) -> Reply:
        await self._sessions.end(scope)
        return _kept(scope, "")


async def _document(_name: str, _scope: Scope, _receive: Receive) -> Reply:
    return Reply(HTTPStatus.OK, _encoded_document(), JSON, NO_STORE)


async def _docs(_name: str, _scope: Scope, _receive: Receive) -> Reply:
    return Reply(HTTPStatus.OK, _docs_text(), _HTML, _encoded(DOCS_HEADERS))


async def _reference(_name: str, scope: Scope, _receive: Receive) -> Reply:
    name = unquote(sent_path(scope))[len(DOCUMENTATION_PATH) :]
    text = reference_page(name)
    if text is None:
        came = f'"{name[:60]}" is no page.{nearest(name, reference_pages())}'
        raise RouteUnknown((Fault("path", came, f"A page that {DOCS_PATH} lists.", PAGE),))
    return Reply(HTTPStatus.OK, text, b"text/plain; charset=utf-8", _encoded(DOCS_HEADERS))


async def _led(_name: str, scope: Scope, _receive: Receive) -> Reply:
    return led_to(scope, CONSOLE_PATH)


async def _file(_name: str, scope: Scope, _receive: Receive) -> Reply:
    text, media = asset_of(sent_path(scope).rpartition("/")[2])
    return Reply(HTTPStatus.OK, text, media.encode(), _encoded({**CONSOLE_HEADERS, "cache-control": "no-cache"}))


def _kept(scope: Scope, token: str) -> Reply:
    cookies = ((b"set-cookie", each.encode("latin-1")) for each in session_cookies(scope, token, _KEPT_AT))
    return Reply(HTTPStatus.OK, b"{}", JSON, (*_encoded(CONSOLE_HEADERS), *cookies))


def _page(text: str) -> Reply:
    return Reply(HTTPStatus.OK, text.encode(), _HTML, _encoded(CONSOLE_HEADERS))


def _encoded(headers: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.encode(), value.encode()) for name, value in headers.items())


@cache
def _encoded_document() -> bytes:
    return msgspec.json.encode(root_document())


@cache
def _docs_text() -> bytes:
    return docs_page(root_document(), [f"{DOCUMENTATION_PATH}{name}" for name in ("tenants.md", "security.md")])
