"""Feast online store whose values are live: a read asks a midstream server, so it sees the last click.

All views of a request are read in as few calls as its users and sessions need, at one log position each. A push of
attributes is recorded as events. A push of values that are made of events is refused, as another number would be no
count of anything, and so is a materialization: what it would write is there.

Reference: https://docs.feast.dev/how-to-guides/customizing-feast/adding-support-for-a-new-online-store
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Literal, TypeAlias

from midstream.core.errors import StoreUnavailable
from midstream.engine.stores.online_store import StoreRefused
from midstream.feast.live_client import LiveClient, LiveServerOptions, PushedValue, TimedAnswer
from midstream.feast.live_reads import PlannedReads, ReadRow, planned
from midstream.integrations.feast.tags import BOOLEAN, FEATURE_TAG, FORM_TAG, SETTABLE, VIEW_TAG

_stores: Any = import_module("feast.infra.online_stores.online_store")
_config: Any = import_module("feast.repo_config")
_async: Any = import_module("feast.infra.supported_async_methods")
_utils: Any = import_module("feast.utils")
_values: Any = import_module("feast.protos.feast.types.Value_pb2")
_DUMMY = "__dummy_id"
"""Join key of views without entities."""

RepoConfig: TypeAlias = Any
"""``feast.RepoConfig``"""
FeatureView: TypeAlias = Any
"""``feast.FeatureView``"""
FeastObject: TypeAlias = Any
"""Another object of Feast, whose types are not there to be checked against."""
FeastRow: TypeAlias = tuple[datetime | None, dict[str, Any] | None]
"""Time and values of a row, none where it is not found."""


class MidstreamOnlineStoreConfig(_config.FeastConfigBaseModel):  # type: ignore[misc]  # of a library that is not there to be checked against
    """``online_store`` of ``feature_store.yaml``."""

    type: Literal["midstream.feast.online_store.MidstreamOnlineStore"] = (
        "midstream.feast.online_store.MidstreamOnlineStore"
    )
    url: str = "http://127.0.0.1:8000"
    """Address of the server."""
    token_env: str = ""
    """Variable of the environment with a bearer token, for a proxy before the server."""
    timeout_s: float = 5.0
    """Of one call."""
    read_timeout_s: float = 10.0
    """Of all calls of one read."""
    calls_max: int = 1_000
    """Of one read: a call for each user and session, and each 1,000 items of one."""


class MidstreamOnlineStore(_stores.OnlineStore):  # type: ignore[misc]  # as above
    """An ``OnlineStore`` of Feast."""

    def __init__(self) -> None:
        """Prepare; the server is called with the first read."""
        self._client: LiveClient | None = None

    @property
    def async_supported(self) -> FeastObject:
        """Reads may wait on an event loop."""
        return _async.SupportedAsyncMethods(read=True)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: Sequence[Any],
        requested_features: Sequence[str] | None = None,
    ) -> list[FeastRow]:
        """Return the values of one view."""
        view = _View(table, entity_keys, requested_features, config.online_store.calls_max)
        return view.rows(self._of(config).read(view.plan.calls))

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: Sequence[Any],
        requested_features: Sequence[str] | None = None,
    ) -> list[FeastRow]:
        """Return the values of one view; calls run side by side."""
        view = _View(table, entity_keys, requested_features, config.online_store.calls_max)
        return view.rows(await self._of(config).read_async(view.plan.calls))

    def _read_features_per_fv(self, config: RepoConfig, *told: FeastObject) -> None:
        """Read all views of a request together, and put their values into its response."""
        request = _Request(config.online_store.calls_max, *told)
        request.fill(self._of(config).read(request.plan.calls))

    async def _read_features_per_fv_async(self, config: RepoConfig, *told: FeastObject) -> None:
        """Do the same while calls run side by side."""
        request = _Request(config.online_store.calls_max, *told)
        request.fill(await self._of(config).read_async(request.plan.calls))

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: Sequence[Any],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Record pushed attributes as events, each once.

        Args:
            config: Of the repository.
            table: The view.
            data: Rows.
            progress: Given by a materialization, and None of a push.

        Raises:
            StoreRefused: The values of the view are made of events, this is a materialization, or a value is refused;
                the text says what is recorded.
            StoreUnavailable: The server is gone.
        """
        if progress is not None:
            message = (
                f"{table.name}: the values of a shop are current without being written; a materialization has nothing "
                "to add. Push new values (midstream docs feature-stores#pushes)"
            )
            raise StoreRefused(message)
        if table.tags.get(VIEW_TAG) != SETTABLE:
            message = (
                f"{table.name}: its values are made of events and are current without being written; a push has "
                "nothing to add. Record the events instead: POST /v1/events "
                "(midstream docs feature-stores#pushes)"
            )
            raise StoreRefused(message)
        _set_all(self._of(config), _columns_of(table, data))

    def update(self, config: RepoConfig, *_: FeastObject, **__: FeastObject) -> None:
        """Do nothing: features are declared in the server's configuration."""

    def teardown(self, config: RepoConfig, *_: FeastObject, **__: FeastObject) -> None:
        """Do nothing: the state is the shop's."""

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close_async()
            self._client = None

    def _of(self, config: RepoConfig) -> LiveClient:
        """Return the client of a configuration."""
        own = config.online_store
        options = LiveServerOptions(own.url, own.token_env, own.timeout_s, own.read_timeout_s)
        if self._client is None or self._client.options != options:
            self._client = LiveClient(options)
        return self._client


