"""Export of a version as an ONNX file, of every kind that ONNX has operators for.

A ranker becomes a graph from ``rows`` [rows, columns] to ``score`` [rows, 1]. A model of item vectors becomes a graph
without inputs: ``item_vectors`` [items, d] and ``item_ids``, row by row. Nothing here reads such a file again but the
kinds ``onnx`` and ``onnx_items``.
"""

from typing import Final

import numpy as np

from midstream.core.errors import Fault, Invalid
from midstream.models.artifact.artifact import Artifact
from midstream.models.items.als import AlsModel
from midstream.models.items.bpr import Bpr
from midstream.models.items.onnx_items import OnnxItems
from midstream.models.items.sequence import SequenceModel
from midstream.models.items.sequence_onnx import FILE
from midstream.models.items.svd import Svd
from midstream.models.items.two_tower import TwoTowerModel
from midstream.models.loading import load
from midstream.models.model import ItemModel, RowModel
from midstream.models.onnx.graph import STRING
from midstream.models.onnx.writing import node, onnx_file, value
from midstream.models.rows.ftrl import Ftrl
from midstream.models.rows.keras_ranker import KerasRanker
from midstream.models.rows.logistic_regression import LogisticRegression
from midstream.models.rows.onnx_ranker import OnnxRanker
from midstream.models.rows.row_graphs import linear_graph, network_graph, trees_graph
from midstream.models.rows.trees import Trees

NO_OPERATOR: Final = frozenset({
    "blend", "content", "ease", "graph_filter", "item_knn", "item_to_item", "popular", "rp3beta",
})  # fmt: skip
"""Kinds that cannot be exported: a question adds rows of a sparse matrix, or is counted, for which ONNX has nothing."""
PAGE: Final = "/docs/models.md#what-is-exported-as-onnx"


def onnx_of(artifact: Artifact) -> bytes:
    """Return a version as an ONNX file.

    Raises:
        Invalid: Its kind has no ONNX form, or a sequence model was published without its network.
        ArtifactInvalid: It is damaged.
        ExtraMissing: A library that reads it is not installed.
    """
    kind = artifact.manifest.kind
    if kind in NO_OPERATOR:
        came = f"A model of kind {kind} came: ONNX has no operator for what it computes."
        raise Invalid((Fault("--format", came, "--format tar, whose arrays any NumPy reads.", PAGE),))
    return graph_of(load(artifact), artifact)


def graph_of(model: ItemModel | RowModel, artifact: Artifact) -> bytes:
    """Return a loaded model as an ONNX file; raises as ``onnx_of`` does."""
    if isinstance(model, OnnxRanker | OnnxItems):
        return model.graph.tobytes()
    if isinstance(model, Trees):
        return trees_graph(model)
    if isinstance(model, Ftrl | LogisticRegression):
        return linear_graph(model)
    if isinstance(model, KerasRanker):
        return network_graph(model)
    if isinstance(model, SequenceModel):
        if (network := artifact.files.get(FILE)) is None:
            came = f"{artifact.version} was published without {FILE}, which PyTorch writes."
            right = "A training with the extras torch and train."
            raise Invalid((Fault("--format", came, right, PAGE),))
        return network
    return _vectors(model)


def _vectors(model: ItemModel | RowModel) -> bytes:
    """Return the vectors of items as a graph without inputs."""
    if not isinstance(model, AlsModel | Bpr | Svd | TwoTowerModel):
        raise TypeError(f"{type(model).__name__} has no ONNX form and is not among NO_OPERATOR")
    vectors = model.item_vectors().astype("<f4")
    nodes = [node("Identity", ["vectors"], ["item_vectors"]), node("Identity", ["ids"], ["item_ids"])]
    outputs = [value("item_vectors", vectors.shape), value("item_ids", vectors.shape[:1], STRING)]
    ids = np.array(model.vocabulary.ids, dtype=np.str_)
    return onnx_file(nodes, [], outputs, {"vectors": vectors, "ids": ids})
