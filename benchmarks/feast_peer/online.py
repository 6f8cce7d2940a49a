"""Values of now: ``get_online_features`` of what was materialised, the feature server, and the way of a new value."""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource, ValueType
from feast import __version__ as version
from feast.types import Float32

CONFIG = """project: beside
provider: local
registry:
    path: {folder}/registry.db
    cache_ttl_seconds: 0
offline_store:
    type: duckdb
online_store:
{store}
entity_key_serialization_version: 3
"""
"""A lifetime of 0 is for ever: no request reads the registry again."""
STORES = {
    "sqlite": "    type: sqlite\n    path: {folder}/online.db",
    "redis": '    type: redis\n    connection_string: "{redis}"',
}
WARM, PUSHES = 20, 100


def online(folder: Path, kind: str, redis: str) -> dict[str, object]:
    """Fill the online store, read each request from it, push new values.

    Args:
        folder: Holds ``views.json`` (keys and columns of each table), a table each in Parquet with ``event_timestamp``,
            and ``requests.parquet`` (``number`` and the keys, a row a candidate); gets ``values.parquet``, a row each.
        kind: Of the online store.
        redis: Address, host:port, where that is the kind.

    Returns:
        Milliseconds of each part, and Feast's version.
    """
    repository = folder / f"repository-{kind}"
    repository.mkdir()
    text = STORES[kind].format(folder=repository, redis=redis)
    (repository / "feature_store.yaml").write_text(CONFIG.format(folder=repository, store=text))
    store, views = FeatureStore(repo_path=str(repository)), json.loads((folder / "views.json").read_text())
    service = declare(store, folder, views)
    now = datetime.now(UTC)
    began = time.perf_counter()
    store.materialize(now - timedelta(days=1), now)
    filled_s = time.perf_counter() - began
    names = sorted({key for view in views.values() for key in view["keys"]})
    table = pq.read_table(folder / "requests.parquet")
    requests = [
        {name: group[name].tolist() for name in names} for _, group in table.to_pandas().groupby("number", sort=True)
    ]
    found, answered, read, cpu_ms = read_all(store, service, requests)
    columns = [column for view in views.values() for column in view["columns"]]
    values = {
        column: np.concatenate([np.array(each[column], dtype=np.float32) for each in found]) for column in columns
    }
    pq.write_table(pa.table(values), folder / "values.parquet")
    pushed, seen = push(store, service, views, requests[0])
    served = through_server(repository, requests)
    return {
        "version": version,
        "filled_s": filled_s,
        "answered_ms": answered,
        "read_ms": read,
        "read_cpu_ms": cpu_ms,
        "served_ms": served,
        "pushed_ms": pushed,
        "seen_ms": seen,
    }


def declare(store: FeatureStore, folder: Path, views: dict) -> FeatureService:
    """Declare a view a table, each with a source to which new values can be pushed, and one service of all."""
    names = sorted({key for view in views.values() for key in view["keys"]})
    entities = {name: Entity(name=name, join_keys=[name], value_type=ValueType.STRING) for name in names}
    declared = [
        FeatureView(
            name=name,
            entities=[entities[key] for key in view["keys"]],
            schema=[Field(name=column, dtype=Float32) for column in view["columns"]],
            source=PushSource(
                name=f"{name}_push",
                batch_source=FileSource(path=str(folder / f"{name}.parquet"), timestamp_field="event_timestamp"),
            ),
        )
        for name, view in views.items()
    ]
    service = FeatureService(name="all", features=declared)
    store.apply([*entities.values(), *declared, service])
    return service


def read_all(
    store: FeatureStore, service: FeatureService, requests: list[dict]
) -> tuple[list[dict], list[float], list[float], float]:
    """Return the values of each request, the milliseconds until Feast's answer and until values in Python, and of CPU
    time for one, in the mean.
    """
    found, answered, read, cpu_s = [], [], [], 0.0
    for number, request in enumerate([*requests[:WARM], *requests]):
        if number == WARM:
            cpu_s = time.process_time()
        began = time.perf_counter()
        answer = store.get_online_features(features=service, entity_rows=request)
        middle = time.perf_counter()
        found.append(answer.to_dict())
        answered.append((middle - began) * 1e3)
        read.append((time.perf_counter() - began) * 1e3)
    cpu_ms = (time.process_time() - cpu_s) / len(requests) * 1e3
    return found[WARM:], answered[WARM:], read[WARM:], cpu_ms


def push(store: FeatureStore, service: FeatureService, views: dict, request: dict) -> tuple[list[float], list[float]]:
    """Return the milliseconds of pushing the new numbers of one item, and until they were read."""
    pushed, seen = [], []
    one = {name: values[:1] for name, values in request.items()}
    columns = views["item"]["columns"]
    for number in range(PUSHES):
        row = {"item_id": one["item_id"], **{column: np.float32([number]) for column in columns}}
        new = pd.DataFrame({**row, "event_timestamp": [datetime.now(UTC)]})
        began = time.perf_counter()
        store.push("item_push", new)
        middle = time.perf_counter()
        answer = store.get_online_features(features=service, entity_rows=one).to_dict()
        seen.append((time.perf_counter() - began) * 1e3)
        pushed.append((middle - began) * 1e3)
        if answer[columns[0]] != [float(number)]:
            message = f"{answer[columns[0]]} was read where {number} had been pushed"
            raise ValueError(message)
    return pushed, seen


def through_server(repository: Path, requests: list[dict]) -> list[float]:
    """Return the milliseconds of each request over HTTP, its body read and not parsed, on one kept connection."""
    times = []
    with serving(repository) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for request in [*requests[:WARM], *requests]:
            body = json.dumps({"feature_service": "all", "entities": request})
            began = time.perf_counter()
            connection.request("POST", "/get-online-features", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            times.append((time.perf_counter() - began) * 1e3)
            if answer.status != 200:
                raise ValueError(content[:500])
    return times[WARM:]


@contextmanager
def serving(repository: Path) -> Iterator[int]:
    """Run Feast's feature server until the block ends; yield its port."""
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port = each.getsockname()[1]
    command = [str(Path(sys.executable).with_name("feast")), "-c", str(repository), "serve"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-access-log", "--registry_ttl_sec", "86400"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until_ready(port, process)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when the server answers."""
    for _ in range(600):
        if process.poll() is not None:
            message = "the feature server ended by itself"
            raise ValueError(message)
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError
