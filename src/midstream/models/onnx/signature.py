"""Signature of an ONNX graph as a ranker: which inputs take the columns, and which output is the number of a row.

Two forms of inputs are read: one matrix [rows, columns], or one input for each column, by its name. Of the outputs one
has floats, a number a row: [rows], [rows, 1], or [rows, 2] for the probabilities of two classes, of which the second
counts. Two numbers are such where they come from a classifier or a softmax, or are called probabilities; others may be
two targets, of which it has to be said that the second one is meant. A list of maps (``ZipMap``, which skl2onnx writes
behind a classifier by default) is taken off: the probabilities that go into it are the output.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from midstream.core.errors import Fault, Invalid
from midstream.core.nearest import nearest
from midstream.models.onnx.graph import DOUBLE, ELEMENTS, FLOAT, ML, PAGE, GraphValue, Node, OnnxGraph
from midstream.models.onnx.wire import Field, bytes_field, bytes_of, fields, number_field, text_of, written

REALS = {FLOAT, DOUBLE}
CLASSES = 2
"""Of a classifier whose second probability is the number of a row."""
WHERE = "columns"
_PROBABILITIES = ("probability", "probabilities")
"""In the name of an output of probabilities, as converters of all libraries write it."""
_CLASSIFIERS = {
    ("", "Softmax"), *((ML, each) for each in ("LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier")),
}  # fmt: skip
_CARRIED = {("", "Identity"), ("", "Cast"), (ML, "Normalizer")}
"""Operators behind which probabilities are still such."""
_MATRIX_AXES, _COLUMN_AXES = (2,), (1, 2)


@dataclass(frozen=True, slots=True)
class Signature:
    """How a graph is asked."""

    inputs: tuple[str, ...]
    """Of the graph: one for all columns, or one for each, in the order of the columns."""
    axes: int
    """Of each input: 2 = [rows, …], 1 = [rows]."""
    is_matrix: bool
    """Whether one input takes all columns."""
    element: int
    """``FLOAT`` or ``DOUBLE``, of the inputs."""
    output: str
    """Of the graph, after ``narrowed``."""
    has_classes: bool
    """Whether of two numbers a row the second counts: they are probabilities, or the output was named."""


def columns_of(graph: OnnxGraph) -> tuple[str, ...]:
    """Return the columns that a graph itself names: its inputs, where it has one for each.

    Raises:
        Invalid: It has one input for all columns, whose names are in no ONNX file.
    """
    if len(graph.inputs) == 1:
        (only,) = graph.inputs
        width = only.shape[1] if only.shape is not None and len(only.shape) > 1 else None
        came = f'None came, and the input "{only.name}" takes {width or "all"} columns without their names.'
        right = "The names of the features in the order in which the model was fitted on them."
        raise Invalid((Fault(WHERE, came, right, PAGE),))
    return tuple(each.name for each in graph.inputs)


def signature_of(graph: OnnxGraph, columns: Sequence[str], output: str = "") -> Signature:
    """Return how a graph is asked about rows of some columns.

    Args:
        graph: Passed ``rules``.
        columns: Names of the features, in order.
        output: Name of the output, where the graph has several numbers a row; empty = the only one.

    Raises:
        Invalid: Inputs or outputs are not those of a ranker over these columns; each fault names its column, input or
            output.
    """
    inputs = _inputs(graph, columns)
    found = [*_input_faults(graph, inputs, columns)]
    chosen, faults = _output(graph, output)
    found += faults
    if found:
        raise Invalid(tuple(found))
    first = inputs[0]
    is_matrix = len(graph.inputs) == 1
    axes = 2 if first.shape is None else len(first.shape)
    return Signature(
        tuple(each.name for each in inputs),
        axes,
        is_matrix,
        first.element or FLOAT,
        chosen,
        bool(output) or _is_classes(graph, chosen),
    )


def narrowed(content: memoryview, graph: OnnxGraph, output: str) -> bytes:
    """Return a file whose graph has one output, ``ZipMap`` taken off; the same bytes where it has no other.

    Args:
        content: The file.
        graph: Of it.
        output: Of ``signature_of``.
    """
    maps = {each.outputs[0] for each in graph.nodes if _is_map(each) and each.outputs}
    if [each.name for each in graph.outputs] == [output] and not maps:
        return bytes(content)
    kept = list[Field]()
    for number, kind, value in fields(content):
        told = bytes_field(7, written(_narrowed_graph(bytes_of(value), graph, maps, output))) if number == 7 else None
        kept.append(told or (number, kind, value))
    return written(kept)


def _narrowed_graph(content: memoryview, graph: OnnxGraph, maps: set[str], output: str) -> Iterator[Field]:
    """Yield the fields of a graph without maps and other outputs."""
    calls = iter(graph.nodes)
    named = {each.name for each in graph.outputs}
    for number, kind, value in fields(content):
        if number == 1 and _is_map(next(calls)):
            continue
        if number == 12 and not _is_named(bytes_of(value), output):
            continue
        yield number, kind, value
    if maps and output not in named:
        element = written([number_field(1, FLOAT)])
        yield bytes_field(12, written([bytes_field(1, output), bytes_field(2, written([bytes_field(1, element)]))]))


def _is_named(value_info: memoryview, name: str) -> bool:
    return any(number == 1 and text_of(value) == name for number, _, value in fields(value_info))


def _is_map(node: Node) -> bool:
    return (node.domain, node.kind) == (ML, "ZipMap")


def _inputs(graph: OnnxGraph, columns: Sequence[str]) -> tuple[GraphValue, ...]:
    """Return the inputs in the order of the columns.

    Raises:
        Invalid: There are no columns, or one has no input.
    """
    if not columns or len(set(columns)) != len(columns):
        twice = next((each for each in columns if list(columns).count(each) > 1), "")
        came = f'"{twice}" came twice.' if twice else "None came."
        raise Invalid((Fault(WHERE, came, "The names of the features, each once.", PAGE),))
    if len(graph.inputs) <= 1:
        if not graph.inputs:
            raise Invalid((Fault("graph.input", "There is none.", "One input of floats.", PAGE),))
        return graph.inputs
    by_name = {each.name: each for each in graph.inputs}
    faults = [
        Fault(WHERE, f'"{each}" came, and the graph has no input of that name.{nearest(each, by_name)}',
              f"Its inputs: {', '.join(by_name)}", PAGE)
        for each in columns
        if each not in by_name
    ]  # fmt: skip
    faults += [
        Fault(WHERE, f'The graph reads "{name}", which is not among the columns.', "A column for each input.", PAGE)
        for name in by_name
        if name not in columns
    ]
    if faults:
        raise Invalid(tuple(faults))
    return tuple(by_name[each] for each in columns)


def _input_faults(graph: OnnxGraph, inputs: Sequence[GraphValue], columns: Sequence[str]) -> Iterator[Fault]:
    is_matrix = len(graph.inputs) == 1
    for each in inputs:
        where = f'graph.input "{each.name}"'
        if each.element not in REALS or each.element != inputs[0].element:
            told = "no tensor" if each.element is None else ELEMENTS.get(each.element, f"type {each.element}")
            yield Fault(where, f"It takes {told}.", "float32 as features are, or float64, the same for all.", PAGE)
            continue
        if each.shape is None:
            continue
        right = "[rows, columns]" if is_matrix else "[rows, 1], or [rows]"
        shape = list(each.shape)
        if len(shape) not in (_MATRIX_AXES if is_matrix else _COLUMN_AXES) or len(shape) != len(inputs[0].shape or ()):
            yield Fault(where, f"Its shape is {shape}: {len(shape)} axes.", right, PAGE)
            continue
        if shape[0] is not None:
            yield Fault(where, f"It takes exactly {shape[0]} rows.", "Any number: export with a free first axis.", PAGE)
        width = shape[1] if len(shape) > 1 else 1
        if width not in {None, len(columns) if is_matrix else 1}:
            came = f"It takes {width} columns, and {len(columns)} came: {', '.join(columns)}."
            yield Fault(where, came if is_matrix else f"It takes {width} numbers a row.", right, PAGE)


def two_numbers(name: str) -> Fault:
    """Return what is wrong with an output of two numbers a row that may be anything."""
    came = f'"{name}" has two numbers a row, and nothing says that they are probabilities of two classes.'
    return Fault("score", came, f"--score {name} where the second one is the score; else an output of one.", PAGE)


def _is_classes(graph: OnnxGraph, name: str) -> bool:
    """Return whether an output has probabilities: by its name, or by what it comes from."""
    if any(_is_map(each) and name in each.inputs for each in graph.nodes):
        return True
    makers = {each: node for node in graph.nodes for each in node.outputs}
    for _ in range(len(graph.nodes)):
        if any(each in name.lower() for each in _PROBABILITIES):
            return True
        node = makers.get(name)
        if node is None or not node.inputs:
            return False
        if (node.domain, node.kind) in _CLASSIFIERS:
            return True
        if (node.domain, node.kind) not in _CARRIED:
            return False
        name = node.inputs[0]
    return False


def _output(graph: OnnxGraph, wanted: str) -> tuple[str, list[Fault]]:
    """Return the output that is the number of a row, and what is wrong with it."""
    maps = {each.outputs[0]: each.inputs[0] for each in graph.nodes if _is_map(each) and each.outputs and each.inputs}
    found = dict[str, str]()
    reasons = dict[str, str]()
    for each in graph.outputs:
        if each.name in maps:
            found[each.name] = maps[each.name]
        elif each.element not in REALS:
            told = "no tensor" if each.element is None else ELEMENTS.get(each.element, f"type {each.element}")
            reasons[each.name] = f'"{each.name}" has {told}'
        elif each.shape is not None and not _is_number_a_row(each.shape):
            reasons[each.name] = f'"{each.name}" has the shape {list(each.shape)}'
        else:
            found[each.name] = each.name
    right = "One output of floats, a number a row: [rows], [rows, 1], or [rows, 2] for two classes."
    if wanted and wanted not in found:
        names = [each.name for each in graph.outputs]
        came = reasons.get(wanted, f'"{wanted}" is no output.{nearest(wanted, names)} Outputs: {", ".join(names)}')
        return "", [Fault("score", f"{came}.", right, PAGE)]
    if not found:
        came = f"No output is a number a row: {'; '.join(reasons.values()) or 'there is none'}."
        return "", [Fault("graph.output", came, right, PAGE)]
    if not wanted and len(found) > 1:
        return "", [Fault("score", f"None came, and each of {', '.join(found)} could be meant.", "One of them.", PAGE)]
    chosen = next(iter(found))
    shape = next((each.shape for each in graph.outputs if each.name == chosen), None) or ()
    if not wanted and shape[1:] == (CLASSES,) and not _is_classes(graph, found[chosen]):
        return "", [two_numbers(chosen)]
    return found[wanted or chosen], []


def _is_number_a_row(shape: Sequence[int | None]) -> bool:
    return len(shape) == 1 or (len(shape) == CLASSES and shape[1] in {None, 1, CLASSES})