class _View:
    """Rows of one view, and the calls that they need."""

    def __init__(
        self, table: FeatureView, keys: Sequence[FeastObject], requested: Sequence[str] | None, calls_max: int
    ) -> None:
        self._fields, self._keys = _fields(table, requested), [_row(each) for each in keys]
        self.plan = planned(_known(self._keys), _features(self._fields), calls_max)

    def rows(self, answers: Sequence[TimedAnswer]) -> list[FeastRow]:
        """Return the rows in the order of their keys."""
        return _in_places(self._keys, _rows(self.plan, answers, [self._fields] * len(self.plan.places)))


class _Request:
    """Views of one request of Feast, and the calls for the rows that they need, unique by view."""

    def __init__(self, calls_max: int, *told: FeastObject) -> None:
        grouped, values, join_keys, self._response, self._has_full_names, *rest = told
        self._has_versions = bool(rest and rest[0])
        told_ids = {name: [_id_or_empty(name, each) for each in own] for name, own in values.items()}
        self._views: list[tuple[Any, Sequence[str], Mapping[str, str], Sequence[list[int]], int]] = []
        keys: list[ReadRow | None] = []
        places: list[int] = []
        for table, names in grouped:
            unique, indexes, count = _utils._get_unique_entities(table, told_ids, join_keys)  # noqa: SLF001  as all stores of Feast do
            self._views.append((table, names, _fields(table, names), indexes, count))
            keys += [_row(each) for each in _utils._get_entity_key_protos(unique)]  # noqa: SLF001  as above
            places += [each[0] for each in indexes]
        self._keys = keys
        known = [(key, place) for key, place in zip(keys, places, strict=True) if key is not None]
        rows = _together([key for key, _ in known], [place for _, place in known])
        features = tuple(dict.fromkeys(each for view in self._views for each in view[2].values()))
        self.plan = planned(rows, features, calls_max)

    def fill(self, answers: Sequence[TimedAnswer]) -> None:
        """Put values into the response."""
        fields = [fields for _, _, fields, indexes, _ in self._views for _ in indexes]
        known = [each for each, key in zip(fields, self._keys, strict=True) if key is not None]
        found, start = _in_places(self._keys, _rows(self.plan, answers, known)), 0
        for table, names, _, indexes, count in self._views:
            own = found[start : start + len(indexes)]
            start += len(indexes)
            more = (self._has_versions,) if self._has_versions else ()
            _utils._populate_response_from_feature_data(  # noqa: SLF001  as above
                names, own, indexes, self._response, self._has_full_names, table, count, *more
            )


def _together(keys: Sequence[ReadRow], places: Sequence[int]) -> list[ReadRow]:
    """Return rows with the user and session that their row of the request has, so that views share calls.

    What is read of an item, or of a session, does not depend on who else is named beside it.

    Args:
        keys: A row for each unique key of each view.
        places: Of each: the first row of the request that has it.
    """
    users: dict[int, str] = {}
    sessions: dict[int, str] = {}
    for key, place in zip(keys, places, strict=True):
        if key.user_id is not None:
            users.setdefault(place, key.user_id)
        if key.session_id is not None:
            sessions.setdefault(place, key.session_id)
    user = next(iter(users.values()), None) if len(set(users.values())) == 1 else None
    session = next(iter(sessions.values()), None) if len(set(sessions.values())) == 1 else None
    return [
        ReadRow(
            key.user_id if key.user_id is not None else users.get(place, user),
            key.session_id if key.session_id is not None else sessions.get(place, session),
            key.item_id,
        )
        for key, place in zip(keys, places, strict=True)
    ]


