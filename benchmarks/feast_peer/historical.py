"""Values as of past moments: ``get_historical_features`` over tables in Parquet."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64
from tables import COLUMNS, KEYS, ordered, rows

CONFIG = """project: beside
provider: local
registry: {folder}/registry.db
offline_store:
    type: duckdb
online_store:
    type: sqlite
    path: {folder}/online.db
entity_key_serialization_version: 3
"""
STAMPS = {"event": "event_time_ms", "arrival": "log_time_ms"}


def historical(folder: Path, order: str, stamp: str, *, known_only: bool) -> None:
    """Answer the questions of a folder.

    Args:
        folder: Holds ``events.parquet`` in log order and ``questions.parquet``; gets ``answers.parquet``, a row a
            question, in their order.
        order: In which the rows of the tables are computed: ``event`` time, as a batch job does, or ``arrival``.
        stamp: Which of both times is their event timestamp.
        known_only: Leave out rows that were created after the question (``filter_by_created_timestamp``).
    """
    events = ordered(pq.read_table(folder / "events.parquet").to_pylist(), order)
    repository = folder / "repository"
    repository.mkdir(exist_ok=True)
    (repository / "feature_store.yaml").write_text(CONFIG.format(folder=repository))
    store = FeatureStore(repo_path=str(repository))
    names = sorted({name for keys in KEYS.values() for name in keys})
    entities = {name: Entity(name=name, join_keys=[name], value_type=ValueType.STRING) for name in names}
    views = []
    for name, keys in KEYS.items():
        path = repository / f"{name}.parquet"
        table = pd.DataFrame(rows(events, keys, STAMPS[stamp]))
        table["event_timestamp"] = pd.to_datetime(table.pop("stamp_ms"), unit="ms", utc=True)
        table["created"] = pd.to_datetime(table.pop("created_ms"), unit="ms", utc=True)
        pq.write_table(pa.Table.from_pandas(table.rename(columns={c: f"{name}_{c}" for c in COLUMNS})), path)
        views.append(
            FeatureView(
                name=name,
                entities=[entities[key] for key in keys],
                schema=[Field(name=f"{name}_{column}", dtype=Float64) for column in COLUMNS],
                source=FileSource(
                    path=str(path), timestamp_field="event_timestamp", created_timestamp_column="created"
                ),
            )
        )
    at_read = faded_to_now(views[0])
    store.apply([*entities.values(), *views, at_read])
    wanted = [f"{view.name}:{field.name}" for view in views for field in view.schema if field.name not in names]
    questions = pq.read_table(folder / "questions.parquet").to_pandas()
    questions["event_timestamp"] = pd.to_datetime(questions["now_ms"], unit="ms", utc=True)
    questions["now_ms"] = questions["now_ms"].astype(float)
    found = store.get_historical_features(
        entity_df=questions,
        features=[*wanted, "at_read:item_fading_now", "at_read:item_idle"],
        filter_by_created_timestamp=known_only,
    ).to_df()
    answers = found.sort_values("number").drop(columns=["event_timestamp"])
    pq.write_table(pa.Table.from_pandas(answers, preserve_index=False), folder / "answers.parquet")


def faded_to_now(item: FeatureView) -> object:
    """Return what Feast computes when a question is asked: what has faded until then, and the time since."""
    asked = RequestSource(name="asked", schema=[Field(name="now_ms", dtype=Float64)])

    @on_demand_feature_view(
        sources=[item, asked],
        schema=[Field(name="item_fading_now", dtype=Float64), Field(name="item_idle", dtype=Float64)],
        mode="pandas",
    )
    def at_read(inputs: pd.DataFrame) -> pd.DataFrame:
        from tables import HALF_LIFE_MS  # Feast keeps the function without the names around it

        found = pd.DataFrame()
        age = inputs["now_ms"] - inputs["item_last_view_ms"]
        found["item_fading_now"] = inputs["item_fading"] * 2.0 ** (-age / HALF_LIFE_MS)
        found["item_idle"] = age / 1_000
        return found

    return at_read
