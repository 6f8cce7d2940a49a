"""Starts: of a fresh clone and of a small folder to the first slate, of an empty one, and of the help."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import serving

from .checkouts import Checkout

FIRST_S_MAX, POLL_S = 900.0, 0.05
ASK = {"user_id": "v1", "n": 5}
_SERVING = re.compile(r"serving at http://127\.0\.0\.1:(\d+)")


def small(root: Path, checkout: Checkout) -> dict[str, float]:
    """Return the rows of starts, on all cores; machine code and bytecode are cached, as behind a first start."""
    root.mkdir(parents=True)
    midstream = [sys.executable, "-m", "midstream"]
    folder, log, environment = root / "small", root / "log", checkout.environment
    for words in (["init", str(folder)], ["import", str(folder / "example.ndjson"), "-f", str(folder)]):
        subprocess.run([*midstream, *words], env=environment, check=True, capture_output=True)
    with serving.serving(folder, pinned=False, environment=environment, log=log):
        pass  # a start behind an import writes what later ones find
    began = time.perf_counter()
    with serving.serving(folder, pinned=False, environment=environment, log=log) as server:
        answered(server.port, until=began + FIRST_S_MAX)
        second_s = time.perf_counter() - began
    empty = root / "empty"
    empty.mkdir()
    with serving.serving(empty, pinned=False, environment=environment, log=log) as server:
        ready_s, memory_mb = server.started_s, server.rss_mb()
    began = time.perf_counter()
    subprocess.run([*midstream, "--help"], env=environment, check=True, stdout=subprocess.DEVNULL)
    return {
        "second start, to its first slate": second_s,
        "serve ready, an empty folder, warm": ready_s,
        "resident when empty": memory_mb,
        "midstream --help": time.perf_counter() - began,
    }


def first_slate(root: Path, checkout: Checkout, *, is_cached: bool) -> float:
    """Return the seconds from the start of the demo in copied files to the first slate that has items.

    Nothing of them was run before: no bytecode, no machine code. With ``is_cached`` the version itself runs, with both.
    """
    environment = dict(checkout.environment)
    root.mkdir(parents=True)
    if not is_cached:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(checkout.root / "src", root / "src", ignore=ignored)
        environment["PYTHONPATH"] = str(root / "src")
        environment["XDG_CACHE_HOME"] = str(root / "cache")
        environment.pop("NUMBA_CACHE_DIR", None)
        environment.pop("PYTHONPYCACHEPREFIX", None)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-u", "-m", "midstream", "demo", "--no-pause"]
    began = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            port = port_of(process)
            answered(port, until=began + FIRST_S_MAX)
            return time.perf_counter() - began
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def port_of(process: subprocess.Popen[str]) -> int:
    """Return the port that the demo prints.

    Raises:
        RuntimeError: It ends without one.
    """
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        if found := _SERVING.search(line):
            return int(found[1])
    message = f"the demo names no address: {''.join(lines)[-500:]}"
    raise RuntimeError(message)


def answered(port: int, until: float) -> None:
    """Return when a slate has an item.

    Raises:
        TimeoutError: None has one in this time.
    """
    while time.perf_counter() < until:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("POST", "/v1/recommendations", json.dumps(ASK), {"content-type": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            if answer.status == 200 and json.loads(body)["items"]:
                return
        except OSError:
            pass  # it does not answer yet
        time.sleep(POLL_S)
    raise TimeoutError
