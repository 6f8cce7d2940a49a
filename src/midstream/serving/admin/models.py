"""Routes of models: versions, aliases, promotion and rollback."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.serving.admin.route_io import available, json_response, path_value, posted
from midstream.serving.http.body_reader import BodyLimits
from midstream.serving.http.parsing import query_fields
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
        return json_response({"models": await _known(champions).views()})

    @app.get(
        f"{MODELS_PATH}/{{name}}",
        name="get model",
        openapi_extra=read_operation("model", "name"),
    )
    async def get_model(request: Request) -> Response:
        """One model: its versions with their metrics, what aliases stand for, which version is in service."""
        query_fields(request.scope, ())
        return json_response(await _known(champions).view(path_value(request, "name")))

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
        told = await posted(request, msgspec.json.Decoder(kind), limits, b"{}")
        name = path_value(request, "name")
        await change(_known(champions), name, told)
        return json_response(await _known(champions).view(name))


def _writing(body: type[msgspec.Struct]) -> Document:
    responses = plain_operation("What is known of the model, in service.", 403, 404, 408, 409, 415, 503)
    schema = msgspec.json.schema(body)["$defs"][body.__name__]
    content = {"requestBody": {"required": False, "content": {"application/json": {"schema": schema}}}}
    return read_operation("model", "name") | responses | content


def _known(champions: "Champions | None") -> "Champions":
    return available(champions, "this server has no folder of models")
