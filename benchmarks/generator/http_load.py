"""Compiled open-loop load over HTTP on one node or several: requests made here, sent by ``http_load.c``.

``single`` spreads requests over the nodes, ``pair`` follows each event with a question on the same connection, and
``across`` asks the next node: so what one node acknowledged is read from another one, with its token.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from tests.support.services import cache

SOURCE = Path(__file__).with_name("http_load.c")
LOG_POSITION = "@" * 16
"""A place in the second request of two that becomes the log position of the first one's answer."""
COMPILE_S_MAX = 120
SLACK_S = 60


def compiled() -> Path:
    """Return the program, compiling it the first time, beside the fetched servers."""
    folder = cache.fetch("http-load", hashlib.sha256(SOURCE.read_bytes()).hexdigest(), _compile)
    return folder / "http_load"


def _compile(folder: Path) -> None:
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(folder / "http_load"), str(SOURCE), "-lm"]
    subprocess.run(command, check=True, timeout=COMPILE_S_MAX)


def write_requests(path: Path, requests: Iterable[bytes]) -> Path:
    """Write requests as the program reads them."""
    path.write_bytes(b"".join(b"%d\n" % len(each) + each for each in requests))
    return path


def request(path: str, body: object) -> bytes:
    """Return the bytes of a request."""
    content = json.dumps(body, separators=(",", ":")).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def load(
    nodes: Sequence[int | str],
    file: Path,
    *,
    connections: int,
    rate: float,
    seconds: float,
    mode: Literal["single", "pair", "across"] = "single",
    deadline_ms: int = 0,
    core: int | None = None,
) -> dict[str, Any]:
    """Ask nodes for some seconds; return what the program printed.

    Args:
        nodes: Ports on loopback, or IPv4 addresses with ports.
        file: What ``write_requests`` wrote.
        connections: At most 512, dealt out to the nodes in turn.
        rate: Arrivals a second over all nodes; 0 = a closed loop on each connection.
        seconds: Length of the run.
        mode: One request at a time, two on a connection, or two on neighbouring nodes.
        deadline_ms: Where given, refusals (503, 429) are no errors, and what comes later is not good. Only answers with
            status 200 count and have a latency either way.
        core: The one core that it runs on, where one is named.
    """
    pinned = ["taskset", "-c", str(core)] if core is not None and shutil.which("taskset") else []
    order = [",".join(map(str, nodes)), str(file), str(connections), str(rate), str(seconds), mode]
    command = [*pinned, str(compiled()), *order, *([str(deadline_ms)] if deadline_ms else [])]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=seconds + SLACK_S)
    return dict(json.loads(ran.stdout))
