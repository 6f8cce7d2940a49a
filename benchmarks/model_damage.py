"""What damage to models costs those who ask: every flipped bit and every cut is refused, and no request fails.

Publishes two small versions of each kind of model, serves a folder in which the first of each is champion, and lays an
even load on the server that asks the placement of each kind. Meanwhile the second version of each kind is damaged in
one place after another, 1,000 single bits and 100 cuts over all its files, and promoted over HTTP each time: every one
has to be answered with 409 and to be counted, and the versions in service have to stay. Then the second of each is
promoted whole, damaged while nobody serves, and the folder started again, some times over: the first of each has to
answer. Needs a C compiler. About 3 minutes.
"""

import argparse
import http.client
import json
import os
import platform
import re
import subprocess
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Self

from serving import Server, compiled, request, serving, write_requests

from midstream.app.operate.model_registry import registry_of
from midstream.core.errors import ExtraMissing
from tests.support.damage import damage_file, damaged, damages
from tests.support.small_models import EVERY_KIND, ITEMS, publish_small, write_every_kind

CONNECTIONS = 4
LAID_S = 5.0
Versions = dict[str, tuple[str, str]]


def main() -> None:
    """Damage, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=1_000)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--rate", type=float, default=200.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_every_kind(root)
        versions = published(root)
        print(f"{platform.machine()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
        generator = compiled()
        bodies = [
            request(
                "/v1/recommendations", {"placement": kind, "user_id": f"u{user}", "items": [f"item-{user}"], "n": 3}
            )
            for user in range(ITEMS)
            for kind in versions
        ]
        file = write_requests(root / "asks", bodies)
        with serving(root, pinned=False) as server:
            look(server)
            for kind, (first, _) in versions.items():
                require(promoted(server, kind, first) == http.client.OK, f"{kind} is promoted")
            report(root, versions, server, chosen, Load(server, generator, file, chosen.rate))
            for kind, (_, second) in versions.items():
                require(promoted(server, kind, second) == http.client.OK, f"{kind} is promoted whole")
        print(f"at a start: {started(root, versions, chosen.starts)} champions were damaged, each of them refused")


def published(root: Path) -> Versions:
    """Publish two versions of each kind whose extra is there."""
    found: Versions = {}
    for kind in EVERY_KIND:
        try:
            found[kind] = publish_small(registry_of(root), kind, 1), publish_small(registry_of(root), kind, 2)
        except ExtraMissing as error:
            print(f"{kind} is left out: {error}")
    return found


class Load:
    """Requests at an even rate, from one block of seconds to the next, until it is left."""

    def __init__(self, server: Server, generator: Path, file: Path, rate: float) -> None:
        """Begin nothing yet."""
        self.answered = self.failed = 0
        self.p99_us: list[float] = []
        self._command = [
            str(generator),
            str(server.port),
            str(file),
            str(CONNECTIONS),
            str(rate),
            str(LAID_S),
            "single",
        ]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_asking)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End with the block of seconds that is under way."""
        self._over.set()
        self._thread.join()

    def _keep_asking(self) -> None:
        while not self._over.is_set():
            done = subprocess.run(self._command, check=True, stdout=subprocess.PIPE)
            told = json.loads(done.stdout)
            self.answered += told["count"]
            self.failed += told["errors"] + told["unfinished"]
            self.p99_us.append(told["p99_us"])


def report(root: Path, versions: Versions, server: Server, chosen: argparse.Namespace, load: Load) -> None:
    """Damage each kind under load and print a line for each."""
    print("| kind | files | bits | cuts | refused | promoted |\n|---|---|---|---|---|---|", flush=True)
    began = time.perf_counter()
    with load:
        for number, (kind, (first, second)) in enumerate(versions.items()):
            folder = registry_of(root).folder / kind / second
            tried = damages(folder, chosen.flips, chosen.cuts, seed=number)
            found: Counter[int] = Counter()
            for each in tried:
                with damaged(folder, each):
                    found[promoted(server, kind, second)] += 1
            require(found == {http.client.CONFLICT: len(tried)}, f"all of {kind} are refused: {found}")
            require(refusals(server, kind) == len(tried), f"each of {kind} is counted")
            require(in_service(server, kind) == first, f"{kind} {first} serves")
            files = len(list(folder.iterdir()))
            print(f"| `{kind}` | {files} | {chosen.flips} | {chosen.cuts} | {found[409]} | {found[200]} |", flush=True)
    seconds = time.perf_counter() - began
    print(f"{load.answered:,} slates answered beside it in {seconds:.0f} s, {load.failed} failed, ", end="")
    print(f"p99 {sorted(load.p99_us)[len(load.p99_us) // 2] / 1e3:.1f} ms (median of {len(load.p99_us)} stretches)")
    require(load.answered > 0 and not load.failed, "no request fails")


def started(root: Path, versions: Versions, starts: int) -> int:
    """Start with every champion damaged, each time elsewhere; return how many were."""
    places = {
        kind: damages(registry_of(root).folder / kind / second, starts, starts, seed=99)
        for kind, (_, second) in versions.items()
    }
    count = 0
    for number in range(starts):
        kept: dict[Path, bytes] = {}
        for at, (kind, (_, second)) in enumerate(versions.items()):
            folder = registry_of(root).folder / kind / second
            # Cuts stand behind the bits: every third is one.
            each = places[kind][number + (starts if (number + at) % 3 == 0 else 0)]
            kept[folder / each.file] = (folder / each.file).read_bytes()
            damage_file(folder, each)
        with serving(root, pinned=False) as server:
            for kind, (first, _) in versions.items():
                require(in_service(server, kind) == first, f"{kind} {first} serves after a start")
                require(refusals(server, kind) == 1, f"{kind} is counted at a start")
                count += 1
        for path, whole in kept.items():
            path.write_bytes(whole)
    return count


def asked(server: Server, verb: str, path: str, body: object = None) -> tuple[int, bytes]:
    """Return status and content of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        headers = {} if body is None else {"content-type": "application/json"}
        connection.request(verb, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def promoted(server: Server, kind: str, version: str) -> int:
    """Promote a version; return the status of the answer."""
    return asked(server, "POST", f"/v1/models/{kind}/promote", {"version": version})[0]


def look(server: Server) -> None:
    """Have somebody look at every item, and put some into a cart."""
    acts = [("view", number) for number in range(ITEMS)] + [("cart", number) for number in range(ITEMS // 2)]
    events = [{"type": kind, "user_id": "ann", "item_id": f"item-{number}"} for kind, number in acts]
    require(asked(server, "POST", "/v1/events", {"events": events})[0] == http.client.OK, "events are taken")


def in_service(server: Server, kind: str) -> str:
    """Return the version that answered a request whole, and not only the one that is said to serve."""
    body = {"placement": kind, "user_id": "bob", "items": ["item-1"], "n": 3}
    told = json.loads(asked(server, "POST", "/v1/recommendations", body)[1])
    require(told["tier"] == "full" and bool(told["items"]), f"{kind} is answered in full")
    return told["models"][kind]


def refusals(server: Server, kind: str) -> float:
    """Return how often the metric says that a version was refused."""
    text = asked(server, "GET", "/metrics")[1].decode()
    found = re.search(rf'^midstream_model_refusals_total\{{model="{kind}"\}} (\S+)$', text, re.MULTILINE)
    return 0.0 if found is None else float(found[1])


def require(is_so: bool, what: str) -> None:
    """End with what is not so."""
    if not is_so:
        raise RuntimeError(what)


if __name__ == "__main__":
    main()