def _row(key: FeastObject) -> ReadRow | None:
    """Return the ids of an entity key; None = one of them is missing or empty, so there is no such row.

    Raises:
        StoreRefused: An id is no text.
    """
    told: dict[str, str] = {}
    for name, value in zip(key.join_keys, key.entity_values, strict=True):
        if name == _DUMMY:
            continue
        told[name] = _id_or_empty(name, value).string_val
        if not told[name]:
            return None
    return ReadRow(**told)


def _id_or_empty(name: str, value: FeastObject) -> FeastObject:
    """Return an id as Feast can sort it with others: one that is missing is an empty text.

    Raises:
        StoreRefused: It is no text.
    """
    kind = value.WhichOneof("val")
    if kind in (None, "null_val"):
        return _values.Value(string_val="")
    if kind != "string_val":
        message = f"{name}: {kind} came where a text is right, as ids are"
        raise StoreRefused(message)
    return value


def _known(rows: Iterable[ReadRow | None]) -> list[ReadRow]:
    return [each for each in rows if each is not None]


def _in_places(rows: Sequence[ReadRow | None], found: Iterable[FeastRow]) -> list[FeastRow]:
    """Return what was found in the places of its rows; one that was not asked about is not found."""
    told = iter(found)
    return [(None, None) if each is None else next(told) for each in rows]


def _fields(table: FeatureView, requested: Sequence[str] | None) -> dict[str, str]:
    """Return the feature of each requested column of a view.

    Raises:
        StoreRefused: The view was not exported from a shop.
    """
    found = {each.name: each.tags.get(FEATURE_TAG) for each in table.features}
    names = list(found) if requested is None else requested
    if VIEW_TAG not in table.tags or not all(found.get(each) for each in names):
        message = f"{table.name} is no view of `midstream feast export`: its tags do not name features"
        raise StoreRefused(message)
    return {each: str(found[each]) for each in names}


def _features(fields: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fields.values()))


def _rows(plan: PlannedReads, answers: Sequence[TimedAnswer], fields: Iterable[Mapping[str, str]]) -> list[FeastRow]:
    """Return rows as Feast has them; one without any value is not found."""
    make, nothing = _values.Value, _values.Value()
    found: list[FeastRow] = []
    read = plan.rows([each.answer for each in answers])
    for names, values, (call, _) in zip(fields, read, plan.places, strict=True):
        told = {each: values.get(each) for each in names}
        if all(each is None for each in told.values()):
            found.append((None, None))
            continue
        row = {name: nothing if value is None else make(float_val=value) for name, value in told.items()}
        found.append((answers[call].time, row))
    return found


def _columns_of(table: FeatureView, data: Sequence[Any]) -> dict[str, list[PushedValue]]:
    """Return what is pushed of each feature, all of it checked.

    Raises:
        StoreRefused: A row has no id, or a truth is neither 1 nor 0.
    """
    found: dict[str, list[PushedValue]] = {}
    for field in table.features:
        is_boolean = field.tags.get(FORM_TAG) == BOOLEAN
        pushed = (_pushed(key, values.get(field.name), time, is_boolean=is_boolean) for key, values, time, _ in data)
        found[field.tags[FEATURE_TAG]] = [each for each in pushed if each.value is not None]
    return found


def _set_all(client: LiveClient, columns: Mapping[str, Sequence[PushedValue]]) -> None:
    """Set one feature after another; an error says which are recorded."""
    done: list[str] = []
    for feature, values in columns.items():
        try:
            client.set_values(feature, values)
        except (StoreRefused, StoreUnavailable) as error:
            if not done:
                raise
            message = f"{error}; recorded before it: {', '.join(done)}"
            raise type(error)(message) from error
        done.append(feature)


def _pushed(key: FeastObject, value: FeastObject, time: datetime, *, is_boolean: bool) -> PushedValue:
    """Return a value that was pushed, None where there is none; a time without a zone is UTC.

    Raises:
        StoreRefused: The row has no id, or a truth is neither 1 nor 0.
    """
    row = _row(key)
    if row is None:
        message = f"a row has no {' and '.join(key.join_keys)}"
        raise StoreRefused(message)
    own_id = row.item_id or row.user_id or ""
    kind = None if value is None else value.WhichOneof("val")
    own = getattr(value, kind) if kind and kind != "null_val" else None
    if isinstance(own, float) and math.isnan(own):
        own = None
    if is_boolean and own is not None:
        if own not in (0, 1):
            message = f"{own_id!r}: {own!r} came where a truth is right: 1 or 0"
            raise StoreRefused(message)
        own = bool(own)
    told = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return PushedValue(own_id, own, round(told.timestamp() * 1_000))
