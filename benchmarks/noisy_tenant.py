"""Noisy neighbour over HTTP: the latency of a quiet tenant alone and beside one that floods, in turns.

A server of two tenants runs on one core, both loads on the other. The quiet tenant is asked for slates at a fixed rate,
and a wait counts from the time at which the request was due. The other tenant is flooded by a closed loop on many
connections. Turns alone and beside the flood follow each other, each pair gives ratios, and the figures are the medians
of the ratios with their spread: what the machine does in a minute is in both of a pair.

Usage: ``python benchmarks/noisy_tenant.py [--flood questions|events|both] [--turns 8] [--seconds 10] [--quota 0]``
"""

import argparse
import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.generator.http_load import compiled, request, write_requests
from midstream.app.access.key_wishes import key_wish
from midstream.app.access.keys import create_key
from midstream.app.tenants.folders import TenantFolders
from midstream.serving.access.key_file import KeyFile

QUIET, NOISY = "quiet", "noisy"
SERVER_CORE, LOAD_CORE = "0", "1"
ITEMS, SESSIONS, ACTS = 2_000, 500, 20_000
LOT = 400
WARM_S = 5.0
CONFIG = """[limits]
users_max = 10_000
items_max = 10_000
click_items_max = 10_000
sessions_max = 10_000
index_sessions_max = 10_000
event_ids_max = 50_000
requests_max = 10_000
"""
"""Small tables, whose pages are touched before the first turn: a first touch takes milliseconds of the kernel."""
RATE = 100.0
"""Questions a second of the quiet tenant: a thousand in ten seconds, so p99 is the tenth of them."""
FLOOD_CONNECTIONS = 16
EVENTS_A_REQUEST = 100
READY_S = 300.0
DEADLINE_MS = 1_000
"""With a deadline the generator counts refusals apart from errors."""


@dataclass(frozen=True)
class Running:
    """A server of both tenants."""

    port: int
    folder: Path
    keys: Mapping[str, str]
    operator: str


@dataclass(frozen=True)
class Turn:
    """Loads of some seconds."""

    latency_ms: Sequence[float]
    """Of the quiet tenant's questions."""
    flood: Mapping[str, Any] | None

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latencies."""
        return float(np.percentile(self.latency_ms, percent))


def prepared(folder: Path) -> dict[str, str]:
    """Make the folders of both tenants; return their keys."""
    folders, keys = TenantFolders(folder), {}
    for name in (QUIET, NOISY):
        folders.of(name).mkdir(parents=True)
        (folders.of(name) / "midstream.toml").write_text(CONFIG, "utf-8")
        keys[name] = create_key(folders.of(name), key_wish("owner", ("admin",))).key
    return keys


@contextmanager
def serving(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Serve both tenants, each with acts, until the block ends."""
    keys = prepared(folder)
    operator = KeyFile(TenantFolders(folder).data).require().operator
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "midstream", "serve", "--tenants", str(folder), "--port", str(port)]
    log = folder / "server.log"
    with (
        log.open("wb") as lines,
        subprocess.Popen(
            _pinned(SERVER_CORE, command), stdout=subprocess.DEVNULL, stderr=lines, env=environment
        ) as process,
    ):
        try:
            server = Running(port, folder, keys, operator)
            _wait_until_ready(server, process)
            for name in (QUIET, NOISY):
                _fill(server, name)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)


def _pinned(core: str, command: list[str]) -> list[str]:
    return ["taskset", "-c", core, *command] if shutil.which("taskset") else command


