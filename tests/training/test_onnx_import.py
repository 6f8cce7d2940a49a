"""Import of ONNX files: a version with golden rows, a runner in its manifest, and nothing of a file that is refused."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from midstream.core.errors import ArtifactInvalid, ArtifactTooLarge, ExtraMissing, Invalid
from midstream.models.artifact.artifact import ArtifactContent, Draft
from midstream.models.artifact.golden import check_row_golden, made_rows, row_content
from midstream.models.loading import load
from midstream.models.onnx.writing import node, onnx_file, value
from midstream.models.rows.onnx_ranker import OnnxRanker, marks_of, ranker_of
from midstream.training.fetched import import_folder
from midstream.training.onnx_import import OnnxImport, golden_rows, publish_onnx
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


def _standardised(mean: float, deviation: float, weights: Sequence[float] = (3.0, -1.0)) -> bytes:
    nodes = [
        node("Sub", ["rows", "mean"], ["off"]),
        node("Div", ["off", "deviation"], ["z"]),
        node("MatMul", ["z", "weights"], ["odds"]),
        node("Sigmoid", ["odds"], ["score"]),
    ]
    told: dict[str, Any] = {
        "mean": np.full((1, 2), mean, dtype=np.float32),
        "deviation": np.full((1, 2), deviation, dtype=np.float32),
        "weights": np.array(weights, dtype=np.float32)[:, None],
    }
    return onnx_file(nodes, [value("rows", ("n", 2))], [value("score", ("n", 1))], told)


@pytest.mark.parametrize("mean, deviation", [(1e3, 10.0), (1e6, 1e5), (0.0, 1e-4)])
def test_golden_rows_lie_around_what_a_graph_takes_off(mean: float, deviation: float) -> None:
    """Rows of a normal distribution all score 0 there: exchanged columns and other weights would pass each load."""
    ranker = ranker_of(_standardised(mean, deviation), ("a", "b"))
    rows, _ = golden_rows(ranker, marks_of(ranker))
    assert len(np.unique(ranker.score(rows))) > 100
    arrays = row_content(ranker, rows).arrays
    check_row_golden(ranker, arrays)
    for other in (
        _standardised(mean, deviation, (-1.0, 3.0)),
        _standardised(mean, deviation, (3.0, 0.0)),
        _standardised(mean + deviation / 100, deviation),
    ):
        with pytest.raises(ArtifactInvalid, match="golden questions otherwise"):
            check_row_golden(ranker_of(other, ("a", "b")), arrays)


def _beyond(threshold: float) -> bytes:
    nodes = [
        node("ReduceSum", ["rows", "axis"], ["sum"]),
        node("Greater", ["sum", "most"], ["more"]),
        node("Cast", ["more"], ["score"], to=1),
    ]
    told: dict[str, Any] = {"axis": np.array([1]), "most": np.array([threshold], dtype=np.float32)}
    return onnx_file(nodes, [value("rows", ("n", 2))], [value("score", ("n", 1))], told)


def test_a_check_that_could_not_fail_is_refused(registry: Registry) -> None:
    """Larger rows are tried first: a threshold that is no mark is found, and one that nothing reaches is not."""
    publish_onnx(registry, _beyond(4e4), OnnxImport("ranker", ("a", "b")))
    with pytest.raises(Invalid, match="The 256 made up rows have the score 0, whatever"):
        publish_onnx(registry, _beyond(1e30), OnnxImport("second", ("a", "b")))
    assert registry.names() == ["ranker"]


@pytest.mark.parametrize("call", ["Softmax", "ReduceMax", "CumSum"])
def test_rows_that_depend_on_each_other_are_refused(registry: Registry, call: str) -> None:
    """The score of an item would hang on which others are candidates of the same request."""
    nodes = {
        "Softmax": [node("Softmax", ["rows"], ["score"], axis=0)],
        "ReduceMax": [node("ReduceMax", ["rows"], ["most"], axes=[0]), node("Sub", ["rows", "most"], ["score"])],
        "CumSum": [node("CumSum", ["rows", "axis"], ["score"])],
    }[call]
    content = onnx_file(
        nodes, [value("rows", ("n", 1))], [value("score", ("n", 1))], {"axis": np.array(0, dtype=np.int64)}
    )
    with pytest.raises(Invalid, match=r"A row has the score .* among others, and .* (alone|in another order)"):
        publish_onnx(registry, content, OnnxImport("ranker", ("a",)))
    assert registry.names() == []


def test_a_threshold_without_end_is_no_place_of_values() -> None:
    """Rows around infinity would have no values at all."""
    assert np.isinf(marks_of(ranker_of(stump(float("inf")), ("a", "b")))[1]).any()
    ranker = ranker_of(linear(), COLUMNS)
    for rows in (
        golden_rows(ranker, [np.array([np.inf])] * 3)[0],
        golden_rows(ranker, [np.array([-np.inf, 5.0])] * 3)[0],
        made_rows(ranker, 0, [np.array([np.inf, np.nan])] * 3),
    ):
        assert np.isfinite(rows).mean() > 0.8
        assert np.abs(rows[np.isfinite(rows)]).max() < 1e9


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
        (_loop(), COLUMNS, Invalid, '"Loop" is called once'),
        (linear(("n", 3)), COLUMNS[:2], Invalid, "takes 3 columns, and 2 came: price, views"),
        (b"nothing of the kind" * 9, COLUMNS, Invalid, r"cannot be read as ONNX: a field of wire type 6"),
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
