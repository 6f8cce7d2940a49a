"""Tenants of one process: memory of idle ones, and what a noisy neighbour costs a quiet tenant.

Memory: tenants with a log of a few events are opened, and the resident memory is read at 10 and at the last one; the
difference a tenant is what each costs, libraries and kernels aside. Noise: a quiet tenant is asked one question after
another, without and with a neighbour that asks as fast as it can, with and without a quota of the root.

Usage: ``python benchmarks/tenants.py [--tenants 50] [--seconds 10]``
"""

import argparse
import asyncio
import gc
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

from midstream.app.tenants.folders import TenantFolders
from midstream.app.tenants.serve import TenantServer
from midstream.serving.access.key_file import KeyFile
from midstream.serving.options import ServerOptions
from midstream.serving.tenants.dispatcher import TenantDispatcher
from midstream.serving.tenants.types import TenantQuota, TenantWish

FIRST = 10
"""Tenants before the first reading: what the first ones load is shared."""
REST_S = 1.0
FLOOD_CLIENTS = 8
QUOTA = 50.0
ACTS = [{"type": "view", "session_id": f"s{n % 7}", "item_id": f"i{n % 40}"} for n in range(200)]


def resident_mib() -> float:
    """Return the resident memory of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * 4_096 / (1 << 20)


async def asked(front: TenantDispatcher, path: str, key: str, body: object) -> int:
    """Return the status of a POST."""
    content = msgspec.json.encode(body)
    pieces = [{"type": "http.request", "body": content, "more_body": False}]
    statuses: list[int] = []

    async def receive() -> dict[str, object]:
        return pieces.pop() if pieces else {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(int(str(message["status"])))

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    headers += [(b"content-length", b"%d" % len(content)), (b"authorization", b"Bearer " + key.encode())]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": headers, "client": ("127.0.0.1", 1), "scheme": "http", "root_path": "", "http_version": "1.1"}
    front.arrivals.read(scope)
    await front(scope, receive, send)  # type: ignore[arg-type]
    return statuses[0]


async def quiet_ms(front: TenantDispatcher, key: str, seconds: float) -> Sequence[float]:
    """Return the times of questions, 100 a second, of which each has to be answered."""
    found: list[float] = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        status = await asked(front, "/t/t1/v1/recommendations", key, {"session_id": f"s{len(found) % 7}", "n": 10})
        found.append((time.perf_counter() - began) * 1_000)
        if status != 200:
            raise SystemExit(f"the quiet tenant was refused: {status}")
        await asyncio.sleep(0.01)
    return found


async def flood(front: TenantDispatcher, key: str, counts: dict[int, int]) -> None:
    """Ask without a pause, as one client that waits for each answer."""
    number = 0
    while True:
        number += 1
        status = await asked(front, "/t/t2/v1/recommendations", key, {"session_id": f"s{number % 7}", "n": 10})
        counts[status] = counts.get(status, 0) + 1
        await asyncio.sleep(0 if status == 200 else 0.005)


async def noise(server: TenantServer, front: TenantDispatcher, keys: Sequence[str], seconds: float) -> None:
    """Print the times of the quiet tenant in three situations, in turns."""
    await quiet_ms(front, keys[0], 1.0)
    for name, clients, quota in (
        ("alone", 0, 0.0),
        ("beside a flood", FLOOD_CLIENTS, 0.0),
        (f"beside a flood with a quota of {QUOTA:.0f}/s", FLOOD_CLIENTS, QUOTA),
        ("alone again", 0, 0.0),
    ):
        await server.group.set_quota("t2", TenantQuota(quota))
        counts: dict[int, int] = {}
        tasks = [asyncio.create_task(flood(front, keys[1], counts)) for _ in range(clients)]
        times = await quiet_ms(front, keys[0], seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        p50, p99 = np.percentile(times, (50, 99))
        print(f"quiet tenant {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, {len(times)} questions; flood {counts}")


async def measure(tenants: int, seconds: float) -> None:
    """Open the tenants, print their memory, then the noise."""
    with TemporaryDirectory() as folder:
        folders = TenantFolders(Path(folder))
        KeyFile(folders.data).require()
        server = TenantServer(folders, ServerOptions(port=0), "benchmark")
        async with server.opening() as (front, _):
            await server.group.opened()
            keys, first = [], 0.0
            for number in range(1, tenants + 1):
                made = await server.group.create(TenantWish(f"t{number}"), "benchmark")
                keys.append(made.key)
                await asked(front, f"/t/t{number}/v1/events", made.key, ACTS)
                if number == FIRST:
                    await asyncio.sleep(REST_S)
                    first = resident_mib()
            await asyncio.sleep(REST_S)
            last = resident_mib()
            each = (last - first) / (tenants - FIRST)
            print(f"{FIRST} tenants {first:.0f} MiB, {tenants} tenants {last:.0f} MiB: {each:.1f} MiB each")
            await noise(server, front, keys, seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0)
    chosen = parser.parse_args()
    asyncio.run(measure(max(FIRST + 1, chosen.tenants), chosen.seconds))


if __name__ == "__main__":
    main()
