"""Rules for an ONNX graph from elsewhere: it is a bounded calculation over its inputs, and reaches nothing else.

A file of 300 bytes can ask for a loop of 2^60 steps, name another file of the disk as its weights, or make a tensor of
any size from one number. So operators are allowed by name: those that calculate with what they are given, whose time
and memory depend on shapes alone. Loops and branches, operators that draw numbers, read or write sequences, make a
tensor of a length that they calculate, or belong to one vendor are not among them.

The versions of operators end where the oldest ONNX Runtime that the extra ``onnx`` allows ends: a version that one
process accepts is accepted by every other one.
"""

from collections import Counter
from collections.abc import Iterator

from midstream.core.errors import Fault, Invalid
from midstream.models.onnx.graph import ML, NODES_MAX, PAGE, OnnxGraph, Tensor

GRAPH_BYTES_MAX = 64 << 20
"""Of a file: 16 million weights. 500 candidates times that is 8 billion products, more than a request has time for."""
OPSETS_MAX = {"": 21, ML: 5}
"""Of ONNX Runtime 1.20."""
IR_VERSION_MAX = 10
"""Format of the file; of the same."""
OPERATORS: dict[str, frozenset[str]] = {
    "": frozenset(
        "Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh BatchNormalization Cast CastLike Ceil Celu Clip "
        "Concat Constant Cos Cosh CumSum Div Dropout Elu Equal Erf Exp Flatten Floor Gather GatherElements Gelu Gemm "
        "Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf "
        "IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization MatMul Max Mean "
        "MeanVarianceNormalization Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal ReduceL1 ReduceL2 ReduceLogSum "
        "ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round Selu "
        "Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Tan Tanh "
        "ThresholdedRelu TopK Transpose Trilu Unsqueeze Where Xor".split()
    ),
    ML: frozenset(
        "ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer LabelEncoder LinearClassifier "
        "LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble "
        "TreeEnsembleClassifier TreeEnsembleRegressor ZipMap".split()
    ),
}
"""Operators that a graph may call, by domain."""


def require_bytes(size: int) -> None:
    """Refuse a file before it is read.

    Raises:
        Invalid: It is larger than ``GRAPH_BYTES_MAX``.
    """
    if size > GRAPH_BYTES_MAX:
        came = f"{size:,} bytes came."
        right = f"At most {GRAPH_BYTES_MAX:,}: fewer trees, or smaller layers."
        raise Invalid((Fault("graph", came, right, PAGE),))


def require_allowed(graph: OnnxGraph) -> None:
    """Refuse a graph that is no bounded calculation.

    Raises:
        Invalid: Each reason is named.
    """
    found = tuple(_faults(graph))
    if found:
        raise Invalid(found)


def _faults(graph: OnnxGraph) -> Iterator[Fault]:
    if graph.ir_version > IR_VERSION_MAX:
        came = f"The file has format {graph.ir_version}."
        yield Fault("graph.ir_version", came, f"At most {IR_VERSION_MAX}: export for an older one.", PAGE)
    for domain, version in graph.opsets.items():
        most = OPSETS_MAX.get(domain)
        if most is not None and version > most:
            came = f"The operators of {domain or 'ai.onnx'} have version {version}."
            yield Fault("graph.opset_import", came, f"At most {most}: export with target_opset = {most}.", PAGE)
    if graph.function_count:
        came = f"The file defines {graph.function_count} operators of its own."
        yield Fault("graph.functions", came, "Operators of ONNX alone: export with functions inlined.", PAGE)
    if graph.sparse_count:
        came = f"{graph.sparse_count} constants are sparse."
        yield Fault("graph.sparse_initializer", came, "Dense constants.", PAGE)
    if not 0 < len(graph.nodes) <= NODES_MAX:
        came = f"The graph has {len(graph.nodes):,} nodes."
        yield Fault("graph.node", came, f"1 to {NODES_MAX:,}.", PAGE)
    yield from _operators(graph)
    yield from _constants(graph)


def _operators(graph: OnnxGraph) -> Iterator[Fault]:
    refused: Counter[str] = Counter()
    for node in graph.nodes:
        if node.kind not in OPERATORS.get(node.domain, ()) or node.has_graph:
            refused[node.title] += 1
    for title, count in refused.items():
        domain = title.rpartition(".")[0]
        what = f"operators of ai.onnx and {ML}" if domain not in OPERATORS else "a calculation without loops"
        right = f"Only {what}: no branch, no random number, no text, no length that is calculated."
        yield Fault(
            "graph.node", f'The operator "{title}" is called {"once" if count == 1 else f"{count} times"}.', right, PAGE
        )


def _constants(graph: OnnxGraph) -> Iterator[Fault]:
    told: list[Tensor] = [*graph.constants.values(), *(each for node in graph.nodes for each in node.tensors)]
    for each in told:
        if each.is_external:
            came = f'The numbers of "{each.name}" lie in another file.'
            right = "One file: onnx.save(model, path) without save_as_external_data."
            yield Fault("graph.initializer", came, right, PAGE)
