"""Ranking of the values of a category attribute for a user: brands, categories or artists to recommend.

Of each value half of the score is its share in the user's own decayed affinities, and half is its mean share in those
of similar users. So a value that only similar users have has a place too. Acts against a value count for no share.
"""

from typing import Final

import msgspec
import numpy as np

from midstream.core.answers.lists import RankedValue, ValueRanking
from midstream.core.errors import Fault, NotFound, RequestInvalid
from midstream.core.nearest import nearest
from midstream.core.types import TimestampMs
from midstream.engine.lists.list_cursor import PAGE
from midstream.engine.lists.list_filter import moment_of
from midstream.engine.live import LiveState
from midstream.retrieval.similar_users_items import SimilarUsersItems
from midstream.state.fold import Fold

_OVERLAP: Final = SimilarUsersItems(neighbours_max=50)


class ValueQuestion(msgspec.Struct, frozen=True):
    """Request for values of an attribute."""

    user_id: str
    attribute: str
    n: int
    new: bool = False
    """Only values that the user's own acts have not."""


def user_values(live: LiveState, asked: ValueQuestion) -> ValueRanking:
    """Return the values for a user, the highest score first, equal ones by name. Cost: 1 to 3 ms.

    Raises:
        NotFound: Nothing is known of the user.
        RequestInvalid: The attribute is no category.
    """
    fold, now_ms = live.fold, live.clock()
    if asked.attribute not in fold.users.categories:
        known = fold.users.categories
        came = f'"{asked.attribute[:60]}" is no category.{nearest(asked.attribute, known)}'
        right = f"Attributes of the kind category: {', '.join(known) or 'none is declared'}."
        raise RequestInvalid((Fault("attribute", came, right, PAGE),))
    moment = moment_of(fold, now_ms, asked.user_id)
    if moment.user_index < 0 or fold.users.is_forgotten(moment.user_index):
        raise NotFound(f'Nothing is known of user "{asked.user_id[:128]}".')
    own = _shares(fold, moment.user_index, asked.attribute, now_ms)
    near, whole, count = dict[int, float](), 0.0, 0
    for each in _OVERLAP.neighbours(moment):
        shares = _shares(fold, each.slot, asked.attribute, now_ms)
        if shares:
            count, whole = count + 1, whole + each.similarity
            for code, share in shares.items():
                near[code] = near.get(code, 0.0) + each.similarity * share
    values = [
        RankedValue(
            fold.items.value_text(asked.attribute, code) or "",
            (own.get(code, 0.0) + near.get(code, 0.0) / max(whole, 1e-30)) / 2,
            own.get(code, 0.0),
            near.get(code, 0.0) / max(whole, 1e-30),
        )
        for code in own.keys() | near.keys()
        if not (asked.new and code in own)
    ]
    values.sort(key=lambda each: (-each.score, each.value))
    return ValueRanking(asked.attribute, values[: asked.n], count)


def _shares(fold: Fold, slot: int, attribute: str, now_ms: TimestampMs) -> dict[int, float]:
    """Return the share of each value in the affinities of a user; those of 0 and below are none."""
    codes, weights = fold.users.affinities(slot, attribute, now_ms)
    positive = np.maximum(weights.astype(np.float64), 0.0)
    total = float(positive.sum())
    return {code: weight / total for code, weight in zip(codes.tolist(), positive.tolist(), strict=True) if weight > 0}
