"""Training examples from replay, for a log without served slates: candidates of a placement before each act.

At each interaction, in the order of the log, a placement's sources and filters run on the state of that moment. Its
candidates are one group, and the item of the act is its one label; a group without that item teaches nothing about
ranking and is dropped, and counted. It is not known what was shown, so neither is what was passed over: negatives are
items that could have been shown.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from midstream.app.opening import Outside, config_of
from midstream.app.point_in_time.api import noting, statistics_path
from midstream.app.point_in_time.files import table_format, write_tables
from midstream.app.point_in_time.first_attributes import FirstAttributes, read_first_attributes
from midstream.app.point_in_time.lookup import TIME, Past
from midstream.app.point_in_time.served_requests import ServedRange, served_range
from midstream.app.wiring import plans
from midstream.core.errors import Fault, Invalid, NotFound
from midstream.core.kinds import Kind
from midstream.core.nearest import nearest
from midstream.core.types import Candidates, Index, LogPosition, Moment, Query, Score, TimestampMs
from midstream.engine.child_process import Notify, nobody
from midstream.engine.ingest.log_reader import batches
from midstream.evaluation.metrics.feature_statistics import StreamingStatistics
from midstream.events.loose_arrow import Batch, Schema, pa
from midstream.events.schema import Event, event_at
from midstream.features.as_of import FoldCursor
from midstream.features.declared import DeclaredFeatures
from midstream.features.kinds.kinds import impression_features
from midstream.ranking.boundary import Account
from midstream.ranking.candidate_generation import scored_candidates
from midstream.ranking.frame import ranks_of, read_or_stop, take
from midstream.ranking.plan import Plan, ReadsModels
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.scorers.blend import Blend
from midstream.state.ids.event_ids import EventAdmission, EventIds

PAGE = "/docs/feedback.md"
PLACE = "blend.place"
"""Column of the place in the order of the blend; no feature has a dot in its name."""
ROWS = 65_536
"""Of a batch that is written, or one group more."""


@dataclass(frozen=True, slots=True)
class ReplayWanted:
    """What is replayed."""

    placement: str
    acts: str = ".."
    """``FROM..TO``: log positions or times of the acts that are asked about."""
    labels: tuple[str, ...] = ()
    """Interactions that are labels; none = all with a weight above 0."""
    candidates_max: int = 100
    """Of a group: the label, and others drawn from the rest."""
    groups_max: int | None = None
    """Ends after so many; None = at the last act."""
    seed: int = 0
    """Decides which are drawn."""
    first_attributes: bool = True
    """Items that the catalogue named later only have the attributes that it named first."""


@dataclass(slots=True)
class ReplayCounts:
    """Counts of a replay."""

    acts: int = 0
    groups: int = 0
    rows: int = 0
    failures: int = 0
    """Parts of the plan that did not answer, over all acts."""
    erased: int = 0
    """Acts of erased users, which are left out."""
    taken_back: int = 0
    """Acts that were taken back, which are left out."""
    first_attributes: int = 0
    """Candidates of groups whose attributes are those that the catalogue named first, later than the act."""
    features: tuple[str, ...] = ()
    """Names of those that count impressions: those that led to an act would tell which candidates were on screen."""
    sources: tuple[str, ...] = ()
    """Names of those that answer with a model. One of now has learned the acts that it would be asked about."""

    @property
    def dropped_share(self) -> float:
        """Share of the acts whose item was not among the candidates; NaN = there was no act."""
        return 1.0 - self.groups / self.acts if self.acts else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class CandidateGroup:
    """The candidates of one act, the item that was acted on among them."""

    event: Event
    log_position: int
    item_ids: list[str]
    label: Index
    weight: Score
    """1 for the label and where all candidates are kept; of drawn ones for how many each stands."""
    values: Score
    """Of the features, (n, features)."""
    said: Score
    """What sources say, in the order of ``source_columns``, NaN = nothing."""
    place: Index
    """In the order of the sources' blend, which answers without a model, 0 = first; among these candidates."""


def write_replay_examples(
    folder: Path, wanted: ReplayWanted, out: Path, named: str | None = None, notify: Notify = nobody
) -> ReplayCounts:
    """Write the groups of a replay to a file, which appears when it is whole.

    Raises:
        NotFound: There is no such placement.
        Invalid: No feature is declared, a label is no interaction, or the range or format is none.
        FeatureFailed: A feature cannot be read.
        LogDamaged: The log cannot be trusted.
    """
    chosen = table_format(out, named)
    past = Past(folder, config_of(folder))
    declared = past.declared
    counts = ReplayCounts(features=impression_features(declared.features, declared.columns()))
    block = past.block([name for name in declared.names if name not in counts.features])
    groups = replay_groups(past, folder, block, wanted, counts, notify)
    schema = _schema_of(block, source_columns(replayed_plan(past, folder, wanted.placement)[0]))
    gathered = StreamingStatistics(block.names)
    counts.rows = write_tables(out, chosen, schema, noting(_tables(groups, schema), gathered))
    gathered.statistics().write(statistics_path(out))
    return counts


