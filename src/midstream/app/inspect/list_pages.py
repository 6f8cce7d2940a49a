"""Lists of a folder: items, users, events of a user and served slates, page by page.

The server that has the folder open makes the pages; without one they are made here, from the log and the state that
it gives, by the same code. Nothing is written and no lock is taken. The two have the same cursors: a list that was
begun with a server goes on without it.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from prometheus_client import CollectorRegistry

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, served_of
from midstream.app.opening import DATA_NAME, Outside
from midstream.app.server_address import server_of
from midstream.app.server_refusals import problem_of, refusal_of, server_answer
from midstream.core.answers.lists import EventPage, ItemPage, RequestPage, UserPage
from midstream.core.errors import AppendFailed, Fault, MidstreamError, NotFound, RequestInvalid
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.circuit_breaker import CircuitBreaker
from midstream.engine.folder import KEY_BYTES, DataFolder
from midstream.engine.lists.event_pages import EventListing
from midstream.engine.lists.item_pages import ItemListing
from midstream.engine.lists.lists import LIMIT_MAX, Lists
from midstream.engine.lists.request_pages import RequestListing
from midstream.engine.lists.user_pages import UserListing
from midstream.engine.live import Host, LiveState
from midstream.engine.tokens import RequestIds
from midstream.monitoring.feature_values import FeatureValues
from midstream.monitoring.metrics import Metrics

if TYPE_CHECKING:
    import httpx

ANSWER_S_MAX = 60.0
Page = TypeVar("Page", ItemPage, UserPage, EventPage, RequestPage)


@dataclass(frozen=True, slots=True)
class PageRange:
    """Where a list begins, and how many rows are wanted of it."""

    cursor: str | None = None
    """``next_cursor`` of the pages before; None = the beginning."""
    limit: int = 100


@dataclass(frozen=True, slots=True)
class _List(Generic[Page]):
    """A list as the server names it, and as it is made here."""

    page: type[Page]
    path: str
    query: Sequence[tuple[str, str]]
    make: Callable[[Lists, str | None, int], Awaitable[Page]]


def list_items(folder: Path, config: Config, asked: ItemListing, wanted: PageRange) -> ItemPage:
    """Return the items that pass a filter, in the order in which they became known.

    Cost: without a server that of the newest snapshot and the log after it, as of each list.

    Raises:
        RequestInvalid: The filter or the cursor cannot be used.
        StoreUnavailable: A server has the folder open and does not answer.
        LogDamaged: The log cannot be trusted.
    """
    query = [*_given(filter=asked.filter), *_each("fields", asked.fields)]
    listed = _List(ItemPage, "/v1/items", query, lambda lists, after, most: lists.items(asked, after, most))
    return _collected(folder, config, listed, wanted)


def list_users(folder: Path, config: Config, asked: UserListing, wanted: PageRange) -> UserPage:
    """Return the users who pass a filter, the one seen last first; errors as of ``list_items``."""
    query = [*_given(filter=asked.filter), *_each("fields", asked.fields)]
    listed = _List(UserPage, "/v1/users", query, lambda lists, after, most: lists.users(asked, after, most))
    return _collected(folder, config, listed, wanted)


def list_events(folder: Path, config: Config, asked: EventListing, wanted: PageRange) -> EventPage:
    """Return the events of a user, the newest first; errors as of ``list_items``.

    Raises:
        NotFound: Nothing is known of the user.
    """
    query = [*_each("type", asked.types), *_times(asked.since_ms, asked.until_ms)]
    path = f"/v1/users/{quote(asked.user_id, safe='')}/events"
    listed = _List(EventPage, path, query, lambda lists, after, most: lists.events(asked, after, most))
    return _collected(folder, config, listed, wanted)


def list_slates(folder: Path, config: Config, asked: RequestListing, wanted: PageRange) -> RequestPage:
    """Return served slates, the newest first; errors as of ``list_items``."""
    named = _given(user_id=asked.user_id, placement=asked.placement)
    query = [*named, *_times(asked.since_ms, asked.until_ms)]
    listed = _List(RequestPage, "/v1/requests", query, lambda lists, after, most: lists.requests(asked, after, most))
    return _collected(folder, config, listed, wanted)


def _given(**values: str | None) -> list[tuple[str, str]]:
    return [(name, value) for name, value in values.items() if value is not None]


def _each(name: str, values: Sequence[str] | None) -> list[tuple[str, str]]:
    return [(name, value) for value in values or ()]


def _times(since_ms: int, until_ms: int | None) -> list[tuple[str, str]]:
    return _given(since=str(since_ms) if since_ms else None, until=None if until_ms is None else str(until_ms))


def _collected(folder: Path, config: Config, listed: _List[Page], wanted: PageRange) -> Page:
    """Return pages as one, until it has the rows that are wanted or the list ends.

    A page ends after a bounded scan and may be empty. All pages together are bounded by the log.
    """
    url = server_of(DataFolder(folder / DATA_NAME))
    if url is not None:
        return _joined(listed, wanted, lambda cursor, limit: _asked(url, listed, cursor, limit))
    lists = Lists(state_at_rest(folder, config))
    with asyncio.Runner() as runner:

        async def made(cursor: str | None, limit: int) -> Page:
            return await listed.make(lists, cursor, limit)

        return _joined(listed, wanted, lambda cursor, limit: runner.run(made(cursor, limit)))


def _joined(listed: _List[Page], wanted: PageRange, ask: Callable[[str | None, int], Page]) -> Page:
    rows, scanned, cursor = list[Any](), 0, wanted.cursor
    try:
        while True:
            page = ask(cursor, min(LIMIT_MAX, wanted.limit - len(rows)))
            rows += getattr(page, page.__struct_fields__[0])
            scanned, cursor = scanned + page.scanned, page.next_cursor
            if cursor is None or len(rows) >= wanted.limit:
                return listed.page(rows, scanned, cursor)
    except RequestInvalid as error:
        raise RequestInvalid(tuple(map(_as_option, error.faults))) from error


_OPTIONS = {"fields": "--field", "user_id": "--user"}


def _as_option(fault: Fault) -> Fault:
    """Return a fault of a query field as one of the option of the command."""
    name = fault.where.lstrip("/$.")
    return replace(fault, where=_OPTIONS.get(name, f"--{name}")) if name.isidentifier() else fault


def _asked(url: str, listed: _List[Page], cursor: str | None, limit: int) -> Page:
    """Return a page that a server makes."""
    path = f"{listed.path}?{urlencode([*listed.query, *_given(cursor=cursor), ('limit', str(limit))])}"
    told = server_answer(url, ANSWER_S_MAX, lambda client: client.get(path), _refusal)
    return msgspec.json.decode(told or b"", type=listed.page)


def _refusal(answer: "httpx.Response", url: str) -> MidstreamError:
    problem = problem_of(answer)
    if problem is not None and answer.status_code == HTTPStatus.NOT_FOUND:
        return NotFound(problem.detail)
    return refusal_of(answer, url)


class LogAtRest:
    """An ``EventLog`` of a folder, as it ended when it was opened."""

    def __init__(self, view: LogView) -> None:
        """Read what ``view`` has."""
        self._view = view
        last = view.read(LogPosition(view.end - 1), 1) if view.end > view.begin else ()
        self._last_ms = int(last[-1][1].rows["log_time_ms"][-1]) if last else 0

    @property
    def generation(self) -> int:
        """Number of times that history was rewritten."""
        return self._view.identity.generation

    @property
    def end(self) -> LogPosition:
        """Number of events."""
        return self._view.end

    @property
    def last_log_time_ms(self) -> int:
        """Log time of the last event, 0 = there is none."""
        return self._last_ms

    def append(self, batch: EventBatch) -> LogPosition:
        """Refuse.

        Raises:
            AppendFailed: The folder is not open.
        """
        message = f"{len(batch)} events came to a log that is only read"
        raise AppendFailed(message)

    def read(self, after: LogPosition, limit: int) -> Sequence[tuple[LogPosition, EventBatch]]:
        """Return batches of the events at and after a position, as ``EventLog.read`` does."""
        return self._view.read(after, limit)

    def close(self) -> None:
        """Do nothing: no file is kept open."""


def state_at_rest(folder: Path, config: Config) -> LiveState:
    """Return the state, plans and ids of a folder as its log gives them, for reading."""
    data, view, outside = DataFolder(folder / DATA_NAME), LogView(folder), Outside()
    service, fold = served_of(folder, config, view)
    # A folder without a log or without a key gets none: cursors are good for this call alone.
    key = data.key(os.urandom) if view.reader is not None and data.has_key else os.urandom(KEY_BYTES)
    host = Host(outside.clock, time.monotonic, RequestIds(key, os.urandom))
    metrics = Metrics(CollectorRegistry())
    guards = CircuitBreaker(time.monotonic, metrics)
    return LiveState(LogAtRest(view), fold, service.plans, host, metrics, guards, FeatureValues())
