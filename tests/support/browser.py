"""Chromium without a window, driven over the wire protocol of WebDriver (W3C WebDriver, 12)."""

import base64
import os
import re
import shutil
import subprocess
from contextlib import closing, contextmanager

import httpx

from tests.support.patience import PATIENCE_S, wait_until

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""Key of an element in the answers of WebDriver."""
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=900,1400"),
)


class Browser:
    """Chromium, driven over the wire protocol of WebDriver."""

    def __init__(self, driver, session):
        self._client = httpx.Client(base_url=f"{driver}/session/{session}", timeout=PATIENCE_S)

    def do(self, path, method="POST", **content):
        """Send a command; return its value."""
        answer = self._client.request(method, path, json=content if method == "POST" else None).json()["value"]
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def open(self, url):
        """Type an address."""
        self.do("/url", url=url)

    def run(self, script, *arguments):
        """Return what a function that is called with the page's own rights gives."""
        call = f"const tell = arguments[arguments.length - 1]; ({script})(...arguments).then(tell)"
        return self.do("/execute/async", script=call, args=list(arguments))

    @property
    def address(self):
        """Where the window is now."""
        return self.do("/url", "GET")

    @property
    def text(self):
        """What the page says."""
        return self.do("/execute/sync", script="return document.body.innerText", args=[])

    def click(self, selector):
        """Click an element as a person does."""
        found = self.do("/element", using="css selector", value=selector)
        self.do(f"/element/{found[ELEMENT]}/click")

    def press(self, *keys):
        """Press keys one after another, where the focus is."""
        strokes = [{"type": each, "value": key} for key in keys for each in ("keyDown", "keyUp")]
        self.do("/actions", actions=[{"type": "key", "id": "keyboard", "actions": strokes}])

    def wait_for(self, path):
        """Return when the window is there, and what it shows is whole."""
        ready = "return document.readyState"
        wait_until(
            lambda: self.address.endswith(path) and self.do("/execute/sync", script=ready, args=[]) == "complete"
        )

    def picture(self, path):
        """Save what the window shows."""
        path.write_bytes(base64.b64decode(self.do("/screenshot", "GET")))

    def close(self):
        """End it."""
        # An empty path would end in a slash, which is no command of the driver: the browser would go on.
        self._client.delete(str(self._client.base_url).rstrip("/"))
        self._client.close()


@contextmanager
def chromium(program, folder, *arguments):
    """Run a browser with a profile of its own in a folder; give it."""
    binary, driver = program("chromium"), program("chromedriver")
    environment = {**os.environ, "HOME": str(folder)}
    said = folder / "driver.txt"
    with said.open("w") as file:
        process = subprocess.Popen([driver, "--port=0"], stdout=file, stderr=file, env=environment)
    try:
        wait_until(lambda: "successfully" in said.read_text() or process.poll() is not None)
        found = re.search(r"successfully on port (\d+)", said.read_text())
        assert found, said.read_text()
        url = f"http://127.0.0.1:{found[1]}"
        options = {"binary": binary, "args": [*ARGUMENTS, *arguments, f"--user-data-dir={folder / 'user'}"]}
        timeouts = {"script": int(PATIENCE_S * 1_000)}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "timeouts": timeouts}}
        made = httpx.post(f"{url}/session", json={"capabilities": wanted}, timeout=PATIENCE_S).json()["value"]
        assert "sessionId" in made, made
        with closing(Browser(url, made["sessionId"])) as running:
            yield running
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        shutil.rmtree(folder, ignore_errors=True)
