"""Routes of experiments: list, show, start, ramp, stop, and the holdout."""

from typing import TYPE_CHECKING

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.engine.experiments.views import RampOrder, StartOrder
from midstream.serving.admin.route_io import available, json_response, path_value, posted, said_by
from midstream.serving.http.body_reader import BodyLimits
from midstream.serving.http.parsing import query_fields, single
from midstream.serving.openapi.document import Document, json_body, parameter, read_operation, ref, responses

if TYPE_CHECKING:
    from midstream.engine.experiments.experimenting import Experimenting
    from midstream.engine.experiments.live_report import ExperimentReports

EXPERIMENTS_PATH = "/v1/experiments"
HOLDOUT_PATH = "/v1/holdout"
_ONE = f"{EXPERIMENTS_PATH}/{{name}}"


class StartBody(StartOrder, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of ``POST /v1/experiments/{name}``."""

    author: str
    note: str = ""


class RampBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/experiments/{name}/ramp``."""

    ramp: tuple[RampOrder, ...]
    author: str
    note: str = ""


class StopBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/experiments/{name}/stop``."""

    reason: str
    author: str
    note: str = ""
    ship: str | None = None


class HoldoutBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``PUT /v1/holdout``."""

    share: float
    author: str
    placements: tuple[str, ...] = ()
    note: str = ""


_start = msgspec.json.Decoder(StartBody)
_ramp = msgspec.json.Decoder(RampBody)
_stop = msgspec.json.Decoder(StopBody)
_holdout = msgspec.json.Decoder(HoldoutBody)
_TEXT: Document = {"type": "string"}
_NUMBER: Document = {"type": "number", "minimum": 0, "maximum": 1}
_SAID: Document = {
    "author": {**_TEXT, "minLength": 1, "description": "Who changes it; a key's name is put before it."},
    "note": {**_TEXT, "description": "Why."},
}
_STEP: Document = {
    "type": "object",
    "properties": {"exposed": _NUMBER, "after_ms": {"type": "integer", "minimum": 0}},
    "required": ["exposed"],
}
_RAMP: Document = {"type": "array", "items": _STEP}
_METRIC: Document = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "counts": {**_TEXT, "description": "An interaction, or slates, empty_slates, value or latency_us."},
        "kind": {"enum": ["rate", "mean", "ratio"]},
        "per": {**_TEXT, "description": "Of a ratio: what it is divided by; of latency_us timed_slates."},
        "better": {"enum": ["higher", "lower"]},
        "cap": {"type": "number", "exclusiveMinimum": 0},
        "role": {"enum": ["primary", "guardrail", "secondary"]},
        "harm_max": {"type": "number", "minimum": 0, "description": "Relative harm that a guardrail tolerates."},
    },
    "required": ["name", "counts"],
}
_VARIANT: Document = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "placement": {"type": "object", "description": "The settings of one table of [[placements]]."},
        "version": {"type": "integer", "minimum": 1},
        "change": {"type": "object", "description": "A merge patch of the placement in force, or of the version."},
        "models": {
            "type": "object",
            "additionalProperties": _TEXT,
            "description": "Versions of models that it reads in place of the champions, by name.",
        },
        "weight": {"type": "number", "exclusiveMinimum": 0},
    },
    "required": ["name"],
}


