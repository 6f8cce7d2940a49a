"""Fake of the Hopsworks client: its signatures, in memory, with what was called and by which thread.

Parameters have the names, the order and the defaults of the client. A test compares those with the client's own source.
"""

import threading
import time
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class Frame:
    """What is used of a frame of pandas: columns by name."""

    def __init__(self, columns: Mapping[str, Sequence[object]]) -> None:
        self._columns = columns
        self.columns = list(columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), ()))

    def __getitem__(self, name: str) -> "_Column":
        return _Column(self._columns[name])


class _Column:
    def __init__(self, values: Sequence[object]) -> None:
        self._values = values

    def tolist(self) -> list[object]:
        return list(self._values)

    def isna(self) -> "_Column":
        return _Column([each != each for each in self._values])  # noqa: PLR0124  NaN


class FakeFeatureView:
    """``hsfs.feature_view.FeatureView`` over values by key."""

    def __init__(self, key: str, features: Mapping[str, Mapping[str, object]]) -> None:
        self._key = key
        self._features = features
        self.served: list[Mapping[str, object]] = []
        self.read: list[Sequence[Mapping[str, object]]] = []
        self.threads: set[int] = set()
        self.error: Exception | None = None
        self.wait_s = 0.0
        self.hangs: threading.Event | None = None
        self.drops = 0

    def init_serving(
        self,
        *,
        init_sql_client: bool | None = None,
        init_rest_client: bool = False,
        default_client: str | None = None,
    ) -> None:
        """Keep what came."""
        self.served.append(
            {
                "init_sql_client": init_sql_client,
                "init_rest_client": init_rest_client,
                "default_client": default_client,
            }
        )

    def get_feature_vectors(
        self,
        *,
        serving_keys: list[dict[str, Any]] | None = None,
        return_type: str = "list",
        allow_missing: bool = False,
        force_rest_client: bool = False,
        force_sql_client: bool = False,
        transform: bool | None = True,
        on_demand_features: bool | None = True,
    ) -> Frame:
        """Return a row for each entry."""
        assert return_type == "pandas"
        assert allow_missing
        assert force_rest_client != force_sql_client
        assert not transform
        assert not on_demand_features
        time.sleep(self.wait_s)
        if self.hangs is not None:
            self.hangs.wait(60)
        if self.error is not None:
            raise self.error
        entries = serving_keys or []
        self.read.append(entries)
        self.threads.add(threading.get_ident())
        keys = [str(each[self._key]) for each in entries][self.drops :]
        columns = {name: [own.get(key, float("nan")) for key in keys] for name, own in self._features.items()}
        return Frame({self._key: keys, **columns})


@dataclass
class FakeLibrary:
    """``hopsworks``, with what was asked of it."""

    view: FakeFeatureView
    modules: dict[str, types.ModuleType] = field(default_factory=dict)
    errors: Any = None
    logins: list[Mapping[str, object]] = field(default_factory=list)
    views: list[Mapping[str, object]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    hangs: threading.Event | None = None

    def login(
        self,
        *,
        host: str | None = None,
        port: int = 443,
        project: str | None = None,
        api_key_value: str | None = None,
        hostname_verification: bool = False,
    ) -> "FakeLibrary":
        """Keep what came."""
        self.threads.add(threading.get_ident())
        self.logins.append(
            {
                "host": host,
                "port": port,
                "project": project,
                "api_key_value": api_key_value,
                "hostname_verification": hostname_verification,
            }
        )
        if self.hangs is not None:
            self.hangs.wait(60)
        return self

    def get_feature_store(self) -> "FakeLibrary":
        """Return the feature store, which this is too."""
        return self

    def get_feature_view(self, name: str, version: int | None = None) -> FakeFeatureView:
        """Return the view."""
        self.views.append({"name": name, "version": version})
        return self.view


def fake_library(view: FakeFeatureView) -> FakeLibrary:
    """Return a fake whose ``modules`` are to be put among those that are imported."""
    found = FakeLibrary(view)
    names = ("hopsworks", "hopsworks.client", "hopsworks.client.exceptions")
    found.modules = {name: types.ModuleType(name) for name in names}
    top, _, errors = found.modules.values()
    top.login = found.login  # type: ignore[attr-defined]
    for name in ("RestAPIError", "FeatureStoreException"):
        setattr(errors, name, type(name, (Exception,), {}))
    found.errors = errors
    return found
