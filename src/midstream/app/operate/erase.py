"""Erasure of a folder's users: by an engine of this process, or through the server that has the folder open."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from midstream.app.config.schema import Config
from midstream.app.opening import DATA_NAME, open_running
from midstream.app.server_address import server_of
from midstream.app.server_refusals import server_client, unavailable
from midstream.core.errors import ErasuresFull, FolderLocked, RewriteFailed
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.pending_erasures import require_user_id
from midstream.engine.types import ErasureDue

if TYPE_CHECKING:
    import httpx

_POLL_S = 0.2
ANSWER_S_MAX = 60.0
"""A server that is overloaded may take as long as a commit waits, and then some."""


@dataclass(frozen=True, slots=True)
class ErasedUser:
    """An erased user."""

    user_id: str
    ids_count: int
    """Number of erased ids: the user's own and those that were merged into it."""
    erase_by: str
    """When every file is to be without the user at the latest, ISO 8601."""


def erase_users(folder: Path, config: Config, user_ids: Sequence[str], *, now: bool = False) -> Sequence[ErasedUser]:
    """Erase users one after another. Durable and applied on return.

    Args:
        folder: Holds the data.
        config: Of that folder.
        user_ids: May be none, when only what waits is to be done now.
        now: Also write the log anew without them and all others who wait for that, and wait until it is done.

    Raises:
        RewriteFailed: The log could not be written anew; the old one stays.
        RequestInvalid: One of the texts is no id; nobody was erased.
        FolderLocked: Another process has the folder open, and it is no server that can be reached.
        StoreUnavailable: The server that has it open refused or did not answer; some may have been erased.
        AppendFailed: The log could not be made durable.
    """
    for user_id in user_ids:
        require_user_id(user_id)
    try:
        return asyncio.run(_with_engine(folder, config, user_ids, now=now))
    except FolderLocked:
        url = server_of(DataFolder(folder / DATA_NAME))
        if not url:
            raise
        return _through_server(url, user_ids, now=now)


async def _with_engine(folder: Path, config: Config, user_ids: Sequence[str], *, now: bool) -> Sequence[ErasedUser]:
    found: list[ErasedUser] = []
    async with open_running(folder, config) as running:
        for user_id in user_ids:
            due = await _erase(running, user_id)
            by = datetime.fromtimestamp(due.erase_by_ms / 1_000, UTC).isoformat(timespec="seconds")
            found.append(ErasedUser(user_id, due.ids_count, by.replace("+00:00", "Z")))
        if now and running.eraser is not None:
            await running.eraser.carry_out()
    return found


async def _erase(running: Instance, user_id: str) -> ErasureDue:
    """Erase one user; where as many wait as may, carry those out first."""
    try:
        return await running.engine.erase(user_id)
    except ErasuresFull:
        if running.eraser is None:
            raise
        await running.eraser.carry_out()
        return await running.engine.erase(user_id)


class _Answer(msgspec.Struct, frozen=True):
    """What of an answer counts here."""

    ids_count: int
    erase_by: str


def _through_server(url: str, user_ids: Sequence[str], *, now: bool) -> Sequence[ErasedUser]:
    found: list[ErasedUser] = []

    def note() -> str:
        return f". {len(found)} were erased"

    with server_client(url, ANSWER_S_MAX, note) as client:
        for user_id in user_ids:
            answer = client.delete(f"/v1/users/{quote(user_id, safe='')}")
            if not answer.is_success:
                raise unavailable(answer, url, note())
            told = msgspec.json.decode(answer.content, type=_Answer)
            found.append(ErasedUser(user_id, told.ids_count, told.erase_by))
    if now:
        with server_client(url, ANSWER_S_MAX) as client:
            _run_there(client, url)
    return found


class _Rewrite(msgspec.Struct, frozen=True):
    """How far a rewrite is."""

    state: str
    reason: str = ""


class _Erasures(msgspec.Struct, frozen=True):
    """What of ``GET /v1/erasures`` counts here."""

    rewrite: _Rewrite


def _run_there(client: "httpx.Client", url: str) -> None:
    """Have a server write its log anew, and wait until that is done."""
    answer = client.post("/v1/erasures/run")
    while answer.status_code == HTTPStatus.CONFLICT:  # one that was begun before the last of these were erased
        time.sleep(_POLL_S)
        answer = client.post("/v1/erasures/run")
    while answer.is_success:
        rewrite = msgspec.json.decode(answer.content, type=_Erasures).rewrite
        if rewrite.state == "done":
            return
        if rewrite.state == "failed":
            raise RewriteFailed(rewrite.reason)
        time.sleep(_POLL_S)
        answer = client.get("/v1/erasures")
    raise unavailable(answer, url)
