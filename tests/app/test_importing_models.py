"""``midstream models import``: files, folders and what an MLflow registry holds, which is a stand-in here."""

import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from midstream.app.operate.model_registry import Import, import_model, registry_of
from midstream.cli.app import main
from midstream.core.errors import ArtifactInvalid, ArtifactTooLarge, ExtraMissing, NotFound, StoreUnavailable
from midstream.integrations import mlflow as integration
from midstream.training.registry import Registry
from tests.support.fakes.models import publish_chain


class MlflowError(Exception):
    """As MLflow raises."""

    def __init__(self, code: str) -> None:
        """Say what the code says."""
        super().__init__(f"{code} it said")
        self.error_code = code


class FakeArtifacts:
    """``mlflow.artifacts`` over a folder that stands for ``models:/ranker@champion``."""

    def __init__(self, root: Path) -> None:
        """Begin without a failure."""
        self.root, self.asked, self.copied = root, set[str | None](), 0
        self.escape = ""

    def _path(self, address: str) -> Path:
        if not address.startswith("models:/ranker@champion"):
            raise MlflowError("RESOURCE_DOES_NOT_EXIST" if address.startswith("models:/") else "INTERNAL_ERROR")
        return self.root / address.removeprefix("models:/ranker@champion").lstrip("/")

    def list_artifacts(self, artifact_uri: str, tracking_uri: str | None) -> list[SimpleNamespace]:
        """Return one level."""
        self.asked.add(tracking_uri)
        if tracking_uri == "http://127.0.0.1:9":
            raise MlflowError("INTERNAL_ERROR")
        if self.escape:
            return [SimpleNamespace(path=self.escape, is_dir=True, file_size=None)]
        return [
            SimpleNamespace(
                path=str(each.relative_to(self.root)),
                is_dir=each.is_dir(),
                file_size=None if each.is_dir() else each.stat().st_size,
            )
            for each in self._path(artifact_uri).iterdir()
        ]

    def download_artifacts(self, artifact_uri: str, dst_path: str, tracking_uri: str | None) -> str:
        """Copy all."""
        self.copied += 1
        shutil.copytree(self._path(artifact_uri), dst_path, dirs_exist_ok=True)
        return dst_path


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArtifacts:
    """Return an MLflow registry that holds a version of the model ``near``."""
    here = Registry(tmp_path / "here")
    version = publish_chain(here, 2)
    shutil.copytree(here.folder / "near", tmp_path / "held" / "model")
    (tmp_path / "held" / "MLmodel").write_text(f"flavors: {{}} # {version}")
    artifacts = FakeArtifacts(tmp_path / "held")
    fake = ModuleType("mlflow")
    for name, value in (("artifacts", artifacts), ("exceptions", SimpleNamespace(MlflowException=MlflowError))):
        setattr(fake, name, value)
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.setitem(sys.modules, "mlflow.artifacts", ModuleType("mlflow.artifacts"))
    return artifacts


def test_a_model_of_a_registry_is_copied_verified_and_named(
    tmp_path: Path, held: FakeArtifacts, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the command, under its own name and under another; nothing that was fetched stays."""
    shop = tmp_path / "shop"
    shop.mkdir()
    for words in ((), ("--name", "ranker"), ("--name", "ranker", "--tracking", "sqlite:///x.db")):
        with pytest.raises(SystemExit) as left:
            main(["models", "import", "models:/ranker@champion", *words, "-f", str(shop)])
        assert left.value.code == 0
    said = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert [name for name, _ in said] == ["near", "ranker", "ranker"]
    assert said[1] == said[2]
    registry = registry_of(shop)
    assert [each.name for each in sorted(registry.folder.iterdir())] == ["near", "ranker"]
    for name, version in said:
        assert registry.load(name, version).version == version
    assert held.asked == {None, "sqlite:///x.db"}


def test_what_a_registry_does_not_have_or_cannot_say_is_named(tmp_path: Path, held: FakeArtifacts) -> None:
    """Each with the error that a caller can tell; nothing stays, and what is too large or leads out is not copied."""
    shop = tmp_path / "shop"
    shop.mkdir()
    with pytest.raises(NotFound, match="RESOURCE"):
        import_model(shop, Import("models:/nobody@champion"))
    with pytest.raises(StoreUnavailable):
        import_model(shop, Import("models:/ranker@champion", tracking="http://127.0.0.1:9"))
    with pytest.raises(ArtifactTooLarge):
        integration.fetch("models:/ranker@champion", tmp_path / "target", 100)
    for path in ("../up", "/etc", "a/../../up"):
        held.escape = path
        with pytest.raises(ArtifactInvalid, match="leads elsewhere"):
            import_model(shop, Import("models:/ranker@champion"))
    held.escape = "again"  # each level has another: no end of folders
    with pytest.raises(ArtifactInvalid, match="more than"):
        import_model(shop, Import("models:/ranker@champion"))
    assert held.copied == 0
    for address in ("models:/", "models:/ranker", "models:/a/b/c", "models:/ranker@a@b"):
        with pytest.raises(NotFound, match="no address"):
            import_model(shop, Import(address))
    held.escape = ""
    weight = next(held.root.rglob("weight.npy"))
    weight.write_bytes(weight.read_bytes()[:-1] + b"\x99")
    with pytest.raises(ArtifactInvalid, match="SHA-256"):
        import_model(shop, Import("models:/ranker@champion"))
    assert list(registry_of(shop).folder.iterdir()) == []


def test_without_mlflow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a source that is nothing else is no file either."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ExtraMissing, match=r"midstream\[mlflow\]"):
        import_model(tmp_path, Import("models:/ranker@champion"))
    with pytest.raises(NotFound, match="no file"):
        import_model(tmp_path, Import("ranker"))
