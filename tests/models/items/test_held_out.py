"""Acts kept apart of what is fitted: nothing is learned that is asked for, and nothing else is lost."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.models.histories import Histories, Interactions
from midstream.models.items.held_out import HeldOut, Manner, hold_out
from tests.models.linear import SEEDS, vocabulary_of

ITEMS = 9
ROWS = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=12), max_size=8)
MANNERS: st.SearchStrategy[Manner] = st.sampled_from(("last", "random"))


def data_of(rows: list[list[int]]) -> Interactions:
    """Return histories whose acts all differ in weight and time."""
    plain = Histories.of(rows)
    acts = np.arange(len(plain.row))
    weights, times = (1 + acts).astype(np.float32), (1_000 + acts).astype(np.int64)
    return Interactions(vocabulary_of(ITEMS), Histories(plain.row, weights, plain.start, times))


def acts_of(histories: Histories, number: int) -> list[tuple[int, float, int]]:
    """Return item, weight and time of each act of a history."""
    one = histories.part(number, number + 1)
    assert one.time_ms is not None
    return list(zip(one.row.tolist(), one.weight.tolist(), one.time_ms.tolist(), strict=True))


@given(ROWS, st.floats(0.01, 0.5), MANNERS, SEEDS)
def test_each_history_keeps_its_acts_but_some(rows: list[list[int]], share: float, manner: Manner, seed: int) -> None:
    """A share, at least one act of two and never all; the newest or any; the rest as it was, in its order."""
    data = data_of(rows)
    learned, trial = hold_out(data, HeldOut(share, manner, seed, 1_000))
    assert len(learned.histories) == len(rows)
    wanted_of: list[tuple[list[tuple[int, float, int]], list[int]]] = []
    for number, row in enumerate(rows):
        acts, kept = acts_of(data.histories, number), acts_of(learned.histories, number)
        held = [each for each in acts if each not in kept]
        assert kept == [each for each in acts if each in kept]
        assert len(held) == (min(max(round(len(row) * share), 1), len(row) - 1) if len(row) > 1 else 0)
        if manner == "last":
            assert kept == acts[: len(kept)]
        new = sorted({item for item, _, _ in held} - {item for item, _, _ in kept})
        if new:
            wanted_of.append((kept, new))
    found = [
        (acts_of(trial.asked, number), trial.wanted.part(number, number + 1).row.tolist())
        for number in range(len(trial.asked))
    ]
    assert found == wanted_of


@given(SEEDS)
def test_what_is_drawn_hangs_on_the_seed_alone(seed: int) -> None:
    """The same seed draws the same; over many seeds every act of a history is drawn."""
    data = data_of([[0, 1, 2, 3]])
    draw = lambda number: hold_out(data, HeldOut(0.1, "random", number, 10))[1].wanted.row.tolist()  # noqa: E731
    assert draw(seed) == draw(seed)
    assert {draw(seed + number)[0] for number in range(60)} == {0, 1, 2, 3}


def test_a_trial_has_so_many_histories_at_most_evenly_spread() -> None:
    """All of a large shop need not be asked; those that want nothing are not counted."""
    rows = [[number % ITEMS, (number + 1) % ITEMS] for number in range(20)] + [[1, 1], [1]]
    learned, trial = hold_out(data_of(rows), HeldOut(0.1, "last", 0, 5))
    assert len(learned.histories.row) == 22
    assert trial.asked.row.tolist() == [0, 4, 8, 12 % ITEMS, 16 % ITEMS]
    assert trial.wanted.row.tolist() == [(each + 1) % ITEMS for each in trial.asked.row.tolist()]
    nothing = hold_out(data_of([[1], [], [2, 2]]), HeldOut(0.1, "last", 0, 5))[1]
    assert len(nothing.asked) == len(nothing.wanted) == 0
