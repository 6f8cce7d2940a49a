"""Programs of docs/security.md and docs/tenants.md on real servers: commands, the curl, and the token of a user."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from midstream.app.config.reader import parse_config
from tests.support.pages import ROOT, blocks
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.readme import free_port
from tests.support.served_shop import served_shop

pytestmark = pytest.mark.service

SECURITY, TENANTS = ROOT / "docs" / "security.md", ROOT / "docs" / "tenants.md"
ADDRESS = "http://127.0.0.1:8765"
"""Of the server on the pages."""


def block_of(page, text, language="sh"):
    """Return the block of a page that has a text."""
    (found,) = [block.text for block in blocks(page) if block.language == language and text in block.text]
    return found


def environment():
    """Return that of a shell in which ``midstream`` is the one of this environment."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}


def run(script, folder):
    """Run a script as a reader types it; return what it prints."""
    command = ["bash", "-c", f"set -euo pipefail\n{script}"]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page asks with curl")
def test_a_key_is_made_used_rotated_and_revoked(tmp_path):
    """One block in one shell: the key opens the route that it has the scope for."""
    script = block_of(SECURITY, "keys rotate")
    assert '"' in script.split("curl -s ")[1][:1], "a question mark is a pattern of the shell"
    with served_shop(tmp_path, "") as url:
        said = run(script.replace(ADDRESS, url), tmp_path)
        assert '"request_id"' in said
        assert httpx.get(f"{url}/v1/recommendations").status_code == 401


def test_a_page_speaks_for_the_user_of_a_token(tmp_path):
    """The program of the page signs it under the user secret that the command prints; nothing else is taken."""
    programs: dict[str, Any] = {}
    exec(compile(block_of(SECURITY, "def user_token", "python"), SECURITY.name, "exec"), programs)  # noqa: S102  the page's own program
    with served_shop(tmp_path, "") as url:
        key, user_secret, *_ = run(block_of(SECURITY, "--browser"), tmp_path).splitlines()
        event = {"type": "view", "user_id": "ann", "item_id": "lamp"}

        def send(user_id, secret):
            headers = {"x-api-key": key, "origin": "https://shop.example"}
            headers["midstream-user-token"] = programs["user_token"](secret, user_id)
            return httpx.post(f"{url}/v1/events", json=event, headers=headers, timeout=PATIENCE_S)

        until = time.monotonic() + PATIENCE_S  # the server looks for new keys now and then
        while (answer := send("ann", user_secret.split()[-1])).status_code in {401, 403} and time.monotonic() < until:
            time.sleep(0.1)
        assert (answer.status_code, answer.json()["recorded"]) == (200, 1)
        assert send("bob", user_secret.split()[-1]).status_code == 403
        assert send("ann", "another secret").status_code in {401, 403}


def test_tokens_of_a_provider_are_configured():
    """The table of the page is a whole configuration."""
    identity = parse_config(block_of(SECURITY, "[identity]", "toml")).identity
    assert identity.issuer == "https://id.example/realms/shop"


def test_tenants_are_made_and_served(tmp_path):
    """The first block of the page, up to a server whose tenant asks for the key that was printed."""
    script = block_of(TENANTS, "midstream serve --tenants")
    *before, serve = script.splitlines()
    said = run("\n".join(before), tmp_path)
    assert (tmp_path / "shops" / "tenants" / "red").is_dir()
    port = free_port()
    output = tmp_path / "said.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            [*serve.split(), "--port", port], cwd=tmp_path, env=environment(), stdout=file, stderr=file
        )
    try:

        def status():
            assert process.poll() is None, output.read_text()
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=PATIENCE_S).status_code
            except httpx.TransportError:
                return 0

        wait_until(lambda: status() == 200)
        asked = f"http://127.0.0.1:{port}/t/red/v1/recommendations"
        (key,) = [word for word in said.split() if word.startswith("ms_")]
        assert httpx.get(asked, timeout=PATIENCE_S).status_code == 401
        answer = httpx.get(asked, headers={"authorization": f"Bearer {key}"}, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
