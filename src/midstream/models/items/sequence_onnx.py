"""Export of sequence models as ONNX, for programs elsewhere: written where it says what the arrays say.

The network takes the vectors of the items of a history, oldest first, ``items`` (m, d) with m from 1 to the number of
ages, and gives ``user`` (1, d), to be multiplied with the vectors of all items. These are in the model's own arrays and
not repeated: they are nearly all of it.

The arrays are the model and answer everywhere, whatever is installed, to the same bits. An export is run once, when it
is written, and left out where it differs from them by more than ``TOLERANCE`` or where nothing can run it. A network
that arrives with a version is never run: a file of 300 bytes can ask for 2^60 steps, and no thread can be ended.

Reference: ONNX operators, opset 17 (LayerNormalization).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, ExtraMissing
from midstream.models.histories import Histories
from midstream.models.items.sequence import (
    BEFORE_ATTENTION,
    BEFORE_NETWORK,
    GAIN,
    KEY,
    OUT,
    QUERY,
    SHIFT,
    SMALL,
    VALUE,
    Real32,
    SequenceModel,
)

Run: TypeAlias = Callable[[Real32], Real32]
"""From the vectors of the items of a history, oldest first, (m, d), to that of its user, (d,)."""
FILE = "network.onnx"
"""Of a version."""
TOLERANCE = 1e-4
"""Of the largest number of a user."""
OPSET = 17
IR_VERSION = 8
"""Of the file's format: the one that came with the operators, which every runtime since 2022 reads."""
LENGTHS = (1, 2, 7, 50)
"""Of the histories that an export is tried with, up to what the model reads."""


def exported(model: SequenceModel) -> Mapping[str, bytes]:
    """Return the network of a model as a file, by its name; nothing where it cannot be written, or not be trusted.

    That is: where ``onnx`` (extra ``torch``) or ONNX Runtime (extra ``train``) is not installed, or they disagree with
    the model. A version without it answers as one with it.
    """
    try:
        network = network_of(model)
        is_right = agrees(model, runner(network))
    except (ExtraMissing, ArtifactInvalid):
        return {}
    return {FILE: network} if is_right else {}