def add_experiment_routes(
    app: FastAPI,
    experimenting: "Experimenting | None",
    limits: BodyLimits,
    reports: "ExperimentReports | None" = None,
) -> None:
    """Add the routes of experiments; without ``experimenting`` there are none."""

    @app.get(EXPERIMENTS_PATH, name="get experiments", openapi_extra=_listing())
    async def get_experiments(request: Request) -> Response:
        """All experiments that are kept, running ones first, and the holdout."""
        query_fields(request.scope, ())
        return json_response(_known(experimenting).listed())

    @app.get(_ONE, name="get experiment", openapi_extra=_reading())
    async def get_experiment(request: Request) -> Response:
        """One experiment: its variants with their shares and slates, its ramp, and why it stopped."""
        query_fields(request.scope, ())
        return json_response(_known(experimenting).view(path_value(request, "name")))

    @app.get(f"{_ONE}/report", name="get experiment report", openapi_extra=_reporting())
    async def get_experiment_report(request: Request) -> Response:
        """What a running experiment shows: units, the sample ratio, metrics with their intervals, and verdicts."""
        query_fields(request.scope, ())
        found = available(reports, "this server has no experiments: its placements are those of its configuration")
        return json_response(await found.report(path_value(request, "name")))

    @app.post(_ONE, name="start experiment", openapi_extra=_starting())
    async def start_experiment(request: Request) -> Response:
        """Start an experiment; it assigns from the next answer on, also after a restart, until it is stopped."""
        told = await posted(request, _start, limits)
        name, said = path_value(request, "name"), said_by(request, told.author, told.note)
        return json_response(await _known(experimenting).start(name, told, said))

    @app.post(f"{_ONE}/ramp", name="ramp experiment", openapi_extra=_changing({"ramp": _RAMP, **_SAID}, "ramp"))
    async def ramp_experiment(request: Request) -> Response:
        """Expose more units, at once or by steps; none leaves its variant."""
        told = await posted(request, _ramp, limits)
        name, said = path_value(request, "name"), said_by(request, told.author, told.note)
        return json_response(await _known(experimenting).ramp(name, told.ramp, said))

    @app.post(
        f"{_ONE}/stop",
        name="stop experiment",
        openapi_extra=_changing({"reason": _TEXT, "ship": _TEXT, **_SAID}, "reason"),
    )
    async def stop_experiment(request: Request) -> Response:
        """Stop an experiment for a reason, which is kept; its placement answers again, or as the shipped variant."""
        told = await posted(request, _stop, limits)
        name, said = path_value(request, "name"), said_by(request, told.author, told.note)
        return json_response(await _known(experimenting).stop(name, told.reason, said, told.ship))

    @app.put(HOLDOUT_PATH, name="put holdout", openapi_extra=_holding())
    async def put_holdout(request: Request) -> Response:
        """Hold a share of users out of all experiments, answered by some placements as they are now."""
        told = await posted(request, _holdout, limits)
        said = said_by(request, told.author, told.note)
        return json_response(await _known(experimenting).hold_out(told.share, told.placements, said))

    @app.delete(HOLDOUT_PATH, name="delete holdout", openapi_extra=_giving_back())
    async def delete_holdout(request: Request) -> Response:
        """End the holdout: its users are assigned as all others."""
        query = query_fields(request.scope, ("author", "note"))
        said = said_by(request, single(query, "author") or "", single(query, "note") or "")
        await _known(experimenting).give_back_holdout(said)
        return json_response(_known(experimenting).listed())


def _known(experimenting: "Experimenting | None") -> "Experimenting":
    return available(experimenting, "this server has no experiments: its placements are those of its configuration")


def _listing() -> Document:
    return {"responses": responses("Every experiment, and the holdout.", ref("ExperimentList"), 400, 404, 413)}


def _reading(*failures: int) -> Document:
    answered = responses("The experiment.", ref("ExperimentView"), 400, 404, 413, *failures)
    return read_operation("experiment", "name") | {"responses": answered}


def _reporting() -> Document:
    answered = responses("What it shows.", ref("LiveReport"), 400, 404, 413)
    return read_operation("experiment", "name") | {"responses": answered}


def _changing(properties: Document, *required: str) -> Document:
    body = {"type": "object", "properties": properties, "required": [*required, "author"]}
    return _reading(403, 408, 409, 415, 503) | {"requestBody": json_body(body | {"additionalProperties": False})}


def _starting() -> Document:
    properties = {
        "placement": _TEXT,
        "variants": {"type": "array", "items": _VARIANT, "minItems": 2},
        "layer": _TEXT,
        "share": _NUMBER,
        "ramp": _RAMP,
        "metrics": {"type": "array", "items": _METRIC},
        "allocation": {"enum": ["fixed", "thompson"], "description": "thompson: shares move once a day."},
        "design": {"enum": ["split", "interleave"], "description": "interleave: all variants draft each slate."},
        "auto_stop": {"type": "boolean", "description": "Whether a broken guardrail stops it by itself."},
        **_SAID,
    }
    return _changing(properties, "placement", "variants")


def _holding() -> Document:
    properties = {"share": _NUMBER, "placements": {"type": "array", "items": _TEXT}, **_SAID}
    body = {"type": "object", "properties": properties, "required": ["share", "author"], "additionalProperties": False}
    failures = (400, 403, 404, 408, 409, 413, 415, 503)
    answered = responses("The holdout.", ref("HoldoutView"), *failures)
    return {"responses": answered, "requestBody": json_body(body)}


def _giving_back() -> Document:
    fields = [parameter(name, _TEXT, each["description"]) for name, each in _SAID.items()]
    fields[0]["required"] = True
    failures = (400, 403, 404, 409, 413, 503)
    return {"responses": responses("What is left.", ref("ExperimentList"), *failures), "parameters": fields}
