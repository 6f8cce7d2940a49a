"""Hopsworks feature groups of the history that ``midstream feast export`` writes: one for each view.

The objects are the caller's own, who has logged in; nothing is read back. A row has the key of its view and its time,
so a history that is inserted again replaces the same rows.

Example::

    project = hopsworks.login()
    insert_history(project.get_feature_store(), "repository", version=1)

Reference: https://docs.hopsworks.ai/latest/user_guides/fs/feature_group/create/
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pyarrow.parquet

from midstream.core.errors import Fault, Invalid
from midstream.events.loose_arrow import pa

pq: Any = pyarrow.parquet
ROWS_MAX = 100_000
"""Rows of one insert: 8 MB of 20 columns."""
PAGE = "/docs/feature-stores.md"
PREFIX = "midstream_"
"""Begins the name of each feature group."""
SHOP_KEY = "shop"
"""Key of the view without ids: a feature group has one."""


class HistoryTable(msgspec.Struct, frozen=True):
    """One view of an export."""

    name: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    timestamp: str


class FeatureStore(Protocol):
    """What is used of ``hsfs.feature_store.FeatureStore``."""

    def get_or_create_feature_group(self, name: str, version: int, **options: Any) -> Any:  # noqa: ANN401  of the library
        """Return a feature group, whose columns are those of its first insert."""
        ...


def insert_history(
    feature_store: FeatureStore, repository: str | Path, *, version: int = 1, online_enabled: bool = True
) -> Mapping[str, int]:
    """Insert each table of an export into a feature group; return the number of rows of each.

    Args:
        feature_store: Of ``hopsworks.login().get_feature_store()``.
        repository: Folder that ``midstream feast export`` wrote.
        version: Of the feature groups.
        online_enabled: Whether the newest row of each key is in the online store too.

    Raises:
        Invalid: The folder has no export in it.
    """
    data = Path(repository) / "data"
    found: dict[str, int] = {}
    for table in _tables(data):
        group = feature_store.get_or_create_feature_group(
            name=f"{PREFIX}{table.name}",
            version=version,
            description=f"Values of the features of a midstream shop: {', '.join(table.columns)}"[:256],
            primary_key=list(table.keys) or [SHOP_KEY],
            event_time=table.timestamp,
            online_enabled=online_enabled,
        )
        found[table.name] = _insert(group, data / f"{table.name}.parquet", table)
    return found


def _tables(data: Path) -> tuple[HistoryTable, ...]:
    try:
        return msgspec.json.decode((data / "views.json").read_bytes(), type=tuple[HistoryTable, ...])
    except (FileNotFoundError, msgspec.DecodeError) as error:
        came = f"{data / 'views.json'}: {error}."
        raise Invalid((Fault("repository", came, "A folder that midstream feast export wrote.", PAGE),)) from error


def _insert(group: Any, path: Path, table: HistoryTable) -> int:  # noqa: ANN401  of the library
    rows = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_MAX):
            whole = pa.Table.from_batches([batch])
            if not table.keys:
                whole = whole.append_column(SHOP_KEY, pa.array([SHOP_KEY] * len(whole)))
            group.insert(whole.to_pandas(), wait=False)
            rows += len(whole)
    return rows
