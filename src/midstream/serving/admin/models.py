"""Routes of models: versions, aliases, promotion and rollback."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.core.errors import NotFound
from midstream.serving.admin.catalogue import decoded
from midstream.serving.http.body_reader import BodyLimits, read_body
from midstream.serving.http.parsing import decode_json, query_fields
from midstream.serving.http.responses import NO_STORE, Reply, to_response
from midstream.serving.openapi.document import Document, plain_operation, read_operation

if TYPE_CHECKING:
    from midstream.engine.models.champions import Champions

Body = TypeVar("Body", bound=msgspec.Struct)
MODELS_PATH = "/v1/models"


class PromoteBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Alias and version of a promotion."""

    version: str = ""
    """The version, its number or its first digits; empty = the newest."""
    alias: str = "champion"


class RollbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which alias is to go back."""

    alias: str = "champion"


def add_model_routes(app: FastAPI, champions: "Champions | None", limits: BodyLimits) -> None:
    """Add the routes of models; without champions they answer that there are none."""

    @app.get(MODELS_PATH, name="get models", openapi_extra=plain_operation("Every model and its versions.", 404))
    async def get_models(request: Request) -> Response:
        """Every model: its versions with their metrics, what aliases stand for, which version is in service."""
        query_fields(request.scope, ())
        return _answer({"models": await _known(champions).views()})

    @app.get(
        f"{MODELS_PATH}/{{name}}",
        name="get model",
        openapi_extra=read_operation("model", "name"),
    )
    async def get_model(request: Request) -> Response:
        """One model: its versions with their metrics, what aliases stand for, which version is in service."""
        query_fields(request.scope, ())
        return _answer(await _known(champions).view(_name(request)))

    @app.post(
        f"{MODELS_PATH}/{{name}}/promote",
        name="promote model",
        openapi_extra=_writing(PromoteBody),
    )
    async def promote(request: Request) -> Response:
        """Let an alias of a model stand for a version; a champion is in service when this answers."""
        return await changed(request, PromoteBody, lambda on, name, told: on.promote(name, told.version, told.alias))

    @app.post(
        f"{MODELS_PATH}/{{name}}/rollback",
        name="roll back model",
        openapi_extra=_writing(RollbackBody),
    )
    async def rollback(request: Request) -> Response:
        """Let an alias of a model stand for what it stood for before."""
        return await changed(request, RollbackBody, lambda on, name, told: on.rollback(name, told.alias))

    async def changed(
        request: Request, kind: type[Body], change: Callable[["Champions", str, Body], Awaitable[object]]
    ) -> Response:
        """Do what a body asks for; answer with the model as it is then."""
        query_fields(request.scope, ())
        told = _body(await read_body(request.scope, request.receive, limits), kind)
        name = _name(request)
        await change(_known(champions), name, told)
        return _answer(await _known(champions).view(name))


def _writing(body: type[msgspec.Struct]) -> Document:
    responses = plain_operation("What is known of the model, in service.", 403, 404, 408, 409, 415, 503)
    schema = msgspec.json.schema(body)["$defs"][body.__name__]
    content = {"requestBody": {"required": False, "content": {"application/json": {"schema": schema}}}}
    return read_operation("model", "name") | responses | content


def _known(champions: "Champions | None") -> "Champions":
    if champions is None:
        message = "this server has no folder of models"
        raise NotFound(message)
    return champions


def _name(request: Request) -> str:
    return decoded(str(request.path_params["name"]), "name")


def _body(content: bytes, kind: type[Body]) -> Body:
    """Return the body; an empty body is one without fields.

    Raises:
        RequestInvalid: It is something else.
    """
    return decode_json(msgspec.json.Decoder(kind), content or b"{}")


def _answer(found: object) -> Response:
    return to_response(Reply(200, msgspec.json.encode(found), headers=NO_STORE))
