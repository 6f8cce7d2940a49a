"""Trainings of a folder: asked of the server that has it open, else read from the log."""

import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.opening import DATA_NAME
from midstream.app.server_address import server_of
from midstream.app.server_refusals import problem_of, server_answer, unavailable
from midstream.core.errors import MidstreamError, NotFound, Overloaded
from midstream.engine.folder import DataFolder
from midstream.engine.trainings.views import (
    TrainingHistory,
    TrainingList,
    TrainingView,
    training_history,
    training_view,
)
from midstream.training.decisions import TrainingDecision

if TYPE_CHECKING:
    import httpx

ANSWER_S_MAX = 60.0


def list_trainings(folder: Path, config: Config) -> Sequence[TrainingView]:
    """Return every model that is trained by itself, by name.

    Cost: without a server that of the newest snapshot and the log after it.

    Raises:
        LogDamaged: The log cannot be trusted.
        StoreUnavailable: A server has the folder open and does not answer.
    """
    told = _asked(folder, "GET", "/v1/trainings")
    if told is not None:
        return msgspec.json.decode(told, type=TrainingList).trainings
    fold = state_of(folder, config, LogView(folder)).fold
    now_ms = time.time_ns() // 1_000_000
    return [training_view(each, fold, now_ms) for each in sorted(config.trainings, key=lambda each: each.model)]


def show_history(folder: Path, config: Config, model: str = "") -> Sequence[TrainingDecision]:
    """Return the decisions that the state keeps, the newest first, of one model or of all; read from the log.

    Raises:
        LogDamaged: The log cannot be trusted.
        NotFound: Nothing was decided on this model.
    """
    found: TrainingHistory = training_history(state_of(folder, config, LogView(folder)).fold, model)
    if model and not found.decisions:
        names = ", ".join(sorted(each.model for each in config.trainings)) or "none"
        message = f"nothing was decided on {model[:64]!r}; [[trainings]] has {names}"
        raise NotFound(message)
    return found.decisions


def order_training(folder: Path, model: str) -> TrainingView | None:
    """Have the server of a folder train a model as soon as no other is; None = there is no server.

    Raises:
        NotFound: There is no table of it.
        Overloaded: A candidate of it is being tried.
        StoreUnavailable: The server does not answer.
    """
    told = _asked(folder, "POST", f"/v1/trainings/{quote(model, safe='')}/run")
    return None if told is None else msgspec.json.decode(told, type=TrainingView)


def _asked(folder: Path, method: str, path: str) -> bytes | None:
    """Return what the server of a folder answers, None = there is none."""
    url = server_of(DataFolder(folder / DATA_NAME))
    return server_answer(url, ANSWER_S_MAX, lambda client: client.request(method, path), _refusal)


def _refusal(answer: "httpx.Response", url: str) -> MidstreamError:
    """Return what a server refuses as what it is here."""
    problem = problem_of(answer)
    if problem is not None and answer.status_code == HTTPStatus.NOT_FOUND:
        return NotFound(problem.detail)
    if problem is not None and answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        return Overloaded(problem.detail)
    return unavailable(answer, url)
