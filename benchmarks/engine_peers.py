"""Engines of other projects as servers with a world in them: Gorse and Serenade, and midstream beside them.

Each is built from a source tree where it is not built, by its package manager without network, starts on core 0 of the
loopback and ends by its process id. Their settings are below: what each keeps of its own defaults is named there.
"""

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from serving import Server, asks, prepare, serving
from world import START_MS, World, interactions

from benchmarks.generator.http_load import request, write_requests
from midstream.core.errors import Fault

PAGE = "/docs/benchmarks.md#other-engines-beside-it"


ITEMS_MAX, REQUESTS = 20, 20_000


SESSION_ITEMS = 3
"""Items of a session that each engine goes by: as many as the requests to midstream carry."""


BUILD_S_MAX, READY_S_MAX, PREPARED_S_MAX, ENDED_S_MAX = 3_600, 300, 1_800, 60


IDLE_S, IDLE_SHARE = 5, 0.04
"""A server that takes less than this share of a core for this long has ended its preparation."""


GORSE_CONFIG = """
[database]
data_store = "sqlite://{root}/data.sqlite"
cache_store = "sqlite://{root}/cache.sqlite"
[master]
host = "127.0.0.1"
port = {rpc_port}
http_host = "127.0.0.1"
http_port = {port}
[recommend.data_source]
positive_feedback_types = ["view"]
[[recommend.non-personalized]]
name = "popular"
score = "count(feedback, .FeedbackType == 'view')"
[[recommend.non-personalized]]
name = "empty"
score = "count(feedback, .FeedbackType == 'view')"
filter = "item.IsHidden"
[[recommend.item-to-item]]
name = "neighbors"
type = "users"
[recommend.collaborative]
type = "none"
[recommend.ranker]
type = "none"
recommenders = ["non-personalized/empty"]
[recommend.fallback]
recommenders = ["item-to-item/neighbors", "non-personalized/popular"]
[blob]
uri = "{root}/blob"
"""
"""Answers from neighbours of the user's items, in the request, then from the most viewed. Its server also makes a list
for each user ahead of requests, of what ``ranker`` names, which this ranker never reads: so that list is an empty one.
"""


SERENADE_CONFIG = """config_type = "toml"

[server]
host = "127.0.0.1"
port = {port}
num_workers = 1

[log]
level = "info"

[data]
training_data_path="{clicks}"

[model]
m_most_recent_sessions = 500
neighborhood_size_k = 500
max_items_in_session = {session_items}
num_items_to_recommend = {items}
idf_weighting = 1

[logic]
enable_business_logic = false

[hyperparam]
training_data_path = "{clicks}"
test_data_path = "{clicks}"
validation_data_path = "{clicks}"
num_iterations = 1
save_records = false
out_path = "results.csv"
enable_business_logic = false
n_most_recent_sessions_range = [100, 2500]
neighborhood_size_k_range = [50, 1500]
last_items_in_session_range = [1, 20]
idf_weighting_range = [0, 5]
"""
"""Its own defaults for the model; the last section has to be there and is not used by the server."""


@dataclass(frozen=True)
class Peer:
    """An engine that is built and started here."""

    name: str
    tree_marker: str
    """A file that its source tree has."""
    built: str
    """The program, relative to the tree."""
    build: tuple[str, ...]
    environment: dict[str, str]


GORSE = Peer(
    "gorse",
    "cmd/gorse-in-one/main.go",
    "gorse-in-one",
    ("go", "build", "-o", "gorse-in-one", "./cmd/gorse-in-one"),
    {"GOPROXY": "off", "GOFLAGS": "-p=1 -buildvcs=false -mod=mod"},
)


SERENADE = Peer(
    "serenade",
    "src/bin/serving.rs",
    "target/release/serving",
    ("cargo", "build", "--offline", "--release", "-j1", "--bin", "serving"),
    {},
)


PEERS = (GORSE, SERENADE)


class PathRefused(SystemExit):
    """A path that names neither a tree of the engine nor a program."""


@dataclass
class Contestant:
    """A way of asking one server, and what it measured."""

    name: str
    server: Server
    file: Path
    listed: Callable[[object], list[str]]
    """Ids of an answer's items."""
    requests: Sequence[bytes]
    event: Callable[[str, str], bytes] | None = None
    """The request that reports a user's act on an item, None = no such events are taken."""
    question: Callable[[str], bytes] | None = None
    """The request for a user's slate, with nothing but the user."""
    closed: list[dict] = field(default_factory=list)
    steady: list[dict] = field(default_factory=list)
    fresh_s: list[float] = field(default_factory=list)
    """Seconds from an event's acknowledgement until an answer has it, for each of some new users."""