def replay_groups(
    past: Past,
    folder: Path,
    block: DeclaredFeatures,
    wanted: ReplayWanted,
    counts: ReplayCounts,
    notify: Notify = nobody,
) -> Iterator[CandidateGroup]:
    """Return the groups of a replay as they come; ``counts`` is written meanwhile.

    Raises:
        NotFound: There is no such placement.
        Invalid: A label is no interaction, or the range is none.
        FeatureFailed: A feature cannot be read.
        LogDamaged: The log cannot be trusted.
    """
    plan, counts.sources = replayed_plan(past, folder, wanted.placement)
    types = past.config.events.types
    for name in wanted.labels:
        if name not in types:
            came = f'"{name}" is not a configured interaction.{nearest(name, types)}'
            raise Invalid((Fault("--label", came, ", ".join(types), PAGE),))
    labels = wanted.labels or tuple(name for name, each in types.items() if each.weight > 0)
    bounds = served_range(wanted.acts, Outside().clock(), "FROM..TO")
    cursor = past.cursor(LogPosition(max(bounds.first, past.log.begin)), notify, everything=True)
    acts = _acts(past, bounds, frozenset(labels), counts)
    first = read_first_attributes(past) if wanted.first_attributes else FirstAttributes({})
    return _groups(cursor, acts, (plan, block, first), wanted, counts)


def replayed_plan(past: Past, folder: Path, placement: str) -> tuple[Plan, tuple[str, ...]]:
    """Return the plan of a placement less its sources that read models, and the names of these.

    No version was in service before an act that had not learned it, or none is known to have been. So of such a source
    nothing would be known in any row, and in service it is: a ranker must not learn from it that it says nothing.

    Raises:
        NotFound: There is no such placement.
    """
    found = plans(past.config, folder, settings=past.eras.current)
    if placement not in found:
        message = f"placement {placement!r} is not configured.{nearest(placement, found)}"
        raise NotFound(message)
    plan = found[placement]
    left = tuple(each.name for each in plan.sources if isinstance(each, ReadsModels) and each.model_names)
    return replace(plan, sources=tuple(each for each in plan.sources if each.name not in left)), left


def _acts(past: Past, bounds: ServedRange, labels: frozenset[str], counts: ReplayCounts) -> Iterator[tuple[int, Event]]:
    """Yield each act that is a label, once, with its log position; those erased or taken back are counted."""
    log = past.log
    hidden, taken_back = log.hidden(past.config), frozenset(log.acts_taken_back.tolist())
    ids = EventIds(past.config.limits.event_ids_max, log.id_key)
    stop = log.end if bounds.stop is None else min(log.end, bounds.stop)
    for first, batch in batches(log.read, log.begin, LogPosition(max(stop, log.begin))):
        times = batch.rows["log_time_ms"].astype(np.int64)
        is_act = (ids.admit(ids.fingerprints(batch), times) == EventAdmission.NEW) & (
            batch.rows["kind"] == Kind.INTERACTION
        )
        is_act &= first + np.arange(len(batch)) >= bounds.first
        is_act &= (times >= (bounds.since_ms or 0)) & (times < (bounds.until_ms or np.iinfo(np.int64).max))
        for index in np.flatnonzero(is_act).tolist():
            event = event_at(batch, index)
            if event.action not in labels or not event.item_id:
                continue
            if hidden(event, first + index):
                counts.erased += 1
            elif first + index in taken_back:
                counts.taken_back += 1
            else:
                yield first + index, event


def _groups(
    cursor: FoldCursor,
    acts: Iterator[tuple[int, Event]],
    reads: tuple[Plan, DeclaredFeatures, FirstAttributes],
    wanted: ReplayWanted,
    counts: ReplayCounts,
) -> Iterator[CandidateGroup]:
    """Yield the group of each act whose item is among the candidates."""
    plan, block, first = reads
    for position, event in acts:
        if counts.groups == wanted.groups_max:
            return
        cursor.to_position(LogPosition(position))
        counts.acts += 1
        fold = cursor.fold
        first.put(fold)
        moment = fold.moment(_query(event, position, wanted), plan.models)
        run = PlanRun(plan, moment, Account())
        candidates = scored_candidates(run)
        counts.failures += len(run.account.failures)
        item = fold.vocabulary.item_index(event.item_id)
        if item < 0 or item not in candidates.item_index:
            continue
        counts.groups += 1
        keep = _drawn(candidates.item_index, item, moment, wanted)
        candidates = take(candidates, keep)
        counts.first_attributes += first.count(fold, candidates.item_index)
        ids = fold.vocabulary.item_ids(candidates.item_index)
        label = (candidates.item_index == item).astype(np.int32)
        stands_for = (len(keep) - 1) / max(1, len(label) - 1)
        weight = np.where(label > 0, 1.0, stands_for).astype(np.float32)
        values = read_or_stop(block, moment, candidates, plan.declared)
        place, said = _places(plan, candidates), said_by(plan, candidates)
        yield CandidateGroup(event, position, list(ids), label, weight, values, said, place)


