"""The block of declared features: what a plan reads is what its kinds mean."""

import numpy as np

from midstream.core.types import Candidates, LogPosition, Models, Query, TimestampMs
from midstream.events.schema import Event, build
from midstream.features.declared import declared
from midstream.features.kinds.kinds import Count, Since, cells_of
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings

HOUR = 3_600_000
NOW = 1_700_000_000_000


def test_columns_of_a_moment_are_those_of_the_kinds() -> None:
    """A count and a time since, of two items of which one was viewed twice: 2 and 1 s, 0 and not known."""
    features = (Count(name="views", actions=("view",)), Since(name="idle", actions=("view",)))
    fold = Fold(FoldSettings(cells=cells_of(features)))
    times = (NOW - 2_000, NOW - 1_000)
    seen = [Event(1, action="view", user_id="u", item_id="a", event_time_ms=at, log_time_ms=at) for at in times]
    fold.apply(LogPosition(0), build([*seen, Event(3, 1, item_id="b", body=b"{}", log_time_ms=NOW - 1_000)]))
    query = Query("r", "home", "u", None, 2, TimestampMs(NOW), 1)
    moment = fold.moment(query, Models({}))
    items = fold.vocabulary.item_indices(("a", "b"))
    candidates = Candidates(items, (), np.empty((2, 0), np.float32), np.empty((2, 0), np.int32))
    block = declared(features, {})
    found = block.read(moment, candidates)
    assert block.names == ("views", "idle")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[2, 1], [0, np.nan]], dtype=np.float32))
