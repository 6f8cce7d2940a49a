"""Pages of one placement: its form, and what a change of it would do, before anybody sets it.

A change is looked at under an address of its own that has the fields of the form: nothing is kept, the page can be
loaded again and its address given to somebody else. It names the document that the form was made of. Where another one
is in force meanwhile the page says so and offers nothing to be set, and lays what was typed over what is in force now.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from midstream.serving.console.api_reader import ApiAnswer, ApiReader
from midstream.serving.console.page_address import ConsolePage, PageAddress
from midstream.serving.console.placement_form import (
    ChangedSetting,
    Document,
    PlacementForm,
    changed_settings,
    digest,
    form_of,
    laid_over,
    texts_of,
)
from midstream.serving.console.slate_rows import TITLES, compared_rows

BASE: Final = "base"
"""Query field: digest of the document that the form was made of."""
USER: Final = "user"
"""Query field: for whom a change is looked at."""


async def placement(api: ApiReader, at: PageAddress) -> ConsolePage:
    """One placement: its form, its content as text, and its versions."""
    found = await api.get(f"/v1/placements/{at.steps['name']}")
    return _page("placement.html", found, at, _form(api, found))


async def placement_change(api: ApiReader, at: PageAddress) -> ConsolePage:
    """A change of a placement: what differs, two slates beside each other, and the button that sets it."""
    found = await api.get(f"/v1/placements/{at.steps['name']}")
    form = _form(api, found)
    if form is None or BASE not in at.query:
        return _page("placement.html", found, at, form)
    told = {name: at.query.get(name, "") for name in texts_of(form.document, form.actions)}
    if at.query[BASE] != digest(form.document):
        return _moved(found, at, form)
    draft = laid_over(form.document, form.actions, told)
    changes = changed_settings(texts_of(form.document, form.actions), told)
    form = replace(form, texts=told)
    if not changes:
        return _page("placement_change.html", found, at, form, changes=changes)
    question = {"fields": TITLES, **({"user_id": at.query[USER]} if USER in at.query else {})}
    body = {"placement": draft.document, "question": question}
    answer = await api.post(f"/v1/placements/{at.steps['name']}/preview", body)
    if not answer.is_good:
        by_field, others = _by_field(answer, draft.field_of)
        form = replace(form, faults=by_field)
        page = _page("placement_change.html", found, at, form, changes=changes, answer=answer, others=others)
        return replace(page, status=answer.status)
    today = answer.body["today"]
    rows = compared_rows(answer.body["preview"]["items"], None if today is None else today["items"])
    return _page("placement_change.html", found, at, form, changes=changes, rows=rows, draft=draft.document)


def _form(api: ApiReader, found: ApiAnswer) -> PlacementForm | None:
    """Return the form of what is in force; None = nothing of that name is."""
    document = found.body["in_force"] if found.is_good else None
    return None if document is None else form_of(document, api.actions)


def _page(
    template: str,
    found: ApiAnswer,
    at: PageAddress,
    form: PlacementForm | None,
    **values: Any,  # noqa: ANN401  JSON
) -> ConsolePage:
    status = HTTPStatus.OK if found.is_good else found.status
    base = None if form is None else digest(form.document)
    told = {"changes": (), "rows": None, "draft": None, "answer": None, "others": (), "moved": None, **values}
    return ConsolePage(
        template, {"found": found, "form": form, "base_digest": base, "user": at.query.get(USER), **told}, status
    )


def _moved(found: ApiAnswer, at: PageAddress, form: PlacementForm) -> ConsolePage:
    """Return the page of a change of a document that is not in force any more."""
    before = _document_of(found, at.query[BASE])
    own: Mapping[str, str] = {}
    both: Sequence[ChangedSetting] = ()
    now = texts_of(form.document, form.actions)
    if before is not None:
        was = texts_of(before, form.actions)
        typed = {name: at.query.get(name, "") for name in was}
        own = {name: typed[name] for name in was if typed[name] != was[name] and name in now}
        both = changed_settings(was, {name: now.get(name, "") for name in was})
    changed_form = replace(form, texts={**now, **own})
    moved = {"is_known": before is not None, "others": both, "own": changed_settings(now, {**now, **own})}
    page = _page("placement_change.html", found, at, changed_form, moved=moved)
    return replace(page, status=HTTPStatus.CONFLICT)


def _document_of(found: ApiAnswer, wanted: str) -> Document | None:
    """Return the version of a placement, or the file's, that has a digest."""
    known = [found.body["file"], *(each["content"] for each in found.body["versions"])]
    return next((each for each in known if each is not None and digest(each) == wanted), None)


def _by_field(
    answer: ApiAnswer,
    field_of: Any,  # noqa: ANN401
) -> tuple[dict[str, list[Mapping[str, str]]], list[Mapping[str, str]]]:
    """Return the faults of an answer by field of the form, and those that no field has."""
    found, others = dict[str, list[Mapping[str, str]]](), list[Mapping[str, str]]()
    for each in answer.body.get("errors", ()):
        pointer = each["pointer"]
        name = field_of(pointer.removeprefix("/placement")) if pointer.startswith("/placement") else None
        name = USER if pointer == "/question/user_id" else name
        (others if name is None else found.setdefault(name, [])).append(each)
    return found, others