def agrees(model: SequenceModel, run: Run) -> bool:
    """Return whether a network gives the vectors that the arrays of a model give, for histories of several lengths.

    Raises:
        ArtifactInvalid: It cannot be run.
    """
    count = len(model.vocabulary)
    if not count:
        return False
    for length in sorted({min(each, len(model.weights.ages)) for each in LENGTHS}):
        rows = (np.arange(length) * max(1, count // length) % count).astype(np.int32)
        (expected,) = model.history_vectors(Histories.of([rows.tolist()]))
        found = run(model.weights.items[rows])
        # NaN is wrong.
        if found.shape != expected.shape or not np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max():
            return False
    return True


def runner(network: bytes) -> Run:
    """Return what runs a network that was written here, one thread; see ``Run``.

    Raises:
        ExtraMissing: ONNX Runtime is not installed.
        ArtifactInvalid: This is no network, or one that it cannot run; so may what is returned.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        message = "networks are run by ONNX Runtime: install midstream[train]"
        raise ExtraMissing(message) from error
    library: Any = onnxruntime
    state: Any = library.capi.onnxruntime_pybind11_state
    failures: tuple[type[Exception], ...] = (
        state.EPFail, state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NoModel,
        state.NotImplemented, state.RuntimeException, ValueError,
    )  # fmt: skip
    options = library.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = library.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except failures as error:
        message = f"the network cannot be run: {error}"
        raise ArtifactInvalid(message) from error

    def run(items: Real32) -> Real32:
        try:
            found: Real32 = session.run(["user"], {"items": items})[0][0]
        except failures as error:
            message = f"the network cannot be run: {error}"
            raise ArtifactInvalid(message) from error
        return found

    return run


def network_of(model: SequenceModel) -> bytes:
    """Return the network of a model as an ONNX file.

    Raises:
        ExtraMissing: ``onnx`` is not installed.
    """
    try:
        import onnx  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        message = "networks are written by onnx: install midstream[torch]"
        raise ExtraMissing(message) from error
    library: Any = onnx
    graph = _Graph(library)
    _write(graph, model)
    helper, number = library.helper, library.TensorProto.FLOAT
    factors = model.weights.items.shape[1]
    whole = helper.make_graph(
        graph.nodes,
        "sequence",
        [helper.make_tensor_value_info("items", number, ["m", factors])],
        [helper.make_tensor_value_info("user", number, [1, factors])],
        graph.constants,
    )
    opset = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(whole, opset_imports=opset, ir_version=IR_VERSION, producer_name="midstream")
    library.checker.check_model(made, full_check=True)
    written: bytes = made.SerializeToString()
    return written


@dataclass(slots=True)
class _Graph:
    """Nodes and constants, as they are added."""

    library: Any
    nodes: list[Any] = field(default_factory=list[Any])
    constants: list[Any] = field(default_factory=list[Any])

    def constant(self, value: NDArray[np.generic]) -> str:
        """Add a constant; return its name."""
        name = f"constant{len(self.constants)}"
        self.constants.append(self.library.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def whole(self, *values: int) -> str:
        """Add whole numbers; return their name."""
        return self.constant(np.array(values, dtype=np.int64))

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """Add a node; return the name of what it gives."""
        name = name or f"value{len(self.nodes)}"
        self.nodes.append(self.library.helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def linear(self, given: str, matrix: Real32, shift: Real32) -> str:
        """Add a product with a matrix from the right, and a shift."""
        return self.add("Add", self.add("MatMul", given, self.constant(matrix)), self.constant(shift))

    def normed(self, given: str, norm: Real32, name: str = "") -> str:
        """Add a norm."""
        parts = (self.constant(norm[GAIN]), self.constant(norm[SHIFT]))
        return self.add("LayerNormalization", given, *parts, name=name, axis=-1, epsilon=SMALL)

    def last(self, given: str, count: str, axis: int) -> str:
        """Add the last so many of an axis; ``count`` names a minus number."""
        end, along = self.whole(np.iinfo(np.int64).max), self.whole(axis)
        return self.add("Slice", given, count, end, along)


def _write(graph: _Graph, model: SequenceModel) -> None:
    """Add what ``SequenceModel`` computes, in its order."""
    weights, ages = model.weights, len(model.weights.ages)
    shape = graph.add("Shape", "items")
    behind = graph.add("Neg", graph.add("Slice", shape, graph.whole(0), graph.whole(1)))
    one = graph.whole(-1)
    found = graph.add("Add", "items", graph.last(graph.constant(weights.ages[::-1]), behind, 0))
    later = np.triu(np.full((ages, ages), -np.inf, dtype=np.float32), 1)
    # The last rows and columns of a triangle are the triangle of so many.
    mask = graph.last(graph.last(graph.constant(later), behind, 0), behind, 1)
    blocks = len(weights.inner)
    for block in range(blocks):
        is_last = block == blocks - 1
        given = graph.normed(found, weights.norm[block, BEFORE_ATTENTION])
        asking, seen = (graph.last(given, one, 0), "") if is_last else (given, mask)
        found = graph.last(found, one, 0) if is_last else found
        found = graph.add("Add", found, _attention(graph, model, block, asking, given, seen))
        given = graph.normed(found, weights.norm[block, BEFORE_NETWORK])
        inner = graph.add("Relu", graph.linear(given, weights.inner[block], weights.inner_shift[block]))
        found = graph.add("Add", found, graph.linear(inner, weights.outer[block], weights.outer_shift[block]))
    graph.normed(found, weights.last_norm, name="user")


def _attention(graph: _Graph, model: SequenceModel, block: int, asking: str, given: str, mask: str) -> str:
    """Add an attention; without a mask the last item asks, which sees all. Return what it gives."""
    matrix, shift = model.weights.attention[block], model.weights.attention_shift[block]
    factors = matrix.shape[1]
    width = factors // model.heads

    def parted(rows: str, which: int, order: list[int]) -> str:
        made = graph.linear(rows, matrix[which], shift[which])
        made = graph.add("Reshape", made, graph.whole(-1, model.heads, width))
        return graph.add("Transpose", made, perm=order)

    query, value = parted(asking, QUERY, [1, 0, 2]), parted(given, VALUE, [1, 0, 2])
    like = graph.add("MatMul", query, parted(given, KEY, [1, 2, 0]))
    like = graph.add("Mul", like, graph.constant(np.array(width**-0.5, dtype=np.float32)))
    like = graph.add("Add", like, mask) if mask else like
    seen = graph.add("MatMul", graph.add("Softmax", like, axis=-1), value)
    seen = graph.add("Reshape", graph.add("Transpose", seen, perm=[1, 0, 2]), graph.whole(-1, factors))
    return graph.linear(seen, matrix[OUT], shift[OUT])
