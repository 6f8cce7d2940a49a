"""Evaluation of a folder's configuration on a table of interactions, for programs: figures as an Arrow table."""

from collections.abc import Mapping
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any, cast

import numpy as np

from midstream.app.config.schema import Config
from midstream.app.evaluation.placements import GAP_MS, EvaluationOptions, columns_of, evaluate_replay
from midstream.app.export.events import open_selected
from midstream.app.opening import config_of
from midstream.core.errors import Fault, Invalid
from midstream.evaluation.data.interactions import InteractionData, InteractionTable, by_time, with_sessions
from midstream.evaluation.data.tables import interactions_of_table
from midstream.evaluation.metrics.statistics import Estimate, PairedDifference
from midstream.evaluation.replay import MethodFigures
from midstream.events.loose_arrow import pa

SCHEMA: Any = pa.schema(
    [
        *((name, pa.string()) for name in ("method", "figure")),
        *((name, pa.float64()) for name in ("mean", "low", "high")),
        *((name, pa.float64()) for name in ("difference", "difference_low", "difference_high", "p_value")),
        ("questions", pa.int64()),
    ]
)
_PAGE = "/docs/evaluation.md"
_OPTIONAL = {"session_id": "session_id", "user_id": "user_id", "type": "type"}
"""Columns that are read where the table has them."""


def evaluation_table(
    folder: str | Path,
    interactions: object,
    options: EvaluationOptions,
    config: Config | None,
) -> Any:  # noqa: ANN401  the stubs know no schema
    """Return the figures of a replay; see ``midstream.evaluate``."""
    root = Path(folder)
    used = config or config_of(root)
    report, _ = evaluate_replay(
        table_interactions(root, interactions, options), used, root, options, lambda _rows: None
    )
    rows = [row for each in report.methods for row in _rows(each, report.k, report.questions)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def table_interactions(folder: Path, interactions: object, options: EvaluationOptions) -> InteractionData:
    """Return the interactions of a table, or of the folder's log where there is none, with sessions.

    Raises:
        Invalid: It is no table; and when they are read, a column is missing, or a time cannot be read.
    """
    table, named = _table_of(folder, interactions)

    def read() -> InteractionTable:
        told = {name: column for name, column in {**_OPTIONAL, **named}.items() if column in table.column_names}
        told |= options.columns
        columns = columns_of(EvaluationOptions(told, options.time_unit), ("columns.", "time_unit"))
        rows = by_time(interactions_of_table(table, columns, "interactions"))
        return in_sessions(rows) if columns.session else with_sessions(rows, GAP_MS)

    return InteractionData("interactions", read)


def in_sessions(rows: InteractionTable) -> InteractionTable:
    """Return rows by time, those without a session in one for each user and silence."""
    has_one = rows.session_id != ""
    if has_one.all():
        return rows
    parts = (rows.take(np.flatnonzero(has_one)), with_sessions(rows.take(np.flatnonzero(~has_one)), GAP_MS))
    joined = replace(
        rows,
        user_id=np.concatenate([part.user_id for part in parts]),
        session_id=np.concatenate([part.session_id for part in parts]),
        item_id=np.concatenate([part.item_id for part in parts]),
        action=np.concatenate([part.action for part in parts]),
        time_ms=np.concatenate([part.time_ms for part in parts]),
    )
    return by_time(joined)


def _table_of(folder: Path, interactions: object) -> tuple[Any, Mapping[str, str]]:
    """Return a table, and the columns of it that have names of their own."""
    if interactions is None:
        return open_selected(folder, None, None, ["interaction"]).read_all(), {"time": "log_time"}
    return arrow_table(interactions, "interactions"), {}


def arrow_table(frame: object, where: str) -> Any:  # noqa: ANN401  the stubs know no schema
    """Return a table of Arrow of a frame of any library.

    Raises:
        Invalid: It is none; ``where`` names the argument.
    """
    try:
        return pa.table(cast("Any", frame))
    except (TypeError, ValueError) as error:
        came = f"{type(frame).__name__} came."
        raise Invalid((Fault(where, came, "A table of Arrow, or a frame.", _PAGE),)) from error


def _rows(figures: MethodFigures, k: int, questions: int) -> list[dict[str, object]]:
    about = {"method": figures.name, "questions": questions}
    return [
        {**about, "figure": f"HR@{k}", **known(figures.hit_rate), **compared(figures.hit_rate_difference)},
        {**about, "figure": f"MRR@{k}", **known(figures.mrr)},
    ]


def known(figure: Estimate) -> dict[str, object]:
    """Return a mean and its interval by column, null where nothing was asked."""
    if isnan(figure.mean):
        return {}
    return {"mean": figure.mean, "low": figure.low, "high": figure.high}


def compared(less: PairedDifference | None) -> dict[str, object]:
    """Return a difference by column; nothing of none."""
    if less is None:
        return {}
    p_value = less.p_value if less.p_value_corrected is None else less.p_value_corrected
    return {"difference": less.mean, "difference_low": less.low, "difference_high": less.high, "p_value": p_value}
