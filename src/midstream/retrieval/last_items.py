"""What a session, or in its place a user, was busy with last: what the sources that go by it start from."""

import numpy as np

from midstream.core.types import Index, Moment
from midstream.state.users import Users

NO_ITEMS: Index = np.empty(0, dtype=np.int32)


def last_items(moment: Moment, history_items_max: int) -> Index:
    """Return the items of the asking session, oldest first, or the user's last ones where it has none yet.

    The session's items are those of the log up to this moment and those that the request sends along.

    Args:
        moment: The state.
        history_items_max: Last items of the user that may stand in for the session; 0 = none.
    """
    recent = moment.recent_item_index
    return recent if len(recent) else _history(moment, history_items_max)


def _history(moment: Moment, history_items_max: int) -> Index:
    """Return the user's last items on which an act was no act against them, oldest first."""
    if moment.user_index < 0 or history_items_max == 0:
        return NO_ITEMS
    users = moment.table(Users)
    recent = users.recent(moment.user_index)
    return recent.item_index[users.is_positive[recent.action]][-history_items_max:]
