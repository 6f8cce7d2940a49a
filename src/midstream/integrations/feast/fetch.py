"""Fetch of columns from Feast: one call of its feature server over HTTP for all ids.

Feast itself is not imported where recommendations are answered. Its package pins versions of pandas, protobuf and
Prometheus' client that a server would share, its reads hold the interpreter for 10 ms at 200 rows, and a call in a
thread cannot be given up. The feature server reads its registry and resolves a feature service in a process of its own.

Reference: https://docs.feast.dev/reference/feature-servers/python-feature-server
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec

from midstream.core.durations import Duration
from midstream.core.errors import ShapeMismatch, StoreUnavailable
from midstream.core.field_bounds import Between, Name, TextBytes
from midstream.engine.stores.address import http_address_of, password_from
from midstream.engine.stores.connector import Connector, connector_of
from midstream.engine.stores.fetched_values import FetchedText, IdKind, column_of, keys_of, named_fields
from midstream.engine.stores.online_store import StoreRefused
from midstream.monitoring.tracing import trace_headers

if TYPE_CHECKING:
    import httpx  # which takes 0.1 s to load, and every command loads this

CONNECTIONS_MAX = 32
"""Of one process: a feature server in Python answers some hundred reads a second."""
TIMEOUT_S_MAX = "60s"
READ_PATH, HEALTH_PATH = "/get-online-features", "/health"
BODY_CHARS_MAX = 200
VALUE_BYTES_MAX = 512
"""Of an answer, for each id and column: the value, its status and its time."""
HEAD_BYTES_MAX = 1 << 16
"""Of an answer beside its values; of an error as a whole."""
ANSWER_BYTES_MAX = 1 << 24
"""Of any answer; a feature service may have other columns than those that are read."""
_BUSY = frozenset((408, 429, 500, 502, 503, 504))
"""Statuses after which the same call may be answered."""


class FeastServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Address of a feature server, and how it is spoken to."""

    url: str
    """``http://host:6566`` or ``https://host``."""
    password_env: str = ""
    """Variable of the environment with a bearer token."""
    tls_ca: str = ""
    """File of the authority that signed the server's certificate; empty = those of the system."""
    connections_max: Annotated[int, msgspec.Meta(ge=1, le=CONNECTIONS_MAX)] = 8
    give_up: Annotated[Duration, Between("50ms", TIMEOUT_S_MAX)] = Duration("1s")
    """After which a call is given up and its connection closed."""


class FeastFetchOptions(FeastServer, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="feast"):
    """``component = { kind = "feast", … }``."""

    key: str = "item_id"
    """Join key of the entity that the ids are."""
    id_type: IdKind = "text"
    feature_service: str = ""
    """Its features are read by their names; empty = each column names a feature and its view: ``stock:qty``."""
    fields: dict[Name, Annotated[str, TextBytes(256)]] = msgspec.field(default_factory=dict[str, str])
    """Feature of a column, where it has another name: ``{ stock = "warehouse:qty" }``."""


class _Vector(msgspec.Struct, frozen=True):
    values: list[Any]


class _Metadata(msgspec.Struct, frozen=True):
    feature_names: Any
    """A list, or an object with the list as ``val``, as the server has it that patches protobuf's JSON or not."""


class _Answer(msgspec.Struct, frozen=True):
    metadata: _Metadata
    results: list[_Vector]


_answers = msgspec.json.Decoder(_Answer)


class FeastFetch:
    """A ``Fetch`` of the columns of some ids by one request."""

    def __init__(self, options: FeastFetchOptions, kinds: Mapping[str, str]) -> None:
        """Prepare; nobody is asked."""
        self.options = options
        self.kinds = dict(kinds)
        self._fields = named_fields(kinds, options.fields)
        self._body: dict[str, Any] = {"full_feature_names": not options.feature_service}
        if options.feature_service:
            self._body["feature_service"] = options.feature_service
        else:
            self._body["features"] = list(dict.fromkeys(self._fields))

    def __eq__(self, other: object) -> bool:
        """Return whether another one asks the same."""
        return isinstance(other, FeastFetch) and (self.options, self.kinds) == (other.options, other.kinds)

    __hash__ = None  # type: ignore[assignment]

    def connection(self) -> "Connector[httpx.AsyncClient]":
        """Return the connector of the running event loop."""
        own = FeastServer(**{each: getattr(self.options, each) for each in FeastServer.__struct_fields__})
        return connector_of(("feast", msgspec.json.encode(own, enc_hook=str)), lambda: new_connection(own))

    async def fetch(self, ids: Sequence[str]) -> Mapping[str, Sequence[FetchedText]]:
        """Return each column; None = there is no such row, or no value in it.

        Raises:
            ShapeMismatch: The answer has other columns or another number of rows, or a value is of another kind.
        """
        places = keys_of(ids, self.options.id_type)
        rows: Mapping[str, Sequence[object]] = {}
        if places:
            told = [str(each) if self.options.id_type == "uuid" else each for each in places]
            body = msgspec.json.encode({**self._body, "entities": {self.options.key: told}})
            most = ANSWER_BYTES_MAX
            if not self.options.feature_service:
                most = min(most, HEAD_BYTES_MAX + len(told) * (len(self._fields) + 1) * VALUE_BYTES_MAX)
            rows = _columns(await self.connection().call(lambda client: _ask(client, body, most)), len(told))
        found: dict[str, Sequence[FetchedText]] = {}
        for (name, kind), field in zip(self.kinds.items(), self._fields, strict=True):
            values: list[object] = [None] * len(ids)
            if places:
                own = self._own(rows, field)
                for place, value in zip(places.values(), own, strict=True):
                    values[place] = value
            found[name] = column_of(name, kind, values, ids)
        return found

    def _own(self, rows: Mapping[str, Sequence[object]], field: str) -> Sequence[object]:
        """Return the values of a feature."""
        name = field if self.options.feature_service else field.replace(":", "__", 1)
        if name not in rows:
            message = f"{field} is not in the answer, which has {', '.join(rows)[:BODY_CHARS_MAX]}"
            raise ShapeMismatch(message)
        return rows[name]


