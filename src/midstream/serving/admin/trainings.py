"""Routes of continuous training: what comes next, what was decided, and a training now."""

from typing import TYPE_CHECKING

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.serving.admin.route_io import available, json_response, path_value, posted
from midstream.serving.http.body_reader import BodyLimits
from midstream.serving.http.parsing import query_fields
from midstream.serving.openapi.document import plain_operation, read_operation

if TYPE_CHECKING:
    from midstream.engine.trainings.training_loop import TrainingLoop

TRAININGS_PATH = "/v1/trainings"
_ACCEPTED = 202


class TrainingRunBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/trainings/{model}/run``: nothing is said in it."""


_run = msgspec.json.Decoder(TrainingRunBody)


def add_training_routes(app: FastAPI, trainings: "TrainingLoop | None", limits: BodyLimits) -> None:
    """Add the routes of continuous training; without ``trainings`` they answer that there is none."""

    @app.get(TRAININGS_PATH, name="get trainings", openapi_extra=plain_operation("Models trained by themselves.", 404))
    async def get_trainings(request: Request) -> Response:
        """Every model that is trained by itself: its state, when the next training is due, the last decision."""
        query_fields(request.scope, ())
        return json_response({"trainings": _known(trainings).views()})

    @app.get(f"{TRAININGS_PATH}/{{model}}", name="get training", openapi_extra=read_operation("training", "model"))
    async def get_training(request: Request) -> Response:
        """The decisions on one model that are kept, the newest first, with the figure and the bound of each gate."""
        query_fields(request.scope, ())
        return json_response(_known(trainings).history(path_value(request, "model")))

    @app.post(
        f"{TRAININGS_PATH}/{{model}}/run",
        name="run training",
        openapi_extra=read_operation("training", "model") | plain_operation("It waits for its turn.", 404, 503),
    )
    async def run(request: Request) -> Response:
        """Have a model trained as soon as no other is; what becomes of it is decided as ever."""
        await posted(request, _run, limits, b"{}")
        return json_response(_known(trainings).order(path_value(request, "model")), _ACCEPTED)


def _known(trainings: "TrainingLoop | None") -> "TrainingLoop":
    return available(trainings, "this server trains nothing by itself")
