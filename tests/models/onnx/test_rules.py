"""A graph from elsewhere is a bounded calculation, or it is refused and each reason is named."""

import numpy as np
import pytest

from midstream.core.errors import Invalid
from midstream.models.onnx.graph import INT64, ML, NODES_MAX, STRING, read_graph
from midstream.models.onnx.rules import GRAPH_BYTES_MAX, require_allowed, require_bytes
from midstream.models.onnx.wire import bytes_field, fields, number_field, written
from midstream.models.onnx.writing import node, onnx_file, tensor, value
from tests.support.small_graphs import by_column, classifier, linear, stump

ENDS: tuple[list[bytes], list[bytes], dict[str, np.ndarray]] = (
    [value("rows", ("n", 1))],
    [value("score", ("n", 1))],
    {},
)
RELU = node("Relu", ["rows"], ["score"])


def refused(content):
    """Return the faults of a file."""
    with pytest.raises(Invalid) as caught:
        require_allowed(read_graph(memoryview(content)))
    return [(each.where, each.came) for each in caught.value.faults]


@pytest.mark.parametrize("content", [linear(), by_column(), classifier(), classifier(zip_map=True), stump()])
def test_calculations_are_allowed(content):
    """Of each form that a ranker has."""
    require_allowed(read_graph(memoryview(content)))


@pytest.mark.parametrize(
    "domain, kind",
    [("", "Loop"), ("", "If"), ("", "Scan"), ("", "RandomNormal"), ("", "ConstantOfShape"), ("", "Expand"),
     ("", "Tile"), ("", "Range"), ("", "StringNormalizer"), ("", "SequenceConstruct"), ("com.microsoft", "Gelu"),
     ("ai.onnx.training", "Adam"), ("mine", "Relu"), (ML, "Relu"), ("", "Scaler"), ("", "NoSuchOperator")],
)  # fmt: skip
def test_operators_that_are_not_named_are_refused(domain, kind):
    """Loops, branches, random numbers, lengths that are calculated, and whatever a vendor adds: by its name."""
    content = onnx_file([node(kind, ["rows"], ["score"], domain)], *ENDS)
    title = f"{domain}.{kind}" if domain else kind
    assert refused(content) == [("graph.node", f'The operator "{title}" is called once.')]


def test_a_graph_inside_of_a_graph_is_refused_whatever_its_operator_is_called():
    """An attribute that holds one is what makes a loop."""
    inner = written([bytes_field(1, "body"), bytes_field(6, b""), number_field(20, 5)])
    content = onnx_file([RELU + written([bytes_field(5, inner)])], *ENDS)
    assert refused(content) == [("graph.node", 'The operator "Relu" is called once.')]


@pytest.mark.parametrize("place", ["constant", "attribute"])
@pytest.mark.parametrize("marks", [{13}, {14}, {13, 14}])
def test_numbers_in_another_file_are_refused(place, marks):
    """By the name of the constant: the path could lead anywhere. A path or the mark alone is enough."""
    location = written([bytes_field(1, "location"), bytes_field(2, "/etc/passwd")])
    told = {13: bytes_field(13, location), 14: number_field(14, 1)}
    outside = tensor("weights", np.zeros(1, dtype=np.float32)) + written(told[each] for each in sorted(marks))
    if place == "attribute":
        attribute = written([bytes_field(1, "value"), bytes_field(5, outside), number_field(20, 4)])
        content = onnx_file([RELU + written([bytes_field(5, attribute)])], *ENDS)
    else:
        content = _with(7, onnx_file([RELU], *ENDS), bytes_field(5, outside))
    assert refused(content) == [("graph.initializer", 'The numbers of "weights" lie in another file.')]


def _with(number, content, *more):
    """Return a file with further fields, in its graph (7) or beside it (0)."""
    parts = [
        bytes_field(7, bytes(each) + written(more)) if field == number == 7 else (field, kind, each)
        for field, kind, each in fields(memoryview(content))
    ]
    return written([*parts, *(more if number == 0 else ())])


