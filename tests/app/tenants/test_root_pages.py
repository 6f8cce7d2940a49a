"""Pages of the root: who may see them, what they show, and a document that describes every route for programs."""

import json
import re

import pytest

from midstream.app.access.key_wishes import key_wish
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.scopes import TENANT_ROUTES
from midstream.serving.tenants.root_document import DESCRIBED, root_document

OWN = (b"origin", b"http://test")
FOREIGN = (b"origin", b"http://x")


def cookies_of(answer):
    """Cookies as a browser keeps them: value by path."""
    sent = "\n".join(value.decode() for name, value in answer.all_headers if name == b"set-cookie")
    found = re.findall(r"midstream_session=([^;]*); Max-Age=\d+; Path=([^;]*);", sent)
    return {path: value for value, path in found}


def test_a_person_signs_in_and_sees_the_tenants(pair):
    """The page leads to the form; the key is kept for pages and routes of the root, and for no tenant's path."""
    person = KeyFile(pair.folders.data).create(key_wish("ann", ("admin",)), 1, "test").key

    async def play(server):
        await server.root("POST", "/v1/tenants/red/suspend", {"reason": "<b>The bill</b>"})
        root = await server.ask("GET", "/")
        assert (root.status, root.headers[b"location"]) == (303, b"/console")
        led = await server.ask("GET", "/console")
        form = await server.ask("GET", "/console/session")
        operator = [(b"x-api-key", server.operator.encode())]
        refused = await server.ask("PUT", "/console/session", {}, headers=operator)
        assert (refused.status, refused.json()["pointer"], cookies_of(refused)) == (403, "x-api-key", {})
        signed = await server.ask("PUT", "/console/session", {}, headers=[(b"x-api-key", person.encode())])
        cookie = [(b"cookie", signed.headers[b"set-cookie"].partition(b";")[0])]
        page = await server.ask("GET", "/console", headers=cookie)
        nothing = await server.ask("GET", "/console/nothing", headers=cookie)
        assert (nothing.status, b"is no page of the console" in nothing.body) == (404, True)
        assert b'href="/console"' in nothing.body
        assert (await server.ask("GET", "/v1/nothing", headers=cookie)).json()["status"] == 404
        changed = await server.ask("POST", "/v1/tenants/red/resume", {}, headers=[*cookie, OWN])
        foreign = await server.ask("POST", "/v1/tenants/red/resume", {}, headers=[*cookie, FOREIGN])
        earlier = (b"cookie", b"midstream_key=of_an_earlier_console")
        out = await server.ask("DELETE", "/console/session", headers=[*cookie, earlier, OWN])
        after = await server.ask("GET", "/console", headers=cookie)
        return led, form, signed, page, changed.status, foreign.status, out, after

    led, form, signed, page, changed, foreign, out, after = pair.run(play)
    assert (led.status, led.headers[b"location"]) == (303, b"/console/session")
    assert form.status == 200
    assert cookies_of(signed).keys() == {"/console", "/v1"}
    assert len(set(cookies_of(signed).values())) == 1
    assert person not in str(signed.all_headers)
    assert cookies_of(out) == {"/console": "", "/v1": ""}
    assert len(re.findall(r"midstream_key=; Max-Age=0; Path=(?:/console|/v1);", str(out.all_headers))) == 2
    assert after.status == 303
    text = page.body.decode()
    assert re.findall(r'data-send="([^"]*)"', text) == [
        "/v1/tenants/blue/quota",
        "/v1/tenants/blue/suspend",
        "/v1/tenants/red/quota",
        "/v1/tenants/red/resume",
        "/v1/tenants",
    ]
    assert 'href="/t/blue/console"' in text
    assert "&lt;b&gt;The bill&lt;/b&gt;" in text
    assert b"default-src 'none'" in page.headers[b"content-security-policy"]
    assert (changed, foreign) == (200, 403)


def test_keys_of_tenants_see_nothing_of_the_root(pair):
    """Neither the page nor the list; files of the page are open, as they have nothing of anybody."""

    async def play(server):
        of_tenant = [(b"x-api-key", server.keys["red"].encode())]
        signed = await server.of("red", "PUT", "/console/session", {}, key="", headers=of_tenant)
        cookie = [(b"cookie", signed.headers[b"set-cookie"].partition(b";")[0])]
        return [
            (await server.ask(method, path, {} if method == "PUT" else None, headers=cookie)).status
            for method, path in (
                ("GET", "/console"),
                ("GET", "/v1/tenants"),
                ("PUT", "/console/session"),
                ("GET", "/console/assets/console.css"),
                ("GET", "/console/assets/..%2Fpages.py"),
            )
        ]

    assert pair.run(play) == [303, 401, 401, 200, 404]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_pages_of_the_documentation_are_those_of_the_package(pair, method):
    """Also the one that an error of the root names; a name that is none is a 404."""

    async def play(server):
        paths = ("/docs", "/docs/tenants.md", "/docs/none.md", "/docs/..%2Fpyproject.toml")
        return [await server.ask(method, path) for path in paths]

    docs, page, *none = pair.run(play)
    assert (docs.status, page.status, [each.status for each in none]) == (200, 200, [404, 404])
    assert (b"/v1/tenants/{name}" in docs.body, page.body.startswith(b"# Tenants")) == ((method == "GET"),) * 2


def test_the_document_describes_every_route_for_programs(pair):
    """With the methods of the table, types that are there, and the fields that a route really answers."""

    async def play(server):
        told = json.loads((await server.ask("GET", "/openapi.json")).body)
        return told, (await server.root("GET", "/v1/tenants")).json()

    told, listed = pair.run(play)
    assert told == json.loads(json.dumps(root_document()))
    described = {path: {method.upper() for method in methods} for path, methods in told["paths"].items()}
    assert described == {path: set(TENANT_ROUTES[path]) for path in DESCRIBED}
    schemas = told["components"]["schemas"]
    named = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(told)))
    assert named <= set(schemas)
    names = [each["operationId"] for methods in told["paths"].values() for each in methods.values()]
    assert len(names) == len(set(names))
    assert set(listed["tenants"][0]) == set(schemas["TenantView"]["properties"])
