"""Recent items of a session or a user, from which sources and features start."""

from collections.abc import Mapping

import numpy as np

from midstream.core.types import Index, Moment, Score
from midstream.state.sessions.sessions import Sessions
from midstream.state.users.users import Users

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


def last_acts(moment: Moment, actions: Mapping[str, float], items_max: int) -> tuple[Index, Score]:
    """Return the items of the last acts of the asking session or user, oldest first, and the weight of each, above 0.

    First the user's own acts, those of the asking session among them, then items of the session that these are not
    about (of a visitor without an id all of them), then those that the request sends along. Of an item of a session or
    a request it is not known how it was acted on: it weighs as much as the least of the acts.

    Args:
        moment: The state.
        actions: Action to weight; empty = as the settings say. Acts that weigh nothing, or speak against an item, are
            left out.
        items_max: The newest so many.
    """
    users, sent = moment.table(Users), moment.sent_item_index
    weights = users.weights_of(actions)
    positive = weights[weights > 0.0]
    least = float(positive.min()) if len(positive) else 1.0
    session = moment.recent_item_index[: len(moment.recent_item_index) - len(sent)]
    own, weight = NO_ITEMS, np.empty(0)
    if moment.user_index >= 0:
        recent = users.recent(moment.user_index)
        each = weights[recent.action]
        own, weight = recent.item_index[each > 0.0], each[each > 0.0]
        session = session[~np.isin(session, own)]
    items = np.concatenate((own, session, sent)).astype(np.int32)[-items_max:]
    full = np.concatenate((weight, np.full(len(session) + len(sent), least)))[-items_max:]
    return items, full.astype(np.float32)


def own_sessions(moment: Moment) -> list[int]:
    """Return the numbers of the asking session and of the same user's open ones: they are no neighbours."""
    numbers: list[int] = moment.table(Sessions).open_of_user(moment.user_hash, moment.query.now_ms).tolist()
    if moment.session_number >= 0 and moment.session_number not in numbers:
        numbers.append(moment.session_number)
    return numbers


def distinct_items(moment: Moment, scope: str, actions: tuple[str, ...], count_max: int) -> Index:
    """Return the last distinct items of the asking ``session`` or of the ``user``, newest first.

    Args:
        moment: The state. The items that the request sends along are the session's newest.
        scope: Whose.
        actions: Of a user only what was acted on so; empty = with all that speak for an item. A session has no others.
        count_max: At most so many.
    """
    if scope == "session":
        distinct = list(dict.fromkeys(moment.recent_item_index[::-1].tolist()))[:count_max]
        return np.array(distinct, dtype=np.int32)
    if moment.user_index < 0:
        return NO_ITEMS
    return moment.table(Users).last_distinct(moment.user_index, actions, count_max)
