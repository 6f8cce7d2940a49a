"""Import of ONNX files: a version with golden rows, a runner in its manifest, and nothing of a file that is refused."""

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from midstream.core.errors import ArtifactInvalid, ArtifactTooLarge, ExtraMissing, Invalid
from midstream.models.artifact.artifact import ArtifactContent, Draft
from midstream.models.artifact.golden import made_rows, row_content
from midstream.models.loading import load
from midstream.models.onnx.writing import node, onnx_file, value
from midstream.models.rows.onnx_ranker import OnnxRanker, ranker_of
from midstream.training.fetched import import_folder
from midstream.training.onnx_import import OnnxImport, publish_onnx
from midstream.training.packing import export_version, import_version
from midstream.training.registry import Registry
from tests.support.small_graphs import COLUMNS, linear, logistic, stump
from tests.support.small_models import publish_small

WANTED = OnnxImport("ranker", COLUMNS, source="ranker.onnx")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Return an empty registry."""
    return Registry(tmp_path / "there")


def test_a_file_becomes_a_version_that_names_its_runner(registry: Registry) -> None:
    """With what the file says of itself, and golden rows of finite scores; equal files give equal numbers."""
    version = publish_onnx(registry, linear(), WANTED)
    loaded = registry.load("ranker", version)
    manifest = loaded.manifest
    assert (manifest.kind, manifest.runner, manifest.inputs) == ("onnx", "onnxruntime", COLUMNS)
    told = {name: manifest.options[name] for name in ("source", "opsets", "nodes", "output", "unknown_values")}
    assert told == {
        "source": "ranker.onnx",
        "opsets": {"ai.onnx": 17, "ai.onnx.ml": 3},
        "nodes": 2,
        "output": "score",
        "unknown_values": "no number",
    }
    assert manifest.options["runner_version"]
    assert isinstance(loaded.model, OnnxRanker)
    values = np.random.default_rng(1).standard_normal((9, 3)).astype(np.float32)
    assert np.abs(loaded.model.score(values) - logistic(values)).max() < 1e-6
    artifact = registry.read("ranker", version)
    assert artifact.arrays["golden.values"].shape == (256, 3)
    assert np.isfinite(artifact.arrays["golden.scores"].astype(float)).all()


def test_golden_rows_lie_around_the_thresholds_of_trees(registry: Registry) -> None:
    """On both sides, unknown values among them where the graph has a number for them."""
    version = publish_onnx(registry, stump(3.5), OnnxImport("ranker", ("a", "b")))
    artifact = registry.read("ranker", version)
    asked, scores = artifact.arrays["golden.values"], artifact.arrays["golden.scores"]
    assert artifact.manifest.options["unknown_values"] == "read"
    assert np.isnan(asked[:, 1]).sum() > 10
    assert (asked[:, 1] == 3.5).sum() > 20
    assert sorted(np.unique(scores).tolist()) == [-0.5, 0.75]


def test_every_import_carries_a_graph(registry: Registry, tmp_path: Path) -> None:
    """A folder such as MLflow gives, and the tar of an export; another name makes another version of the same files."""
    folder = tmp_path / "fetched"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(linear())
    (folder / "MLmodel").write_text("flavors: {}")
    name, version = import_folder(registry, folder, "ranker", COLUMNS)
    assert registry.manifest(name, version).options["source"] == "model.onnx"
    export_version(registry, name, version, tmp_path / "ranker.tar")
    there = Registry(tmp_path / "elsewhere")
    assert import_version(there, tmp_path / "ranker.tar") == (name, version)
    other, renamed = import_version(there, tmp_path / "ranker.tar", "second")
    assert there.manifest(other, renamed).runner == "onnxruntime"
    (folder / "trees.lgb").write_text("tree\nversion=v4\n")
    with pytest.raises(ArtifactInvalid, match="would be right; there are"):
        import_folder(registry, folder, "ranker", COLUMNS)


@pytest.mark.parametrize("name", ["", "No", "../x"])
def test_a_graph_needs_a_name_of_ours(registry: Registry, name: str) -> None:
    """It has none of its own."""
    with pytest.raises(ArtifactInvalid, match="say which model"):
        publish_onnx(registry, linear(), OnnxImport(name, COLUMNS))


def _loop() -> bytes:
    inputs, outputs = [value("rows", ("n", 3))], [value("score", ("n", 1))]
    return onnx_file([node("Loop", ["rows"], ["score"])], inputs, outputs, {})


def _never() -> bytes:
    nodes = [node("Sub", ["rows", "rows"], ["none"]), node("Div", ["none", "none"], ["score"])]
    return onnx_file(nodes, [value("rows", ("n", 1))], [value("score", ("n", 1))], {})


def test_what_is_refused_leaves_nothing(registry: Registry) -> None:
    """A loop, too few columns, what is no file of the kind, what has no number for any row, and what is too large."""
    for content, columns, error, text in (
        (_loop(), COLUMNS, Invalid, '"Loop" is called 1 times'),
        (linear(("n", 3)), COLUMNS[:2], Invalid, "takes 3 columns, and 2 came: price, views"),
        (b"nothing of the kind" * 9, COLUMNS, ArtifactInvalid, "no ONNX file|cut short|no message|wire type"),
        (_never(), ("a",), ArtifactInvalid, "no number for 256 of 256 rows"),
    ):
        with pytest.raises(error, match=text):
            publish_onnx(registry, content, OnnxImport("ranker", columns))
    with pytest.raises(ArtifactTooLarge):
        publish_onnx(Registry(registry.folder, 100), linear(), WANTED)
    assert registry.names() == []


def test_a_version_whose_manifest_names_another_runner_is_refused(registry: Registry) -> None:
    """Of a graph and of arrays: its answers would hang on who loads it."""
    graph = ranker_of(stump(), ("a", "b"))
    content = row_content(graph, made_rows(graph, 0))
    with pytest.raises(ArtifactInvalid, match="its runner is 'arrays', that of kind onnx is 'onnxruntime'"):
        registry.publish(Draft(name="ranker", kind="onnx", inputs=graph.inputs), content)
    version = publish_small(registry, "ftrl", 1)
    whole = registry.read("ftrl", version)
    other = msgspec.structs.replace(whole.manifest, runner="onnxruntime")
    with pytest.raises(ArtifactInvalid, match="that of kind ftrl is 'arrays'"):
        load(type(whole)(version, other, whole.arrays, whole.files))


def test_a_version_without_its_runner_is_refused_by_name(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arrays are whole, and nothing else answers in its place."""
    version = publish_onnx(registry, linear(), WANTED)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExtraMissing, match=r"ONNX Runtime: install midstream\[onnx\]"):
        registry.load("ranker", version)


def test_a_golden_answer_that_differs_is_refused(registry: Registry) -> None:
    """By more than 1e-4 of the largest."""
    whole = registry.read("ranker", publish_onnx(registry, linear(), WANTED))
    scores = whole.arrays["golden.scores"]
    for factor, is_right in ((1.00005, True), (1.001, False)):
        arrays = {**whole.arrays, "golden.scores": (scores.astype(np.float64) * factor).astype(np.float32)}
        content = ArtifactContent(arrays)
        fields = {each: getattr(whole.manifest, each) for each in Draft.__struct_fields__}
        if is_right:
            registry.publish(Draft(**fields), content)
            continue
        with pytest.raises(ArtifactInvalid, match="golden questions otherwise"):
            registry.publish(Draft(**fields), content)
