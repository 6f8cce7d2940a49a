"""Pages of the console: for each address the routes that it reads, and the template that shows their answers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

from midstream.serving.access.scopes import (
    ADMIN,
    CATALOGUE,
    ERASE,
    EVENTS,
    MODELS,
    PLACEMENTS,
    READ,
    RECOMMEND,
    SCOPES,
)
from midstream.serving.console.api_reader import ApiAnswer, ApiReader
from midstream.serving.console.page_address import ConsolePage, PageAddress
from midstream.serving.console.past_pages import item_as_of, last_items, user_as_of
from midstream.serving.console.placement_pages import placement, placement_change
from midstream.serving.console.slate_rows import TITLES, titles_of
from midstream.serving.console.time_charts import SHOWN, time_plots, time_points

SCOPE_TEXTS: Mapping[str, str] = {
    EVENTS: "send events",
    RECOMMEND: "ask for recommendations",
    CATALOGUE: "change items and profiles",
    PLACEMENTS: "change placements and experiments",
    MODELS: "promote and train models",
    READ: "see everything, this console too",
    ERASE: "erase users",
    ADMIN: "everything, keys too",
}
"""What each scope allows, in words."""
LISTED = 50
"""Rows of a page of a list."""
SHOWN_ITEMS = 5
"""Items of a slate that a row of a list has."""


PageMaker: TypeAlias = Callable[[ApiReader, PageAddress], Awaitable[ConsolePage]]


async def placements(api: ApiReader, _at: PageAddress) -> ConsolePage:
    """All placements, the parts of each and who changed it."""
    return _page("placements.html", found=await api.get("/v1/placements"))


async def requests(api: ApiReader, at: PageAddress) -> ConsolePage:
    """Slates that were served, the newest first, and a slate as it would be now; with ``id`` one of them."""
    if at.query.get("id"):
        return await request(api, PageAddress({"request_id": quote(at.query["id"].strip(), safe="")}, {}))
    asked = () if at.query.get("ask") else ("user_id", "placement", "cursor")
    wanted = {name: at.query[name] for name in asked if at.query.get(name)}
    served = await api.get("/v1/requests", urlencode({**wanted, "limit": LISTED}))
    listed, now = await api.get("/v1/placements"), None
    if at.query.get("ask"):
        user_id = at.query.get("user_id", "")
        now = await _slate_now(api, at.query.get("placement", ""), {"user_id": user_id} if user_id else {})
    slates = [each["items"][:SHOWN_ITEMS] for each in served.body["requests"]] if served.is_good else []
    titles = await titles_of(api, (each for slate in slates for each in slate))
    values = {"served": served, "now": now, "names": _names(listed), "query": at.query, "titles": titles}
    return _page("requests.html", **values, shown_items=SHOWN_ITEMS)


async def _slate_now(api: ApiReader, name: str, question: Mapping[str, object]) -> ApiAnswer:
    """Return the slate that a question would get now; it is neither served nor recorded."""
    found = await api.get(f"/v1/placements/{quote(name, safe='')}")
    if not found.is_good:
        return found
    body = {"placement": found.body["in_force"], "question": {"fields": TITLES, **question}}
    return await api.post(f"/v1/placements/{quote(name, safe='')}/preview", body)


async def request(api: ApiReader, at: PageAddress) -> ConsolePage:
    """One answer as it was served."""
    found = await api.get(f"/v1/requests/{at.steps['request_id']}")
    titles = await titles_of(api, [each["id"] for each in found.body["items"]] if found.is_good else ())
    return _page("request.html", found=found, query=at.query, titles=titles)


async def why(api: ApiReader, at: PageAddress) -> ConsolePage:
    """Why these items and no others: the fragment of a request that takes a rerun, so it comes behind the page."""
    fields = {"wait": "100ms", **({"item": at.query["item"]} if at.query.get("item") else {})}
    path = f"/v1/requests/{at.steps['request_id']}/explanation"
    found = await api.get(path, urlencode(fields))
    reasons = found.body.get("why") if found.status == HTTPStatus.OK else None
    listed = [*(reasons.get("asked") or ()), *reasons["items"]] if reasons else []
    titles = await titles_of(api, (each["id"] for each in listed))
    return _page("why.html", found=found, request_id=at.steps["request_id"], titles=titles)


async def catalogue(api: ApiReader, at: PageAddress) -> ConsolePage:
    """Items and users: search and lists; with ``user`` one of them."""
    if at.query.get("user"):
        return await user(api, PageAddress({"user_id": quote(at.query["user"].strip(), safe="")}, {}))
    wanted = {name: at.query[name] for name in ("filter", "cursor") if at.query.get(name)}
    text = at.query.get("q", "").strip()
    items = await (_found(api, text) if text else api.get("/v1/items", urlencode({**wanted, "limit": LISTED})))
    of_users = {name: at.query[f"user_{name}"] for name in ("filter", "cursor") if at.query.get(f"user_{name}")}
    users = await api.get("/v1/users", urlencode({**of_users, "limit": LISTED}))
    return _page("catalogue.html", items=items, users=users, query=at.query)


async def _found(api: ApiReader, text: str) -> ApiAnswer:
    """Return the items that have the words of a text, as rows of the list of items; no slate is recorded."""
    slate = await _slate_now(api, "search", {"context": {"q": text}, "n": LISTED})
    if slate.status == HTTPStatus.NOT_FOUND:
        return await api.get("/v1/items/search", urlencode({"q": text}))  # the reason: nothing is searched here
    if not slate.is_good:
        return slate
    ids = [each["id"] for each in slate.body["preview"]["items"]]
    rows = await asyncio.gather(*(api.get(f"/v1/items/{quote(each, safe='')}") for each in ids))
    return ApiAnswer(HTTPStatus.OK, {"items": [each.body for each in rows if each.is_good]})


async def item(api: ApiReader, at: PageAddress) -> ConsolePage:
    """One item: attributes, counts, and its neighbours."""
    found = await api.get(f"/v1/items/{at.steps['item_id']}")
    near = await _slate_now(api, "similar", {"items": [found.body["item_id"]]}) if found.is_good else None
    features = await _features_now(api, {"items": [found.body["item_id"]]}) if found.is_good else None
    return _page("item.html", found=found, near=near, features=features, query=at.query)


async def _features_now(api: ApiReader, question: Mapping[str, object]) -> ApiAnswer | None:
    """Return the values of all features for a question; None = none is declared."""
    declared = await api.get("/v1/features")
    if declared.is_good and not declared.body["features"]:
        return None
    return await api.post("/v1/features/read", question)


async def user(api: ApiReader, at: PageAddress) -> ConsolePage:
    """One user: profile, last acts, leanings, slates."""
    path = f"/v1/users/{at.steps['user_id']}"
    found, listed = await asyncio.gather(api.get(path), api.get("/v1/placements"))
    items = last_items(found)
    question = {"user_id": found.body["user_id"], "items": items} if items else {}
    features = await _features_now(api, question) if items else None
    values = {"names": _names(listed), "features": features, "has_features": features is not None, "query": at.query}
    return _page("user.html", found=found, **values)


async def models(api: ApiReader, _at: PageAddress) -> ConsolePage:
    """Models with their versions, and trainings with what they decided."""
    found, trained = await asyncio.gather(api.get("/v1/models"), api.get("/v1/trainings"))
    names = [each["model"] for each in trained.body["trainings"]] if trained.is_good else []
    histories = await asyncio.gather(*(api.get(f"/v1/trainings/{quote(each, safe='')}") for each in names))
    return _page("models.html", found=found, trained=trained, histories=dict(zip(names, histories, strict=True)))


async def experiments(api: ApiReader, _at: PageAddress) -> ConsolePage:
    """All experiments, running ones first, and the holdout."""
    found, listed = await asyncio.gather(api.get("/v1/experiments"), api.get("/v1/placements"))
    return _page("experiments.html", found=found, names=_names(listed))


async def experiment(api: ApiReader, at: PageAddress) -> ConsolePage:
    """One experiment: variants, shares, metrics, what they show, and why it stopped."""
    path = f"/v1/experiments/{at.steps['name']}"
    found, report = await asyncio.gather(api.get(path), api.get(f"{path}/report"))
    return _page("experiment.html", found=found, report=report)


async def outcomes(api: ApiReader, at: PageAddress) -> ConsolePage:
    """Click rate, conversion and revenue over time, and by placement, variant, model and segment; drift."""
    found = await api.get("/v1/online-metrics")
    by, placement = at.query.get("by", ""), at.query.get("placement", "")
    by = by if by in SHOWN else next(iter(SHOWN))
    hours: list[dict[str, Any]] = found.body["hours"] if found.is_good else []
    points = time_points(hours, placement, by, found.body["now"], found.body["settle_ms"]) if hours else []
    names = [each["placement"] for each in hours if each["placement"]]
    plots = time_plots(points, by) if points else []
    return _page("outcomes.html", found=found, by=by, placement=placement, names=names, points=points, plots=plots)


async def dead_letters(api: ApiReader, at: PageAddress) -> ConsolePage:
    """Rejected events, the newest first."""
    fields = {"limit": str(LISTED), **({"after": at.query["after"]} if at.query.get("after") else {})}
    found = await api.get("/v1/dead-letters", urlencode(fields))
    return _page("dead_letters.html", found=found, is_newest="after" not in fields)


async def dead_letter(api: ApiReader, at: PageAddress) -> ConsolePage:
    """One rejected event, which can be mended and sent again."""
    return _page("dead_letter.html", found=await api.get(f"/v1/dead-letters/{at.steps['number']}"))


async def keys(api: ApiReader, _at: PageAddress) -> ConsolePage:
    """API keys: who may do what, when each was last used; made, rotated and revoked here."""
    return _page("keys.html", found=await api.get("/v1/keys"), scopes=SCOPES, scope_texts=SCOPE_TEXTS)


async def operation(api: ApiReader, _at: PageAddress) -> ConsolePage:
    """Health and what runs beside: inputs, outputs, sinks, erasures, rebuild."""
    paths = ("/health/ready", "/v1/inputs", "/v1/outputs", "/v1/sinks", "/v1/erasures", "/v1/rebuild")
    found = await asyncio.gather(*map(api.get, paths))
    names = ("health", "inputs", "outputs", "sinks", "erasures", "rebuild")
    return ConsolePage("operation.html", dict(zip(names, found, strict=True)))


def _names(listed: ApiAnswer) -> list[str]:
    """Return the names of placements that can be asked for."""
    return [each["placement"] for each in listed.body["placements"] if each["placement"] != "*"]


def _page(template: str, **values: Any) -> ConsolePage:  # noqa: ANN401  what templates show is JSON of many routes
    """Return a page; one that shows a thing which is not there has the status of its route."""
    found = values.get("found")
    return ConsolePage(template, values, found.status if isinstance(found, ApiAnswer) and not found.is_good else 200)


PAGES: Mapping[str, PageMaker] = {
    "/placements": placements,
    "/placements/{name}": placement,
    "/placements/{name}/change": placement_change,
    "/requests": requests,
    "/requests/{request_id}": request,
    "/requests/{request_id}/why": why,
    "/catalogue": catalogue,
    "/items/{item_id}": item,
    "/items/{item_id}/features": item_as_of,
    "/users/{user_id}": user,
    "/users/{user_id}/features": user_as_of,
    "/models": models,
    "/experiments": experiments,
    "/experiments/{name}": experiment,
    "/outcomes": outcomes,
    "/keys": keys,
    "/dead-letters": dead_letters,
    "/dead-letters/{number}": dead_letter,
    "/operation": operation,
}
"""Path below ``/console`` → page. The first page is apart: its figures are read for all viewers."""
