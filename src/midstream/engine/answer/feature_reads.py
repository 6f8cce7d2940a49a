"""Feature reads for a caller, and the status of each feature: completeness, freshness, memory."""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import msgspec
import numpy as np

from midstream.core.errors import Fault, FeatureFailed, RequestInvalid
from midstream.core.nearest import nearest
from midstream.core.types import Candidates, Models, Query, TimestampMs
from midstream.engine.requests.schema import FEATURE_ITEMS_MAX, FeatureAsk
from midstream.engine.types import FeatureRead, FeatureView, LiveColumn, TableView
from midstream.features.declarations import NONE, Declarations
from midstream.features.kinds.kinds import AnyFeature, scope_of
from midstream.features.readers.external import External, ExternalTable
from midstream.monitoring.feature_values import FeatureValues
from midstream.monitoring.metrics import Metrics
from midstream.ranking.frame import read_or_stop
from midstream.ranking.plan import Plan
from midstream.state.cells.layout import BUCKETS
from midstream.state.expressions.program import Cell
from midstream.state.fold import Fold

LIVE_COLUMNS_MAX = 8
"""Columns of a view that are looked at among served items: 15 ms, on the thread that answers."""
WAIT_S_MAX = 0.05
"""How long a read waits for a log position: the deadline of a placement."""
PAGE = "/docs/features.md"


def read_of(
    fold: Fold, plans: Mapping[str, Plan], ask: FeatureAsk, now_ms: TimestampMs, seed: int, metrics: Metrics
) -> FeatureRead:
    """Return the requested values, as of now; its token is empty.

    Raises:
        RequestInvalid: There is no feature of a name, or there are too many items.
        FeatureFailed: One of the features cannot be read, which is counted; the others can.
    """
    declarations = declared_by(plans)
    require_readable(declarations, ask)
    names: tuple[str, ...] = ()
    values = np.empty((len(ask.items), 0), dtype=np.float32)
    if declarations.features:
        block = declarations.block(tuple(dict.fromkeys(ask.features)) or declarations.names)
        moment = fold.moment(_query(ask, now_ms, seed), Models({}))
        try:
            names, values = block.names, read_or_stop(block, moment, _rows(fold, ask), declarations)
        except FeatureFailed as error:
            for part in error.parts:
                metrics.failures.of(part).inc()
            raise
    age_ms = max(0, now_ms - fold.log_time_ms) if fold.log_time_ms else 0
    chosen = tuple(dict.fromkeys(ask.features)) or declarations.names
    ages_ms = {name: _age_ms(fold, declarations.program(name).cells, now_ms) for name in chosen}
    return FeatureRead(names, ask.items, values, "", None, age_ms, ages_ms)


def declared_by(plans: Mapping[str, Plan]) -> Declarations:
    """Return the features of the configuration that plans were made of."""
    return next((plan.declared for plan in plans.values()), NONE)


def require_readable(declarations: Declarations, ask: FeatureAsk) -> None:
    """Refuse a read that names a feature that is not declared, or too many items.

    Raises:
        RequestInvalid: It does; every fault is named.
    """
    faults: list[Fault] = []
    known, unknown = declarations.names, list[int]()
    if len(ask.items) > FEATURE_ITEMS_MAX:
        faults.append(Fault("/items", f"{len(ask.items)} items came.", f"At most {FEATURE_ITEMS_MAX}.", PAGE))
    for number, name in enumerate(ask.features):
        if name not in known:
            came = f'"{name[:64]}" is not a declared feature.{nearest(name, known)}'
            right = f"Features: {', '.join(known)}" if known else "One of [[features]]; there is none."
            if unknown:
                right = f"As for /features/{unknown[0]}."
            unknown.append(number)
            faults.append(Fault(f"/features/{number}", came, right, PAGE))
    if faults:
        raise RequestInvalid(tuple(faults))


def views_of(fold: Fold, plans: Mapping[str, Plan], now_ms: int) -> list[FeatureView]:
    """Return the status of each feature, in the order of the declarations."""
    return [_view(fold, plans, each, now_ms) for each in declared_by(plans).features]


def view_of(fold: Fold, plans: Mapping[str, Plan], name: str, now_ms: int) -> FeatureView | None:
    """Return the status of one feature, None = it is not declared."""
    found = (each for each in declared_by(plans).features if each.name == name)
    return next((_view(fold, plans, each, now_ms) for each in found), None)


