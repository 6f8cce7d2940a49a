"""What a rebuild and a snapshot cost the requests beside them: p99 of slates and of events with and without.

Serves a folder of the named size with the real server, pinned to one core, loaded by the compiled generator on the
other; the children go where the system puts them. Then the weights in ``midstream.toml`` change and ``POST
/v1/rebuild`` is sent, again and again, so that all stages are measured: the child, the load, the last turns and the
swap. Needs a C compiler. About 3 minutes at full size.
"""

import argparse
import http.client
import json
import os
import platform
import tempfile
import threading
import time
from pathlib import Path

from serving import CONFIG, Row, Server, asks, compiled, load, ms, prepare, request, serving, table
from serving import write_requests as written
from world import World

RATE_S = 300
"""Requests a second, as in the row of the snapshot."""
CONNECTIONS = 4
"""So few that none of them is idle for the 10 s after which the server closes it."""


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    world = World(items=options.items, sessions=options.sessions, events=options.events)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root = Path(folder)
        generator = compiled()
        rows = [*prepare(root, world)]
        slates = written(root / "slates", [request("/v1/recommendations", ask) for ask in asks(world, 20_000, 1)])
        events = written(root / "events", acts(world, 20_000))
        with serving(root) as server:
            for name, file in (("slate", slates), ("event", events)):
                rows += beside(server, generator, root, file, options.seconds, name)
    print(table(rows, f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"))


def acts(world: World, count: int) -> list[bytes]:
    """Return requests of one event each."""
    now = time.time_ns()
    return [
        request(
            "/v1/events",
            {"type": "view", "user_id": ask["user_id"], "item_id": ask["items"][0], "event_id": f"{now}-{number}"},
        )
        for number, ask in enumerate(asks(world, count, 3))
    ]


def beside(server: Server, generator: Path, root: Path, file: Path, seconds: float, name: str) -> list[Row]:
    """Measure a kind of request alone, then while one rebuild follows the other."""
    load(server, generator, file, CONNECTIONS, RATE_S, 2.0, "single")
    alone = load(server, generator, file, CONNECTIONS, RATE_S, seconds, "single")
    took: list[float] = []
    stop = threading.Event()
    rebuilding = threading.Thread(target=rebuild_again, args=(server, root, stop, took))
    rebuilding.start()
    run = load(server, generator, file, CONNECTIONS, RATE_S, seconds, "single")
    stop.set()
    rebuilding.join()
    change = (run["p99_us"] / alone["p99_us"] - 1) * 100
    value = f"{ms(alone, 99)} / {ms(run, 99)} ({change:+.0f} %), p50 {ms(alone, 50)} / {ms(run, 50)}"
    return [
        Row(f"{name} p99 ms at {RATE_S}/s: alone / while rebuilding", value, "+50 %", ""),
        Row(f"{name} errors beside it", str(run["errors"]), "0", "0"),
        Row("a rebuild, s", ", ".join(f"{each:.1f}" for each in took), "", ""),
    ]


def rebuild_again(server: Server, root: Path, stop: threading.Event, took: list[float]) -> None:
    """Change the weights, have the state rebuilt, wait until it is in service; until it is said to stop."""
    while not stop.is_set():
        weight = 1.0 + time.time_ns() % 997 / 1_000  # another one each time
        (root / "midstream.toml").write_text(f"[events.types]\nview = {{ weight = {weight} }}\n{CONFIG}")
        began = time.perf_counter()
        view = ask_server(server, "POST")
        while view["state"] not in {"done", "failed"}:
            time.sleep(0.2)
            view = ask_server(server, "GET")
        if view["state"] == "failed":
            raise RuntimeError(view["reason"])
        took.append(time.perf_counter() - began)


def ask_server(server: Server, method: str) -> dict:
    """Ask the route of rebuilds."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(method, "/v1/rebuild")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


if __name__ == "__main__":
    main()
