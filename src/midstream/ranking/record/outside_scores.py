"""Scores of a server in the served record: of all candidates, in the order of their ids, so that a rerun asks nobody.

All of them are needed, since each decides the slate. The order of ids is that of no state, so eight bytes stand for
which candidates they belong to.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from midstream.core.errors import NotFound
from midstream.core.types import Score, Served
from midstream.ranking.record.fetched_fields import compressed, expanded
from midstream.state.ids.vocabulary import Vocabulary

SCORES_MAX = 4_096
"""Candidates of one record, 16 kB: 500 that are scored at most, as many items of a page's earlier slates as there may
be, or 1,000 of the caller's, with room for pins."""
_CHECK_BYTES = 8


@dataclass(frozen=True, slots=True)
class PackedScores:
    """Scores as the record keeps them."""

    content: bytes = b""
    is_whole: bool = True
    """They are kept, or need not be."""


NO_SCORES = PackedScores()


@dataclass(frozen=True, slots=True, eq=False)
class RecordedScores:
    """Scores of a record, for the candidates of its rerun."""

    scorer: str
    score: Score


def outside_scores(served: Served, remote: Container[str], vocabulary: Vocabulary) -> PackedScores:
    """Return the scores of an answer that are kept: those that a server gave its candidates."""
    if served.scorer not in remote or served.query.continues:
        return NO_SCORES
    return pack_scores(served.score, vocabulary.item_ids(served.candidates.item_index))


def pack_scores(score: Score, item_ids: Sequence[str]) -> PackedScores:
    """Return the scores of some candidates as they are kept. Cost: 0.3 ms for 500."""
    if len(item_ids) > SCORES_MAX:
        return PackedScores(is_whole=False)
    order = _order(item_ids)
    return PackedScores(compressed(_check(item_ids, order) + score[order].astype("<f4").tobytes()))


def scores_in(content: bytes, item_ids: Sequence[str]) -> Score:
    """Return the scores of a record for some candidates, in their order.

    Raises:
        NotFound: They are those of other candidates.
    """
    order = _order(item_ids)
    try:
        told = expanded(content, _CHECK_BYTES + 4 * SCORES_MAX)
    except ValueError as error:
        message = f"the record has no scores of its candidates: {error}"
        raise NotFound(message) from error
    if told[:_CHECK_BYTES] != _check(item_ids, order) or len(told) != _CHECK_BYTES + 4 * len(item_ids):
        message = "the scores that a server gave then are of other candidates than those of the state of now"
        raise NotFound(message)
    score = np.empty(len(item_ids), dtype=np.float32)
    score[order] = np.frombuffer(told, dtype="<f4", offset=_CHECK_BYTES)
    return score


def _order(item_ids: Sequence[str]) -> list[int]:
    return sorted(range(len(item_ids)), key=item_ids.__getitem__)


def _check(item_ids: Sequence[str], order: Sequence[int]) -> bytes:
    return xxhash.xxh3_64_digest("\0".join([item_ids[each] for each in order]).encode())
