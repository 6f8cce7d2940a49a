"""Internal endpoints between leader and followers, on Unix sockets only: served records, state digest, metrics."""

from typing import TYPE_CHECKING

import msgspec

from midstream.core.errors import NotFound
from midstream.engine.ingest.served_forwarder import decode_lot
from midstream.monitoring.metrics_text import text_in_turns
from midstream.serving.http.body_reader import BodyLimits, read_body
from midstream.serving.http.problems import problem_reply
from midstream.serving.http.responses import Receive, Reply, Scope, Send, send_reply

if TYPE_CHECKING:
    from midstream.engine.engine import Engine

SERVED_PATH = "/served"
DIGEST_PATH = "/digest"
METRICS_PATH = "/metrics"
LOT_BYTES_MAX = 1 << 23
"""Of a lot: it goes as soon as it has 1 MiB, and its last record has what a request may send and the slate at most."""
LOT_S_MAX = 10.0
LOTS = b"application/octet-stream"


class StateDigest(msgspec.Struct, frozen=True):
    """Position and digest of a process's state."""

    log_position: int
    fold_version: str
    digest: str


class Inside:
    """The ASGI app behind a process's inner socket."""

    def __init__(self, engine: "Engine") -> None:
        """Answer for ``engine``."""
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: str = scope["path"]
        if path == SERVED_PATH:
            reply = await self._take(scope, receive)
        elif path == DIGEST_PATH:
            fold = self._engine.fold
            stand = StateDigest(fold.log_position, fold.settings.version(), fold.digest())
            reply = Reply(200, msgspec.json.encode(stand))
        elif path == METRICS_PATH:
            self._engine.refresh_metrics()
            reply = Reply(200, await text_in_turns(self._engine.metrics.registry), b"text/plain")
        else:
            reply = problem_reply(NotFound(path))
        await send_reply(scope, send, reply)

    async def _take(self, scope: Scope, receive: Receive) -> Reply:
        """Append a lot of served records."""
        lot = decode_lot(await read_body(scope, receive, BodyLimits(LOT_BYTES_MAX, LOT_S_MAX)))
        if lot is None:
            return Reply(400, b"")
        self._engine.record_served(lot)
        return Reply(204, b"")
