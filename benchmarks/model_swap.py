"""What a promotion costs those who ask meanwhile: latency of slates beside a large model that is loaded and swapped.

Publishes three versions of an item-to-item model of the named size, serves a folder whose placement asks it, and lays
an even load on the server: once by itself, once while versions are promoted one after another, and so on in turn, so
that what else the machine does meets both alike. The version that is promoted next is neither in service nor warm, so
each promotion reads all of its bytes. Needs a C compiler. About 3 minutes, and 4 times the size in memory.
"""

import argparse
import http.client
import json
import os
import platform
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from serving import CONFIG, Server, asks, compiled, prepare, request, serving, write_requests
from world import World

from midstream.models.artifact.artifact import Draft
from midstream.models.artifact.golden import item_content
from midstream.models.histories import Histories
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.vocabulary import ItemVocabulary
from midstream.training.registry import Registry

WORLD = World(items=20_000, users=50_000, sessions=50_000, events=250_000)
PLACEMENT = """
[[models]]
name = "near"
kind = "ease"

[[placements]]
name = "default"
sources = [{ kind = "ease", model = "near" }, { kind = "trending" }]
"""
CONNECTIONS = 8
WEIGHT_BYTES = 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=4)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for _ in prepare(root, WORLD):
            pass
        (root / "midstream.toml").write_text(CONFIG + PLACEMENT)
        began = time.perf_counter()
        versions = list(publish(Registry(root / "data" / "models"), chosen.bytes))
        print(f"{platform.machine()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
        seconds = time.perf_counter() - began
        print(f"three versions of {chosen.bytes / 1e9:.1f} GB written and read again in {seconds:.1f} s")
        generator = compiled()
        bodies = [request("/v1/recommendations", each) for each in asks(WORLD, 5_000, 3)]
        file = write_requests(root / "asks", bodies)
        with serving(root, pinned=False) as server:
            print(f"first version in service after {promote(server, versions[0]):.2f} s")
            laid(server, generator, file, chosen.rate, 5.0)
            rounds: list[tuple[dict, dict]] = []
            for _ in range(chosen.rounds):
                alone = laid(server, generator, file, chosen.rate, chosen.seconds)
                rounds.append((alone, swapped(server, generator, file, chosen, versions)))
            print(f"memory of the server at the end {server.rss_mb():,.0f} MB")
    report(rounds)


def publish(registry: Registry, size: int, items: int = WORLD.items) -> Iterator[str]:
    """Publish three versions of different weights; yield their names."""
    ids = [f"i{number:07d}" for number in range(items)]
    vocabulary = ItemVocabulary.of(ids)
    each = size // WEIGHT_BYTES // items
    start = np.arange(items + 1, dtype=np.int64) * each
    row = (np.arange(items, dtype=np.int32)[:, None] + np.arange(1, each + 1, dtype=np.int32)) % items
    for seed in (1, 2, 3):
        weight = np.random.default_rng(seed).random(items * each, dtype=np.float32)
        model = ItemToItem(vocabulary, start, row.reshape(-1).astype(np.int32), weight)
        draft = Draft(name="near", kind="ease", vocabulary_hash=vocabulary.content_hash)
        yield registry.publish(draft, item_content(model, Histories.of([[0, 1], [2]])))


def promote(server: Server, version: str) -> float:
    """Promote a version; return the seconds until it was in service."""
    began = time.perf_counter()
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)) as connection:
        body = json.dumps({"version": version})
        connection.request("POST", "/v1/models/near/promote", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(content)
    return time.perf_counter() - began


def laid(server: Server, generator: Path, file: Path, rate: float, seconds: float) -> dict:
    """Lay the load; return what the generator measured."""
    command = [str(generator), str(server.port), str(file), str(CONNECTIONS), str(rate), str(seconds), "single"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def swapped(server: Server, generator: Path, file: Path, chosen: argparse.Namespace, versions: list[str]) -> dict:
    """Lay the load while versions are read from disk, verified and promoted without a pause."""
    over = threading.Event()
    took: list[float] = []

    def keep_promoting() -> None:
        while not over.is_set():
            versions.append(versions.pop(0))
            took.append(promote(server, versions[0]))

    thread = threading.Thread(target=keep_promoting)
    thread.start()
    found = laid(server, generator, file, chosen.rate, chosen.seconds)
    over.set()
    thread.join()
    return {**found, "promotions": len(took), "promotion_s": statistics.median(took)}


def report(rounds: list[tuple[dict, dict]]) -> None:
    """Print each round and the medians."""
    for alone, beside in rounds:
        print(
            f"alone p50 {alone['p50_us'] / 1e3:.2f} p99 {alone['p99_us'] / 1e3:.2f} ms; "
            f"beside {beside['promotions']} promotions of {beside['promotion_s']:.2f} s "
            f"p50 {beside['p50_us'] / 1e3:.2f} p99 {beside['p99_us'] / 1e3:.2f} ms; "
            f"failed {alone.get('errors', 0)} and {beside.get('errors', 0)}"
        )
    for name in ("p50_us", "p99_us"):
        alone, beside = (statistics.median(each[which][name] for each in rounds) for which in (0, 1))
        print(f"median {name}: {alone / 1e3:.2f} alone, {beside / 1e3:.2f} beside, {beside / alone - 1:+.0%}")


if __name__ == "__main__":
    main()
