"""Evaluation of a source, an item model or a ranker on tables, for programs: figures as an Arrow table.

The protocols are those of ``midstream evaluate next-item``, ``model`` and ``ranker``; options are the caller's or the
defaults, and nothing is written.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from midstream.app.evaluation.frames import SCHEMA, arrow_table, compared, known, table_interactions
from midstream.app.evaluation.item_models import JudgingOptions, item_data_of, judge_models
from midstream.app.evaluation.placements import EvaluationOptions, evaluate_next_item
from midstream.app.evaluation.rankers import RankerOptions, RankerReport, batch_of, judge_examples
from midstream.app.point_in_time.served_examples import examples_table
from midstream.core.errors import Invalid
from midstream.evaluation.data.session_data import of_rows
from midstream.evaluation.full_ranking import RankingReport
from midstream.evaluation.metrics.statistics import PairedDifference
from midstream.events.loose_arrow import pa, pt
from midstream.training.validation import ROW_K

_ARGUMENTS = {"--source": "source", "--protocol": "protocol", "model": "kind"}
"""Places of faults that have another name here than on the command line."""


def next_item_table(folder: Path, interactions: object, options: EvaluationOptions) -> Any:  # noqa: ANN401  no schema
    """Return the figures of a source on the last sessions; see ``midstream.evaluate_next_item``."""
    data = of_rows("interactions", table_interactions(folder, interactions, options).read, repeat=options.repeat)
    with TemporaryDirectory() as place, _arguments():
        report = evaluate_next_item(data, Path(place) / "settings.json", options, lambda _text: None)
    figures = {"HR": report.hit_rate, "MRR": report.mrr, "NDCG": report.ndcg, "precision": report.precision,
               "recall": report.recall}  # fmt: skip
    about = {"method": report.source, "questions": report.questions}
    rows = [{**about, "figure": f"{name}@{report.k}", **known(each)} for name, each in figures.items()]
    rows.append({**about, "figure": "coverage", "mean": report.coverage})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def model_table(folder: Path, interactions: object, kind: str, protocol: str, judging: JudgingOptions) -> Any:  # noqa: ANN401
    """Return the figures of an item model, or of two; see ``midstream.evaluate_model``."""
    with TemporaryDirectory() as place, _arguments():
        data = item_data_of(table_interactions(folder, interactions, EvaluationOptions()), protocol)
        # A settings file of the command is none of these data.
        judged = judge_models(data, kind, replace(judging, folder=Path(place)), lambda _text: None)
    less = [judged.differences, {}]
    rows = [row for report, apart in zip(judged.reports, less, strict=False) for row in _of_model(report, apart)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _of_model(report: RankingReport, less: dict[str, PairedDifference]) -> Iterator[dict[str, object]]:
    about = {"method": report.model, "questions": report.questions}
    for name, figure in report.metrics.items():
        yield {**about, "figure": name, **known(figure), **compared(less.get(name))}
    yield {**about, "figure": "coverage", "mean": report.coverage}
    for part in report.segments:
        for name, figure in part.metrics.items():
            yield {**about, "questions": part.questions, "figure": f"{name}, {part.name}", **known(figure)}


def ranker_table(folder: Path, examples: object, kind: str, options: RankerOptions) -> Any:  # noqa: ANN401  no schema
    """Return the figures of a ranker, or of two; see ``midstream.evaluate_ranker``."""
    table = examples_table(folder, "..", None) if examples is None else arrow_table(examples, "examples")
    at = table.schema.get_field_index("time")
    if at >= 0 and pt.is_timestamp(table.schema.field(at).type):
        # Frames have times of other units.
        table = table.set_column(at, "time", table.column(at).cast(pa.timestamp("ms", "UTC"), safe=False))
    with _arguments():
        report = judge_examples(batch_of(table), "examples", kind, options, folder)
    return pa.Table.from_pylist(list(_of_rankers(report)), schema=SCHEMA)


def _of_rankers(report: RankerReport) -> Iterator[dict[str, object]]:
    for at, each in enumerate(report.rankers):
        questions = int(each.metrics["requests"] or 0)
        about = {"method": each.kind if not at or each.kind != report.rankers[0].kind else f"{each.kind} (defaults)"}
        for name, value in each.metrics.items():
            if name in {"requests", "rows"}:
                continue
            is_compared = not at and name.removeprefix("sampled.") == f"NDCG@{ROW_K}"
            less = compared(report.ndcg_difference) if is_compared else {}
            yield {**about, "questions": questions, "figure": name, "mean": value, **less}


@contextmanager
def _arguments() -> Generator[None, None, None]:
    """Let faults name the arguments of Python."""
    try:
        yield
    except Invalid as error:
        raise Invalid(
            tuple(replace(each, where=_ARGUMENTS.get(each.where, each.where)) for each in error.faults)
        ) from error
