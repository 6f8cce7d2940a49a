"""The models of a folder: read beside a server, changed through it where it has the folder open, else by ourselves."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

import httpx
import msgspec

from midstream.app.config import Config
from midstream.app.inspection import LogView, state_of
from midstream.app.running import DATA_NAME, config_of, open_running
from midstream.app.server_address import read_address
from midstream.core.errors import Fault, FolderLocked, ModelUnfit, StoreUnavailable
from midstream.engine.folder import DataFolder
from midstream.engine.model_views import ModelView, compared, model_view, model_views
from midstream.engine.running import Running
from midstream.serving.problems import Problem
from midstream.training.packing import export_version, import_version
from midstream.training.registry import Registry

ANSWER_S_MAX = 600.0
"""A version of 10 GB is read and hashed before a server answers."""


def registry_of(folder: Path) -> Registry:
    """Return the registry of a folder, with the maximum of its configuration.

    Raises:
        ConfigInvalid: The file cannot be read.
    """
    return Registry(DataFolder(folder / DATA_NAME).models, config_of(folder).registry.version_bytes_max)


def list_models(folder: Path, config: Config) -> Sequence[ModelView]:
    """Return every model; what is in service where a server answers, what aliases stand for in any case.

    Cost: without a server that of the newest snapshot and the log after it.

    Raises:
        LogDamaged: The log cannot be trusted.
        StoreUnavailable: A server has the folder open and does not answer.
    """
    told = _asked(folder, lambda client: client.get("/v1/models"))
    if told is not None:
        return msgspec.json.decode(told, type=_Models).models
    return model_views(registry_of(folder), state_of(folder, config, LogView(folder)).fold.promotions.rows)


def show_model(folder: Path, config: Config, name: str) -> ModelView:
    """Return one model, as ``list_models`` does.

    Raises:
        NotFound: There is none of that name.
    """
    found = {each.name: each for each in list_models(folder, config)}
    return found[name] if name in found else model_view(registry_of(folder), name, ())


def compare_versions(folder: Path, name: str, versions: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
    """Return metrics, options and window of versions of a model beside each other, as ``model_views.compared`` does."""
    return compared(registry_of(folder), name, versions or registry_of(folder).versions(name)[-2:])


def promote(folder: Path, config: Config, name: str, version: str = "", alias: str = "champion") -> ModelView:
    """Let an alias of a model stand for a version; through the server that has the folder open, if there is one.

    Raises:
        NotFound: No such version is there.
        ArtifactInvalid: It is refused.
        ModelUnfit: It is refused because a placement that names it does not have what it reads.
        FolderLocked: Another process has the folder open, and it is no server that can be reached.
        StoreUnavailable: The server that has it open refused or did not answer.
    """

    async def work(running: Running) -> None:
        await running.champions.promote(name, version, alias)

    return _changed(folder, config, name, work, "promote", {"version": version, "alias": alias})


def rollback(folder: Path, config: Config, name: str, alias: str = "champion") -> ModelView:
    """Let an alias of a model stand for what it stood for before; raises as ``promote`` does."""

    async def work(running: Running) -> None:
        await running.champions.rollback(name, alias)

    return _changed(folder, config, name, work, "rollback", {"alias": alias})


def export_model(folder: Path, name: str, version: str, target: Path) -> str:
    """Write a version as a tar file; return which it was.

    Raises:
        NotFound: It is not there.
        ArtifactInvalid: It is damaged.
    """
    registry = registry_of(folder)
    found = registry.find(name, version)
    export_version(registry, name, found, target)
    return found


def import_model(folder: Path, source: Path) -> tuple[str, str]:
    """Take in a version from a tar file; return the model's name and the version. A server may have the folder open.

    Raises:
        ArtifactInvalid: It is no version, or a damaged one.
    """
    return import_version(registry_of(folder), source)


class _Models(msgspec.Struct, frozen=True):
    """Of ``GET /v1/models``."""

    models: tuple[ModelView, ...]


def _changed(
    folder: Path,
    config: Config,
    name: str,
    work: Callable[[Running], Awaitable[None]],
    verb: str,
    body: Mapping[str, str],
) -> ModelView:
    try:
        return asyncio.run(_with_engine(folder, config, name, work))
    except FolderLocked:
        told = _asked(folder, lambda client: client.post(f"/v1/models/{name}/{verb}", json=body))
        if told is None:
            raise
        return msgspec.json.decode(told, type=ModelView)


async def _with_engine(
    folder: Path, config: Config, name: str, work: Callable[[Running], Awaitable[None]]
) -> ModelView:
    running = open_running(folder, config)
    await running.start()
    try:
        await work(running)
        return await running.champions.view(name)
    finally:
        await running.stop()


def _asked(folder: Path, ask: Callable[[httpx.Client], httpx.Response]) -> bytes | None:
    """Return what the server of a folder answers, None = there is none."""
    url = read_address(DataFolder(folder / DATA_NAME).root)
    if not url:
        return None
    try:
        with httpx.Client(base_url=url, timeout=ANSWER_S_MAX) as client:
            answer = ask(client)
    except httpx.TransportError as error:
        message = f"{url} has the folder open and does not answer: {error}"
        raise StoreUnavailable(message) from error
    if not answer.is_success:
        _raise_unfit(answer)
        message = f"{url} answered {answer.status_code}: {answer.text[:1_000]}"
        raise StoreUnavailable(message)
    return answer.content


def _raise_unfit(answer: httpx.Response) -> None:
    """Raise what a server refuses with faults as what it is here; return where it said something else."""
    if answer.status_code != HTTPStatus.CONFLICT:
        return
    problem = msgspec.json.decode(answer.content, type=Problem)
    if problem.errors:
        raise ModelUnfit(tuple(Fault(each.pointer, each.came, each.right, each.page) for each in problem.errors))
