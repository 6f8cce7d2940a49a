"""Random shapes of binary trees, by the leaves that each node divides."""

import numpy as np


def random_shapes(
    dice: np.random.Generator, tree_count: int, leaves_max: int
) -> tuple[list[tuple[int, int, int]], list[int]]:
    """Return first leaf, first leaf on the right and end of each node, and where the nodes of each tree begin."""
    nodes: list[tuple[int, int, int]] = []
    start = [0]
    for _ in range(tree_count):
        todo = [(0, int(dice.integers(1, leaves_max + 1)))]
        while todo:
            first, end = todo.pop()
            if end - first > 1:
                middle = int(dice.integers(first + 1, end))
                nodes.append((first, middle, end))
                todo += [(middle, end), (first, middle)]
        start.append(len(nodes))
    return nodes, start
