"""Inputs and output of a ranker: each column has its input, and one output is the number of a row."""

import pytest

from midstream.core.errors import Invalid
from midstream.models.onnx.graph import DOUBLE, FLOAT, INT64, ML, STRING, read_graph
from midstream.models.onnx.signature import columns_of, narrowed, signature_of
from midstream.models.onnx.writing import node, onnx_file, value
from tests.support.small_graphs import COLUMNS, by_column, classifier, linear


def read(content):
    """Return what a file says."""
    return read_graph(memoryview(content))


def refused(content, columns=COLUMNS, output=""):
    """Return where and what came of each fault."""
    with pytest.raises(Invalid) as caught:
        signature_of(read(content), columns, output)
    return [(each.where, each.came) for each in caught.value.faults]


def graph(inputs, outputs):
    """Return a file of some inputs and outputs; what is between does not matter here."""
    nodes = [node("Identity", [inputs[0][0]], [each[0]]) for each in outputs]
    return onnx_file(nodes, [value(*each) for each in inputs], [value(*each) for each in outputs], {})


def test_a_matrix_takes_all_columns():
    """In their order, of a width that is free or theirs."""
    found = [signature_of(read(each), COLUMNS) for each in (linear(), linear(("n", 3)), linear(("n", 3), DOUBLE))]
    for each in found:
        assert (each.inputs, each.is_matrix, each.axes, each.output) == (("rows",), True, 2, "score")
    assert found[-1].element == DOUBLE


@pytest.mark.parametrize("axes", [1, 2])
def test_an_input_for_each_column_is_asked_by_name(axes):
    """In any order of the columns; without columns they are those of the inputs."""
    content = read(by_column(axes=axes))
    assert columns_of(content) == COLUMNS
    found = signature_of(content, COLUMNS[::-1])
    assert (found.inputs, found.is_matrix, found.axes) == (COLUMNS[::-1], False, axes)


def test_columns_that_are_not_said_are_asked_for():
    """One matrix has no names."""
    with pytest.raises(Invalid, match='"rows" takes 3 columns without their names'):
        columns_of(read(linear(("n", 3))))


def test_a_column_without_an_input_and_an_input_without_a_column_are_named():
    """With the nearest name."""
    assert refused(by_column(), ("price", "veiws", "age")) == [
        ("columns", '"veiws" came, and the graph has no input of that name. Nearest: "views".'),
        ("columns", 'The graph reads "views", which is not among the columns.'),
    ]
    assert refused(by_column(), ("price", "price", "age")) == [("columns", '"price" came twice.')]
    assert refused(by_column(), ()) == [("columns", "None came.")]


def test_another_number_of_columns_is_refused():
    """With both numbers and the names."""
    assert refused(linear(("n", 40))) == [('graph.input "rows"', "It takes 40 columns, and 3 came: price, views, age.")]


@pytest.mark.parametrize(
    "shape, element, came",
    [
        (("n", 3), INT64, "It takes int64."),
        (("n", 3), STRING, "It takes text."),
        (("n", 3, 4), FLOAT, "Its shape is [None, 3, 4]: 3 axes."),
        (("n",), FLOAT, "Its shape is [None]: 1 axes."),
        ((1, 3), FLOAT, "It takes exactly 1 rows."),
    ],
)
def test_a_matrix_of_another_type_or_rank_is_refused(shape, element, came):
    """It is named with what it takes."""
    assert refused(graph([("rows", shape, element)], [("score", ("n", 1))])) == [('graph.input "rows"', came)]


def test_the_column_of_another_type_is_named():
    """Text and whole numbers are no features; a mixture of float32 and float64 is none either."""
    for element, told in ((INT64, "int64"), (STRING, "text"), (DOUBLE, "float64")):
        inputs = [("price", ("n", 1)), ("brand", ("n", 1), element)]
        assert refused(graph(inputs, [("score", ("n", 1))]), ("price", "brand")) == [
            ('graph.input "brand"', f"It takes {told}.")
        ]
    wide = graph([("price", ("n", 1)), ("age", ("n", 2))], [("score", ("n", 1))])
    assert refused(wide, ("price", "age")) == [('graph.input "age"', "It takes 2 numbers a row.")]


def test_the_output_is_the_one_with_a_number_a_row():
    """Labels are none; of several it has to be said which."""
    assert signature_of(read(classifier()), COLUMNS).output == "probabilities"
    several = graph([("rows", ("n", 3))], [("click", ("n", 1)), ("buy", ("n",)), ("label", ("n",), INT64)])
    assert refused(several) == [("score", "None came, and each of click, buy could be meant.")]
    assert signature_of(read(several), COLUMNS, "buy").output == "buy"
    assert refused(several, output="label") == [("score", '"label" has int64.')]
    assert refused(several, output="buys") == [
        ("score", '"buys" is no output. Nearest: "buy". Outputs: click, buy, label.')
    ]


def test_outputs_that_are_no_number_a_row_are_refused():
    """Three classes, a vector, a label alone."""
    assert refused(classifier(classes=3)) == [
        ("graph.output", 'No output is a number a row: "label" has int64; "probabilities" has the shape [None, 3].')
    ]
    label = graph([("rows", ("n", 3))], [("label", ("n",), INT64)])
    assert refused(label) == [("graph.output", 'No output is a number a row: "label" has int64.')]


def test_a_list_of_maps_is_taken_off():
    """What goes into it is the output of the file that is kept, and the only one."""
    content = classifier(zip_map=True)
    told = read(content)
    found = signature_of(told, COLUMNS)
    assert found.output == "probabilities"
    kept = read(narrowed(memoryview(content), told, found.output))
    assert [each.name for each in kept.outputs] == ["probabilities"]
    assert [each.kind for each in kept.nodes] == ["LinearClassifier"]
    plain = linear()
    assert narrowed(memoryview(plain), read(plain), "score") == plain


def two(*calls, name="score"):
    """Return a file whose output has two numbers a row."""
    return onnx_file(calls, [value("rows", ("n", 3))], [value(name, ("n", 2))], {})


def test_of_two_targets_it_has_to_be_said_that_the_second_counts():
    """A regressor of two targets is no classifier; its second column would be the score without a word."""
    targets = node("LinearRegressor", ["rows"], ["score"], ML, targets=2, coefficients=[0.5] * 6)
    assert refused(two(targets)) == [
        ("score", '"score" has two numbers a row, and nothing says that they are probabilities of two classes.')
    ]
    assert signature_of(read(two(targets)), COLUMNS, "score").output == "score"
    classes = node("LinearClassifier", ["rows"], ["label", "p"], ML, classlabels_ints=[0, 1], coefficients=[0.5] * 6)
    for content in (
        two(classes, node("Normalizer", ["p"], ["n"], ML), node("Cast", ["n"], ["score"], to=FLOAT)),
        two(node("Softmax", ["rows"], ["score"])),
        two(node("Relu", ["rows"], ["output_probability"]), name="output_probability"),
    ):
        assert signature_of(read(content), COLUMNS).has_classes
    assert refused(two(classes, node("Relu", ["p"], ["score"])))
