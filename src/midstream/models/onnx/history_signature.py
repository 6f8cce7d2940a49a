"""Signature of an ONNX graph as an item model: which form of a history it takes, and which output is the user's vector.

A history comes as the rows of its items (whole numbers), or as their vectors (floats), oldest first, each alone or with
a first axis of one: [items], [1, items], [items, d] or [1, items, d]. The number of items is free. The output has d
numbers in all.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from midstream.core.errors import Fault, Invalid
from midstream.core.nearest import nearest
from midstream.models.onnx.graph import DOUBLE, ELEMENTS, FLOAT, INT32, INT64, PAGE, GraphValue, OnnxGraph

ROWS, REALS = (INT64, INT32), (FLOAT, DOUBLE)
RIGHT = "[items], [1, items] of whole numbers, or [items, d], [1, items, d] of floats, items free."


@dataclass(frozen=True, slots=True)
class HistorySignature:
    """How a graph is asked about one history."""

    input: str
    element: int
    """``INT64`` or ``INT32``, of rows; ``FLOAT`` or ``DOUBLE``, of vectors."""
    is_batch: bool
    """Whether there is a first axis of one."""
    output: str

    @property
    def takes_rows(self) -> bool:
        """Whether the graph looks its items up by itself."""
        return self.element in ROWS


def history_signature_of(graph: OnnxGraph, width: int, output: str = "") -> HistorySignature:
    """Return how a graph is asked about a history.

    Args:
        graph: Passed ``rules``.
        width: d, of the vectors of items.
        output: Name of the output, where the graph has several of floats; empty = the only one.

    Raises:
        Invalid: Its input or output is none of a history over such vectors; each fault names it.
    """
    found = [*_input_faults(graph, width)]
    chosen, fault = _output(graph, output)
    if fault is not None:
        found.append(fault)
    if found:
        raise Invalid(tuple(found))
    (only,) = graph.inputs
    axes = len(only.shape or ())
    return HistorySignature(only.name, only.element or 0, axes == _axes(only) + 1, chosen)


def _axes(only: GraphValue) -> int:
    """Return the axes of a history alone."""
    return 1 if only.element in ROWS else 2


def _input_faults(graph: OnnxGraph, width: int) -> Iterator[Fault]:
    if len(graph.inputs) != 1:
        names = ", ".join(each.name for each in graph.inputs) or "none"
        right = "One input, a history: what else it reads is a constant of the graph."
        yield Fault("graph.input", f"The graph has {len(graph.inputs)} inputs: {names}.", right, PAGE)
        return
    (only,) = graph.inputs
    where = f'graph.input "{only.name}"'
    if only.element not in {*ROWS, *REALS}:
        told = "no tensor" if only.element is None else ELEMENTS.get(only.element, f"type {only.element}")
        yield Fault(where, f"It takes {told}.", RIGHT, PAGE)
        return
    shape, axes = list(only.shape or ()), _axes(only)
    if len(shape) not in {axes, axes + 1}:
        yield Fault(where, f"Its shape is {shape or 'not said'}.", RIGHT, PAGE)
        return
    *first, items = shape if axes == 1 else shape[:-1]
    if items is not None:
        yield Fault(where, f"It takes exactly {items} items.", "Any number: export with that axis free.", PAGE)
    if first and first[0] not in {None, 1}:
        yield Fault(where, f"It takes exactly {first[0]} histories.", "One at a time.", PAGE)
    if axes > 1 and shape[-1] not in {None, width}:
        yield Fault(where, f"It takes vectors of {shape[-1]} numbers.", f"{width}, as the vectors of items have.", PAGE)


def _output(graph: OnnxGraph, wanted: str) -> tuple[str, Fault | None]:
    right = "One output of floats: the vector of the user."
    names = [each.name for each in graph.outputs if each.element in REALS]
    if wanted:
        every = [each.name for each in graph.outputs]
        came = f'"{wanted}" is no output of floats.{nearest(wanted, every)} Outputs: {", ".join(every)}'
        return wanted, None if wanted in names else Fault("score", f"{came}.", right, PAGE)
    if len(names) == 1:
        return names[0], None
    if names:
        return "", Fault("score", f"None came, and each of {', '.join(names)} could be meant.", "One of them.", PAGE)
    return "", Fault("graph.output", "No output has floats.", right, PAGE)
