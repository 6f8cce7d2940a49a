"""Served record: content of the log for one answer, enough to show it, to train on it and to rerun it.

Its wire form is ``events.served_body``. The full trace (candidates that were not chosen) is not kept: a rerun computes
it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import NotFound
from midstream.core.types import (
    NOTHING_FETCHED,
    Candidates,
    Failure,
    FeatureFrame,
    Fetched,
    LogPosition,
    Order,
    Proposal,
    Query,
    Score,
    Served,
    TimestampMs,
)
from midstream.events.served_body import RECORD_VERSION, ServedBody, decode_body, encode_body
from midstream.features.declarations import Declarations
from midstream.ranking.frame import FAILED_FEATURES_MAX
from midstream.ranking.plan import (
    BUILT_IN_FILTERS_MAX,
    FEATURES,
    FETCHES,
    FETCHES_MAX,
    FILTERS_MAX,
    FLOOR_MAX,
    SCORERS_MAX,
    SELECTOR,
    SOURCES_MAX,
    lost_columns,
)
from midstream.ranking.record.fetched_fields import own_fields, pack_fetched, unpack_fetched, with_fetched
from midstream.ranking.record.outside_scores import NO_SCORES, PackedScores
from midstream.ranking.rules.arrangement import ARRANGEMENT
from midstream.ranking.rules.pin import PINS
from midstream.ranking.rules.traces import NO_TRACES, PackedTraces, ServedTrace, unpack_traces
from midstream.retrieval.approximate import approximate_of

FAILURES_MAX = (
    FETCHES_MAX
    + SOURCES_MAX
    + FLOOR_MAX
    + len(("catalogue", PINS))
    + BUILT_IN_FILTERS_MAX
    + FILTERS_MAX
    + FAILED_FEATURES_MAX
    + SCORERS_MAX
    + len((ARRANGEMENT, FETCHES, SELECTOR))
)
"""As many parts as can fail in one answer, so none is left out. More features than those are one block; without the
blend there is no answer."""


@dataclass(frozen=True, slots=True)
class ServedItem:
    """One item of a slate, as it was served."""

    id: str
    score: float
    """As of then, exactly."""
    propensity: float
    sources: tuple[str, ...]
    """Names of the sources that proposed it."""


@dataclass(frozen=True, slots=True, eq=False)
class LoggedFeatures:
    """Feature values of each item of the slate, bit by bit as they were read."""

    names: tuple[str, ...]
    values: Score
    """(items, names), NaN = unknown."""


@dataclass(frozen=True, slots=True)
class ServedRecord:
    """A served answer, with all inputs of a rerun on the state of its log position."""

    query: Query
    log_position: LogPosition
    items: tuple[ServedItem, ...]
    """Best first: the place is the position."""
    scorer: str
    tier: str
    config_hash: str
    fold_version: str
    retrieved: Mapping[str, int]
    retrieved_count: int
    removed: Mapping[str, int]
    candidate_count: int
    """Candidates that passed the filters; those that are not among ``items`` were not selected."""
    failures: tuple[Failure, ...]
    features: LoggedFeatures | None = None
    """None = the request's values are not kept (``log_features`` of the placement)."""
    models: Mapping[str, str] = field(default_factory=dict[str, str])
    """Version of each model of the plan, by name: a rerun reads the same."""
    traces: tuple[ServedTrace, ...] = ()
    """Actions of the slate rules: items moved or dropped, and rules that could not hold."""
    source_names: tuple[str, ...] = ()
    """All that proposed something, in the order in which an item's are."""
    order: tuple[tuple[ServedItem, ...], ...] = ()
    """The slates after this one, for requests that continue it; none = the request did not ask for them."""
    fetched: Fetched = NOTHING_FETCHED
    """Columns of the query that are from outside systems."""
    rerunnable: bool = True
    """False = only fetched columns of the slate's items are kept, or no scores of a server, so a rerun would give
    another answer."""
    outside_scores: bytes = b""
    """Scores of all candidates that a server gave, as they are kept."""
    approximate: Mapping[str, Proposal] = field(default_factory=dict[str, Proposal])
    """Proposals that the same state need not give again, by source: a rerun takes them."""
    took_us: int | None = None
    """Microseconds from the request's admission to its slate; None = not measured."""


