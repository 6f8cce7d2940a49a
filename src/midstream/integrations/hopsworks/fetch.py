"""Fetch of columns from a Hopsworks feature view: one call of its client for all ids, in a thread of its own.

The client has no call that waits on an event loop, and says nothing of being called by several threads at once. So one
thread logs in and makes the calls one after another; a call that nobody waits for any more is taken out of its queue.

Reference: https://docs.hopsworks.ai/latest/user_guides/fs/feature_view/feature-vectors/
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from midstream.core.durations import Duration
from midstream.core.errors import ExtraMissing, ShapeMismatch
from midstream.core.field_bounds import Between, Name, TextBytes
from midstream.engine.stores.address import address_of, password_from
from midstream.engine.stores.connector import Connector, connector_of
from midstream.engine.stores.fetched_values import FetchedText, IdKind, column_of, keys_of, named_fields

SCHEME, PORT = "hopsworks", 443
TIMEOUT_S_MAX = "60s"


class HopsworksView(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Address of a feature view, and how it is read."""

    url: str
    """``hopsworks://host:443/project``."""
    feature_view: str
    version: Annotated[int, msgspec.Meta(ge=1)] = 1
    password_env: str = ""
    """Variable of the environment with an API key."""
    client: Literal["sql", "rest"] = "sql"
    """Which of the two ways of its client to the online store is used."""
    give_up: Annotated[Duration, Between("50ms", TIMEOUT_S_MAX)] = Duration("1s")
    """After which nobody waits for a call; it ends by itself."""


class HopsworksFetchOptions(HopsworksView, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="hopsworks"):
    """``component = { kind = "hopsworks", … }``."""

    key: str = "item_id"
    """Serving key of the view that the ids are."""
    id_type: IdKind = "text"
    fields: dict[Name, Annotated[str, TextBytes(256)]] = msgspec.field(default_factory=dict[str, str])
    """Feature of a column, where it has another name: ``{ stock = "qty" }``."""


class HopsworksReader(NamedTuple):
    """A feature view that is ready to be read, and the thread that reads it."""

    view: Any
    """``hsfs.feature_view.FeatureView``"""
    thread: ThreadPoolExecutor


class HopsworksFetch:
    """A ``Fetch`` of the columns of some ids by one call."""

    def __init__(self, options: HopsworksFetchOptions, kinds: Mapping[str, str]) -> None:
        """Prepare; nobody is asked."""
        self.options = options
        self.kinds = dict(kinds)
        self._fields = named_fields(kinds, options.fields)

    def __eq__(self, other: object) -> bool:
        """Return whether another one asks the same."""
        return isinstance(other, HopsworksFetch) and (self.options, self.kinds) == (other.options, other.kinds)

    __hash__ = None  # type: ignore[assignment]

    def connection(self) -> Connector[HopsworksReader]:
        """Return the connector of the running event loop."""
        own = HopsworksView(**{each: getattr(self.options, each) for each in HopsworksView.__struct_fields__})
        return connector_of(("hopsworks", msgspec.json.encode(own, enc_hook=str)), lambda: new_connection(own))

    async def fetch(self, ids: Sequence[str]) -> Mapping[str, Sequence[FetchedText]]:
        """Return each column; None = there is no such row, or no value in it.

        Raises:
            ShapeMismatch: The answer lacks a feature or a row, or a value is of another kind.
        """
        places = keys_of(ids, self.options.id_type)
        rows: Mapping[str, Sequence[object]] = {}
        if places:
            entries = [{self.options.key: str(each) if self.options.id_type == "uuid" else each} for each in places]
            rows = await self.connection().call(lambda reader: self._ask(reader, entries))
        found: dict[str, Sequence[FetchedText]] = {}
        for (name, kind), field in zip(self.kinds.items(), self._fields, strict=True):
            values: list[object] = [None] * len(ids)
            for place, value in zip(places.values(), rows.get(field, ()), strict=True):
                values[place] = value
            found[name] = column_of(name, kind, values, ids)
        return found

    async def _ask(self, reader: HopsworksReader, entries: Sequence[Mapping[str, object]]) -> Mapping[str, Any]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(reader.thread, self._read, reader.view, list(entries))

    def _read(self, view: Any, entries: list[Mapping[str, object]]) -> Mapping[str, Any]:  # noqa: ANN401  of the library
        """Return the values of the features by name, on the thread."""
        rest = {"force_rest_client": True} if self.options.client == "rest" else {"force_sql_client": True}
        frame = view.get_feature_vectors(
            serving_keys=entries,
            return_type="pandas",
            allow_missing=True,
            transform=False,
            on_demand_features=False,
            **rest,
        )
        missing = [each for each in self._fields if each not in frame.columns]
        if missing or len(frame) != len(entries):
            message = (
                f"the feature view has no {', '.join(missing)}; it has {', '.join(map(str, frame.columns))[:200]}"
                if missing
                else f"{len(frame)} rows came where {len(entries)} are right"
            )
            raise ShapeMismatch(message)
        return {each: _values(frame[each]) for each in self._fields}


def _values(column: Any) -> list[object]:  # noqa: ANN401  of the library
    """Return the values of a column of pandas; NaN, NaT and NA are missing."""
    told = zip(column.tolist(), column.isna().tolist(), strict=True)
    return [None if is_missing else value for value, is_missing in told]


def new_connection(told: HopsworksView) -> Connector[HopsworksReader]:
    """Return a connector of one's own, which is not opened."""
    name = f"Hopsworks at {address_of(told.url, SCHEME, PORT).shown}"
    return Connector(name, lambda: _open(told), _close, _failures, told.give_up.ms / 1_000)


async def _open(told: HopsworksView) -> HopsworksReader:
    """Return a view whose clients are made, by the thread that will use them."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="hopsworks")
    is_open = False
    try:
        view = await asyncio.get_running_loop().run_in_executor(thread, _view, told)
        is_open = True
    finally:
        if not is_open:
            thread.shutdown(wait=False, cancel_futures=True)
    return HopsworksReader(view, thread)


def _view(told: HopsworksView) -> Any:  # noqa: ANN401  of the library
    """Log in and return the feature view."""
    address = address_of(told.url, SCHEME, PORT)
    project = _library().login(
        host=address.hosts[0],
        port=address.port,
        project=address.path,
        api_key_value=password_from(told.password_env),
        hostname_verification=True,
    )
    view = project.get_feature_store().get_feature_view(name=told.feature_view, version=told.version)
    view.init_serving(
        init_sql_client=told.client == "sql", init_rest_client=told.client == "rest", default_client=told.client
    )
    return view


async def _close(reader: HopsworksReader) -> None:
    reader.thread.shutdown(wait=False, cancel_futures=True)


def _failures() -> tuple[type[Exception], ...]:
    errors = import_module("hopsworks.client.exceptions")
    return OSError, errors.RestAPIError, errors.FeatureStoreException


def _library() -> Any:  # noqa: ANN401  its types are not asked for where it is absent
    try:
        return import_module("hopsworks")
    except ImportError as error:
        message = "Hopsworks needs its client in this environment: pip install 'midstream[hopsworks]'"
        raise ExtraMissing(message) from error
