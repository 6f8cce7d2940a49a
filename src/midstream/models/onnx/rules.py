"""Rules for an ONNX graph from elsewhere: it is a bounded calculation over its inputs, and reaches nothing else.

A file of 300 bytes can ask for a loop of 2^60 steps, name another file of the disk as its weights, or make a tensor of
any size from one number. So operators are allowed by name: those that calculate with what they are given, whose time
and memory depend on shapes alone. Loops and branches, operators that draw numbers, read or write sequences, make a
tensor of a length that they calculate, or belong to one vendor are not among them.

Lengths do not depend on values: where an input of an operator says a length or an axis, it is calculated from constants
and shapes alone (``_SHAPING``). The shape of each result then depends on the shapes of what came, from the first call
to the last. Text lies outside of the memory of graphs, so there is none but the labels of classifiers, of a few bytes.

The versions of operators end where the oldest ONNX Runtime that the extra ``onnx`` allows ends: a version that one
process accepts is accepted by every other one.
"""

from collections import Counter
from collections.abc import Iterator

from midstream.core.errors import Fault, Invalid
from midstream.models.onnx.graph import (
    ELEMENTS,
    ML,
    NODES_MAX,
    PAGE,
    STRING,
    Node,
    OnnxGraph,
    Tensor,
    attribute_number,
)

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
        "ArrayFeatureExtractor Binarizer FeatureVectorizer Imputer LabelEncoder LinearClassifier "
        "LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble "
        "TreeEnsembleClassifier TreeEnsembleRegressor ZipMap".split()
    ),
}
"""Operators that a graph may call, by domain."""
_SHAPING: dict[str, tuple[int, ...]] = {
    "CumSum": (1,), "Reshape": (1,), "Slice": (1, 2, 3, 4), "Split": (1,), "Squeeze": (1,), "TopK": (1,), "Trilu": (1,),
    "Unsqueeze": (1,), **{each: (1,) for each in OPERATORS[""] if each.startswith("Reduce")},
}  # fmt: skip
"""Inputs of operators of ONNX that say a length, a place or an axis."""
_NAMED_TEXTS = {"nodes_modes", "classlabels_strings"}
"""Attributes of several texts that calculations have."""
_TEXTS = {"default_string", "value_string"}
"""Attributes of operators that are text in a result."""
_CAST = ELEMENTS.keys() - {0, STRING}
LABEL_BYTES_MAX = 8_192
"""Of the longest label of each classifier, together with 32 bytes for each: 8 MiB of labels for 1,024 rows."""
TEXT_BYTES_MAX = 256
"""Of one text that is an attribute."""


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
    yield from _names(graph)
    yield from _labels(graph)
    yield from _constants(graph)


def _operators(graph: OnnxGraph) -> Iterator[Fault]:
    refused: Counter[tuple[str, str, str]] = Counter()
    for node in graph.nodes:
        if node.kind not in OPERATORS.get(node.domain, ()) or node.has_graph:
            what = f"operators of ai.onnx and {ML}" if node.domain not in OPERATORS else "a calculation without loops"
            right = f"Only {what}: no branch, no random number, no text, no length that is calculated."
            refused[node.title, "", right] += 1
            continue
        for how, right in _call_faults(node):
            refused[node.title, how, right] += 1
    for node, what in _unfixed(graph):
        refused[node.title, f" with {what}", "Lengths and axes from constants and shapes alone."] += 1
    for (title, how, right), count in refused.items():
        often = "once" if count == 1 else f"{count} times"
        yield Fault("graph.node", f'The operator "{title}" is called {often}{how}.', right, PAGE)


def _call_faults(node: Node) -> Iterator[tuple[str, str]]:
    """Yield how an operator is called that is allowed in other ways, and what is right."""
    if node.kind == "Dropout" and any(node.inputs[2:]):
        yield " with a training mode", "No random number: export for inference, in which Dropout has one input."
    if node.kind == "BatchNormalization":
        mode = node.attributes.get("training_mode")
        if any(node.outputs[1:]) or (mode is not None and attribute_number(mode)):
            yield " in training mode", "No statistics of the rows of a request: export for inference."
    right = "Numbers alone: text is encoded before it is a feature."
    target = node.attributes.get("to")
    if node.kind == "Cast" and (target is None or attribute_number(target) not in _CAST):
        yield " to text or another type without a calculation", right
    for name, (longest, is_list) in node.texts.items():
        if (is_list and name not in _NAMED_TEXTS) or name in _TEXTS or longest > TEXT_BYTES_MAX:
            yield f' with text ("{name}")', right


def _unfixed(graph: OnnxGraph) -> Iterator[tuple[Node, str]]:
    """Yield calls whose lengths or axes depend on values of a request, and the input that says them.

    What is fixed is a constant, a shape, or calculated from such alone by earlier calls; the order of a file is one in
    which everything comes before it is used.
    """
    fixed = {"", *graph.constants}
    for node in graph.nodes:
        for at in _SHAPING.get(node.kind, ()) if not node.domain else ():
            if at < len(node.inputs) and node.inputs[at] not in fixed:
                yield node, f'"{node.inputs[at]}"'
        is_shape = not node.domain and node.kind in {"Constant", "Shape", "Size"}
        if is_shape or (node.inputs and fixed.issuperset(node.inputs)):
            fixed.update(node.outputs)


def _names(graph: OnnxGraph) -> Iterator[Fault]:
    """Yield names that two parts of a graph give to what they make."""
    counts = Counter([*graph.constants, *(each.name for each in graph.inputs)])
    counts.update(each for node in graph.nodes for each in node.outputs if each)
    for name, count in counts.items():
        if count > 1:
            yield Fault("graph.node", f'"{name}" is made {count} times.', "A name for each result.", PAGE)


def _labels(graph: OnnxGraph) -> Iterator[Fault]:
    """Yield labels of classes that are calculated with, or are too long."""
    told = dict[str, int]()
    for node in graph.nodes:
        labels = node.texts.get("classlabels_strings")
        if labels is not None and node.kind != "ZipMap" and node.outputs:
            told[node.outputs[0]] = 32 + labels[0]
        elif node.title == "Identity" and node.inputs and node.inputs[0] in told:
            # skl2onnx names the label in this way.
            told.update(dict.fromkeys(node.outputs, told[node.inputs[0]]))
    size = sum(told.values())
    if size > LABEL_BYTES_MAX:
        came = f"The labels of its classifiers have {size:,} bytes a row."
        yield Fault("graph.node", came, f"At most {LABEL_BYTES_MAX:,}: numbers as classes.", PAGE)
    for node in graph.nodes:
        for each in told.keys() & set(node.inputs) - {""} if node.title != "Identity" else ():
            came = f'The operator "{node.title}" takes the label "{each}", which is text.'
            yield Fault("graph.node", came, "Numbers as classes.", PAGE)


def _constants(graph: OnnxGraph) -> Iterator[Fault]:
    told: list[Tensor] = [*graph.constants.values(), *(each for node in graph.nodes for each in node.tensors)]
    for each in told:
        if each.is_external:
            came = f'The numbers of "{each.name}" lie in another file.'
            right = "One file: onnx.save(model, path) without save_as_external_data."
            yield Fault("graph.initializer", came, right, PAGE)
        if each.element == STRING:
            yield Fault("graph.initializer", f'The constant "{each.name}" is text.', "Numbers alone.", PAGE)
