"""Scorer on a model server: one call a request with the columns of all candidates; one number a row comes back.

The call has the time that is left of the request's, and runs within the bounds of ``engine.stores.connector``: a
server that is gone fails at once, one that is slow costs the request its scores, and the next scorer answers. What came
is checked before it is a score; the record of the answer keeps it, so that a rerun asks nobody.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from midstream.core.durations import Duration
from midstream.core.errors import ScoresUnavailable, StoreUnavailable
from midstream.core.field_bounds import Between, Length, Name
from midstream.core.traits import Traits
from midstream.core.types import FeatureFrame, Models, Query, Score
from midstream.engine.stores.connector import Connector, connector_of
from midstream.engine.stores.online_store import StoreRefused
from midstream.integrations.model_servers.exchange import AnswerInvalid, CallFailed, ServerReply
from midstream.integrations.model_servers.grpc_transport import GrpcTransport, library
from midstream.integrations.model_servers.http_transport import HttpTransport, authority_of
from midstream.integrations.model_servers.oip_grpc import OipGrpc
from midstream.integrations.model_servers.oip_http import OipHttp
from midstream.integrations.model_servers.target import Encoding, Layout, Target
from midstream.integrations.model_servers.tensorflow_grpc import TensorFlowGrpc
from midstream.integrations.model_servers.tensorflow_rest import TensorFlowRest
from midstream.integrations.model_servers.tensors import scores_of
from midstream.integrations.model_servers.torchserve import TorchServe
from midstream.integrations.model_servers.urls import url_of
from midstream.ranking.scorers.model_scorer import OF_SOURCES, columns_of

Dialect = OipHttp | OipGrpc | TensorFlowRest | TensorFlowGrpc | TorchServe
Transport = HttpTransport | GrpcTransport
ServerProtocol = Literal["oip", "tensorflow_serving", "torchserve"]
COLUMNS_MAX = 1_024
CALLS_MAX = 64
MANAGEMENT_PORT = 8_081
_DIALECTS_MAX = 1_024
CALL_S_MAX = 60.0
"""Of a call that somebody waits for, as the longest ``timeout``."""


class RemoteScorer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="remote"):
    """Scores by a model that a server runs; waits for it."""

    traits: ClassVar[Traits] = Traits()
    protocol: ServerProtocol
    url: str
    """``http://``, ``https://``, ``grpc://`` or ``grpcs://host:port``."""
    model: str
    """Its name on the server."""
    name: Name = "remote"
    """Of this scorer in answers, served records and metrics."""
    version: str = ""
    """Of the model on the server; empty = the one that the server chooses."""
    columns: Annotated[tuple[str, ...], Length(0, COLUMNS_MAX)] = ()
    """Columns that are sent, in their order: of the placement's features, or ``score.SOURCE`` and ``rank.SOURCE``.
    Empty = those of all features."""
    missing: float | None = None
    """Sent where a value is missing; None = NaN, which JSON does not have."""
    layout: Layout = "matrix"
    """``matrix``: one input of all columns. ``columns``: an input a column, by its name."""
    input: str = "input"
    """Name of the input of a matrix."""
    output: str = ""
    """Name of the output; empty = the only one."""
    output_column: Annotated[int, msgspec.Meta(ge=0, lt=COLUMNS_MAX)] | None = None
    """Number of a row's output that is the score, where there are several, such as one a class."""
    encoding: Encoding = "binary"
    """Of ``oip`` over HTTP."""
    signature: str = ""
    """Of ``tensorflow_serving``; empty = the server's default."""
    management_url: str = ""
    """Of ``torchserve``; empty = port 8081 of the same host."""
    token_env: str = ""
    """Variable of the environment with a bearer token."""
    management_token_env: str = ""
    tls_ca: str = ""
    """File of the authority that signed the server's certificate; empty = of the system, over gRPC of grpcio."""
    calls_max: Annotated[int, msgspec.Meta(ge=1, le=CALLS_MAX)] = 8
    """Calls under way at the server, of one process; others wait for one to end."""
    timeout: Annotated[Duration, Between("1ms", "1m")] = Duration("1m")
    """How long a request waits at most, within what is left of its time."""
    give_up: Annotated[Duration, Between("50ms", "60s")] = Duration("1s")
    """After which a call over HTTP whose request is over is given up, from then on, and its connection closed."""

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        """Return the server's number for each row.

        Raises:
            StoreUnavailable: The server is not there, not ready, or too slow.
            AnswerInvalid: It gave no number for each row.
            ScoresUnavailable: The features lack a column that is sent, or have a value that JSON does not have.
        """
        rows, names = self._rows(features)
        if not len(rows):
            return np.empty(0, dtype=np.float32)
        dialect = dialect_of(self)
        if is_json(self):
            _require_finite(rows, names)
        call = dialect.call(names, rows)
        reply = await self.connection().call(
            lambda transport: transport.send(call), goes_on=not url_of(self.url).is_grpc
        )
        return scores_of(dialect.numbers(reply), len(rows), self.output_column)

    def connection(self) -> Connector[Transport]:
        """Return the connector of the running event loop to the server and its model."""
        return connector_of(("model server", *self.server_key()), lambda: new_connection(self))

    def server_key(self) -> tuple[object, ...]:
        """Return all that decides who is asked, with which secrets and bounds."""
        return (
            *(self.protocol, self.url, self.model, self.version, self.management_url),
            *(self.token_env, self.management_token_env, self.tls_ca, self.calls_max, self.give_up.ms),
        )

    def _rows(self, features: FeatureFrame) -> tuple[Score, tuple[str, ...]]:
        """Return the columns that are sent, (n, columns), and their names."""
        names = self.columns or tuple(each for each in features.names if not each.startswith(OF_SOURCES))
        if not names:
            message = "the placement reads no features"
            raise ScoresUnavailable(message)
        rows = columns_of(names, features)
        if self.missing is not None:
            rows = np.where(np.isnan(rows), np.float32(self.missing), rows)
        return rows, names


