"""The demo shop is there where the options say so, and nowhere else."""

import pytest

from midstream.serving.browser.demo_shop import SHOP_PATH
from midstream.serving.options import ServerOptions

PATHS = (SHOP_PATH, f"{SHOP_PATH}/assets/shop.js", f"{SHOP_PATH}/assets/shop.css")


def test_a_server_has_no_shop_unless_it_is_told(client):
    """Its visitors' acts would be events of the real shop."""
    for path in PATHS:
        answer = client.ask("GET", path)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:midstream:route-unknown"), path


@pytest.mark.parametrize("name", ["", "shop.html", "nothing.js", "..%2Fscript.py", "%2e%2e/script.py", "midstream.js"])
def test_files_are_those_of_a_list(make_client, engine, name):
    """No text of a request becomes a path."""
    client = make_client(engine, options=ServerOptions(demo_shop=True))
    for path in PATHS:
        answer = client.ask("GET", path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert client.ask("GET", f"{SHOP_PATH}/assets/{name}").status_code == 404
