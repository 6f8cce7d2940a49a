"""A repository of ``midstream feast export`` in Feast: one command a line of JSON, one answer a line.

``python benchmarks/feast_peer/repository.py DIR`` opens the repository after ``feast apply``. Tests and
``benchmarks/feast.py`` talk to it, since Feast needs an environment of its own.
"""

import asyncio
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureStore, __version__
from feast.data_source import PushMode

SERVICE = "midstream"


class Repository:
    """Commands, each a method that takes what came and returns what is answered."""

    def __init__(self, folder: str) -> None:
        """Open the store."""
        self.store = FeatureStore(repo_path=folder)
        self.service = self.store.get_feature_service(SERVICE)
        self.loop = asyncio.new_event_loop()

    def version(self) -> str:
        """Return Feast's."""
        return __version__

    def views(self) -> dict[str, Any]:
        """Return what the registry has of each view."""
        return {
            each.name: {
                "keys": [key.name for key in each.entity_columns],
                "columns": {field.name: str(field.dtype) for field in each.features},
                "key_types": [str(key.dtype) for key in each.entity_columns],
                "tags": each.tags,
            }
            for each in self.store.list_feature_views()
        }

    def online(self, entities: dict[str, Any], features: list[str] | None = None, *, full: bool = False) -> Any:
        """Return values, by column."""
        wanted = self.service if features is None else features
        return self.store.get_online_features(wanted, entities, full_feature_names=full).to_dict()

    def online_async(self, entities: dict[str, Any], features: list[str] | None = None) -> Any:
        """Return values as read on an event loop."""
        wanted = self.service if features is None else features
        return self.loop.run_until_complete(self.store.get_online_features_async(wanted, entities)).to_dict()

    def proto(self, entities: dict[str, Any], features: list[str]) -> Any:
        """Return statuses and times, by column."""
        found = self.store.get_online_features(features, entities).proto
        rows = zip(found.metadata.feature_names.val, found.results, strict=True)
        return {
            name: {"statuses": list(each.statuses), "seconds": [time.seconds for time in each.event_timestamps]}
            for name, each in rows
        }

    def push(self, source: str, columns: dict[str, list[Any]], time_ms: int, to: str = "ONLINE") -> str:
        """Push rows of one time."""
        frame = pd.DataFrame(columns)
        frame["event_timestamp"] = pd.to_datetime(time_ms, unit="ms", utc=True)
        self.store.push(source, frame, to=PushMode[to])
        return "pushed"

    def materialize(self, since_ms: int, until_ms: int, views: list[str] | None = None) -> str:
        """Fill the online store from the history, of all views or of some."""
        since, until = (pd.to_datetime(each, unit="ms", utc=True).to_pydatetime() for each in (since_ms, until_ms))
        self.store.materialize(since, until, feature_views=views)
        return "materialized"

    def historical(self, questions: str, out: str, features: list[str] | None = None, *, full: bool = False) -> int:
        """Join values to the questions of a Parquet file; return the number of rows."""
        frame = pq.read_table(questions).to_pandas()
        job = self.store.get_historical_features(
            entity_df=frame, features=self.service if features is None else features, full_feature_names=full
        )
        found = job.to_df()
        pq.write_table(pa.Table.from_pandas(found, preserve_index=False), out)
        return len(found)

    def timed(self, entities: dict[str, Any], features: list[str], rounds: int) -> list[float]:
        """Return the milliseconds of reads, until values in Python."""
        found = []
        for _ in range(rounds):
            began = time.perf_counter()
            self.store.get_online_features(features, entities).to_dict()
            found.append((time.perf_counter() - began) * 1e3)
        return found


def main() -> None:
    """Answer line by line until the input ends."""
    warnings.filterwarnings("ignore")  # of what Feast calls
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what Feast prints is no answer
    repository = Repository(str(Path(sys.argv[1])))
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            told = {"answer": getattr(repository, asked.pop("do"))(**asked)}
        except Exception as error:  # noqa: BLE001  all of them are answers
            told = {"error": f"{type(error).__name__}: {error}"}
        answers.write(f"{json.dumps(told, default=str)}\n")
        answers.flush()


if __name__ == "__main__":
    main()