def encode_served(
    served: Served, item_ids: Sequence[str], traces: PackedTraces = NO_TRACES, given: PackedScores = NO_SCORES
) -> bytes:
    """Return the body of a served event.

    Args:
        served: The answer.
        item_ids: Of the slate, in its order, then of the continuation order.
        traces: Of its rules (``pack_traces``).
        given: Scores of its candidates that a server gave (``outside_scores``).

    Returns:
        At most 1.5 kB at 20 items with ids of up to 32 characters, and further bytes for the content of the request
        (context, exclude list, filter text, items to rank), fetched columns up to ``FETCHED_BYTES_MAX``, 4 bytes a
        candidate where a server scored them, 8 bytes an item that an index of vectors proposed, items of earlier slates
        of the page, 25 bytes an item of the continuation order, 40 bytes a model, rule actions on items outside of the
        slate, and an item and input 4 bytes where values are kept, 1 byte where bins are. Cost: about 20 µs.
    """
    query, candidates, chosen = served.query, served.candidates, served.selection.chosen
    count = len(chosen)
    scores, propensities, bits = _packed(served, chosen, served.selection.propensity)
    later, lengths = _later(served.order, served)
    logged = served.features if served.logs_features else None
    outside = pack_fetched(served.fetched, item_ids)
    body = ServedBody(
        version=RECORD_VERSION,
        log_position=served.log_position,
        request_id=query.request_id,
        placement=query.placement,
        user_id=query.user_id,
        session_id=query.session_id,
        slate_size=query.slate_size,
        now_ms=query.now_ms,
        seed=query.seed,
        items=query.items,
        exclude=query.exclude,
        filter=query.filter,
        context=dict(query.context),
        fetched=outside.columns,
        config_hash=served.config_hash,
        fold_version=served.fold_version,
        scorer=served.scorer,
        tier=served.tier,
        retrieved_count=served.retrieved_count,
        candidate_count=len(candidates),
        source_names=candidates.source_names,
        retrieved=dict(served.retrieved),
        removed=dict(served.removed),
        failures=tuple((each.component, each.reason) for each in served.failures[:FAILURES_MAX]),
        ids=tuple(item_ids[:count]),
        scores=scores,
        propensities=propensities,
        source_bits=bits,
        item_fields=own_fields(query.item_fields, served.fetched),
        feature_names=() if logged is None else logged.names,
        feature_values=b"" if logged is None else _bytes(logged.values[chosen]),
        models=dict(served.models),
        given=query.given, taken=query.taken, spare=query.spare,
        page_id=query.page_id, took_us=served.took_us,
        trace_rules=traces.rules,
        traces=traces.actions,
        trace_ids=traces.ids,
        order_max=query.order_max,
        order_ids=tuple(item_ids[count:]),
        order_scores=later[0], order_propensities=later[1], order_bits=later[2], order_lengths=lengths,
        continues=query.continues, turn=query.turn, first_position=query.first_position, fetched_ids=outside.ids,
        fetched_context=tuple(served.fetched.context), rerunnable=outside.is_whole and given.is_whole,
        outside_scores=given.content, proposed=_proposed(approximate_of(served)), bins=served.bins,
    )  # fmt: skip
    return encode_body(body)


_PACKED = np.dtype("<f4")
_ITEM_BYTES = 8
_CERTAIN = np.ones(1, dtype=_PACKED).tobytes()
_Packed: TypeAlias = tuple[bytes, bytes, tuple[int, ...]]
_NO_ORDER: _Packed = (b"", b"", ())


