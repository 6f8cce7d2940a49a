"""Routes of outputs to brokers: list, detail, and an operator's order where one goes on."""

from typing import TYPE_CHECKING, Literal

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.core.errors import Invalid, RequestInvalid
from midstream.core.types import LogPosition
from midstream.serving.admin.route_io import available, json_response, path_value, posted
from midstream.serving.http.body_reader import BodyLimits
from midstream.serving.http.parsing import query_fields
from midstream.serving.openapi.document import Document, json_body, plain_operation, read_operation

if TYPE_CHECKING:
    from midstream.engine.outbox.output_group import OutputGroup

OUTPUTS_PATH = "/v1/outputs"
_ONE = f"{OUTPUTS_PATH}/{{name}}"


class OutputMove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an output is to go on."""

    to: int | Literal["now", "beginning"]
    """A log position, behind the newest event, or at the oldest one."""


_move = msgspec.json.Decoder(OutputMove)


def add_output_routes(app: FastAPI, outputs: "OutputGroup | None", limits: BodyLimits) -> None:
    """Add the routes of outputs; where the configuration has none the list is empty."""

    @app.get(OUTPUTS_PATH, name="get outputs", openapi_extra=plain_operation("State and position of each."))
    async def get_outputs(request: Request) -> Response:
        """What outputs there are: topic, records, state, position and lag."""
        query_fields(request.scope, ())
        return json_response({"outputs": () if outputs is None else outputs.views()})

    @app.get(_ONE, name="get output", openapi_extra=read_operation("output", "name"))
    async def get_output(request: Request) -> Response:
        """One output."""
        query_fields(request.scope, ())
        return json_response(_known(outputs).view(path_value(request, "name")))

    @app.post(f"{_ONE}/position", name="post output position", openapi_extra=_moving())
    async def post_position(request: Request) -> Response:
        """Have an output go on from another position; events between are left out, or delivered again."""
        to = (await posted(request, _move, limits)).to
        where = LogPosition(to) if isinstance(to, int) else to
        try:
            return json_response(await _known(outputs).move(path_value(request, "name"), where))
        except Invalid as error:
            raise RequestInvalid(error.faults) from error


def _known(outputs: "OutputGroup | None") -> "OutputGroup":
    return available(outputs, "this server delivers to no topic of a broker")


def _moving() -> Document:
    told: Document = {
        "oneOf": [{"type": "integer", "minimum": 0}, {"type": "string", "enum": ["now", "beginning"]}],
        "description": "A log position, behind the newest event, or at the oldest one.",
    }
    body = json_body({"type": "object", "properties": {"to": told}, "required": ["to"]})
    return read_operation("output", "name") | {"requestBody": body}
