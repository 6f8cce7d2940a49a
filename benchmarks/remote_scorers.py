"""Scores of 500 rows with 40 columns from a real Triton on loopback, beside the server's own time for the same call.

Starts the server (tests/support/services), whose model is a weighted sum in Python, and asks it over HTTP in bytes and
in JSON and over gRPC, in turns. After each call the server is asked how long it took by its own clock; what is over
that is the call's: writing, two ways through the kernel, reading, checking. Prints the whole call, what is over the
server's time, and the CPU of this process. About a minute.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import msgspec
import numpy as np
import uvloop

from midstream.core.types import FeatureFrame, Models, Query, TimestampMs
from midstream.engine.stores.connector import close_connectors
from midstream.integrations.model_servers.remote_scorer import RemoteScorer
from midstream.state.settings import read_duration
from tests.support.services.server import Server
from tests.support.services.systems import SYSTEMS

ROWS, COLUMNS, WARM_UP = 500, 40, 50
QUERY = Query("r", "home", "ann", None, 20, TimestampMs(0), 1)


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(SYSTEMS["triton"], Path(folder), is_tied=True)
        try:
            server.up()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(measured(server, options.rounds))
        finally:
            server.down()


async def measured(server: Server, rounds: int) -> None:
    """Ask in turns, and print."""
    http, grpc = (f"{scheme}://{server.host}:{server.ports[scheme]}" for scheme in ("http", "grpc"))
    scorers = {
        "HTTP, bytes": scorer_of(url=http),
        "HTTP, JSON": scorer_of(url=http, encoding="json", missing=-1.0),
        "gRPC": scorer_of(url=grpc),
    }
    took_ms: dict[str, list[tuple[float, float, float]]] = {name: [] for name in scorers}
    # By column, as the pipeline has them.
    values = np.asfortranarray(np.random.default_rng(7).normal(size=(ROWS, COLUMNS)).astype(np.float32))
    features = FeatureFrame(tuple(f"f{number}" for number in range(COLUMNS)), values)
    async with httpx.AsyncClient(base_url=http, trust_env=False) as statistics_client:
        before_ns = await served_ns(statistics_client)
        for turn in range(WARM_UP + rounds):
            for name, scorer in scorers.items():
                began, began_cpu = time.perf_counter(), time.process_time()
                await scorer.score(QUERY, features, Models({}))
                whole, cpu = time.perf_counter() - began, time.process_time() - began_cpu
                after_ns = await served_ns(statistics_client)
                if turn >= WARM_UP:
                    took_ms[name].append((1e3 * whole, 1e3 * whole - (after_ns - before_ns) / 1e6, 1e3 * cpu))
                before_ns = after_ns
    await close_connectors()
    print(
        "| over | whole call, p50 / p99 ms | over the server's own time, p50 / p99 ms | CPU of this process, p50 ms |"
    )
    print("|---|---|---|---|")
    for name, took in took_ms.items():
        whole, over, cpu = zip(*took, strict=True)
        print(f"| {name} | {shown(whole)} | {shown(over)} | {statistics.median(cpu):.2f} |")


def scorer_of(**more: object) -> RemoteScorer:
    """Return a scorer of the server's model."""
    options = {"kind": "remote", "protocol": "oip", "model": "ranker", "give_up": "20s"} | more
    return msgspec.convert(options, RemoteScorer, dec_hook=read_duration)


async def served_ns(client: httpx.AsyncClient) -> int:
    """Return for how long the server has worked on the model's calls, all together."""
    answer = await client.get("/v2/models/ranker/stats")
    found: int = answer.json()["model_stats"][0]["inference_stats"]["success"]["ns"]
    return found


def shown(values: tuple[float, ...]) -> str:
    """Return the median and the 99th percentile."""
    return f"{statistics.median(values):.2f} / {statistics.quantiles(values, n=100)[-1]:.2f}"


if __name__ == "__main__":
    main()
