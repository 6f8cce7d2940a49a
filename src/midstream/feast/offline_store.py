"""Feast offline store whose historical values are those of the log, equal to ``features as-of``.

Each row of an entity frame is a question at its own time, so values that fade, age or are of windows are exact at any
moment, and an event that came late is not seen before it came. Views that were not exported from a shop are joined by
Feast's own store for files, so one call has both.

Reference: https://docs.feast.dev/how-to-guides/customizing-feast/adding-a-new-offline-store
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, TypeAlias

import numpy as np

import midstream
from midstream.core.errors import Fault, Invalid
from midstream.engine.stores.online_store import StoreRefused
from midstream.events.loose_arrow import pa
from midstream.feast.live_reads import PAGE
from midstream.integrations.feast.tags import FEATURE_TAG, NO_ITEM, VIEW_TAG

_dask: Any = import_module("feast.infra.offline_stores.dask")
_offline: Any = import_module("feast.infra.offline_stores.offline_store")
_utils: Any = import_module("feast.utils")
_views: Any = import_module("feast.on_demand_feature_view")
_frames: Any = import_module("dask.dataframe")
_pandas: Any = import_module("pandas")
EVENT_TIMESTAMP = "event_timestamp"
_KEYS = ("user_id", "session_id", "item_id")
_ROW = "__midstream_row"
_NS_OF_MS = 1_000_000
Frame: TypeAlias = Any
"""A frame of pandas."""
FeastObject: TypeAlias = Any
"""An object of Feast, whose types are not there to be checked against."""


class MidstreamOfflineStoreConfig(_dask.DaskOfflineStoreConfig):  # type: ignore[misc]  # of a library that is not there to be checked against
    """``offline_store`` of ``feature_store.yaml``."""

    type: Literal["midstream.feast.offline_store.MidstreamOfflineStore"] = (
        "midstream.feast.offline_store.MidstreamOfflineStore"
    )
    folder: str = "."
    """Folder of ``midstream.toml`` and ``data``; a server may have it open."""
    config: str | None = None
    """File that declares the features, instead of ``midstream.toml``."""


class MidstreamOfflineStore(_dask.DaskOfflineStore):  # type: ignore[misc]  # as above
    """An ``OfflineStore`` of Feast."""

    @staticmethod
    def get_historical_features(**asked: FeastObject) -> FeastObject:
        """Return a job whose table has the rows of the entity frame, in their order, with the values of each.

        Raises:
            Invalid: There is no entity frame, or it has no time.
        """
        views, refs = asked["feature_views"], asked["feature_refs"]
        own = [each for each in views if VIEW_TAG in each.tags]
        if not own:
            return _dask.DaskOfflineStore.get_historical_features(**asked)
        frame = _frame(asked["entity_df"])
        registry, project = asked["registry"], asked["project"]
        chosen, _ = _utils._get_requested_feature_views_to_features_dict(  # noqa: SLF001  as stores of Feast do
            refs, views, registry.list_on_demand_feature_views(asked["config"].project)
        )
        time = _time_column(frame)

        def evaluate() -> FeastObject:
            mine = {view: names for view, names in chosen.items() if VIEW_TAG in view.tags}
            found = _with_values(
                asked["config"].offline_store, frame, time, mine, has_full_names=bool(asked["full_feature_names"])
            )
            if len(mine) < len(chosen):
                found = _with_others(found, asked, [each for each in chosen if each not in mine])
            return _frames.from_pandas(found, npartitions=1, sort=False)

        return _dask.DaskRetrievalJob(
            evaluation_function=evaluate,
            full_feature_names=asked["full_feature_names"],
            on_demand_feature_views=_views.OnDemandFeatureView.get_requested_odfvs(refs, project, registry),
            metadata=_offline.RetrievalMetadata(
                features=refs,
                keys=[each for each in frame.columns if each != time],
                min_event_timestamp=frame[time].min(),
                max_event_timestamp=frame[time].max(),
            ),
            repo_path=str(asked["config"].repo_path),
        )

    @staticmethod
    def offline_write_batch(
        config: FeastObject, feature_view: FeastObject, table: FeastObject, progress: FeastObject
    ) -> None:
        """Append to a file, of views that were not exported from a shop.

        Raises:
            StoreRefused: The view's history is the log.
        """
        if VIEW_TAG in feature_view.tags:
            message = (
                f"{feature_view.name}: its history is the log of the shop, and a row beside it would be in no answer. "
                "Push to the online store: that is recorded (midstream docs feature-stores#pushes)"
            )
            raise StoreRefused(message)
        _dask.DaskOfflineStore.offline_write_batch(config, feature_view, table, progress)


def _frame(entities: FeastObject) -> Frame:
    """Return the entity frame as one of pandas, rows numbered from 0."""
    if isinstance(entities, _frames.DataFrame):
        entities = entities.compute()
    if not isinstance(entities, _pandas.DataFrame):
        came = f"{type(entities).__name__} came."
        raise Invalid((Fault("entity_df", came, "A frame of pandas or Dask, a row for each question.", PAGE),))
    return entities.reset_index(drop=True)


def _time_column(frame: Frame) -> str:
    """Return the name of the column of times: Feast's own, or the only one of the kind."""
    if EVENT_TIMESTAMP in frame.columns:
        return EVENT_TIMESTAMP
    found = list(frame.select_dtypes(include=["datetime", "datetimetz"]).columns)
    if len(found) != 1:
        came = f"{len(found)} columns are timestamps: {', '.join(map(str, found)) or 'none'}."
        raise Invalid((Fault("entity_df", came, f"A column {EVENT_TIMESTAMP}.", PAGE),))
    return str(found[0])


