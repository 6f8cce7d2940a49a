"""Route that sets feature values: each becomes a change of the item or user, recorded as any event is."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.core.answers.events import EventsAnswer, Rejection, Result
from midstream.core.errors import Fault, RequestInvalid, TooLarge
from midstream.engine.answer.feature_reads import declared_by
from midstream.events.faults import shown
from midstream.features.feature_values import PAGE, Setting, refusal, settings_of
from midstream.serving.admin.features import FEATURES_PATH
from midstream.serving.admin.route_io import path_value
from midstream.serving.events.ingest import Ingest, IngestOptions
from midstream.serving.http.body_reader import BodyLimits, read_body
from midstream.serving.http.parsing import decode_json
from midstream.serving.http.responses import to_response
from midstream.serving.openapi.document import setting_operation
from midstream.serving.slates.hot_routes import events_reply, how_of

if TYPE_CHECKING:
    from midstream.engine.engine import Engine

SETTING_PATH = f"{FEATURES_PATH}/{{name}}"


class SetValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The value of one item or user."""

    id: str
    value: float | bool | str | list[float | str] | None
    time: int | str | None = None
    """When it came to be; now, when it is not sent."""
    event_id: str | None = None


class SetBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/features/{name}``."""

    values: list[SetValue]


_body = msgspec.json.Decoder(SetBody)


def add_setting_route(app: FastAPI, engine: "Engine", ingest: Ingest, limits: BodyLimits) -> None:
    """Add the route that sets values of one feature."""

    @app.post(SETTING_PATH, name="post feature", openapi_extra=setting_operation())
    async def post_feature(request: Request) -> Response:
        """Set values of a feature that is an attribute of items or a field of profiles; the newest time wins."""
        how = how_of(request.scope)
        setting = setting_of(engine, path_value(request, "name"))
        body = await read_body(request.scope, request.receive, limits)
        values = decode_json(_body, body).values
        if len(values) > ingest.accept.limits.events_max:
            right = f"At most {ingest.accept.limits.events_max} a request."
            raise TooLarge((Fault("/values", f"{len(values)} came.", right, PAGE),))
        answer = await set_values(ingest, setting, values, how)
        return to_response(events_reply(answer))


def setting_of(engine: "Engine", name: str) -> Setting:
    """Return the field that has the values of a feature.

    Raises:
        NotFound: It is not declared.
        RequestInvalid: It is computed: the fault has the alternatives.
    """
    declared = declared_by(engine.plans)
    settable = settings_of(declared.features, dict(declared.attributes))
    if name in settable:
        return settable[name]
    raise RequestInvalid((refusal(declared.feature(name), tuple(settable)),))


async def set_values(ingest: Ingest, setting: Setting, values: Sequence[SetValue], how: IngestOptions) -> EventsAnswer:
    """Record the valid values; return the outcome of each, with the names of the request."""
    wrong = {place: right for place, each in enumerate(values) if (right := setting.wrong(each.value))}
    places = [place for place in range(len(values)) if place not in wrong]
    events = [_event(setting, values[place]) for place in places]
    only = msgspec.structs.replace(how, content_type="", only=setting.noun)
    answer = EventsAnswer(0, 0, (), dry_run=how.dry_run)
    if events or not values:
        answer = await ingest.take(msgspec.json.encode(events), only)
    refused = [_moved(each, setting, places) for each in answer.rejected]
    refused += [_refused(place, values[place].value, right) for place, right in wrong.items()]
    results = [Result(places[each.index], each.outcome) for each in answer.results]
    results += [Result(place, "rejected") for place in wrong]
    return msgspec.structs.replace(
        answer,
        rejected=tuple(sorted(refused, key=lambda each: each.index)),
        results=tuple(sorted(results, key=lambda each: each.index)),
    )


def _event(setting: Setting, value: SetValue) -> Mapping[str, object]:
    """Return the change that sets a value."""
    event: dict[str, object] = {"type": setting.noun, f"{setting.noun}_id": value.id, "operation": "patch"}
    event["attributes"] = {setting.attribute: value.value}
    more = {"time": value.time, "event_id": value.event_id}
    return event | {name: each for name, each in more.items() if each is not None}


def _moved(rejection: Rejection, setting: Setting, places: Sequence[int]) -> Rejection:
    """Map a pointer to this route's body."""
    field = rejection.pointer.removeprefix(f"/{rejection.index}")
    if field.startswith("/attributes"):
        field = "/value"
    elif field == f"/{setting.noun}_id":
        field = "/id"
    place = places[rejection.index]
    return msgspec.structs.replace(rejection, index=place, pointer=f"/values/{place}{field}")


def _refused(place: int, value: object, right: str) -> Rejection:
    return Rejection(place, f"/values/{place}/value", f"{shown(value)} came.", right, PAGE)