def _proposed(proposals: Mapping[str, Proposal]) -> dict[str, bytes]:
    """Return proposals as they are stored: the items, then their scores."""
    return {name: each.item_index.astype("<i4").tobytes() + _bytes(each.score) for name, each in proposals.items()}


def _approximate(told: Mapping[str, bytes]) -> dict[str, Proposal]:
    """Return stored proposals; the scores are the second half.

    Raises:
        ValueError: The bytes are no whole number of items.
    """
    found: dict[str, Proposal] = {}
    for name, each in told.items():
        if len(each) % _ITEM_BYTES:
            message = f"{len(each)} bytes of proposals of {name}"
            raise ValueError(message)
        half = len(each) // 2
        item_index = np.frombuffer(each[:half], dtype="<i4").astype(np.int32)
        found[name] = Proposal(item_index, np.frombuffer(each[half:], dtype=_PACKED).astype(np.float32))
    return found


def _packed(served: Served, rows: NDArray[np.intp], propensity: Score) -> _Packed:
    """Return scores, propensities (empty where all are 1) and source bits of some rows, as they are stored."""
    chances = _bytes(propensity)
    if chances == _CERTAIN * len(propensity):
        chances = b""
    return _bytes(served.score[rows]), chances, _bits(served.candidates, rows)


def _later(order: Order | None, served: Served) -> tuple[_Packed, tuple[int, ...]]:
    """Return the continuation order as it is stored, and the lengths of its slates."""
    return (_NO_ORDER, ()) if order is None else (_packed(served, order.chosen, order.propensity), order.lengths)


def _bytes(values: Score) -> bytes:
    """Return numbers as little-endian float32, row by row."""
    return values.astype(_PACKED, copy=False).tobytes()


def _bits(candidates: Candidates, rows: NDArray[np.intp]) -> tuple[int, ...]:
    """Return a number for each row, with a bit for each source that proposed it."""
    by_source = candidates.source_rank.T.take(rows, axis=1) >= 0
    eights = np.packbits(by_source, axis=0, bitorder="little")
    if len(eights) == 1:
        return tuple(eights[0].tolist())
    return tuple(int.from_bytes(each.tobytes(), "little") for each in eights.T)


STAYS = frozenset(
    (
        "version",
        "log_position",
        "placement",
        "slate_size",
        "now_ms",
        "seed",
        "config_hash",
        "fold_version",
        "scorer",
        "tier",
        "retrieved_count",
        "candidate_count",
        "source_names",
        "retrieved",
        "removed",
        "ids",
        "scores",
        "propensities",
        "source_bits",
        "models",
        "spare",
        "turn",
        "first_position",
        "bins",
    )
)
"""Fields that a redacted record keeps: names of the configuration and of the catalogue, the slate, and numbers that
do not depend on the user. All other fields are empty in it, also fields that are added later."""
_NOBODY = ServedBody(
    version=RECORD_VERSION,
    log_position=0,
    request_id="",
    placement="",
    user_id=None,
    session_id=None,
    slate_size=0,
    now_ms=0,
    seed=0,
    items=(),
    exclude=(),
    filter=None,
    context={},
    fetched={},
    config_hash="",
    fold_version="",
    scorer="",
    tier="",
    retrieved_count=0,
    candidate_count=0,
    source_names=(),
    retrieved={},
    removed={},
    failures=(),
    ids=(),
    scores=b"",
    propensities=b"",
    source_bits=(),
)
"""A record of nothing."""


def blank_served(body: bytes) -> bytes:
    """Return a redacted body, without user and request; slate, scores, propensities and counts are kept.

    Only ``STAYS`` is copied. The names of failed components are kept and their reasons are not: the text of an
    exception may contain anything. The record has no request id any more, so it is not shown as a request. A body of
    another version becomes empty.
    """
    try:
        told = decode_body(body)
    except ValueError:
        return b""
    stays = {name: getattr(told, name) for name in STAYS}
    failures = tuple((component, "") for component, _ in told.failures)
    return encode_body(msgspec.structs.replace(_NOBODY, **stays, failures=failures))


