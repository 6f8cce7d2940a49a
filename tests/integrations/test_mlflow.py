"""Against MLflow itself, where it is installed: a database or a folder as registry, an alias or a number as address."""

from pathlib import Path

import pytest

from midstream.app.models import Import, export_model, import_model, registry_of
from midstream.core.errors import NotFound
from midstream.testing.models import publish_chain

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("scheme", ["sqlite", "file"])
@pytest.mark.parametrize("form", ["tar", "folder"])
def test_what_was_exported_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, form: str) -> None:
    """Logged as the tar of an export, or as the folder of the version; asked for by alias and by number."""
    mlflow = pytest.importorskip("mlflow", reason='needs the extra "mlflow": pip install "midstream[mlflow]"')
    if scheme == "sqlite":
        pytest.importorskip("alembic", reason="MLflow needs alembic and SQLAlchemy for a database")
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