def _with_values(
    options: FeastObject,
    frame: Frame,
    time: str,
    views: Mapping[Any, Sequence[str]],
    *,
    has_full_names: bool,
) -> Frame:
    """Return the frame with the values of views of a shop; views that name their ids otherwise are asked apart."""
    aliases: dict[tuple[tuple[str, str], ...], dict[Any, Sequence[str]]] = {}
    for view, names in views.items():
        renamed: Mapping[str, str] = view.projection.join_key_map or {}
        told = tuple(sorted(renamed.items()))
        aliases.setdefault(told, {})[view] = names
    found = frame.copy()
    for told, own in aliases.items():
        names_of = dict(told)
        ids = {each: _ids(frame, names_of.get(each, each)) for each in _KEYS}
        questions = _questions(frame, time, ids)
        features = {each.tags[FEATURE_TAG]: None for view in own for each in view.features if each.name in own[view]}
        table = midstream.features_as_of(options.folder, questions, features=list(features), config=options.config)
        for view, names in own.items():
            keys = (each.name for each in view.entity_columns if each.name in ids)
            is_missing = np.any([[each is None for each in ids[key]] for key in keys] or [[False] * len(frame)], axis=0)
            for name in names:
                column = f"{view.projection.name_to_use()}__{name}" if has_full_names else name
                found[column] = np.where(is_missing, np.float32(np.nan), table.column(name).to_numpy())
    return found


def _ids(frame: Frame, name: str) -> list[str | None]:
    """Return the ids in a column; None = missing or empty, so that the row is about none.

    Raises:
        Invalid: One is no text, such as a number, whose text may be another one than that of the events.
    """
    if name not in frame.columns:
        return [None] * len(frame)
    values = frame[name]
    found = [None if empty else each for each, empty in zip(values, values.isna(), strict=True)]
    wrong = next((each for each in found if each is not None and not isinstance(each, str)), None)
    if wrong is not None:
        came = f"{type(wrong).__name__} {str(wrong)[:32]!r} came."
        raise Invalid((Fault(f"entity_df.{name}", came, "Ids are texts.", PAGE),))
    return [each or None for each in found]


def _questions(frame: Frame, time: str, ids: Mapping[str, Sequence[str | None]]) -> FeastObject:
    """Return the questions of a frame. A part of a millisecond is rounded up: an event before it is seen."""
    times = _pandas.to_datetime(frame[time], utc=True).astype("datetime64[ns, UTC]").astype("int64")
    columns = {"time": pa.array(-(-times.to_numpy() // _NS_OF_MS))}
    columns.update({key: pa.array(told, pa.string()) for key, told in ids.items()})
    columns["item_id"] = columns["item_id"].fill_null(NO_ITEM)
    return pa.table(columns)


def _with_others(frame: Frame, asked: Mapping[str, Any], views: Sequence[Any]) -> Frame:
    """Return the frame with the columns of other views, joined by Feast's own store."""
    names = {each.projection.name_to_use() for each in views}
    refs = [each for each in asked["feature_refs"] if each.partition(":")[0] in names]
    told = {
        **asked,
        "feature_views": views,
        "feature_refs": refs,
        "entity_df": frame.assign(**{_ROW: range(len(frame))}),
    }
    job = _dask.DaskOfflineStore.get_historical_features(**told)
    found = job.evaluation_function().compute().sort_values(_ROW)
    return found.drop(columns=[_ROW]).reset_index(drop=True)