def test_newer_versions_functions_and_sparse_constants_are_refused():
    """Each named with what came: another release of the runtime would read it otherwise, or not at all."""
    opset = bytes_field(8, written([bytes_field(1, ""), number_field(2, 99)]))
    ml = bytes_field(8, written([bytes_field(1, ML), number_field(2, 6)]))
    graph = [each for each in fields(memoryview(onnx_file([RELU], *ENDS))) if each[0] == 7]
    content = written([number_field(1, 99), *graph, opset, ml, bytes_field(25, b"")])
    found = refused(_with(7, content, bytes_field(15, b"")))
    assert [where for where, _ in found] == [
        "graph.ir_version", "graph.opset_import", "graph.opset_import", "graph.functions", "graph.sparse_initializer",
    ]  # fmt: skip
    assert "version 99" in found[1][1]
    assert f"{ML} have version 6" in found[2][1]


def test_sizes_have_a_maximum():
    """Of the file before it is read, and of its nodes."""
    require_bytes(GRAPH_BYTES_MAX)
    with pytest.raises(Invalid, match="67,108,865 bytes came"):
        require_bytes(GRAPH_BYTES_MAX + 1)
    assert refused(onnx_file([RELU] * (NODES_MAX + 1), *ENDS)) == [("graph.node", "There are more than 10,000 nodes.")]
    assert refused(onnx_file([], *ENDS)) == [("graph.node", "The graph has 0 nodes.")]


@pytest.mark.parametrize("number", [22, 23])
def test_sparse_constants_of_an_attribute_are_refused(number):
    """Three bytes of shape would make any number of zeros, outside of the memory of graphs."""
    sparse = written([bytes_field(1, tensor("w", np.zeros(1, dtype=np.float32))), number_field(3, 1 << 40)])
    attribute = written([bytes_field(1, "sparse_value"), bytes_field(number, sparse), number_field(20, 11)])
    big = node("Constant", [], ["big"]) + written([bytes_field(5, attribute)])
    content = onnx_file([big, node("Add", ["rows", "big"], ["score"])], *ENDS)
    assert refused(content) == [("graph.sparse_initializer", "1 constants are sparse.")]


CAST = node("Cast", ["rows"], ["told"], to=INT64)
TOLD: dict[str, np.ndarray] = {"m": np.zeros((900, 900), dtype=np.float32), "zero": np.zeros(1, dtype=np.int64)}


@pytest.mark.parametrize(
    "kind, inputs",
    [("Slice", ["m", "zero", "told"]), ("Slice", ["m", "told", "zero"]), ("Slice", ["m", "zero", "zero", "told"]),
     ("Slice", ["m", "zero", "zero", "zero", "told"]), ("Reshape", ["m", "told"]), ("Split", ["m", "told"]),
     ("TopK", ["m", "told"]), ("Unsqueeze", ["m", "told"]), ("Squeeze", ["m", "told"]), ("Trilu", ["m", "told"]),
     ("CumSum", ["m", "told"]), ("ReduceSum", ["m", "told"]), ("ReduceMax", ["m", "told"])],
)  # fmt: skip
def test_a_length_that_depends_on_values_is_refused(kind, inputs):
    """Time would hang on what a request holds: 200 us for zeros, and seconds for a price of 900."""
    nodes = [CAST, node(kind, inputs, ["part"]), node("Add", ["rows", "part"], ["score"])]
    content = onnx_file(nodes, ENDS[0], ENDS[1], TOLD)
    assert refused(content) == [("graph.node", f'The operator "{kind}" is called once with "told".')]


def test_a_length_from_constants_and_shapes_is_allowed():
    """As exporters write a reshape: the shape of what came, a part of it, joined with a constant."""
    nodes = [
        node("Shape", ["rows"], ["shape"]), node("Gather", ["shape", "zero"], ["count"]),
        node("Constant", [], ["one"], value=np.ones(1, dtype=np.int64)),
        node("Concat", ["count", "one"], ["to"], axis=0), node("Reshape", ["rows", "to"], ["score"]),
    ]  # fmt: skip
    require_allowed(read_graph(memoryview(onnx_file(nodes, ENDS[0], ENDS[1], TOLD))))
    late = onnx_file([nodes[4], *nodes[:4]], ENDS[0], ENDS[1], TOLD)
    assert refused(late) == [("graph.node", 'The operator "Reshape" is called once with "to".')]