def is_json(scorer: RemoteScorer) -> bool:
    """Return whether rows go as JSON."""
    return not url_of(scorer.url).is_grpc and (scorer.protocol != "oip" or scorer.encoding == "json")


def _require_finite(rows: Score, names: Sequence[str]) -> None:
    if not (is_finite := np.isfinite(rows).all(axis=0)).all():
        message = f"{names[int(np.argmin(is_finite))]} has an infinity or NaN, which JSON does not have"
        raise ScoresUnavailable(message)


@lru_cache(maxsize=_DIALECTS_MAX)
def dialect_of(scorer: RemoteScorer) -> Dialect:
    """Return how a scorer's server is spoken to."""
    told = Target(
        scorer.model,
        scorer.version,
        scorer.input,
        scorer.output,
        scorer.layout,
        scorer.encoding,
        scorer.signature,
    )
    is_grpc = url_of(scorer.url).is_grpc
    if scorer.protocol == "oip":
        return OipGrpc(told) if is_grpc else OipHttp(told)
    if scorer.protocol == "tensorflow_serving":
        return TensorFlowGrpc(told) if is_grpc else TensorFlowRest(told)
    return TorchServe(told)


def new_connection(scorer: RemoteScorer) -> Connector[Transport]:
    """Return a connection of one's own, which is not opened: it is once the model is ready."""

    async def made() -> Transport:
        async with AsyncExitStack() as undo:
            transport = await transport_of(scorer)
            undo.push_async_callback(transport.close)
            await _require_ready(scorer, transport)
            undo.pop_all()
            return transport

    name = f"model server at {url_of(scorer.url).shown}"
    connector = Connector(name, made, _close, _failures, CALL_S_MAX)
    return connector.sharing(scorer.calls_max, scorer.give_up.ms / 1_000)


async def transport_of(scorer: RemoteScorer) -> Transport:
    """Return a client of a scorer's server; nobody is asked.

    Raises:
        StoreRefused: A token is not in the environment.
        ExtraMissing: grpcio is not installed.
    """
    url = url_of(scorer.url)
    token = _token(scorer.token_env, "token_env")
    if url.is_grpc:
        await asyncio.to_thread(library)
        made = GrpcTransport(f"dns:///{url.host}:{url.port}", CALL_S_MAX, token)
        if not url.is_secure:
            return made.plain()
        return made.secure(await asyncio.to_thread(Path(scorer.tls_ca).read_bytes) if scorer.tls_ca else None)
    authority = await asyncio.to_thread(authority_of, scorer.tls_ca) if url.is_secure else None
    return HttpTransport(url, authority, token)


async def management_transport_of(scorer: RemoteScorer) -> HttpTransport:
    """Return a client of the address at which TorchServe says how its workers are; as ``transport_of``."""
    url = url_of(scorer.management_url) if scorer.management_url else url_of(scorer.url).at_port(MANAGEMENT_PORT)
    authority = await asyncio.to_thread(authority_of, scorer.tls_ca) if url.is_secure else None
    return HttpTransport(url, authority, _token(scorer.management_token_env, "management_token_env"))


async def misfit(scorer: RemoteScorer, names: tuple[str, ...]) -> str:
    """Ask a server for its model's tensors; return what does not fit, empty = nothing, or it has no such answer."""
    dialect = dialect_of(scorer)
    if not isinstance(dialect, OipHttp | OipGrpc):
        return ""
    call = dialect.metadata_call()
    reply: ServerReply = await scorer.connection().call(lambda transport: transport.send(call))
    return dialect.misfits(reply, names)


async def _require_ready(scorer: RemoteScorer, transport: Transport) -> None:
    """Ask whether the model is ready, where the server says that.

    Raises:
        StoreUnavailable: It is not.
    """
    dialect = dialect_of(scorer)
    asked = await management_transport_of(scorer) if scorer.protocol == "torchserve" else transport
    try:
        reason = dialect.unready(await asked.send(dialect.ready_call()))
    except AnswerInvalid as error:
        reason = str(error)
    finally:
        if asked is not transport:
            await asked.close()
    if reason:
        raise StoreUnavailable(reason)


def _token(variable: str, option: str) -> str | None:
    """Return the token in a variable of the environment; None = no token is configured."""
    if not variable:
        return None
    found = os.environ.get(variable)
    if not found:
        message = f"the environment has no {variable}, which {option} names"
        raise StoreRefused(message)
    if not found.isascii() or not found.isprintable():
        message = f"{variable}, which {option} names, has characters that no token has"
        raise StoreRefused(message)
    return found


async def _close(transport: Transport) -> None:
    await transport.close()


def _failures() -> tuple[type[Exception], ...]:
    """Return the errors of the clients."""
    return OSError, CallFailed
