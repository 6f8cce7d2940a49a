"""Fetching of columns before the one read of state: from the cache, and missing rows from outside systems.

The columns of the user come first, then those of items. The ids of a caller's own items are known; those of other
requests come from a *peek*: the shortlist at the current position, by the same function as the answer's, without the
filters that read fetched columns. The peek serves nothing: the answer reads all of its state anew, at one log position.
An item that appears only there has no columns, which are NaN. The requests of a page share each call.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias, cast

from midstream.core.protocols import Filter
from midstream.core.types import NOTHING_FETCHED, Fetched, Moment, Query
from midstream.features.readers.request_inputs import ItemFieldReader
from midstream.ranking.boundary import Account, boundary
from midstream.ranking.decision import share_s
from midstream.ranking.fetch_cache import FetchCache
from midstream.ranking.fetched_columns import IDS_MAX, DeclaredFetch, FetchedRow, FetchScope, rows_of
from midstream.ranking.filters.expression_filter import ExpressionFilter
from midstream.ranking.frame import of_type
from midstream.ranking.plan import Plan
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.shortlist import shortlist
from midstream.ranking.timeout import awaited
from midstream.state.ids.vocabulary import Vocabulary

Observe: TypeAlias = Callable[[Plan, Query], Moment]
Rows: TypeAlias = Mapping[str, FetchedRow]


def filters_after(fetches: Sequence[DeclaredFetch], filters: Sequence[Filter], own: Collection[str]) -> Iterator[str]:
    """Yield the names of the filters that a peek leaves out, because they read fetched columns of items or may do so.

    Args:
        fetches: Of a plan.
        filters: Of the plan.
        own: Names of the custom filters: what they read is unknown.
    """
    columns = {name for each in fetches if each.of == "item" for name in each.columns}
    for each in filters if columns else ():
        readers = each.condition.block.readers if isinstance(each, ExpressionFilter) else ()
        if each.name in own or any(
            isinstance(reader, ItemFieldReader) and reader.field in columns for reader in readers
        ):
            yield each.name


@dataclass(frozen=True, slots=True, eq=False)
class FetchRequest:
    """A query, its plan with the fetches, and the account of its answer."""

    plan: Plan
    query: Query
    account: Account


async def fetched_for(
    requests: Sequence[FetchRequest], observe: Observe, cache: FetchCache
) -> list[tuple[Query, Fetched]]:
    """Return the queries with fetched columns, and the fetched part of each.

    Args:
        requests: Of one user and one time: the slates of a page, or a single one.
        observe: Returns the state at rest.
        cache: Has the rows that are young enough, and gets the new ones.
    """
    users = [() if each.query.user_id is None else (each.query.user_id,) for each in requests]
    of_users = await _asked(requests, users, "user", cache)
    told = [_with_user(each.query, rows) for each, rows in zip(requests, of_users, strict=True)]
    requests = [replace(each, query=query) for each, (query, _) in zip(requests, told, strict=True)]
    items = [peeked(each, observe) for each in requests]
    of_items = await _asked(requests, items, "item", cache)
    return [
        _with_items(each.query, fetched, ids, rows)
        for each, (_, fetched), ids, rows in zip(requests, told, items, of_items, strict=True)
    ]


def peeked(request: FetchRequest, observe: Observe) -> tuple[str, ...]:
    """Return the ids of the items whose columns may be needed; none without a fetch of items.

    A filter that reads fetched columns removes an unknown number of items: with one, up to ``IDS_MAX`` are looked for.
    """
    plan, query = request.plan, request.query
    if not any(each.of == "item" for each in plan.fetches):
        return ()
    if query.given:
        return query.given
    if plan.after_fetch:
        plan = replace(plan, filters=tuple(each for each in plan.filters if each.name not in plan.after_fetch))
        query = replace(query, spare=max(query.spare, IDS_MAX - plan.candidates_max))
    moment = observe(plan, query)
    found = shortlist(PlanRun(plan, moment, request.account.aside()))
    return tuple(moment.table(Vocabulary).item_ids(found.candidates.item_index))


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """One fetch, and all ids that the requests need of it."""

    fetch: DeclaredFetch
    ids: dict[str, None]
    requests: list[FetchRequest]


async def _asked(
    requests: Sequence[FetchRequest], ids: Sequence[Sequence[str]], of: FetchScope, cache: FetchCache
) -> list[list[Rows]]:
    """Return for each request the rows of each of its fetches of one scope; equal fetches are called once."""
    calls: dict[str, _Call] = {}
    for request, own in zip(requests, ids, strict=True):
        for fetch in request.plan.fetches:
            if fetch.of == of and own:
                call = calls.setdefault(fetch.key, _Call(fetch, {}, []))
                call.ids.update(dict.fromkeys(own))
                call.requests.append(request)
    rows: dict[str, Rows] = {}
    open_calls: list[tuple[_Call, list[str], dict[str, FetchedRow]]] = []
    for key, each in calls.items():
        known = cache.known(each.fetch, each.ids, each.requests[0].query.now_ms)
        rows[key] = known
        if missing := [item for item in each.ids if item not in known]:
            open_calls.append((each, missing, known))
    if open_calls:
        await asyncio.gather(*(_ask(*each, cache) for each in open_calls))
    return [
        [rows[fetch.key] for fetch in request.plan.fetches if fetch.of == of and fetch.key in rows]
        for request in requests
    ]


async def _ask(call: _Call, missing: Sequence[str], found: dict[str, FetchedRow], cache: FetchCache) -> None:
    """Fetch missing rows, within half of the remaining time, and put them into ``found`` and the cache."""
    fetch, requests = call.fetch, call.requests
    own = requests[0].account.aside()
    left_s, came = own.remaining_s(), dict[str, FetchedRow]()
    if left_s <= 0:
        own.late(fetch.name)
    else:
        wait_s_max, fair_s = min(left_s / 2, fetch.timeout_s), min(fetch.timeout_s, share_s(requests[0].plan))
        with boundary(fetch.name, own, waits=True):  # the other half is for the answer without it
            await awaited(fetch.name, partial(_all_of, fetch, missing, came), wait_s_max, fair_s, own)
    found.update(came)
    cache.put(fetch, came, requests[0].query.now_ms)
    for each in requests:
        each.account.failures.extend(own.failures)
        if fetch.name in own.took_s:
            each.account.took_s[fetch.name] = own.took_s[fetch.name]


async def _all_of(fetch: DeclaredFetch, ids: Sequence[str], came: dict[str, FetchedRow]) -> None:
    """Fetch in calls of at most ``IDS_MAX`` ids; the rows of those before a failure stay in ``came``."""
    for start in range(0, len(ids), IDS_MAX):
        asked = tuple(ids[start : start + IDS_MAX])
        answer = fetch.component.fetch(asked)
        of_type(answer, Awaitable, "what async def gives")
        came.update(rows_of(fetch, asked, await answer))


def _with_user(query: Query, rows: Sequence[Rows]) -> tuple[Query, Fetched]:
    """Return the query with the user's columns in its context, where the caller sent no value."""
    context = {
        name: value
        for each in rows
        for row in each.values()
        for name, value in row.items()
        if name not in query.context
    }
    if not context:
        return query, NOTHING_FETCHED
    return replace(query, context={**context, **query.context}), Fetched(context=context)


def _with_items(query: Query, fetched: Fetched, ids: Sequence[str], rows: Sequence[Rows]) -> tuple[Query, Fetched]:
    """Return the query with the columns of its items among their fields, where the caller sent no value."""
    fields: dict[str, Mapping[str, float]] = {}
    for each in rows:
        for item in ids:
            if row := cast("Mapping[str, float]", each.get(item)):  # of items: no texts
                fields[item] = {**fields[item], **row} if item in fields else row
    said = query.item_fields
    for item in said.keys() & fields.keys():
        fields[item] = {name: value for name, value in fields[item].items() if name not in said[item]}
    fields = {item: row for item, row in fields.items() if row}
    if not fields:
        return query, fetched
    merged = fields | {item: {**fields.get(item, {}), **own} for item, own in said.items()}
    return replace(query, item_fields=merged), replace(fetched, item_fields=fields)
