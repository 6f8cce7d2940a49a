"""Reads through Feast, whose stores ask midstream, beside our own: online of 200 items, and of 10,000 past moments.

Feast runs in the environment that ``scripts/test-integrations`` installs (``.venv-feast``). Online both ask the same
server on loopback, in turns, until values in Python. Historical reads end with a frame or a table, in turns as well.
The values are compared. About two minutes.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import midstream
from midstream.app.feature_stores.feast_repository import RepositoryOptions, write_repository
from midstream.app.server_address import read_address
from tests.support.feast_process import opened, run_feast
from tests.support.feast_shop import write_shop
from tests.support.patience import PATIENCE_S, wait_until

COLUMNS = {
    "item": ("colour", "views", "recent_1h", "recent_1d", "paid", "visitors", "worth"),
    "item_attributes": ("price",),
    "user": ("user_views",),
    "user_item": ("seen",),
}
"""10 columns of four views."""
FEATURES = ("colour", "views", "recent", "paid", "visitors", "worth", "price", "user_views", "seen")
ITEMS, USERS = 200, 30
HISTORY_ROUNDS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--questions", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder, target = Path(root) / "shop", Path(root) / "repository"
        write_shop(folder, 20_000, items=ITEMS)
        words = [sys.executable, "-P", "-m", "midstream", "serve", "-f", str(folder), "--port", "0"]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                wait_until(lambda: read_address(folder / "data"))
                write_repository(folder, target, RepositoryOptions())
                run_feast("-c", str(target), "apply")
                measure(read_address(folder / "data").url, target, options.rounds)
                measure_history(folder, target, options.questions)
            finally:
                server.terminate()
                server.wait(PATIENCE_S)


def measure(url: str, target: Path, rounds: int) -> None:
    """Read in turns of ten, and print both."""
    ids = [f"i{each}" for each in range(ITEMS)]
    entities = {"user_id": ["u1"] * ITEMS, "item_id": ids}
    refs = [f"{view}:{column}" for view, columns in COLUMNS.items() for column in columns]
    body = {"user_id": "u1", "items": ids, "features": FEATURES}
    feast_ms: list[float] = []
    own_ms: list[float] = []
    with opened(target, target / "said.txt") as feast, httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        wait_until(lambda: client.get("/health/ready").status_code == httpx.codes.OK)
        told = feast.ask("online", entities=entities, features=refs)
        answer = client.post("/v1/features/read", json=body).raise_for_status().json()
        for name in ("views", "price", "seen"):
            own = [each["values"][answer["features"].index(name)] for each in answer["items"]]
            if told[name] != own:
                message = f"{name} differs"
                raise ValueError(message)
        feast.ask("timed", entities=entities, features=refs, rounds=20)
        for _ in range(-(-rounds // 10)):
            feast_ms += feast.ask("timed", entities=entities, features=refs, rounds=10)
            for _ in range(10):
                began = time.perf_counter()
                client.post("/v1/features/read", json=body).raise_for_status().json()
                own_ms.append((time.perf_counter() - began) * 1e3)
        print(
            f"Feast {feast.ask('version')}, {ITEMS} items, {len(refs)} columns, {len(own_ms)} reads each; ms, p50 / p99"
        )
    for name, times in (("Feast's API with our store", feast_ms), ("POST /v1/features/read", own_ms)):
        print(f"{name}: {np.percentile(times, 50):.2f} / {np.percentile(times, 99):.2f}")


def questions_of(folder: Path, count: int) -> pa.Table:
    """Return rows of an entity frame at times of acts all over the log, some seconds later."""
    rng = np.random.default_rng(3)
    times = midstream.read_events(folder, kinds=["interaction"])["log_time"].to_numpy()
    return pa.table(
        {
            "user_id": [f"u{each}" for each in rng.integers(0, USERS, count)],
            "item_id": [f"i{each}" for each in rng.integers(0, ITEMS, count)],
            "event_timestamp": pa.array(rng.choice(times, count) + 5_000, pa.timestamp("ms", "UTC")),
            "number": np.arange(count),
        }
    )


def measure_history(folder: Path, target: Path, count: int) -> None:
    """Read past moments in turns, and print both."""
    questions = questions_of(folder, count)
    asked = questions.drop_columns("event_timestamp").append_column(
        "time", questions["event_timestamp"].cast(pa.int64())
    )
    refs = [f"{view}:{column}" for view, columns in COLUMNS.items() for column in columns]
    pq.write_table(questions, target / "questions.parquet")
    out = target / "answers.parquet"
    feast_s: list[float] = []
    own_s: list[float] = []
    with opened(target, target / "said.txt") as feast:
        for _ in range(1 + HISTORY_ROUNDS):
            told = {"questions": str(target / "questions.parquet"), "out": str(out), "features": refs}
            began = time.perf_counter()
            feast.ask("historical", **told)
            feast_s.append(time.perf_counter() - began)
            began = time.perf_counter()
            own = midstream.features_as_of(folder, asked, features=list(FEATURES))
            own_s.append(time.perf_counter() - began)
    found = pq.read_table(out).sort_by("number")
    for name in (each for columns in COLUMNS.values() for each in columns):
        values = [
            np.asarray(each[name].to_numpy(zero_copy_only=False), dtype=np.float32)
            for each in (found, own.sort_by("number"))
        ]
        if not np.array_equal(*values, equal_nan=True):
            message = f"{name} of the past differs"
            raise ValueError(message)
    print(f"{count} past moments, {len(refs)} columns, {HISTORY_ROUNDS} reads each; s, p50 / slowest")
    for name, times in (("Feast's API with our store", feast_s[1:]), ("midstream.features_as_of", own_s[1:])):
        print(f"{name}: {np.percentile(times, 50):.2f} / {max(times):.2f}")


if __name__ == "__main__":
    main()
