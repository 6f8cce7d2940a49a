"""The composed row of docs/benchmarks.md: everything that a slate can be made of, over HTTP, from the real server.

Three sources and what is popular, filters, the cut to 500 candidates, 40 columns of features (those of ``cells``), 300
trees of 31 leaves, a cap and diversity by category, 20 items, served records on. The trees are fitted by LightGBM on
rows that were read of this very state, with labels that hang on some of the columns. Measured is saturation (closed
loop), the same with the parts taken away one after another, and latency at half of the saturation (open loop); and of
the answers whether all of it ran: scorer, candidates, tier. Needs a C compiler and the extra ``train``; 5 minutes.
"""

import http.client
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
from cells import features
from serving import (
    CONFIG,
    Row,
    Server,
    arguments,
    asks,
    compiled,
    disk_rows,
    load,
    quantile,
    report,
    request,
    serving,
    spread,
    world_of,
    write_requests,
)
from world import World, batches

from midstream.app.config_history import settings_of
from midstream.app.opening import DATA_NAME, config_of
from midstream.app.wiring import plans
from midstream.core.types import Models, Query
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.snapshots import snapshots
from midstream.events.disk import RealDisk
from midstream.events.schema import Event, build
from midstream.events.segments.log_identity import identity_of
from midstream.events.segments.segments import SegmentLog
from midstream.models.artifact.artifact import Draft
from midstream.models.artifact.golden import made_rows, row_content
from midstream.models.rows.examples import Examples
from midstream.models.rows.lambdamart import LambdaMartOptions, fit_lambdamart
from midstream.ranking.boundary import Account
from midstream.ranking.candidate_generation import scored_candidates
from midstream.ranking.frame import FeatureReader
from midstream.ranking.plan_run import PlanRun
from midstream.state.fold import Fold
from midstream.training.registry import Registry

CATEGORIES = 200
REQUESTS = 20_000
JSON = {"content-type": "application/json"}
PLACEMENTS = ("default", "without_rules", "without_model", "without_features")
CONNECTIONS = 7
"""At saturation: one less than make a queue of which some are sent away."""
ROUNDS = 5
SOURCES = """sources = [
    { kind = "session_knn", limit = 300 }, { kind = "covisitation", limit = 200 }, { kind = "trending", limit = 300 },
    { kind = "popular", limit = 100 },
]
"""
RULES = """caps = [{ attribute = "category", max = 3 }]
diversity = { attribute = "category", weight = 0.3 }
"""


def configured() -> str:
    """Return the configuration: one placement with everything, and those that lack more and more of it."""
    declared = [
        "\n".join(
            ("[[features]]", *(f"{key} = {json.dumps(value)}" for key, value in each.items() if value is not None))
        )
        for each in msgspec.to_builtins(features(), enc_hook=str)
    ]
    named = f"features = {json.dumps([each.name for each in features()])}\n"
    model = 'scorers = [{ kind = "model", name = "ranker" }]\n'
    placements = {
        "default": SOURCES + named + model + RULES,
        "without_rules": SOURCES + named + model,
        "without_model": SOURCES + named,
        "without_features": SOURCES,
    }
    tables = [f'[[placements]]\nname = "{name}"\n{text}' for name, text in placements.items()]
    fitted = '[[models]]\nname = "ranker"\nkind = "trees"\nplacement = "default"\n'
    return "\n".join((CONFIG, '[items.attributes]\ncategory = "category"', *declared, *tables, fitted))


def prepare(root: Path, world: World, trees: int) -> Iterator[Row]:
    """Write the log, its snapshot and the model; yield what they are."""
    (root / "midstream.toml").write_text(configured())
    config, data = config_of(root), DataFolder(root / DATA_NAME)
    log = SegmentLog(data.log, RealDisk(), b"b" * 16)
    items = range(world.items)
    for first in range(0, world.items, 10_000):
        log.append(build([put(item) for item in items[first : first + 10_000]]))
    for batch in batches(world):
        log.append(batch)
    fold = Fold(settings_of(data, config))
    catch_up(fold, log.read, log.end)
    snapshots.write(data.snapshots, fold, identity_of(bytes.fromhex(log.log_id), log.generation))
    log.close()
    examples, counts = rows_of(root, fold, world)
    model = fit_lambdamart(examples, LambdaMartOptions(trees_max=trees, later_share=0.0))
    draft = Draft(name="ranker", kind="trees", inputs=model.inputs)
    Registry(data.models).publish(draft, row_content(model, made_rows(model, 1)))
    value = f"{np.median(counts):.0f} ({min(counts)} to {max(counts)})"
    yield Row("candidates that are scored, median (least to most)", value, "", "500")
    yield Row("columns of features; trees", f"{len(examples.names)}; {trees}", "", "40; 300")
    os.sync()


def put(item: int) -> Event:
    """Return the event that puts an item into the catalogue, with its category."""
    body = b'{"category":"c%d"}' % (item % CATEGORIES)
    return Event(3, 1, item_id=f"i{item:07d}", body=body, log_time_ms=1, event_time_ms=1)


def rows_of(root: Path, fold: Fold, world: World) -> tuple[Examples, list[int]]:
    """Return rows of 40 features as 200 requests read them, with labels made of some, and how many rows each had."""
    plan = plans(config_of(root))["default"]
    parts, counts = [], []
    for number, ask in enumerate(asks(world, 200, 5)):
        query = Query("", "default", ask["user_id"], None, 20, fold.log_time_ms, number, items=tuple(ask["items"]))
        moment = fold.moment(query, Models({}))
        run = PlanRun(plan, moment, Account())
        candidates = scored_candidates(run)
        counts.append(len(candidates))
        frame = FeatureReader(moment, run.account, plan.declared).frame(plan.features, candidates)
        names, values = frame.names[-40:], np.ascontiguousarray(frame.values[:, -40:])
        parts.append(values)
    every = np.concatenate(parts)
    known = np.nan_to_num((every - np.nanmean(every, axis=0)) / (np.nanstd(every, axis=0) + 1e-6))
    dice = np.random.default_rng(3)
    worth = known @ dice.normal(size=40) + 2 * np.sin(3 * known[:, 0]) + dice.normal(size=len(every))
    label = (worth > np.quantile(worth, 0.9)).astype(np.float32)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    plain = Examples.of_rows(names, every, label)
    return (
        Examples(
            names, every, start, label, plain.time_ms[: len(counts)], plain.weight, plain.position, plain.propensity
        ),
        counts,
    )


def promote(server: Server) -> None:
    """Put the model in service."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        connection.request("POST", "/v1/models/ranker/promote", json.dumps({"version": "1"}), JSON)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise RuntimeError(answer.read())
        answer.read()


def shown(server: Server, bodies: list[dict[str, object]]) -> list[dict]:
    """Ask some requests and return the records of the answers."""
    found = []
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        for body in bodies:
            connection.request("POST", "/v1/recommendations", json.dumps(body), JSON)
            answer = json.loads(connection.getresponse().read())
            record = {}
            while "scorer" not in record:  # it is in the log a moment after the answer
                connection.request("GET", f"/v1/requests/{answer['request_id']}")
                record = json.loads(connection.getresponse().read())
            found.append({**record, "tier": answer["tier"], "failures": answer.get("failures", [])})
    return found


def measure(server: Server, generator: Path, root: Path, world: World, seconds: float) -> list[Row]:
    """Return saturation of each placement, and latency at half of that of the whole.

    The placements take turns, since a machine that others use is faster in one minute than in the next.
    """
    told = asks(world, REQUESTS, 1)
    files = {
        name: write_requests(root / name, [request("/v1/recommendations", {**ask, "placement": name}) for ask in told])
        for name in PLACEMENTS
    }
    load(server, generator, files["default"], CONNECTIONS, 0, 3, "single")
    found: dict[str, list[dict]] = {name: [] for name in PLACEMENTS}
    halves = []
    for _ in range(ROUNDS):
        for name, file in files.items():
            found[name].append(load(server, generator, file, CONNECTIONS, 0, seconds / 2, "single"))
        rate_s = found["default"][-1]["per_second"] / 2
        halves.append(load(server, generator, files["default"], 32, rate_s, seconds, "single"))
    rows = [row_of(name, runs) for name, runs in found.items()]
    for percent, asked in ((50, ("4", "2")), (99, ("15", "8"))):
        times = spread([run[f"p{percent}_us"] / 1e3 for run in halves], "{:.1f}")
        rows.append(Row(f"composed at half of it, p{percent} ms", times, *asked))
    errors = f"{sum(run['errors'] for run in halves)} of {sum(run['count'] + run['errors'] for run in halves)}"
    return [*rows, Row("errors at half of it", errors, "0", "0"), *whole(shown(server, told[:200]))]


def row_of(name: str, runs: list[dict]) -> Row:
    """Return what a placement's runs at saturation say; what was refused for want of time is no slate."""
    rates = spread([run["per_second"] for run in runs], "{:,.0f}")
    cpu = spread([run["cpu_s"] / run["count"] * 1e6 for run in runs], "{:.0f}")
    what = "composed: slates/s at saturation" if name == "default" else f"… {name.replace('_', ' ')}"
    floor, target = ("500", "900") if name == "default" else ("", "")
    refused = sum(run["errors"] for run in runs)
    return Row(f"{what}; CPU of the server for one, µs; refused", f"{rates}; {cpu}; {refused}", floor, target)


def whole(records: list[dict]) -> list[Row]:
    """Return whether everything ran, by the records of some answers."""
    full = sum(each["tier"] == "full" and each["scorer"] == "ranker" for each in records)
    candidates = quantile([each["candidate_count"] for each in records], 50)
    value = f"{full} of {len(records)}; {candidates:.0f}"
    return [Row("answers in full by the trees; candidates of the median", value, "", "all; 500")]


def main() -> None:
    """Run and print."""
    parser = arguments(__doc__, seconds=8.0)
    parser.add_argument("--trees", type=int, default=300)
    options = parser.parse_args()
    world = world_of(options)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root = Path(folder)
        generator = compiled()
        rows = [*prepare(root, world, options.trees), *disk_rows(root)]
        before = os.getloadavg()[0]
        with serving(root) as server:
            promote(server)
            rows += measure(server, generator, root, world, options.seconds)
            rows.append(Row("load of the machine before and after", f"{before:.1f}, {os.getloadavg()[0]:.1f}", "", ""))
    report(rows, options.json)


if __name__ == "__main__":
    main()
