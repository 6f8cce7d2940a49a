"""A server of several tenants without a port: requests go to its front on one event loop."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from midstream.app.access.key_wishes import key_wish
from midstream.app.access.keys import create_key
from midstream.app.tenants.folders import TenantFolders
from midstream.app.tenants.serve import TenantServer
from midstream.serving.access.key_file import KeyFile
from midstream.serving.options import ServerOptions

SMALL = """
[limits]
users_max = 1_000
items_max = 2_000
click_items_max = 1_000
sessions_max = 1_000
event_ids_max = 1_000
"""


class Answer:
    """Status, headers and body of an answer."""

    def __init__(self, sent):
        self.status = sent[0]["status"]
        self.all_headers = sent[0]["headers"]
        self.headers = dict(self.all_headers)
        self.body = b"".join(each.get("body", b"") for each in sent[1:])

    def json(self):
        return json.loads(self.body)


class Server:
    """A running group of tenants, and what a client needs to talk to it."""

    def __init__(self, folder, **options):
        self.folders = TenantFolders(folder)
        self.options = ServerOptions(allow_hosts=("test",), **options)
        self.operator = KeyFile(self.folders.data).require().operator
        self.keys = {}

    def add(self, name, *scopes, configuration=SMALL):
        """Make the folder of a tenant as by hand, with a key."""
        folder = self.folders.of(name)
        folder.mkdir(parents=True)
        (folder / "midstream.toml").write_text(configuration)
        self.keys[name] = create_key(folder, key_wish("all", scopes or ("admin",))).key

    @asynccontextmanager
    async def running(self):
        """Open all tenants; leave closes them."""
        server = TenantServer(self.folders, self.options, "id")
        async with server.opening() as (front, _):
            self.front, self.group, self.root_app = front, server.group, server.root
            await server.group.opened()
            yield self

    def run(self, play):
        """Return what a coroutine returns while the tenants are open."""

        async def main():
            async with self.running():
                return await play(self)

        return asyncio.run(main())

    async def ask(
        self,
        method,
        path,
        body=None,
        key="",
        headers=(),
        query=b"",
        raw=None,
        content_type=b"application/json",
        *,
        stays=False,
    ):
        """Return the answer of the port; a client that ``stays`` reads to the end."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent_headers = [(b"host", b"test"), (b"content-type", content_type), *headers]
        sent_headers.append((b"content-length", str(len(content)).encode()))
        if key:
            sent_headers.append((b"authorization", b"Bearer " + key.encode()))
        pieces, sent = [{"type": "http.request", "body": content, "more_body": False}], []

        async def receive():
            if stays and not pieces:
                await asyncio.Event().wait()
            return pieces.pop() if pieces else {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode() if raw is None else raw,
            "query_string": query,
            "headers": sent_headers,
            "client": ("127.0.0.1", 1),
            "scheme": "http",
            "root_path": "",
            "http_version": "1.1",
        }
        self.front.arrivals.read(scope)
        await self.front(scope, receive, send)
        return Answer(sent)

    async def of(self, name, method, path, body=None, **options):
        """Return the answer of a tenant to its own key."""
        return await self.ask(method, f"/t/{name}{path}", body, **{"key": self.keys[name], **options})

    async def root(self, method, path, body=None, **options):
        """Return the answer of the root to the operator's key."""
        return await self.ask(method, path, body, key=self.operator, **options)


@pytest.fixture
def server(tmp_path):
    """A server of no tenant yet."""
    return Server(tmp_path)


@pytest.fixture
def pair(server):
    """A server of two tenants, with an admin key each."""
    server.add("red")
    server.add("blue")
    return server
