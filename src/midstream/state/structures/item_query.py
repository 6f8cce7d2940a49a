"""Beginning and end of a query over items: distinct items asked for, items left out, and the best written.

What adds scores up in between differs from query to query, and stays in one piece with its loop: as a kernel of its own
it made a query of the session index take a third more time.
"""

from midstream.core.types import Index, Score
from midstream.state.structures.kernel import kernel
from midstream.state.structures.stamped_table import Table, leave_out
from midstream.state.structures.top_k_keys import Keys, best_keys, place_of, value_of


@kernel
def enter_distinct(item: int, count: int, entered: Index) -> int:
    """Write an item behind the first ``count`` unless it is among them; return how many there are now."""
    for place in range(count):
        if entered[place] == item:
            return count
    entered[count] = item
    return count + 1


@kernel
def leave_out_each(hidden: Index, epoch: int, bits: int, table: Table) -> None:
    """Mark items so that they are met but not scored, -1 allowed."""
    for item in hidden:
        if item >= 0:
            leave_out(item, epoch, bits, table)


@kernel
def write_best(
    count: int,
    scored: Index,
    item_hash: Keys,
    bins: Index,
    keys: Keys,
    answer_items: Index,
    answer_scores: Score,
) -> int:
    """Write the items of the largest of the first ``count`` keys, best first, and their scores; return how many."""
    count = best_keys(keys[0], count, len(answer_items), scored, item_hash, bins, keys[1], keys[2])
    for place in range(count):
        answer_items[place] = scored[place_of(keys[1, place])]
        answer_scores[place] = value_of(keys[1, place])
    return count
