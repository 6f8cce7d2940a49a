"""Experiments of a folder: through the server that has it open, else read from the log and changed in this process."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import msgspec

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, served_of
from midstream.app.opening import DATA_NAME
from midstream.app.operate.folder_orders import ANSWER_S_MAX, changed
from midstream.app.operate.placements import read_file
from midstream.app.server_address import server_of
from midstream.app.server_refusals import faults_of, problem_of, refusal_of, server_answer
from midstream.core.errors import ConfigInvalid, MidstreamError, NotFound, RebuildRunning, RequestInvalid
from midstream.engine.experiments.views import (
    ExperimentList,
    ExperimentView,
    HoldoutView,
    KnownExperiments,
    RampOrder,
    StartOrder,
)
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.placements.control_changes import Said
from midstream.engine.replication.topic_position import read_topic_position
from midstream.engine.requests.python_values import read_request
from midstream.engine.tokens import position_token
from midstream.experiments.documents import PAGE
from midstream.experiments.routing import Routing

if TYPE_CHECKING:
    import httpx


def read_order(path: str) -> StartOrder:
    """Return the order of an experiment that a file has.

    Args:
        path: ``-`` = standard input.

    Raises:
        ConfigInvalid: It cannot be read.
        RequestInvalid: A field has the wrong type or name.
    """
    right = "A placement and [[variants]] with a name each, as TOML, or one JSON object."
    told = read_file(path, right, PAGE)
    try:
        return read_request(StartOrder, {}, cast("dict[str, Any]", told))
    except RequestInvalid as error:
        error.tell(tuple(replace(each, page=PAGE) for each in error.faults))
        raise


def list_experiments(folder: Path, config: Config) -> ExperimentList:
    """Return all experiments that are kept, and the holdout.

    Cost: without a server that of the newest snapshot and the log after it.

    Raises:
        ConfigInvalid: A custom component cannot be loaded.
        LogDamaged: The log cannot be trusted.
        StoreUnavailable: A server has the folder open and does not answer.
    """
    told = _asked(folder, "GET", "/v1/experiments")
    return _known(folder, config).listed() if told is None else msgspec.json.decode(told, type=ExperimentList)


def show_experiment(folder: Path, config: Config, name: str) -> ExperimentView:
    """Return all that is known of one experiment, as ``list_experiments`` does.

    Raises:
        NotFound: There is none of that name.
    """
    told = _asked(folder, "GET", _path(name))
    if told is not None:
        return msgspec.json.decode(told, type=ExperimentView)
    found = _known(folder, config).view(name)
    if found is None:
        message = f"no experiment {name[:64]!r} was started"
        raise NotFound(message)
    return found


def start_experiment(folder: Path, config: Config, name: str, order: StartOrder, said: Said) -> ExperimentView:
    """Start an experiment; through the server that has the folder open, if there is one.

    Raises:
        ConfigInvalid: It cannot start; every fault is named, and nothing was changed. So with all that follow.
        RebuildRunning: The server is about to have another configuration.
        FolderLocked: Another process has the folder open, and it is no server that can be reached.
        StoreUnavailable: The server that has it open refused or did not answer.
    """
    body = {name: each for name, each in msgspec.to_builtins(order).items() if each is not None} | _signed(said)
    return _changed(folder, config, lambda one: one.experimenting.start(name, order, said), (_path(name), body))


def ramp_experiment(folder: Path, config: Config, name: str, ramp: Sequence[RampOrder], said: Said) -> ExperimentView:
    """Expose more units of an experiment; raises as ``start_experiment`` does.

    Raises:
        NotFound: There is none of that name.
    """
    body = {"ramp": msgspec.to_builtins(tuple(ramp)), **_signed(said)}
    return _changed(folder, config, lambda one: one.experimenting.ramp(name, ramp, said), (_path(name, "/ramp"), body))


def stop_experiment(folder: Path, config: Config, name: str, why: tuple[str, str | None], said: Said) -> ExperimentView:
    """Stop an experiment; raises as ``start_experiment`` does.

    Args:
        folder: Of the data.
        config: Of the folder.
        name: Of the experiment.
        why: The reason, and the variant that is shipped, None = none.
        said: Author and note.

    Raises:
        NotFound: There is none of that name, or no such variant.
    """
    reason, ship = why
    body = {"reason": reason, "ship": ship, **_signed(said)}

    async def work(running: Instance) -> ExperimentView:
        return await running.experimenting.stop(name, reason, said, ship)

    return _changed(folder, config, work, (_path(name, "/stop"), body))


def hold_out(folder: Path, config: Config, share: float, placements: Sequence[str], said: Said) -> HoldoutView:
    """Hold a share of users out of all experiments; raises as ``start_experiment`` does."""
    body = {"share": share, "placements": list(placements), **_signed(said)}

    async def work(running: Instance) -> HoldoutView:
        return await running.experimenting.hold_out(share, placements, said)

    ask = partial(_asked, folder, "PUT", "/v1/holdout", json=body)
    return changed((folder, config), work, ask, lambda told: msgspec.json.decode(told, type=HoldoutView))


def give_back_holdout(folder: Path, config: Config, said: Said) -> None:
    """End the holdout; raises as ``start_experiment`` does.

    Raises:
        NotFound: There is none.
    """

    async def work(running: Instance) -> None:
        await running.experimenting.give_back_holdout(said)

    ask = partial(_asked, folder, "DELETE", "/v1/holdout", params=_signed(said))
    changed((folder, config), work, ask, lambda _: None)


def _signed(said: Said) -> dict[str, str]:
    return {"author": said.author, "note": said.note}


def _path(name: str, more: str = "") -> str:
    return f"/v1/experiments/{quote(name, safe='')}{more}"


def _known(folder: Path, config: Config) -> KnownExperiments:
    service, fold = served_of(folder, config, log := LogView(folder))
    known = read_topic_position(DataFolder(folder / DATA_NAME).topic_position)
    generation = log.identity.generation if known is None else known.token_generation
    slates: Counter[str] = Counter()
    for each in fold.outcomes.counts():
        slates[each.group.placement] += each.slates
    suspended = Routing.of(fold.placements, fold.vocabulary, service.plans).routes.suspended

    def token(at: int) -> str:
        return position_token(generation, at)

    return KnownExperiments(fold.placements.current, suspended, slates, token, time.time_ns() // 1_000_000)


def _changed(
    folder: Path,
    config: Config,
    work: Callable[[Instance], Awaitable[ExperimentView]],
    sent: tuple[str, dict[str, Any]],
) -> ExperimentView:
    ask = partial(_asked, folder, "POST", sent[0], json=sent[1])
    return changed((folder, config), work, ask, lambda told: msgspec.json.decode(told, type=ExperimentView))


def _asked(folder: Path, method: str, path: str, **sent: Any) -> bytes | None:  # noqa: ANN401  as httpx takes it
    """Return what the server of a folder answers, None = there is none."""
    url = server_of(DataFolder(folder / DATA_NAME))
    return server_answer(url, ANSWER_S_MAX, lambda client: client.request(method, path, **sent), _refusal)


def _refusal(answer: "httpx.Response", url: str) -> MidstreamError:
    """Return what a server refuses as what it is here."""
    problem = problem_of(answer)
    if problem is None or answer.status_code not in (400, 404, 409):
        return refusal_of(answer, url)
    if answer.status_code == HTTPStatus.CONFLICT:
        return RebuildRunning(problem.detail)
    return NotFound(problem.detail) if answer.status_code == HTTPStatus.NOT_FOUND else ConfigInvalid(faults_of(problem))
