"""The kernels of the items table: hot lists after runs and batches."""

from itertools import pairwise

import pytest

from midstream.core.types import LogPosition
from midstream.events.schema import cut
from midstream.state.fold import Fold
from midstream.state.items import items
from midstream.state.items.item_fold import RISEN_MAX
from midstream.state.one_pass import RUN_EVENTS
from midstream.state.structures.top_list import LENGTH
from tests.state.test_one_pass import plain_settings, usual_part
from tests.support.events import random_events


@pytest.mark.parametrize("rises", [4, RISEN_MAX])
def test_hot_lists_are_in_line_after_each_batch(rises, monkeypatch):
    """They are no part of the state, so no digest sees them: of one run and of several, with room for rises or not."""
    monkeypatch.setattr(items, "RISEN_MAX", rises)
    fold, usual = Fold(plain_settings()), usual_part(random_events(6_000, seed=3))
    assert len(usual) > 3 * RUN_EVENTS
    hot = fold.items._hot
    for start, stop in pairwise([0, 300, 300 + 2 * RUN_EVENTS, 301 + 2 * RUN_EVENTS, len(usual)]):
        fold.apply(LogPosition(start), cut(usual, start, stop))
        told = [each.copy() for each in hot.columns[1:]]
        hot.build(fold.items.available, fold.items.count, fold.vocabulary.item_hash)
        assert told[2].tolist() == hot.states.tolist()
        for values, listed, row in zip(*told[:2], range(len(hot.states)), strict=True):
            length = hot.states[row, LENGTH]
            assert values[:length].tolist() == hot.values[row, :length].tolist()
            assert listed[:length].tolist() == hot.items[row, :length].tolist()
