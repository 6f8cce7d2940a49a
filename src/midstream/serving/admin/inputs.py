"""Routes of inputs from brokers: list, detail, and an operator's word where one reads on."""

from typing import TYPE_CHECKING

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.core.errors import Fault, Invalid, RequestInvalid
from midstream.serving.admin.route_io import available, json_response, path_value, posted
from midstream.serving.http.body_reader import BodyLimits
from midstream.serving.http.parsing import query_fields
from midstream.serving.openapi.document import Document, json_body, plain_operation, read_operation

if TYPE_CHECKING:
    from midstream.engine.inputs.input_group import InputGroup

INPUTS_PATH = "/v1/inputs"
_ONE = f"{INPUTS_PATH}/{{name}}"
PAGE = "/docs/inputs.md"
_TEXT: Document = {"type": "string"}


class MoveBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an input is to read on: ``positions`` by partition, or all partitions ``to`` one place."""

    positions: dict[str, str] = {}
    to: str = ""
    """``earliest``, ``latest``, or milliseconds since 1970 as digits."""


_move = msgspec.json.Decoder(MoveBody)


def add_input_routes(app: FastAPI, inputs: "InputGroup | None", limits: BodyLimits) -> None:
    """Add the routes of inputs; where the configuration has none the list is empty."""

    @app.get(INPUTS_PATH, name="get inputs", openapi_extra=plain_operation("State and positions of each."))
    async def get_inputs(request: Request) -> Response:
        """What inputs there are: topic, state, and position and lag of each partition."""
        query_fields(request.scope, ())
        return json_response({"inputs": () if inputs is None else inputs.views()})

    @app.get(_ONE, name="get input", openapi_extra=read_operation("input", "name"))
    async def get_input(request: Request) -> Response:
        """One input."""
        query_fields(request.scope, ())
        return json_response(_known(inputs).view(path_value(request, "name")))

    @app.post(f"{_ONE}/positions", name="post input positions", openapi_extra=_moving())
    async def post_positions(request: Request) -> Response:
        """Have an input read on from other positions; what lies between is left out, or read again."""
        told = await posted(request, _move, limits)
        where = _place_of(told)
        try:
            return json_response(await _known(inputs).move(path_value(request, "name"), where))
        except Invalid as error:
            raise RequestInvalid(error.faults) from error


def _place_of(told: MoveBody) -> dict[str, str] | str:
    """Return positions, or the one place for all partitions.

    Raises:
        RequestInvalid: Both came, or neither, or a place that there is not.
    """
    if bool(told.positions) == bool(told.to):
        came = "Both came." if told.to else "Neither positions nor to came."
        right = 'positions = {"0": "42"}; or to = "earliest", "latest" or milliseconds since 1970.'
        raise RequestInvalid((Fault("/to", came, right, PAGE),))
    if told.to not in {"", "earliest", "latest"} and not (told.to.isascii() and told.to.isdecimal()):
        right = "earliest, latest, or milliseconds since 1970 as digits."
        raise RequestInvalid((Fault("/to", f'"{told.to[:60]}" came.', right, PAGE),))
    return told.to or told.positions


def _known(inputs: "InputGroup | None") -> "InputGroup":
    return available(inputs, "this server reads no topic of a broker")


def _moving() -> Document:
    properties: Document = {
        "positions": {"type": "object", "additionalProperties": _TEXT, "description": "By partition; others stay."},
        "to": {**_TEXT, "description": "For all partitions: earliest, latest, or milliseconds since 1970."},
    }
    body = json_body({"type": "object", "properties": properties})
    return read_operation("input", "name") | {"requestBody": body}
