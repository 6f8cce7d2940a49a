"""Against MLflow itself, where it is installed: a database or a folder as registry, an alias or a number as address."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from midstream.app.operate.model_registry import Import, export_model, import_model, registry_of
from midstream.core.errors import ArtifactInvalid, ArtifactTooLarge, NotFound
from midstream.integrations.mlflow import fetch
from tests.support.fakes.models import publish_chain
from tests.support.libraries import library

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.integration
@pytest.mark.parametrize("scheme", ["sqlite", "file"])
@pytest.mark.parametrize("form", ["tar", "folder"])
def test_what_was_exported_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, form: str) -> None:
    """Logged as the tar of an export, or as the folder of the version; asked for by alias and by number."""
    mlflow = library("mlflow")
    if scheme == "sqlite":
        library("alembic")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/runs.db" if scheme == "sqlite" else (tmp_path / "runs").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    here, there = tmp_path / "here", tmp_path / "there"
    for each in (here, there):
        each.mkdir()
    version = publish_chain(registry_of(here), 2)
    with mlflow.start_run() as run:
        if form == "tar":
            export_model(here, "near", version, tmp_path / "near.tar")
            mlflow.log_artifact(str(tmp_path / "near.tar"), "model")
        else:
            mlflow.log_artifacts(str(registry_of(here).folder / "near" / version), f"model/{version}")
    client = mlflow.MlflowClient()
    client.create_registered_model("ranker")
    made = client.create_model_version("ranker", f"runs:/{run.info.run_id}/model", run.info.run_id)
    client.set_registered_model_alias("ranker", "champion", made.version)
    for address in ("models:/ranker@champion", f"models:/ranker/{made.version}"):
        assert import_model(there, Import(address)) == ("near", version)
        assert import_model(there, Import(address, "ranker", tracking=uri))[0] == "ranker"
    assert len(registry_of(there).versions("ranker")) == 1
    for address in ("models:/nobody@champion", "models:/ranker@nobody", "models:/ranker/99", "models:/"):
        with pytest.raises(NotFound):
            import_model(there, Import(address))
    assert sorted(each.name for each in registry_of(there).folder.iterdir()) == ["near", "ranker"]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, int | None]:
    """Return the sizes that a registry says of its files, by path, to be filled; it gives each as so many bytes."""
    sizes: dict[str, int | None] = {}

    def listed(artifact_uri: str, tracking_uri: str | None) -> list[SimpleNamespace]:
        assert (artifact_uri, tracking_uri) == ("models:/near/1", None)
        return [SimpleNamespace(path=path, is_dir=False, file_size=size) for path, size in sizes.items()]

    def download(artifact_uri: str, dst_path: str, tracking_uri: str | None) -> None:
        assert (artifact_uri, tracking_uri) == ("models:/near/1", None)
        for path, size in sizes.items():
            (Path(dst_path) / path).write_bytes(bytes(size or 1_000))

    artifacts = ModuleType("mlflow.artifacts")
    vars(artifacts).update(list_artifacts=listed, download_artifacts=download)
    library = ModuleType("mlflow")
    vars(library).update(artifacts=artifacts, exceptions=SimpleNamespace(MlflowException=RuntimeError), __path__=[])
    monkeypatch.setitem(sys.modules, "mlflow", library)
    monkeypatch.setitem(sys.modules, "mlflow.artifacts", artifacts)
    return sizes


def test_what_a_registry_says_no_size_of_is_not_copied(tmp_path: Path, told: dict[str, int | None]) -> None:
    """It might have any: neither none nor less than nothing counts as 0 bytes. An empty file has a size."""
    told.update({"a.npy": 40, "b.npy": 0})
    assert fetch("models:/near/1", tmp_path, 40) == 40
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.npy", "b.npy"]
    for size in (None, -1):
        target = tmp_path / str(size)
        target.mkdir()
        told["b.npy"] = size
        with pytest.raises(ArtifactInvalid, match=r"'b\.npy'.*how large"):
            fetch("models:/near/1", target, 1 << 40)
        assert not list(target.iterdir())
    told["b.npy"] = 1
    with pytest.raises(ArtifactTooLarge, match="41 bytes"):
        fetch("models:/near/1", tmp_path / "None", 40)
    assert not list((tmp_path / "None").iterdir())