def complete_since(fold: Fold, cells: Collection[Cell]) -> TimestampMs | None:
    """Return the log time from which cells count everything, None = they miss nothing.

    They miss nothing if history was never cut, and once their windows are shorter than the counted time: a window
    reaches a bucket, a twelfth, beyond its length.
    """
    counted = fold.counted
    if counted.begin == 0 or not cells:
        return None
    since_ms = fold.log_time_ms if counted.since_ms is None else counted.since_ms
    held_ms = fold.log_time_ms - since_ms
    if all(cell.window_ms and cell.window_ms + -(-cell.window_ms // BUCKETS) < held_ms for cell in cells):
        return None
    return TimestampMs(since_ms)


def _view(fold: Fold, plans: Mapping[str, Plan], feature: AnyFeature, now_ms: int) -> FeatureView:
    declarations = declared_by(plans)
    program = declarations.program(feature.name)
    tables = {each.name: each for each in declarations.tables}
    table = tables.get(feature.table) if isinstance(feature, External) else None
    age_ms = _age_ms(fold, program.cells, now_ms)
    bytes_now, bytes_max = fold.cells.share_of(program.cells)
    if table is not None:
        bytes_now, bytes_max = bytes_now + table.versions.byte_count, bytes_max + table.bytes_max
    return FeatureView(
        name=feature.name,
        kind=str(feature.__struct_config__.tag),
        scope=scope_of(feature) or ("" if table is None else table.entity),
        columns=program.names,
        used_by=tuple(sorted({plan.name for plan in plans.values() if set(program.names) <= _columns(plan)})),
        declaration=msgspec.json.decode(msgspec.json.encode(feature, enc_hook=str)),
        last_counted=None if age_ms is None else TimestampMs(now_ms - age_ms),
        age_ms=age_ms,
        complete_since=complete_since(fold, program.cells),
        bytes_now=round(bytes_now),
        bytes_max=round(bytes_max),
        table=None if table is None else _table_view(table),
    )


def _table_view(table: ExternalTable) -> TableView:
    newest = None if table.newest_ms < 0 else TimestampMs(table.newest_ms)
    size = table.versions.byte_count
    return TableView(table.name, table.sha256, table.rows, table.incomplete_rows, newest, size)


def with_live(view: FeatureView | None, values: FeatureValues) -> FeatureView | None:
    """Return the view with statistics of its first columns among served items. Cost: 2 ms a column."""
    if view is None:
        return None
    live: dict[str, LiveColumn] = {}
    for name in view.columns[:LIVE_COLUMNS_MAX]:
        column, drift = values.column(name), values.drift(name)
        if column is not None and drift is not None:
            far = (drift.psi, drift.ks.statistic, drift.ks.p_value, drift.null_ratio_then)
            psi, ks, p_value, null_then = (None if math.isnan(each) else each for each in far)
            live[name] = LiveColumn(
                known=column.known,
                null_ratio=column.null_ratio,
                mean=column.mean,
                deviation=column.deviation,
                quantiles=column.quantiles,
                distinct=column.distinct,
                psi=psi,
                ks=ks,
                ks_p_value=p_value,
                baseline_null_ratio=null_then,
            )
    return replace(view, live=live)


def _age_ms(fold: Fold, cells: Collection[Cell], now_ms: int) -> int | None:
    """Return how long ago cells counted their last event, by log time; None = they counted none."""
    last_ms = fold.counted.last_ms({name for cell in cells for name in cell.actions})
    return max(0, now_ms - last_ms) if last_ms else None


def _columns(plan: Plan) -> set[str]:
    return {name for block in plan.features for name in block.names}


def _query(ask: FeatureAsk, now_ms: TimestampMs, seed: int) -> Query:
    return Query(
        request_id="",
        placement="",
        user_id=ask.user_id,
        session_id=ask.session_id,
        slate_size=len(ask.items),
        now_ms=now_ms,
        seed=seed,
        context=ask.context,
        item_fields=ask.item_fields,
    )


def _rows(fold: Fold, ask: FeatureAsk) -> Candidates:
    """Return the items as candidates without a source; an unknown item is -1."""
    item_index = fold.vocabulary.item_indices(ask.items)
    nothing = (len(item_index), 0)
    return Candidates(item_index, (), np.empty(nothing, np.float32), np.empty(nothing, np.int32))
