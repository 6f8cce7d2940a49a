"""Fetch of columns from a Hopsworks feature view: one call of its client for all ids, in a thread of its own.

The client has no call that waits on an event loop, and says nothing of being called by several threads at once. So one
thread logs in and makes the calls one after another; a call that nobody waits for any more is taken out of its queue.
A call that hangs is left alone after some times ``give_up``, and another thread logs in; the threads are bounded.

Reference: https://docs.hopsworks.ai/latest/user_guides/fs/feature_view/feature-vectors/
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from midstream.core.durations import Duration
from midstream.core.errors import ExtraMissing, ShapeMismatch, StoreUnavailable
from midstream.core.field_bounds import Between, Name, TextBytes
from midstream.engine.stores.address import address_of, password_from
from midstream.engine.stores.connector import Connector, connector_of
from midstream.engine.stores.fetched_values import FetchedText, IdKind, column_of, keys_of, named_fields
from midstream.integrations.hopsworks.client_thread import ClientThread

T = TypeVar("T")
SCHEME, PORT = "hopsworks", 443
HANGING_TIMES = 5
"""A call that takes this many times ``give_up`` hangs."""
LEFT_MAX = 4
"""Threads in calls that hang, of one view; with so many no other one logs in."""
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


class HopsworksReader:
    """A feature view and the thread that reads it; at most one login is under way."""

    def __init__(self, told: HopsworksView) -> None:
        """Prepare; nobody logs in."""
        self._told = told
        self._thread: ClientThread | None = None
        self._login: asyncio.Future[Any] | None = None
        self._left: list[ClientThread] = []

    async def opened(self) -> Any:  # noqa: ANN401  of the library
        """Return ``hsfs.feature_view.FeatureView``. A login that takes longer than its caller waits goes on.

        Raises:
            StoreUnavailable: Too many threads hang.
        """
        if self._login is None:
            self._left = [each for each in self._left if each.is_alive]
            if len(self._left) >= LEFT_MAX:
                message = f"{LEFT_MAX} calls of its client hang, and no other login is begun"
                raise StoreUnavailable(message)
            self._thread = ClientThread("hopsworks")
            self._login = self._thread.call(lambda: _view(self._told))
            self._login.add_done_callback(self._logged_in)
        return await asyncio.shield(self._login)

    async def call(self, work: Callable[[Any], T]) -> T:
        """Return the result of some work with the view, on the thread.

        Raises:
            StoreUnavailable: As of ``opened``.
        """
        thread, login = self._thread, self._login
        is_in = login is not None and login.done()
        if thread is not None and is_in and thread.busy_s > HANGING_TIMES * self._told.give_up.ms / 1_000:
            self._left.append(thread)
            self.close()
        view = await self.opened()
        if self._thread is None:
            message = "it is closed"
            raise StoreUnavailable(message)
        return await self._thread.call(lambda: work(view))

    def close(self) -> None:
        """End the thread behind the call that it is in; nobody waits for that."""
        if self._thread is not None:
            self._thread.end()
        self._thread = self._login = None

    def _logged_in(self, done: "asyncio.Future[Any]") -> None:
        """Forget a login that failed, so that another one may begin."""
        if (done.cancelled() or done.exception() is not None) and self._login is done:
            self.close()


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
            rows = await self.connection().call(lambda reader: reader.call(lambda view: self._read(view, entries)))
        found: dict[str, Sequence[FetchedText]] = {}
        for (name, kind), field in zip(self.kinds.items(), self._fields, strict=True):
            values: list[object] = [None] * len(ids)
            for place, value in zip(places.values(), rows.get(field, ()), strict=True):
                values[place] = value
            found[name] = column_of(name, kind, values, ids)
        return found

    def _read(self, view: Any, entries: Sequence[Mapping[str, object]]) -> Mapping[str, Any]:  # noqa: ANN401  of the library
        """Return the values of the features by name, on the thread."""
        rest = {"force_rest_client": True} if self.options.client == "rest" else {"force_sql_client": True}
        frame = view.get_feature_vectors(
            serving_keys=list(entries),
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
    reader = HopsworksReader(told)

    async def opened() -> HopsworksReader:
        await reader.opened()
        return reader

    return Connector(name, opened, _close, _failures, told.give_up.ms / 1_000)


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
    reader.close()


def _failures() -> tuple[type[Exception], ...]:
    errors = import_module("hopsworks.client.exceptions")
    return OSError, errors.RestAPIError, errors.FeatureStoreException


def _library() -> Any:  # noqa: ANN401  its types are not asked for where it is absent
    try:
        return import_module("hopsworks")
    except ImportError as error:
        message = "Hopsworks needs its client in this environment: pip install 'midstream[hopsworks]'"
        raise ExtraMissing(message) from error
