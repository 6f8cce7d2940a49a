"""Sinks of a running server: how they stand, and an order to one of them."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from midstream.app.opening import DATA_NAME
from midstream.app.server_address import server_of
from midstream.app.server_refusals import refusal_of, server_answer
from midstream.core.errors import StoreUnavailable
from midstream.engine.folder import DataFolder
from midstream.engine.sinks.sink_group import SinkStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

ANSWER_S_MAX = 90.0
"""An order waits for the batch under way, which is given up after a minute."""


class _Sinks(msgspec.Struct, frozen=True):
    """Body of ``GET /v1/sinks``."""

    sinks: list[SinkStatus]


def sinks_of(folder: Path) -> list[SinkStatus]:
    """Return the status of each sink of a running server.

    Raises:
        StoreUnavailable: No server answers.
    """
    return msgspec.json.decode(_asked(folder, lambda client: client.get("/v1/sinks")), type=_Sinks).sinks


def backfill(folder: Path, name: str) -> SinkStatus:
    """Have a running server write all rows of a sink anew.

    Raises:
        StoreUnavailable: No server answers, or the store of the sink does not.
        NotFound: There is no sink of that name.
    """
    path = f"/v1/sinks/{quote(name, safe='')}/backfill"
    return msgspec.json.decode(_asked(folder, lambda client: client.post(path)), type=SinkStatus)


def _asked(folder: Path, ask: "Callable[[httpx.Client], httpx.Response]") -> bytes:
    url = server_of(DataFolder(folder / DATA_NAME))
    if not url:
        message = f"no server has {folder} open: sinks run in `midstream serve`"
        raise StoreUnavailable(message)
    return server_answer(url, ANSWER_S_MAX, ask, refusal_of) or b""
