"""Parts that are slow, raise or lie, one placement each, asked of the real server: is everybody answered in time?

A third of a part's calls go wrong, so that its bench, which begins at half of the last ten, never spares it: every
one of these answers pays what the fault costs. Latencies are the generator's, over HTTP, from the moment each request
was due. What waits is cut off when a tenth of the placement's deadline is left; what computes holds the thread and is
benched instead, as the last rows show: there all calls overrun. Prints one table, and JSON with ``--json``. Needs a C
compiler; 2 minutes.
"""

import http.client
import json
import os
import tempfile
from contextlib import closing
from pathlib import Path

from serving import (
    Row,
    Server,
    arguments,
    asks,
    compiled,
    load,
    ms,
    prepare,
    report,
    request,
    serving,
    world_of,
    write_requests,
)

DEADLINE_MS = 50
MARGIN_MS = 5
RATE_S = 25
"""Of requests, 40 ms apart: what is measured is one that waits, not a queue."""
FAULTS = ("none", "slow", "clinging", "raising", "nan", "short", "long")
COMPONENTS = '''
import asyncio
import itertools
import time

import msgspec
import numpy as np

CALLS = itertools.count()


class Outside(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores as a service elsewhere would, and every third time something is wrong with it."""

    fault: str
    name: str = "outside"

    async def score(self, query, features, models):
        score = features.values[:, 0].copy()
        if next(CALLS) % 3:
            return score
        if self.fault == "slow":
            await asyncio.sleep(1.0)
        if self.fault == "clinging":
            try:
                await asyncio.sleep(1.0)
            finally:
                await asyncio.sleep(0.5)
        if self.fault == "raising":
            raise ConnectionError("it is down")
        if self.fault == "nan":
            return np.full_like(score, np.nan)
        return {"short": score[:-1], "long": np.append(score, score)}.get(self.fault, score)


class Shelf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Proposes nothing, and takes its time."""

    name: str = "shelf"
    limit: int = 10

    def retrieve(self, moment):
        time.sleep(0.2)
        raise RuntimeError("not today")
'''


def configured() -> str:
    """Return a placement for each fault, and one with a source that always overruns."""
    kinds = {"session_knn": 200, "trending": 100, "popular": 50}
    sources = ", ".join(f'{{ kind = "{kind}", limit = {limit} }}' for kind, limit in kinds.items())
    deadline = f'deadline = "{DEADLINE_MS}ms"\n'
    tables = [
        f'[[placements]]\nname = "{fault}"\nsources = [{sources}]\n{deadline}'
        f'scorers = [{{ kind = "custom", path = "components:Outside", options = {{ fault = "{fault}" }} }}]\n'
        for fault in FAULTS
    ]
    computing = '{ kind = "custom", path = "components:Shelf" }'
    tables.append(f'[[placements]]\nname = "computing"\nsources = [{computing}, {sources}]\n{deadline}')
    return "\n".join(tables)


def measure(server: Server, generator: Path, root: Path, questions: list[dict], seconds: float) -> list[Row]:
    """Ask each placement."""
    rows = []
    for fault in (*FAULTS, "computing"):
        bodies = [request("/v1/recommendations", {**each, "placement": fault}) for each in questions]
        file = write_requests(root / fault, bodies)
        within = DEADLINE_MS + MARGIN_MS
        run = load(server, generator, file, 16, RATE_S, seconds, "single", within)
        tiers = tiers_of(server, [{**each, "placement": fault} for each in questions[:9]])
        told = f"{run['good']} of {run['count']}; {ms(run, 50)} / {ms(run, 99)} / {run['max_us'] / 1e3:.2f}; {tiers}"
        asked = "all" if fault != "computing" else ""
        rows.append(Row(f"{fault}: within {within} ms; p50 / p99 / greatest ms; tiers of nine", told, "", asked))
        rows.append(Row("… refused or failed", str(run["refused"] + run["unsent"] + run["errors"]), "", "0"))
    return rows


def tiers_of(server: Server, bodies: list[dict]) -> str:
    """Ask one by one; return the tiers of the answers, most frequent first."""
    found: dict[str, int] = {}
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        for body in bodies:
            connection.request("POST", "/v1/recommendations", json.dumps(body), {"content-type": "application/json"})
            tier = json.loads(connection.getresponse().read())["tier"]
            found[tier] = found.get(tier, 0) + 1
    return ", ".join(f"{count} {tier}" for tier, count in sorted(found.items(), key=lambda each: -each[1]))


def main() -> None:
    """Run and print."""
    options = arguments(__doc__, seconds=10.0).parse_args()
    world = world_of(options)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root = Path(folder)
        generator = compiled()
        rows = list(prepare(root, world))[-1:]
        (root / "components.py").write_text(COMPONENTS)
        with (root / "midstream.toml").open("a") as file:
            file.write(configured())
        with serving(root) as server:
            rows += measure(server, generator, root, asks(world, 2_000, 1), options.seconds)
        rows.append(Row("load of the machine at the end, 1 minute", f"{os.getloadavg()[0]:.1f}", "", ""))
    report(rows, options.json)


if __name__ == "__main__":
    main()