def _wait_until_ready(server: Running, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if process.poll() is not None:
            message = f"the server ended with status {process.returncode}: {server.folder / 'server.log'}"
            raise RuntimeError(message)
        try:
            if asked(server, "GET", "/health/ready")[0] == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError


def asked(server: Running, method: str, path: str, body: object = None, key: str = "") -> tuple[int, Any]:
    """Return status and JSON of one request."""
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")


def _fill(server: Running, name: str) -> None:
    """Record acts of many sessions."""
    for first in range(0, ACTS, LOT):
        status, answer = asked(server, "POST", f"/t/{name}/v1/events", acts(first, LOT), server.keys[name])
        if status != 200:
            message = f"acts of {name} were refused: {status} {answer}"
            raise RuntimeError(message)


def acts(first: int, count: int) -> list[dict[str, object]]:
    """Return views of some items by some sessions."""
    return [
        {"type": "view", "session_id": f"s{number * 7919 % SESSIONS}", "item_id": f"i{number * number % ITEMS}"}
        for number in range(first, first + count)
    ]


def requests_of(server: Running, name: str, flood: str) -> list[bytes]:
    """Return requests of a tenant: questions, events, or both in turns."""
    found: list[bytes] = []
    head = f"\r\nauthorization: Bearer {server.keys[name]}\r\n".encode()
    for number in range(2_000):
        path, body = f"/t/{name}/v1/recommendations", {"session_id": f"s{number * 31 % SESSIONS}", "n": 20}
        if flood == "events" or (flood == "both" and number % 2):
            path, body = f"/t/{name}/v1/events", acts(number * EVENTS_A_REQUEST, EVENTS_A_REQUEST)  # type: ignore[assignment]
        found.append(request(path, body).replace(b"\r\n", head, 1))
    return found


def turn(server: Running, file: Path, seconds: float, flood_rate: float | None) -> Turn:
    """Load the quiet tenant for some seconds, with or without the flood beside it, which is longer on both sides."""
    flood = None
    if flood_rate is not None:
        flood = _begun(server, file, FLOOD_CONNECTIONS, flood_rate, seconds + 1.5)
    time.sleep(0.5)
    latencies = questions(server, seconds)
    return Turn(latencies, None if flood is None else _ended(flood))


def questions(server: Running, seconds: float) -> list[float]:
    """Ask the quiet tenant at a rate with exponential gaps on one connection; return latencies in ms."""
    dice = random.Random(42)  # noqa: S311  a load
    latencies: list[float] = []
    sent = requests_of(server, QUIET, "questions")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due = time.perf_counter()
        until = due + seconds
        while due < until:
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.sendall(sent[len(latencies) % len(sent)])
            _read_answer(connection)
            latencies.append((time.perf_counter() - due) * 1_000)
            due += dice.expovariate(RATE)
    return latencies


def _read_answer(connection: socket.socket) -> None:
    """Read one answer to its end.

    Raises:
        RuntimeError: It is none of status 200: the quiet tenant was refused.
    """
    got = connection.recv(1 << 16)
    head, _, rest = got.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(got.decode(errors="replace")[:300])
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(rest) < length:
        rest += connection.recv(1 << 16)


def _begun(server: Running, file: Path, connections: int, rate: float, seconds: float) -> "subprocess.Popen[bytes]":
    order = [str(server.port), str(file), str(connections), str(rate), str(seconds), "single", str(DEADLINE_MS)]
    return subprocess.Popen(_pinned(LOAD_CORE, [str(compiled()), *order]), stdout=subprocess.PIPE)


def _ended(load: "subprocess.Popen[bytes]") -> Mapping[str, Any]:
    told, _ = load.communicate(timeout=600)
    return dict(json.loads(told))


def ratios(pairs: Sequence[tuple[Turn, Turn]], percent: float) -> list[float]:
    """Return what each pair says of a percentile: beside the flood over alone."""
    return [beside.percentile(percent) / alone.percentile(percent) for alone, beside in pairs]


def measured(
    server: Running, flood: str, turns: int, seconds: float, flood_rate: float = 0.0
) -> list[tuple[Turn, Turn]]:
    """Return pairs of turns, alone and beside the flood; which of both is first alternates."""
    file = write_requests(server.folder / "noisy.requests", requests_of(server, NOISY, flood))
    turn(server, file, min(WARM_S, 3 * seconds), flood_rate)
    pairs: list[tuple[Turn, Turn]] = []
    for number in range(turns):
        order = (None, flood_rate) if number % 2 == 0 else (flood_rate, None)
        found = {rate: turn(server, file, seconds, rate) for rate in order}
        pairs.append((found[None], found[flood_rate]))
    return pairs


def report(flood: str, pairs: Sequence[tuple[Turn, Turn]]) -> str:
    """Return medians with their spread."""
    lines = [f"a flood of {flood}, {len(pairs)} pairs of turns"]
    for percent in (50, 90, 99):
        alone, beside = ([each.percentile(percent) for each in side] for side in zip(*pairs, strict=True))
        found = _spread(ratios(pairs, percent))
        lines.append(f"  p{percent}: alone {_spread(alone)} ms, beside {_spread(beside)} ms, ratio {found}")
    per_second = [each.flood["per_second"] for _, each in pairs if each.flood is not None]
    refused = [each.flood["refused"] / each.flood["seconds"] for _, each in pairs if each.flood is not None]
    lines.append(f"  flood: {_spread(per_second)} answers/s, {_spread(refused)} refusals/s")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def prefer_this_process() -> None:
    """Let this process run when an answer comes, beside a generator that takes its core; where it may."""
    with suppress(PermissionError):
        os.sched_setaffinity(0, {int(LOAD_CORE)} & os.sched_getaffinity(0) or os.sched_getaffinity(0))
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flood", choices=("questions", "events", "both"), nargs="+", default=["questions", "events"])
    parser.add_argument("--json", action="store_true", help="the medians of the ratios alone, a line of JSON")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second of the flood; 0 = as many as it can")
    parser.add_argument(
        "--quota", type=float, help="requests a second of the noisy tenant; default: that of the server"
    )
    chosen = parser.parse_args()
    with TemporaryDirectory() as place, serving(Path(place)) as server:
        prefer_this_process()
        if chosen.quota is not None:
            quota = {"requests_per_second": chosen.quota}
            asked(server, "PUT", f"/v1/tenants/{NOISY}/quota", quota, server.operator)
        for flood in chosen.flood:
            pairs = measured(server, flood, chosen.turns, chosen.seconds, chosen.rate)
            medians = {f"p{percent}": statistics.median(ratios(pairs, percent)) for percent in (50, 90, 99)}
            print(json.dumps(medians) if chosen.json else report(flood, pairs), flush=True)


if __name__ == "__main__":
    main()
