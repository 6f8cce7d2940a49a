"""Items that rows of a page go by: "because you watched X", one item of the visitor's own acts a row.

A row takes the newest item that no row above it took, so rows of one page go by different items. All is read from the
state of the page's own log position.
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from midstream.core.errors import Fault, NotFound, RequestInvalid
from midstream.core.nearest import nearest
from midstream.core.types import Models, Query, TimestampMs
from midstream.engine.types import Ask
from midstream.state.fold import Fold
from midstream.state.users.recent_items import distinct_items

_ACTS_MAX: Final = 50
_NO_MODELS: Final = Models({})


def going_by(ask: Ask, fold: Fold, taken: Sequence[str], now_ms: TimestampMs) -> Ask:
    """Return what is asked of a row, about the newest item that it may go by.

    Args:
        ask: With ``because``; another is returned as it is.
        fold: The state.
        taken: Items that rows above go by.
        now_ms: Time of the page.

    Raises:
        RequestInvalid: An action is not configured.
        NotFound: No item is left to go by.
    """
    if ask.because is None:
        return ask
    known = fold.settings.action_names()
    for number, name in enumerate(ask.because):
        if name not in known:
            came = f'"{name[:60]}" is not an interaction here.{nearest(name, known)}'
            right = f"Interactions: {', '.join(known)}."
            raise RequestInvalid((Fault(f"/because/actions/{number}", came, right, "/docs/http.md"),))
    moment = fold.moment(Query("", "", ask.user_id, ask.session_id, 0, now_ms, 0), _NO_MODELS)
    items = distinct_items(moment, "user", ask.because, _ACTS_MAX)
    if not len(items) and not ask.because:  # of a session it is not known how it acted
        items = distinct_items(moment, "session", (), _ACTS_MAX)
    for index in items.tolist():
        item_id = fold.vocabulary.item_id(index)
        if item_id not in taken and fold.items.exists(index):
            return replace(ask, about=item_id)
    message = "The visitor has no act, or none more, that a row of this page can go by."
    raise NotFound(message)
