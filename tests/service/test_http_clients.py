"""HTTP clients of others with what they send by default, which is an offer of HTTP/2 in more than one of them."""

import subprocess
from pathlib import Path

import pytest

from tests.support.bare_http import served
from tests.support.patience import PATIENCE_S

pytestmark = pytest.mark.integration
HERE = Path(__file__).parent
EVENT = '{"type": "view", "user_id": "ann", "item_id": "mug"}'


@pytest.fixture(scope="module")
def url():
    """Address of a server that all tests of this module share."""
    with served(HERE / "fake_server.py") as (_, address):
        yield address


def said(*command, given=None):
    """Run a program to its end; return what it printed."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_of_the_jdk_is_answered(url, program):
    """``HttpClient.newHttpClient()`` sends ``Upgrade: h2c`` with its bodies, of a length and in chunks."""
    lines = said(program("java"), str(HERE / "Ask.java"), url).splitlines()
    assert len(lines) == 22
    assert all(line.startswith("200 HTTP_1_1 ") and '"recorded":1' in line for line in lines)


@pytest.mark.parametrize(
    "flags",
    [
        ("--http2",),
        ("--http2", "-H", "Transfer-Encoding: chunked"),
        ("--http2", "-H", "Expect: 100-continue"),
        ("--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"),
        ("--http1.0",),
    ],
    ids=" ".join,
)
def test_curl_is_answered(url, program, flags):
    """Twice over one connection, which stays as it was."""
    ask = ("-sS", *flags, "-H", "Content-Type: application/json", "-w", " %{http_code} %{num_connects}\n")
    target = ("-d", EVENT, f"{url}/v1/events")
    lines = said(program("curl"), *ask, *target, "--next", *ask, *target).splitlines()
    assert len(lines) == 2
    assert all('"recorded":1' in line and line.split()[-2] == "200" for line in lines)
    if flags != ("--http1.0",):
        assert [line.split()[-1] for line in lines] == ["1", "0"]