def program(peer: Peer, path: Path | None) -> Path | None:
    """Return the program at a path, built if it is a tree without one; None where no path is named.

    Raises:
        PathRefused: The path is neither.
    """
    if path is None:
        return None
    path = path.absolute()
    if path.is_file() and os.access(path, os.X_OK):
        return path
    if not (path / peer.tree_marker).is_file():
        right = f"a source tree, which has {peer.tree_marker}, or a program that may be run"
        raise PathRefused(str(Fault(f"--{peer.name}", f"{path} is neither", right, PAGE)))
    built = path / peer.built
    if not built.is_file():
        environment = {**os.environ, **peer.environment}
        subprocess.run(peer.build, cwd=path, env=environment, check=True, timeout=BUILD_S_MAX)
    return built


def started(stack: ExitStack, root: Path, world: World, paths: dict[str, Path | None]) -> Iterator[Contestant]:
    """Start each engine with the world in it; each ends with the stack."""
    home = root / "midstream"
    home.mkdir()
    list(prepare(home, world))
    yield from midstream(stack.enter_context(serving(home)), root, world)
    if paths["gorse"] is not None:
        yield from gorse(stack, paths["gorse"], root, world)
    if paths["serenade"] is not None:
        yield from serenade(stack, paths["serenade"], root, world)


def midstream(server: Server, root: Path, world: World) -> Iterator[Contestant]:
    """Yield ours: the default placement, with served records."""
    requests = [request("/v1/recommendations", ask) for ask in asks(world, REQUESTS, 1)]

    def listed(answer: object) -> list[str]:
        return [item["id"] for item in answer["items"]]

    def event(user: str, item: str) -> bytes:
        return request("/v1/events", {"type": "view", "user_id": user, "item_id": item, "session_id": user})

    def question(user: str) -> bytes:
        return request("/v1/recommendations", {"user_id": user, "session_id": user, "n": ITEMS_MAX})

    file = write_requests(root / "midstream.http", requests)
    yield Contestant("midstream", server, file, listed, requests, event, question)


def gorse(stack: ExitStack, path: Path, root: Path, world: World) -> Iterator[Contestant]:
    """Yield Gorse, asked for the users of the world."""
    home = root / "gorse"
    home.mkdir()
    port, rpc_port = free_port(), free_port()
    (home / "config.toml").write_text(GORSE_CONFIG.format(root=home, port=port, rpc_port=rpc_port))
    command = [str(path), "--config", str(home / "config.toml"), "--cache-path", str(home)]
    server = stack.enter_context(running(command, home, port, "/api/health/ready"))
    began, cpu_s = time.perf_counter(), server.cpu_s()
    import_feedback(port, world)
    took = time.perf_counter() - began
    wait_until_idle(server)
    parts = f"{took:.0f} s for the import, {time.perf_counter() - began:.0f} s with the neighbours of all items"
    print(f"gorse: {world.events:,} events, {parts}, {server.cpu_s() - cpu_s:.0f} s of CPU")
    users = [ask["user_id"] for ask in asks(world, REQUESTS, 1)]
    by_user = [get(f"/api/recommend/{user}?n={ITEMS_MAX}") for user in users]

    def event(user: str, item: str) -> bytes:
        return request("/api/feedback", [feedback(user, item, datetime.now(UTC))])

    def question(user: str) -> bytes:
        return get(f"/api/recommend/{user}?n={ITEMS_MAX}")

    file = write_requests(root / "gorse.http", by_user)
    yield Contestant("Gorse", server, file, list, by_user, event, question)


