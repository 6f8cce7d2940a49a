"""Models of a folder: read beside a server, changed through it where it has the folder open, else in this process."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.opening import DATA_NAME, config_of
from midstream.app.operate.folder_orders import changed
from midstream.app.server_address import server_of
from midstream.app.server_refusals import faults_of, problem_of, server_answer, unavailable
from midstream.core.errors import Fault, Invalid, MidstreamError, ModelUnfit, NotFound
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.models.views import ModelView, compared, model_view, model_views
from midstream.events.file_modes import make_folder
from midstream.integrations.mlflow import SCHEME, fetch
from midstream.models.onnx_export import onnx_of
from midstream.training.fetched import GRAPH, import_folder, read_graph_file
from midstream.training.onnx_import import OnnxImport, publish_onnx
from midstream.training.onnx_items_import import OnnxItemsImport, publish_onnx_items
from midstream.training.packing import export_version, import_version
from midstream.training.registry import ARRIVING, Registry

if TYPE_CHECKING:
    import httpx

TAR_BYTES_MAX = 2 << 20
"""What a tar of 1,000 files and a manifest have beside the bytes that the manifest names."""
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


def untrained(config: Config, found: Sequence[ModelView]) -> Sequence[str]:
    """Return the names of the configured models that are not among those of ``list_models``: none has a version."""
    return [each.name for each in config.models if each.name not in {view.name for view in found}]


def show_model(folder: Path, config: Config, name: str) -> ModelView:
    """Return one model, as ``list_models`` does.

    Raises:
        NotFound: There is none of that name, or it was never trained, which it says.
    """
    views = list_models(folder, config)
    found = {each.name: each for each in views}
    if name in untrained(config, views):
        message = f"no version of {name!r} is there yet; midstream train {name}"
        raise NotFound(message)
    return found[name] if name in found else model_view(registry_of(folder), name, ())


def compare_versions(folder: Path, name: str, versions: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
    """Return metrics, options and window of versions of a model beside each other, as ``model_views.compared`` does.

    Args:
        folder: Has them.
        name: Of the model.
        versions: As ``Registry.find`` reads them; none = the two newest, or the only one.

    Raises:
        NotFound: One is not there, or none of the model is.
        ArtifactInvalid: A manifest is damaged.
    """
    registry = registry_of(folder)
    return compared(registry, name, versions or registry.versions(name)[-2:] or [registry.find(name, "")])


def promote(folder: Path, config: Config, name: str, version: str = "", alias: str = "champion") -> ModelView:
    """Assign an alias of a model to a version, through the server that has the folder open, if there is one.

    Raises:
        NotFound: There is no such version.
        ArtifactInvalid: It is refused.
        ModelUnfit: It is refused because a placement that names it lacks its inputs.
        FolderLocked: Another process has the folder open, and it is no server that can be reached.
        StoreUnavailable: The server that has it open refused or did not answer.
    """

    async def work(running: Instance) -> None:
        await running.champions.promote(name, version, alias)

    return _changed(folder, config, name, work, "promote", {"version": version, "alias": alias})


def rollback(folder: Path, config: Config, name: str, alias: str = "champion") -> ModelView:
    """Assign an alias of a model to its previous version; raises as ``promote`` does."""

    async def work(running: Instance) -> None:
        await running.champions.rollback(name, alias)

    return _changed(folder, config, name, work, "rollback", {"alias": alias})


def export_model(folder: Path, name: str, version: str, target: Path, *, as_onnx: bool = False) -> str:
    """Write a version as a tar file, or as an ONNX file for programs elsewhere; return which it was.

    Raises:
        NotFound: It is not there.
        ArtifactInvalid: It is damaged.
        Invalid: It is to be written as ONNX, which its kind has no form of.
        FileExistsError: The target exists already.
    """
    registry = registry_of(folder)
    found = registry.find(name, version)
    if as_onnx:
        content = onnx_of(registry.read(name, found))
        with target.open("xb") as file:
            file.write(content)
    else:
        export_version(registry, name, found, target)
    return found


@dataclass(frozen=True, slots=True)
class Import:
    """What is imported, and as what."""

    source: str
    """A file of ``export_model``, an ONNX file, a folder that holds a version, or a model of an MLflow registry
    (``models:/…``)."""
    name: str = ""
    """Of the model it becomes a version of; empty = the one that it has."""
    columns: tuple[str, ...] = ()
    """Features that a model of LightGBM's or an ONNX graph reads, in its order; none = as its file names them."""
    score: str = ""
    """Output of an ONNX graph that is the score; empty = the only one."""
    tracking: str = ""
    """Address of MLflow's server; empty = as MLflow finds it."""
    items: str = ""
    """File of ids and vectors of items, where an ONNX graph reads histories; empty = it ranks rows."""
    last: int = 50
    """Last items of a history that such a graph reads."""