def source_columns(plan: Plan) -> tuple[str, ...]:
    """Return the columns that a plan's sources give a scorer: ``score.<source>`` of all, then ``rank.<source>``."""
    names = [source.name for source in (*plan.sources, *plan.floor)]
    return (*(f"score.{name}" for name in names), *(f"rank.{name}" for name in names))


def said_by(plan: Plan, candidates: Candidates) -> Score:
    """Return those columns, (n, columns), NaN where a source did not propose an item, or did not answer."""
    names = [source.name for source in (*plan.sources, *plan.floor)]
    found = np.full((len(candidates), 2 * len(names)), np.nan, dtype=np.float32)
    for at, name in enumerate(names):
        if name in candidates.source_names:
            column = candidates.source_names.index(name)
            rank = candidates.source_rank[:, column]
            found[:, at] = candidates.source_score[:, column]
            found[:, len(names) + at] = np.where(rank < 0, np.nan, rank)
    return found


def _places(plan: Plan, candidates: Candidates) -> Index:
    """Return the place of each candidate in the order of the blend, equal ones as they were proposed."""
    blend = next(each for each in plan.scorers if isinstance(each, Blend))
    order = np.argsort(-blend.sum_of(candidates.source_names, ranks_of(candidates)), kind="stable")
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return place


def _query(event: Event, position: int, wanted: ReplayWanted) -> Query:
    return Query(
        request_id="",
        placement=wanted.placement,
        user_id=event.user_id or None,
        session_id=event.session_id or None,
        slate_size=wanted.candidates_max,
        now_ms=TimestampMs(event.log_time_ms),
        seed=position,
    )


def _drawn(
    item_index: Index, item: int, moment: Moment, wanted: ReplayWanted
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return True for the label and for those that are drawn beside it, each as likely."""
    keep = np.ones(len(item_index), dtype=np.bool_)
    if len(item_index) > wanted.candidates_max:
        others = np.flatnonzero(item_index != item)
        rng = np.random.default_rng((wanted.seed, moment.query.seed))
        keep[others] = False
        keep[rng.choice(others, wanted.candidates_max - 1, replace=False)] = True
    return keep


def _schema_of(block: DeclaredFeatures, said: tuple[str, ...]) -> Schema:
    own = [
        ("group", pa.int64()),
        ("log_position", pa.int64()),
        ("time", TIME),
        ("user_id", pa.string()),
        ("session_id", pa.string()),
        ("action", pa.string()),
        ("item_id", pa.string()),
        ("label", pa.int32()),
        (PLACE, pa.int32()),
    ]
    return pa.schema([*own, *((name, pa.float32()) for name in (*block.names, *said))])


def _tables(groups: Iterator[CandidateGroup], schema: Schema) -> Iterator[Batch]:
    """Yield groups as tables of about ``ROWS`` rows."""
    held: list[CandidateGroup] = []
    rows, first = 0, 0
    for group in groups:
        held.append(group)
        rows += len(group.item_ids)
        if rows >= ROWS:
            yield _table(held, first, schema)
            held, rows, first = [], 0, first + len(held)
    if held:
        yield _table(held, first, schema)


def _table(groups: list[CandidateGroup], first: int, schema: Schema) -> Batch:
    counts = [len(each.item_ids) for each in groups]
    number = pa.array(np.repeat(np.arange(len(groups)), counts))
    values = np.ascontiguousarray(np.concatenate([np.hstack((each.values, each.said)) for each in groups]).T)
    events = [each.event for each in groups]
    columns = [
        pa.array(np.repeat(np.arange(first, first + len(groups)), counts)),
        pa.array([each.log_position for each in groups], pa.int64()).take(number),
        pa.array([each.log_time_ms for each in events], pa.int64()).cast(TIME).take(number),
        pa.array([each.user_id or None for each in events], pa.string()).take(number),
        pa.array([each.session_id or None for each in events], pa.string()).take(number),
        pa.array([each.action for each in events], pa.string()).take(number),
        pa.array([item for each in groups for item in each.item_ids], pa.string()),
        pa.array(np.concatenate([each.label for each in groups])),
        pa.array(np.concatenate([each.place for each in groups])),
        *(pa.array(column) for column in values),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
