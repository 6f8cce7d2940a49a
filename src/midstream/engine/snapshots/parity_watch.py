"""Online parity check of served feature values: the child that writes a snapshot compares them while it folds.

Of the served records whose state the child passes, a bounded number has its kept values compared with those of the fold
at the same log position.
"""

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import pairwise

import msgspec
import numpy as np

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, FeatureFrame, LogPosition, Models
from midstream.events.schema import texts_of
from midstream.events.served_body import decode_body
from midstream.events.wire import AttributeKind
from midstream.features.as_of import PointInTimeQuestion, candidates_of, moment_of
from midstream.features.declarations import Declarations
from midstream.features.declared import DeclaredFeatures
from midstream.features.kinds.kinds import AnyFeature
from midstream.features.parity import Parity, comparable
from midstream.ranking.boundary import Account, boundary
from midstream.ranking.frame import FeatureReader
from midstream.ranking.plan import FEATURES, Plan
from midstream.ranking.record.served import decode_served, read_then
from midstream.state.fold import Fold
from midstream.state.settings import read_duration
from midstream.state.structures.hashing import IdKey, id_hash

SLATES_MAX = 1_000
"""Compared a snapshot: 5 MB of records with 40 columns, and 0.5 s."""
BYTES_MAX = 16 << 20
"""Of all records that are held to be compared, as the log has them: three times what so many usually take."""
_BODY = 6


class Watched(msgspec.Struct, frozen=True):
    """Inputs of the child for reading features."""

    config_hash: str
    features: tuple[AnyFeature, ...]
    attributes: dict[str, AttributeKind]


def watched(plans: Mapping[str, Plan]) -> str:
    """Return the inputs of the child, as JSON; empty where no values are kept."""
    for plan in plans.values():
        if plan.log_features > 0:
            told = Watched(plan.config_hash, plan.declared.features, dict(plan.declared.attributes))
            return msgspec.json.encode(told, enc_hook=str).decode()
    return ""


class ParityWatch:
    """Compares as the fold passes by."""

    def __init__(
        self, told: str, events: Iterable[tuple[LogPosition, EventBatch]], begin: LogPosition, key: IdKey
    ) -> None:
        """Choose the records to compare.

        Args:
            told: From ``watched``; empty = none.
            begin: Position of the fold.
            events: Events that will be folded, all read once.
            key: Of ids: a maker of request ids cannot choose the compared ones.
        """
        self.parity = Parity()
        self._account = Account()
        self._at: dict[int, list[bytes]] = {}
        if not told:
            return
        order = msgspec.json.decode(told, type=Watched, dec_hook=read_duration)
        self._declared = Declarations(order.features, tuple(order.attributes.items()))
        self._names = comparable(self._declared, tables=False)
        for position, body in _chosen(events, begin, order.config_hash, key):
            self._at.setdefault(position, []).append(body)

    def cuts(self, first: int, count: int, step: int) -> Iterator[tuple[int, int]]:
        """Yield the spans of a batch to fold: of at most ``step`` events, ending at each compared position."""
        edges = {*range(0, count, step), *(place - first for place in self._at if first < place < first + count), count}
        ordered = sorted(edges)
        yield from pairwise(ordered)

    def look(self, fold: Fold) -> None:
        """Compare the values read at the position of the fold."""
        for body in self._at.pop(fold.log_position, ()):
            record = decode_served(body)  # each when its turn comes: decoded it takes ten times the room
            items = tuple(each.id for each in record.items)
            moment = moment_of(fold, PointInTimeQuestion(record.query, items), Models({}))
            logged = read_then(record, self._declared)
            if logged is None or not logged.names:
                continue  # all of its features failed
            if record.fold_version != fold.settings.version():
                continue  # what was served before a compaction saw items that this fold passes by
            with boundary(FEATURES, self._account):  # a snapshot does not fail because a comparison does
                block = self._block(logged.names)
                known = len(self._account.failures)
                reader = FeatureReader(moment, self._account, self._declared)
                values = reader.block(block, candidates_of(fold, items))
                if len(self._account.failures) == known:
                    found = FeatureFrame(block.names, values)
                    self.parity.add_logged(record.query.request_id, items, logged, found)

    def _block(self, columns: Collection[str]) -> DeclaredFeatures:
        """Return a reader of the features with any of the columns; others of the placement are not read."""
        kept = frozenset(columns)
        return self._declared.block([name for name in self._names if kept & {*self._declared.program(name).names}])

    def said(self) -> str:
        """Return one difference, or failed read, in words; empty = none."""
        for failure in self._account.failures:
            # Health shows it for as long as nothing better is known, and what an error says may name a user.
            kind = failure.reason.partition(":")[0]
            return f"{failure.component} could not be read again: {kind}"
        for column in self.parity.columns.values():
            for each in column.examples:
                return (
                    f"{column.name} of item {each.item_id} in request {each.request_id}: {each.logged:.9g} was served, "
                    f"{each.as_of:.9g} is what the log gives"
                )
        return ""


def _chosen(
    events: Iterable[tuple[LogPosition, EventBatch]], begin: LogPosition, config_hash: str, key: IdKey
) -> Iterator[tuple[LogPosition, bytes]]:
    """Yield the records to compare, each with the log position that it saw.

    Those with the smallest hashes of their requests, so that each is as likely, that are ``SLATES_MAX`` and
    ``BYTES_MAX`` at most together.
    """
    kept: list[tuple[int, LogPosition, bytes]] = []
    held = 0
    for _, batch in events:
        for index in np.flatnonzero(batch.rows["kind"] == Kind.SERVED).tolist():
            body = texts_of(batch, index)[_BODY]
            found = _ranked(body, begin, config_hash, key)
            if found is not None:
                heapq.heappush(kept, (*found, body))
                held += len(body)
            while len(kept) > SLATES_MAX or held > BYTES_MAX:
                held -= len(heapq.heappop(kept)[-1])
    yield from ((position, body) for _, position, body in kept)


def _ranked(body: bytes, begin: LogPosition, config_hash: str, key: IdKey) -> tuple[int, LogPosition] | None:
    """Return the negative hash of a record's request and the log position that it saw.

    None for one that has no values or cannot be compared here.
    """
    try:
        told = decode_body(body)
    except ValueError:
        return None
    is_whole = bool(told.request_id and told.feature_names) and all(part != FEATURES for part, _ in told.failures)
    is_here = told.log_position >= begin and told.config_hash == config_hash
    if not is_whole or not is_here:
        return None
    return -id_hash(told.request_id, key), LogPosition(told.log_position)
