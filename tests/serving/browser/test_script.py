"""The browser client: small, the same for every page, and kept by browsers as long as its content is the same."""

import gzip

import pytest

from midstream.serving.browser.script import FILE, SCRIPT_PATH, script
from midstream.serving.options import ServerOptions
from tests.serving.test_request_origin import HOST, JSON, Gate

BYTES_MAX = 3_072


def test_script_is_small():
    """What a page loads, as the server packs it and as any other packer does."""
    assert len(script().packed) <= BYTES_MAX
    assert len(gzip.compress(FILE.read_bytes(), 9)) <= BYTES_MAX


def test_script_has_nothing_of_elsewhere():
    """It names no address and evaluates no text, so that a strict policy for content holds."""
    text = FILE.read_text("utf-8")
    assert text.startswith('"use strict";var midstream=')
    for each in ("http:", "https:", "eval(", "Function(", "innerHTML", "document.cookie", "import("):
        assert each not in text, each


def test_answer_is_the_file(client):
    """Packed where the client takes that, and otherwise plain; the names of both differ."""
    found = client.ask("GET", SCRIPT_PATH, headers={"accept-encoding": "identity"})
    assert (found.status_code, found.content) == (200, FILE.read_bytes())
    assert found.headers["content-type"] == "text/javascript; charset=utf-8"
    assert found.headers["access-control-allow-origin"] == "*"
    assert found.headers["cross-origin-resource-policy"] == "cross-origin"
    packed = client.ask("GET", SCRIPT_PATH, headers={"accept-encoding": "br, gzip;q=0.5"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == FILE.read_bytes()  # the client of the test unpacks it
    assert packed.headers["etag"] != found.headers["etag"]
    refused = client.ask("GET", SCRIPT_PATH, headers={"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers


def test_content_named_by_its_hash_is_kept(client):
    """A year under its own hash; minutes under none or another one, and a 304 while nothing has changed."""
    own = client.ask("GET", f"{SCRIPT_PATH}?v={script().version}")
    assert "immutable" in own.headers["cache-control"]
    for path in (SCRIPT_PATH, f"{SCRIPT_PATH}?v=0123456789abcdef"):
        found = client.ask("GET", path)
        assert found.headers["cache-control"] == "public, max-age=300"
        again = client.ask("GET", path, headers={"if-none-match": f'"other", {found.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        for weak in (f"W/{found.headers['etag']}", f'W/"other", W/{found.headers["etag"]}', "*", " * "):
            assert client.ask("GET", path, headers={"if-none-match": weak}).status_code == 304, weak
        for other in ('"other"', 'W/"other"', '"*"'):
            assert client.ask("GET", path, headers={"if-none-match": other}).status_code == 200, other
    assert client.ask("GET", f"{SCRIPT_PATH}?w=1").status_code == 400


def test_pages_of_any_origin_load_it_and_nothing_else():
    """As a script and as a module; with a method that changes something the path is as any other."""
    gate = Gate(ServerOptions())
    foreign = [HOST, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")]
    for headers in (foreign, [*foreign, ("origin", "https://evil.example")]):
        for method in ("GET", "HEAD"):
            assert gate.status(*headers, path=SCRIPT_PATH, method=method) == 204
        for method in ("POST", "PUT", "DELETE"):
            assert gate.status(*headers, JSON, path=SCRIPT_PATH, method=method) == 403
        for path in (f"{SCRIPT_PATH}/", "/midstream.jsx", "/v1/recommendations", "/console/assets/console.js"):
            assert gate.status(*headers, path=path) == 403
    assert gate.status(("host", "evil.example"), *foreign[1:], path=SCRIPT_PATH) == 421


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_key_is_needed(client, method):
    """The table has it among what is open."""
    assert client.ask(method, SCRIPT_PATH).status_code == 200