def import_model(folder: Path, wanted: Import) -> tuple[str, str]:
    """Take in a version; return the model's name and the version. A server may have the folder open.

    Raises:
        NotFound: There is no such file, or no such model in the registry that is asked.
        ArtifactInvalid: It is no version, or a damaged one, or one of more bytes than may be.
        Invalid: An ONNX graph may not be run, or is no ranker over the columns.
        ExtraMissing: MLflow, or what runs the version, is not installed.
        StoreUnavailable: The registry that is asked does not answer.
    """
    registry = registry_of(folder)
    if wanted.source.startswith(SCHEME):
        make_folder(registry.folder)
        with TemporaryDirectory(prefix=ARRIVING, suffix=f"-{os.getpid()}", dir=registry.folder) as fetched:
            fetch(wanted.source, Path(fetched), registry.bytes_max + TAR_BYTES_MAX, wanted.tracking)
            return _of_folder(registry, Path(fetched), wanted)
    source = Path(wanted.source)
    if source.is_dir():
        return _of_folder(registry, source, wanted)
    if not source.is_file():
        message = f"{wanted.source} is no file, no folder, and no {SCHEME}name@alias"
        raise NotFound(message)
    if wanted.items:
        return wanted.name, _of_items(registry, source, wanted)
    if source.suffix == GRAPH:
        told = OnnxImport(wanted.name, wanted.columns, wanted.score, source.name)
        return wanted.name, publish_onnx(registry, read_graph_file(source), told)
    return import_version(registry, source, wanted.name)


def _of_items(registry: Registry, source: Path, wanted: Import) -> str:
    if source.suffix != GRAPH or wanted.columns:
        came = f"--items came with {source.name}" + (" and --columns." if wanted.columns else ".")
        right = "An ONNX file over histories, which has no columns."
        raise Invalid((Fault("--items", came, right, "/docs/models.md"),))
    items = Path(wanted.items)
    told = OnnxItemsImport(wanted.name, wanted.last, wanted.score, source.name, items.name)
    return publish_onnx_items(registry, read_graph_file(source), items, told)


def is_unproven(folder: Path, name: str, version: str) -> bool:
    """Return whether nobody said what an item model has to score: its graph reads rows, in an order that is not seen.

    Raises:
        NotFound: There is no such version.
        ArtifactInvalid: Its manifest is damaged.
    """
    told = registry_of(folder).manifest(name, version).options
    return told.get("reads") == "rows" and not told.get("expected_histories")


def _of_folder(registry: Registry, folder: Path, wanted: Import) -> tuple[str, str]:
    return import_folder(registry, folder, wanted.name, wanted.columns, wanted.source, wanted.score)


class _Models(msgspec.Struct, frozen=True):
    """Of ``GET /v1/models``."""

    models: tuple[ModelView, ...]


def _changed(
    folder: Path,
    config: Config,
    name: str,
    work: Callable[[Instance], Awaitable[None]],
    verb: str,
    body: Mapping[str, str],
) -> ModelView:
    async def viewed(running: Instance) -> ModelView:
        await work(running)
        return await running.champions.view(name)

    def ask() -> bytes | None:
        return _asked(folder, lambda client: client.post(f"/v1/models/{name}/{verb}", json=body))

    return changed((folder, config), viewed, ask, lambda told: msgspec.json.decode(told, type=ModelView))


def _asked(folder: Path, ask: "Callable[[httpx.Client], httpx.Response]") -> bytes | None:
    """Return what the server of a folder answers, None = there is none."""
    return server_answer(server_of(DataFolder(folder / DATA_NAME)), ANSWER_S_MAX, ask, _refusal)


def _refusal(answer: "httpx.Response", url: str) -> MidstreamError:
    """Return what a server refuses: faults of a version, or that it cannot do it."""
    problem = problem_of(answer) if answer.status_code == HTTPStatus.CONFLICT else None
    return ModelUnfit(faults_of(problem)) if problem is not None and problem.errors else unavailable(answer, url)