def test_random_numbers_of_a_training_are_refused():
    """Dropout draws them, and a normalisation takes the statistics of the rows that come together."""
    parts = {each: np.ones(1, dtype=np.float32) for each in ("scale", "shift", "mean", "variance")}
    told = {**parts, "ratio": np.array(0.5, dtype=np.float32), "yes": np.ones((), dtype=bool)}
    for call, how in (
        (node("Dropout", ["rows", "ratio", "yes"], ["score"]), " with a training mode"),
        (node("BatchNormalization", ["rows", *parts], ["score"], training_mode=1), " in training mode"),
        (node("BatchNormalization", ["rows", *parts], ["score", "running"]), " in training mode"),
    ):
        ((where, came),) = refused(onnx_file([call], *ENDS[:2], told))
        assert (where, came.rpartition("once")[2]) == ("graph.node", f"{how}.")
    for call in (
        node("Dropout", ["rows", "ratio"], ["score"]),
        node("BatchNormalization", ["rows", *parts], ["score"], training_mode=0),
    ):
        require_allowed(read_graph(memoryview(onnx_file([call], *ENDS[:2], told))))


LONG = "x" * 300


@pytest.mark.parametrize(
    "call, came",
    [(node("LabelEncoder", ["rows"], ["t"], ML, keys_floats=[1.0], values_strings=["a"]), 'text ("values_strings").'),
     (node("LabelEncoder", ["rows"], ["t"], ML, keys_floats=[1.0], default_string="a"), 'text ("default_string").'),
     (node("LabelEncoder", ["rows"], ["t"], ML, keys_strings=["a"]), 'text ("keys_strings").'),
     (node("CategoryMapper", ["rows"], ["t"], ML, cats_int64s=[1]), "once."),
     (node("Cast", ["rows"], ["t"], to=STRING), "to text or another type without a calculation."),
     (node("Cast", ["rows"], ["t"]), "to text or another type without a calculation."),
     (node("Constant", [], ["t"], value_string="a"), 'text ("value_string").'),
     (node("Constant", [], ["t"], value_strings=["a"]), 'text ("value_strings").'),
     (node("Constant", [], ["t"], value=np.array(["a"])), 'The constant "" is text.'),
     (node("Relu", ["rows"], ["t"], mode=LONG), 'text ("mode").'),
     (node("LinearClassifier", ["rows"], ["t"], ML, classlabels_strings=[LONG]), 'text ("classlabels_strings").')],
)  # fmt: skip
def test_text_is_refused(call, came):
    """It lies outside of the memory of graphs: one of 2 MB for each of 512 rows is 1 GB."""
    content = onnx_file([call, RELU], *ENDS)
    assert [each.endswith(came) for _, each in refused(content)] == [True]


def test_text_as_a_constant_is_refused():
    """Also where it is no attribute."""
    assert refused(onnx_file([RELU], *ENDS[:2], {"words": np.array(["a"])})) == [
        ("graph.initializer", 'The constant "words" is text.')
    ]


def test_labels_of_classes_are_text_that_nothing_takes():
    """A classifier of words is allowed while its labels are short, few, and for nobody."""
    call = node("LinearClassifier", ["rows"], ["label", "score"], ML, classlabels_strings=["no", "yes"])
    require_allowed(read_graph(memoryview(onnx_file([call], *ENDS))))
    named = node("Identity", ["label"], ["output_label"])
    require_allowed(read_graph(memoryview(onnx_file([call, named], *ENDS))))
    taken = onnx_file([call, named, node("Concat", ["output_label", "output_label"], ["more"])], *ENDS)
    assert refused(taken) == [("graph.node", 'The operator "Concat" takes the label "output_label", which is text.')]
    copies = [node("Identity", ["label"], [f"copy{at}"]) for at in range(300)]
    assert refused(onnx_file([call, *copies], *ENDS))[0][1] == "The labels of its classifiers have 10,535 bytes a row."
    many = [
        node("LinearClassifier", ["rows"], [f"label{at}", f"p{at}"], ML, classlabels_strings=["y" * 250])
        for at in range(30)
    ]
    assert refused(onnx_file([*many, RELU], *ENDS)) == [
        ("graph.node", "The labels of its classifiers have 8,460 bytes a row.")
    ]


@pytest.mark.parametrize("name", ["rows", "weights", "half"])
def test_a_name_that_is_made_twice_is_refused(name):
    """One of both would be fixed, and the other one run."""
    nodes = [node("Neg", ["rows"], ["half"]), node("Cast", ["rows"], [name], to=INT64), RELU]
    content = onnx_file(nodes, *ENDS[:2], {"weights": np.zeros(1, dtype=np.int64)})
    assert refused(content) == [("graph.node", f'"{name}" is made 2 times.')]
