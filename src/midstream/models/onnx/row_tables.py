"""Tables of a graph that the rows of a history look up: how long they are, and in which order.

A graph that reads rows has a table of its own, whose row k has to be that of item k. A table of another length, such as
one with a row of padding at its beginning, is none of these items, unless expected scores say that its first rows are
theirs. Where these are the vectors which are multiplied here, as in models that share a table, their order is seen as
well. Of any other table the order is in no file: only expected scores tell.
"""

from collections.abc import Iterator

import numpy as np

from midstream.core.errors import Fault
from midstream.core.types import Score
from midstream.models.onnx.graph import PAGE, Node, OnnxGraph, Tensor, attribute_number
from midstream.models.onnx.marks import constant_numbers
from midstream.models.vocabulary import ItemVocabulary

_ROWS_KEPT = {"Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Slice", "Clip"}
"""Operators behind which rows are still rows, by their first input."""
_TABLE_KEPT = {"Identity", "Cast"}
_ORDER = "Row k of it for ids[k]"
_LENGTH = (
    f"{_ORDER}, and no other row: cut off what is padding, or add to the rows within the graph. Or import it with "
    "histories and their expected scores beside the vectors, which say that a longer one is right."
)


def row_tables(graph: OnnxGraph, name: str) -> tuple[Tensor, ...]:
    """Return the constants whose rows an input says, as far as no calculation lies in between.

    Args:
        graph: Passed ``rules``; each call stands after those whose results it takes.
        name: Of the input.
    """
    rows, tables, found = {name}, dict(graph.constants), dict[str, Tensor]()
    for node in graph.nodes:
        if node.domain or not node.outputs:
            continue
        first, out = node.inputs[0] if node.inputs else "", node.outputs[0]
        if node.kind == "Constant" and node.tensors:
            tables[out] = node.tensors[0]
        elif node.kind in _TABLE_KEPT and first in tables:
            tables[out] = tables[first]
        elif (node.kind in _ROWS_KEPT and first in rows) or (node.kind == "Where" and rows & {*node.inputs[1:]}):
            rows.add(out)
        elif _looks_up(node) and node.inputs[1] in rows and first in tables:
            found[first] = tables[first]
    return tuple(found.values())


def _looks_up(node: Node) -> bool:
    axis = node.attributes.get("axis")
    return node.kind == "Gather" and len(node.inputs) > 1 and (axis is None or attribute_number(axis) == 0)


def table_faults(
    graph: OnnxGraph, name: str, vocabulary: ItemVocabulary, vectors: Score, *, is_proven: bool = False
) -> Iterator[Fault]:
    """Yield what is wrong with the tables that rows of items look up.

    Args:
        graph: Passed ``rules``.
        name: Of its input.
        vocabulary: The items, row by row.
        vectors: Theirs, (items, d), float32.
        is_proven: Expected scores are compared as well: a table may be of another length.
    """
    items, width = vectors.shape
    for table in row_tables(graph, name):
        where = f'graph.initializer "{table.name}"'
        count = table.shape[0] if table.shape else 1
        if count != items and not is_proven:
            came = f"The history looks up a table of {count:,} rows, and there are {items:,} items."
            yield Fault(where, came, _LENGTH, PAGE)
            continue
        numbers = constant_numbers(table, count * width) if table.shape[1:] == (width,) and count >= items else None
        if numbers is None:
            continue
        apart = misplaced(numbers[: items * width].reshape(vectors.shape).astype(np.float32), vectors)
        if apart is not None:
            row, other = apart
            came = (
                f'Row {row} has the vector of "{vocabulary.id_of(other)}", and ids[{row}] is "{vocabulary.id_of(row)}".'
            )
            yield Fault(where, came, f"{_ORDER}.", PAGE)


def misplaced(table: Score, vectors: Score) -> tuple[int, int] | None:
    """Return the first row of a table that is the vector of another row, and that row; None = there is none.

    Where fewer than half of its rows are among the vectors it is a table of its own, and nothing is said of it.

    Args:
        table: (items, d).
        vectors: (items, d).
    """
    places = {vector.tobytes(): row for row, vector in reversed([*enumerate(vectors)])}
    found = np.array([places.get(each.tobytes(), -1) for each in table], dtype=np.int64)
    wrong = np.flatnonzero((found >= 0) & (table != vectors).any(axis=1))
    if not len(wrong) or 2 * np.count_nonzero(found >= 0) < len(table):
        return None
    return int(wrong[0]), int(found[wrong[0]])