def decode_served(body: bytes) -> ServedRecord:
    """Return the record of a served event's body.

    Raises:
        NotFound: It is no record of this version.
    """
    try:
        told = decode_body(body)
        fetched, approximate = unpack_fetched(told), _approximate(told.proposed)
    except ValueError as error:
        message = f"no served record: {error}"
        raise NotFound(message) from error
    return ServedRecord(
        query=_query(told, fetched),
        log_position=LogPosition(told.log_position),
        items=_items(told.ids, told.scores, told.propensities, told.source_bits, told.source_names),
        scorer=told.scorer,
        tier=told.tier,
        config_hash=told.config_hash,
        fold_version=told.fold_version,
        retrieved=told.retrieved,
        retrieved_count=told.retrieved_count,
        removed=told.removed,
        candidate_count=told.candidate_count,
        failures=tuple(Failure(component, reason) for component, reason in told.failures),
        features=_features(told),
        models=told.models,
        traces=unpack_traces(told),
        source_names=told.source_names,
        order=_order(told),
        fetched=fetched,
        rerunnable=told.rerunnable,
        outside_scores=told.outside_scores,
        approximate=approximate,
        took_us=told.took_us,
    )


def read_then(record: ServedRecord, declared: Declarations) -> FeatureFrame | None:
    """Return the kept columns that were read; None = none were kept, or the block was left out as a whole.

    NaN of a feature that failed was not read.
    """
    kept, failed = record.features, {each.component for each in record.failures}
    if kept is None or FEATURES in failed:
        return None
    lost = lost_columns(failed, kept.names, declared)
    places = [place for place, name in enumerate(kept.names) if name not in lost]
    return FeatureFrame(tuple(kept.names[place] for place in places), kept.values[:, places])


def _features(told: ServedBody) -> LoggedFeatures | None:
    """Return the values that were kept."""
    if not told.feature_names:
        return None
    values = np.frombuffer(told.feature_values, dtype="<f4").astype(np.float32)
    return LoggedFeatures(told.feature_names, values.reshape(len(told.ids), len(told.feature_names)))


def _query(told: ServedBody, fetched: Fetched) -> Query:
    """Return the query of the record."""
    return Query(
        request_id=told.request_id,
        placement=told.placement,
        user_id=told.user_id,
        session_id=told.session_id,
        slate_size=told.slate_size,
        now_ms=TimestampMs(told.now_ms),
        seed=told.seed,
        items=told.items,
        exclude=told.exclude,
        filter=told.filter,
        context=told.context,
        item_fields=with_fetched(told.item_fields, fetched),
        given=told.given,
        taken=told.taken,
        spare=told.spare,
        page_id=told.page_id,
        order_max=told.order_max,
        continues=told.continues,
        turn=told.turn,
        first_position=told.first_position,
    )


def _items(
    ids: tuple[str, ...], scores: bytes, propensities: bytes, source_bits: tuple[int, ...], names: tuple[str, ...]
) -> tuple[ServedItem, ...]:
    """Return items as they were packed."""
    numbers = np.frombuffer(scores, dtype="<f4").tolist()
    chances = np.frombuffer(propensities, dtype="<f4").tolist() or [1.0] * len(ids)
    sources = [tuple(name for bit, name in enumerate(names) if bits >> bit & 1) for bits in source_bits]
    return tuple(map(ServedItem, ids, numbers, chances, sources))


def _order(told: ServedBody) -> tuple[tuple[ServedItem, ...], ...]:
    """Return the slates that come after one."""
    items = _items(told.order_ids, told.order_scores, told.order_propensities, told.order_bits, told.source_names)
    stops = list(accumulate(told.order_lengths))
    return tuple(items[start:stop] for start, stop in zip([0, *stops], stops, strict=False))