def new_connection(server: FeastServer) -> "Connector[httpx.AsyncClient]":
    """Return a connector of one's own, which is not opened."""
    name = f"Feast at {http_address_of(server.url).origin}"
    return Connector(name, lambda: _open(server), _close, _failures, server.give_up.ms / 1_000)


async def _open(server: FeastServer) -> "httpx.AsyncClient":
    """Return a client whose server has said that it is well."""
    import httpx

    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if (token := password_from(server.password_env)) is not None:
        headers["authorization"] = f"Bearer {token}"
    client = httpx.AsyncClient(
        base_url=server.url,
        headers=headers,
        timeout=server.give_up.ms / 1_000,
        limits=httpx.Limits(max_connections=server.connections_max, max_keepalive_connections=server.connections_max),
        verify=_trusted(server.tls_ca),
    )
    is_open = False
    try:
        await _answer_of(client, client.build_request("GET", HEALTH_PATH), HEAD_BYTES_MAX)
        is_open = True
    finally:
        if not is_open:
            await client.aclose()
    return client


def _failures() -> tuple[type[Exception], ...]:
    import httpx

    return (httpx.HTTPError,)


def _trusted(authority: str) -> Any:  # noqa: ANN401  as the library takes it
    if not authority:
        return True
    import ssl

    return ssl.create_default_context(cafile=authority)


async def _close(client: "httpx.AsyncClient") -> None:
    await client.aclose()


async def _ask(client: "httpx.AsyncClient", body: bytes, bytes_max: int) -> bytes:
    return await _answer_of(
        client, client.build_request("POST", READ_PATH, content=body, headers=trace_headers()), bytes_max
    )


async def _answer_of(client: "httpx.AsyncClient", request: "httpx.Request", bytes_max: int) -> bytes:
    """Return the body of a good answer, which is read up to a maximum and never unpacked.

    Raises:
        StoreUnavailable: The server is busy.
        StoreRefused: It refuses the call, such as for a feature that it does not have.
        ShapeMismatch: The answer is longer, or coded.
    """
    answer, body = await client.send(request, stream=True), bytearray()
    most = bytes_max if answer.is_success else HEAD_BYTES_MAX
    try:
        coding = answer.headers.get("content-encoding", "identity")
        if coding != "identity":
            message = f"an answer in {coding[:20]} came, which was not asked for"
            raise ShapeMismatch(message)
        async for piece in answer.aiter_raw(HEAD_BYTES_MAX):
            body += piece
            if len(body) > most:
                message = f"an answer of more than {most >> 10} KiB came"
                raise ShapeMismatch(message)
    finally:
        await answer.aclose()
    if answer.is_success:
        return bytes(body)
    told = body.decode("utf-8", "replace")[:BODY_CHARS_MAX]
    message = f"Feast at {request.url.scheme}://{request.url.netloc.decode()} answers {answer.status_code}: {told}"
    raise StoreUnavailable(message) if answer.status_code in _BUSY else StoreRefused(message)


def _columns(content: bytes, count: int) -> Mapping[str, Sequence[object]]:
    """Return the values of an answer by the name of the feature, keys of entities among them."""
    try:
        answer = _answers.decode(content)
    except msgspec.DecodeError as error:
        message = f"the answer is none of a feature server: {error}"
        raise ShapeMismatch(message) from error
    told = answer.metadata.feature_names
    named: object = cast("dict[str, object]", told).get("val") if isinstance(told, dict) else told
    names = cast("list[object]", named) if isinstance(named, list) else None
    if names is None or len(names) != len(answer.results):
        message = f"the answer has {len(answer.results)} columns of other names"
        raise ShapeMismatch(message)
    found = dict(zip(map(str, names), answer.results, strict=True))
    for name, vector in found.items():
        if len(vector.values) != count:
            message = f"{name}: {len(vector.values)} values came where {count} are right"
            raise ShapeMismatch(message)
    return {name: vector.values for name, vector in found.items()}