def serenade(stack: ExitStack, path: Path, root: Path, world: World) -> Iterator[Contestant]:
    """Yield Serenade; three requests of a session follow each other, and each tells it an item."""
    home = root / "serenade"
    home.mkdir()
    clicks = home / "clicks.txt"
    write_clicks(clicks, world)
    port = free_port()
    text = SERENADE_CONFIG.format(port=port, clicks=clicks, session_items=SESSION_ITEMS, items=ITEMS_MAX)
    (home / "serenade.toml").write_text(text)
    began = time.perf_counter()
    server = stack.enter_context(running([str(path), str(home / "serenade.toml")], home, port, "/internal"))
    print(f"serenade: {world.events:,} clicks, index made in {time.perf_counter() - began:.0f} s")
    requests = [
        get(f"/v1/recommend?session_id={number}&user_consent=true&item_id={int(item[1:])}")
        for number, ask in enumerate(asks(world, REQUESTS // SESSION_ITEMS, 1))
        for item in ask["items"]
    ]

    def listed(answer: object) -> list[str]:
        return [str(item) for item in answer]

    yield Contestant("Serenade", server, write_requests(root / "serenade.http", requests), listed, requests)


def feedback(user: str, item: str, when: datetime) -> dict[str, object]:
    """Return an event as Gorse reads it."""
    return {"FeedbackType": "view", "UserId": user, "ItemId": item, "Timestamp": when.isoformat()}


def get(path: str) -> bytes:
    """Return the bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()


def import_feedback(port: int, world: World) -> None:
    """Send the world to Gorse as one file of JSON lines."""
    user, item, _ = interactions(world)
    first = datetime.fromtimestamp(START_MS / 1e3, UTC).timestamp()
    lines = "\n".join(
        json.dumps(feedback(f"u{u:07d}", f"i{i:07d}", datetime.fromtimestamp(first + at / 100, UTC)))
        for at, (u, i) in enumerate(zip(user.tolist(), item.tolist(), strict=True))
    )
    mark = "part-of-the-form"
    head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="feedback.jsonl"\r\n\r\n'
    body = f"{head}{lines}\r\n--{mark}--\r\n".encode()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PREPARED_S_MAX)) as connection:
        connection.request(
            "POST", "/api/bulk/feedback", body, {"content-type": f"multipart/form-data; boundary={mark}"}
        )
        answer = connection.getresponse()
        content = answer.read()
    if answer.status != 200:
        message = f"the import was answered with {answer.status}: {content[:300]!r}"
        raise RuntimeError(message)


def write_clicks(path: Path, world: World) -> None:
    """Write the world as Serenade reads it: session, item and second, separated by tabs."""
    _, item, session = interactions(world)
    second = START_MS // 1_000 + np.arange(world.events) // 100
    with path.open("w") as file:
        file.write("SessionId\tItemId\tTime\n")
        file.writelines(
            f"{s}\t{i}\t{t}.0\n" for s, i, t in zip(session.tolist(), item.tolist(), second.tolist(), strict=True)
        )


@contextmanager
def running(command: list[str], home: Path, port: int, ready: str) -> Iterator[Server]:
    """Run a server of another project on core 0 until the block ends; its lines are in its folder."""
    pinned = ["taskset", "-c", "0", *command] if shutil.which("taskset") else command
    began = time.perf_counter()
    with (
        (home / "lines.txt").open("wb") as lines,
        subprocess.Popen(pinned, cwd=home, stdout=lines, stderr=subprocess.STDOUT) as process,
    ):
        try:
            wait_until_answered(port, ready, process, home)
            yield Server(process, port, time.perf_counter() - began)
        finally:
            process.terminate()  # a process started in the background may ignore SIGINT
            try:
                process.wait(ENDED_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_answered(port: int, path: str, process: subprocess.Popen[bytes], home: Path) -> None:
    """Return when a path is answered with 200.

    Raises:
        RuntimeError: The process ended, or it took too long; with its last lines.
    """
    until = time.perf_counter() + READY_S_MAX
    while time.perf_counter() < until and process.poll() is None:
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                connection.request("GET", path)
                if connection.getresponse().status == 200:
                    return
        except OSError:
            pass  # it does not listen yet
        time.sleep(0.1)
    message = f"no answer from {path}: {(home / 'lines.txt').read_text(errors='replace')[-1_000:]}"
    raise RuntimeError(message)


def wait_until_idle(server: Server) -> None:
    """Return when a server has stopped to prepare.

    Raises:
        TimeoutError: It works on.
    """
    until = time.perf_counter() + PREPARED_S_MAX
    while time.perf_counter() < until:
        before = server.cpu_s()
        time.sleep(IDLE_S)
        if server.cpu_s() - before < IDLE_SHARE * IDLE_S:
            return
    raise TimeoutError


def free_port() -> int:
    """Return a port of the loopback that nothing listens on."""
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])
