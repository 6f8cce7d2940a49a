"""Users of events in a piece of the log: hashes of their ids, each computed once a page."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.events.schema import text_column
from midstream.state.fold import Fold
from midstream.state.structures.hashing import id_hash

ACTS = (int(Kind.INTERACTION), int(Kind.IMPRESSION))


class LogUsers:
    """Hashes of user ids as texts of the log have them; they follow from the ids and the key of the log alone."""

    def __init__(self) -> None:
        """Begin a page. At most ``SCANNED_MAX`` ids are kept."""
        self._hashes: dict[bytes, int] = {}

    def named(
        self, fold: Fold, first: LogPosition, batch: EventBatch, wanted: NDArray[np.bool_]
    ) -> Iterator[tuple[int, bytes, int]]:
        """Yield row, id and hash of the user of each wanted event that names one, the newest first.

        The hash is that of the user for whom the id stands now. Events of users who were erased after them are left
        out: the log is rewritten later.
        """
        rows = np.flatnonzero(wanted & (batch.rows["user_id_length"] > 0))[::-1]
        key, aliases, erasures = fold.vocabulary.id_key, fold.vocabulary.aliases, fold.vocabulary.erasures
        for row, text in zip(rows.tolist(), text_column(batch, "user_id", rows), strict=True):
            known = self._hashes.get(text)
            if known is None:
                known = self._hashes[text] = id_hash(text.decode(), key)
            if not erasures.hides(known, LogPosition(first + row)):
                yield row, text, aliases.resolve(known)


def of_kinds(batch: EventBatch, kinds: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which events of a batch are of some kinds, (n,)."""
    found: NDArray[np.bool_] = np.isin(batch.rows["kind"], kinds)
    return found
