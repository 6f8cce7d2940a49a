"""``midstream evaluate``: accuracy of sources, placements and models on a file of interactions or of examples."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, UNKNOWN, AsJson, Folder, out, print_json, say, table_of
from midstream.cli.data.import_file import Map
from midstream.cli.help import CommandHelp, GroupHelp
from midstream.cli.progress import progress, working

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from midstream.app.config.schema import Config
    from midstream.app.evaluation.item_models import JudgedModels
    from midstream.app.evaluation.placements import EvaluationOptions
    from midstream.app.evaluation.rankers import RankerReport
    from midstream.evaluation.blend_report import BlendReport
    from midstream.evaluation.data.interactions import InteractionData
    from midstream.evaluation.learning import LearningReport
    from midstream.evaluation.next_item import NextItemReport
    from midstream.evaluation.replay import ReplayReport

    Report = TypeVar("Report", NextItemReport, ReplayReport, LearningReport, BlendReport, JudgedModels, RankerReport)
    Fit = Callable[[Config, Path, EvaluationOptions, Callable[[str], None]], BlendReport]

app = typer.Typer(
    cls=GroupHelp,
    help="Measure the accuracy of sources and models on a file.",
    epilog="""
    midstream evaluate replay clicks.csv --time-format iso
    midstream evaluate model clicks.csv ease --against popular
    """,
)
Data = Annotated[str, typer.Argument(metavar="FILE", help="CSV, TSV or Parquet file of interactions.")]
Settings = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File with the chosen options; it is written if it does not exist."),
]
TimeFormat = Annotated[str, typer.Option(metavar="FORMAT", help="Format of times: ms, s or iso.")]
Repeat = Annotated[bool, typer.Option("--repeat", help="Allow the last item of a session to be recommended again.")]
Rows = Annotated[int | None, typer.Option(metavar="N", min=1, help="Read only the first N rows.")]


SourceName = Annotated[
    str, typer.Option("--source", metavar="SOURCE", help="Source to evaluate: session_knn or covisitation.")
]
FitBlend = Annotated[
    bool,
    typer.Option("--fit-blend", help="Fit the source weights of a placement and write them to midstream.toml."),
]
Placement = Annotated[str, typer.Option(metavar="NAME", help="Placement of --fit-blend.")]


@app.command(
    "next-item",
    cls=CommandHelp,
    epilog="""
    midstream evaluate next-item clicks.csv --map item_id=product
      Prints HR@20 and MRR@20 of session_knn on the last sessions.
    midstream evaluate next-item clicks.csv --source covisitation
    """,
)
def next_item_command(
    file: Data,
    settings: Settings = None,
    columns: Map = None,
    time_format: TimeFormat = "ms",
    repeat: Repeat = False,
    source: SourceName = "session_knn",
    fit_blend: FitBlend = False,
    placement: Placement = "default",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Evaluate next-item prediction of one source.

    The source learns all but the last sessions and predicts each next item of these. The options of the source are
    chosen on a validation part. HR@20, MRR@20 and NDCG@20 are printed.
    """
    from midstream.app.evaluation.placements import EvaluationOptions, evaluate_next_item, fit_on_next_item, sessions_of
    from midstream.app.mapping.columns import parse_pairs

    named = parse_pairs(columns or (), "--map")
    options = EvaluationOptions(named, time_format, repeat, None, placement, source, settings)
    data = sessions_of(file, options)
    if fit_blend:
        run_fit(partial(fit_on_next_item, data), folder, options, as_json=as_json)
        return
    with working("reading") as say_step:
        report = evaluate_next_item(data, settings, options, say_step)
    show(report, print_next_item, as_json=as_json)


@app.command(
    "replay",
    cls=CommandHelp,
    epilog="""
    midstream evaluate replay clicks.csv --rows 100000 --folder shop
    """,
)
def replay_command(
    file: Data,
    rows: Rows = None,
    columns: Map = None,
    time_format: TimeFormat = "ms",
    repeat: Repeat = False,
    fit_blend: FitBlend = False,
    placement: Placement = "default",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Evaluate sources and placements by test-then-learn.

    Each interaction is predicted and then learned, in time order. Popularity, session_knn, covisitation and every
    placement of midstream.toml are compared.
    """
    from midstream.app.evaluation.placements import EvaluationOptions, fit_on_replay, interactions_of
    from midstream.app.mapping.columns import parse_pairs

    options = EvaluationOptions(parse_pairs(columns or (), "--map"), time_format, repeat, rows, placement)
    data = interactions_of(file, options)
    if fit_blend:
        run_fit(partial(fit_on_replay, data), folder, options, as_json=as_json)
        return
    run_replay(data, folder, options, as_json=as_json)


@app.command(
    "learning",
    cls=CommandHelp,
    epilog="""
    midstream evaluate learning clicks.csv --windows 10
    """,
)
def learning_command(
    file: Data,
    windows: Annotated[
        int, typer.Option(metavar="N", min=1, max=100, help="Number of updates of the periodic state.")
    ] = 5,
    rows: Rows = None,
    columns: Map = None,
    time_format: TimeFormat = "ms",
    repeat: Repeat = False,
    source: Annotated[
        str,
        typer.Option("--source", metavar="SOURCE", help="Source to evaluate: session_knn, covisitation or popular."),
    ] = "session_knn",
    as_json: AsJson = False,
) -> None:
    """Measure the gain of online learning over a frozen state.

    The second half of the data is predicted by three states: one that is frozen, one that is updated periodically, and
    one that learns each interaction.
    """
    from midstream.app.evaluation.placements import EvaluationOptions, evaluate_learning, interactions_of
    from midstream.app.mapping.columns import parse_pairs

    options = EvaluationOptions(parse_pairs(columns or (), "--map"), time_format, repeat, rows, source=source)
    with progress() as bar:
        task = bar.add_task("rows", total=None if rows is None else 3 * rows)
        report = evaluate_learning(
            interactions_of(file, options), options, windows, lambda done: bar.advance(task, done)
        )
    show(report, print_learning, as_json=as_json)


@app.command(
    "model",
    cls=CommandHelp,
    epilog="""
    midstream evaluate model clicks.csv ease --option regularization=200
    midstream evaluate model clicks.csv ease --against als --search 600
    """,
)
def model_command(
    file: Data,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Kind of item model, such as ease, als or popular.")],
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Option of the model; repeatable.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="KIND", help="Second kind, compared on the same requests.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(metavar="PROTOCOL", help="Split of data with times: temporal or rolling.")
    ] = "temporal",
    k: Annotated[int, typer.Option("-k", metavar="K", min=1, max=1000, help="Length of the ranked lists.")] = 20,
    search: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Time for a search of options on the validation part.")
    ] = 0,
    columns: Map = None,
    time_format: TimeFormat = "ms",
    repeat: Repeat = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Evaluate an item model, or compare two.

    The model ranks all items for each user of the test part. Metrics are printed with their intervals, also for new
    users and for rare items. Two models are compared by a paired test.
    """
    from midstream.app.evaluation.item_models import JudgingOptions, item_data_of, judge_models
    from midstream.app.evaluation.placements import EvaluationOptions, interactions_of
    from midstream.app.mapping.columns import parse_pairs

    named = parse_pairs(option or (), "--option")
    options = JudgingOptions(named, against, k, search_seconds=search, folder=folder)
    reading = EvaluationOptions(parse_pairs(columns or (), "--map"), time_format, repeat)
    data = item_data_of(interactions_of(file, reading), protocol, repeat=repeat)
    with working("reading") as say_step:
        report = judge_models(data, kind, options, say_step)
    show(report, print_models, as_json=as_json)


@app.command(
    "ranker",
    cls=CommandHelp,
    epilog="""
    midstream evaluate ranker training.parquet trees --against ftrl
    """,
)
def ranker_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Parquet or Arrow file of midstream examples.")],
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Kind of ranker, such as trees or ftrl.")],
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Option of the ranker; repeatable.")
    ] = None,
    against: Annotated[str | None, typer.Option(metavar="KIND", help="Second kind, compared on the same rows.")] = None,
    placement: Annotated[str, typer.Option(metavar="NAME", help="Only slates of this placement; default: all.")] = "",
    share: Annotated[
        float,
        typer.Option(metavar="X", min=0.01, max=0.9, help="Share of the newest requests, which are the test part."),
    ] = 0.2,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Evaluate a ranker on training examples, or compare two.

    The ranker is fitted on the earlier requests and tested on the later ones: NDCG, AUC and calibration.
    """
    from midstream.app.evaluation.rankers import RankerOptions, judge_rankers
    from midstream.app.mapping.columns import parse_pairs

    options = RankerOptions(parse_pairs(option or (), "--option"), against, placement, share)
    with working("fitting"):
        report = judge_rankers(file, kind, options, folder)
    show(report, print_rankers, as_json=as_json)


def print_rankers(report: "RankerReport") -> None:
    """Print each ranker's metrics and calibration, and the difference of two."""
    names = [each.kind for each in report.rankers]
    metrics = report.rankers[0].metrics
    rows = [(name, *(_number(each.metrics[name]) for each in report.rankers)) for name in metrics]
    title = f"{report.data}: {report.learned} requests learned, {report.between} between"
    out.print(table_of(("figure", *names), rows, title))
    for each in report.rankers:
        for title, parts in ((f"{each.kind}: probability", each.reliability), ("calibrated", each.calibrated)):
            bins = [
                (f"{part.low:g} to {part.high:g}", str(part.count), f"{part.predicted:.4f}", f"{part.observed:.4f}")
                for part in parts
                if part.count
            ]
            if bins:
                out.print(table_of((title, "rows", "predicted", "observed"), bins))
    if report.ndcg_difference is not None:
        say(f"NDCG, {names[0]} less {names[1]}: {report.ndcg_difference}")
    for why, count in report.left_out.items():
        say(f"{count} left out: {why.replace('_', ' ')}")
    say("rows are " + ("candidates of a replay, some drawn" if report.is_replay else "what was served"))


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4f}"


def print_models(report: "JudgedModels") -> None:
    """Print each model's metrics, by segment too, and the difference of two."""
    first, reports = report.reports[0], report.reports
    title = f"{first.data}, {first.protocol}: {first.questions} questions, all {first.items} items ranked"
    rows = [(name, *(str(each.metrics[name]) for each in reports)) for name in first.metrics]
    rows.append(("coverage", *(f"{each.coverage:.4f}" for each in reports)))
    rows += [
        (f"recall@{first.k}, {part.name}", *(str(each.segments[at].metrics[f"recall@{first.k}"]) for each in reports))
        for at, part in enumerate(first.segments)
    ]
    out.print(table_of(("mean (95 % interval)", *(each.model for each in reports)), rows, title))
    if report.differences:
        less = f"{reports[0].model} less {reports[1].model}"
        out.print(table_of(("figure", less), [(name, str(each)) for name, each in report.differences.items()]))
    if first.without_history:
        say(f"{first.without_history} questions of nobody known, answered by popularity whatever the model")
    say(first.switches)


def show(report: "Report", print_report: "Callable[[Report], None]", *, as_json: bool) -> None:
    """Print a report, for people or as JSON."""
    if as_json:
        print_json(report)
    else:
        print_report(report)


def run_fit(fit: "Fit", folder: Path, options: "EvaluationOptions", *, as_json: bool) -> None:
    """Fit the blend of a placement and print its figures."""
    from midstream.app.evaluation.placements import write_fitted
    from midstream.app.opening import CONFIG_NAME, config_of

    with working("reading") as say_step:
        report = fit(config_of(folder), folder, options, say_step)
    show(report, print_blend, as_json=as_json)
    if write_fitted(folder, options.placement, report):
        say(f"written into the placement {options.placement} of {CONFIG_NAME}")


def say_switches(report: "NextItemReport | ReplayReport | LearningReport | BlendReport") -> None:
    """Print the choices of protocol that decide comparability."""
    from midstream.evaluation.comparability import stated

    say(stated(last_item_allowed=report.repeat, validation_learned=report.validation_learned))


def print_blend(report: "BlendReport") -> None:
    """Print each part, the blend before and the fitted one, on the test part."""
    best = report.fit.best
    rows = [
        (each.name, str(each.hit_rate), str(each.mrr), str(each.hit_rate_difference), str(each.mrr_difference))
        for each in report.parts
    ]
    title = f"{report.data}: {report.questions} questions of the test part; {report.fit.questions} fitted on"
    less = f"less {report.best_part}"
    columns = ("part", f"HR@{report.k}", f"MRR@{report.k}", f"HR@{report.k} {less}", f"MRR@{report.k} {less}")
    out.print(table_of(columns, rows, title))
    say_switches(report)
    weights = ", ".join(f"{name} = {weight:.4f}" for name, weight in best.weights.items())
    out.print(f"weights = {{ {weights} }}\nrank_offset = {best.rank_offset:g}", markup=False)


def run_replay(data: "InteractionData", folder: Path, options: "EvaluationOptions", *, as_json: bool) -> None:
    """Replay with a progress bar, print the figures and the parts that were missing from answers."""
    from midstream.app.evaluation.placements import evaluate_replay
    from midstream.app.opening import config_of

    with progress() as bar:
        task = bar.add_task("rows", total=options.rows_max)
        told = evaluate_replay(data, config_of(folder), folder, options, lambda rows: bar.advance(task, rows))
    report, failures = told
    show(report, print_replay, as_json=as_json)
    for name, parts in failures.items():
        for part, count in parts.items():
            say(f"placement {name}: {part} was missing from {count} of {report.questions} answers")


def print_next_item(report: "NextItemReport") -> None:
    """Print figures with their intervals."""
    rows = [
        (name, str(estimate))
        for name, estimate in (
            (f"HR@{report.k}", report.hit_rate),
            (f"MRR@{report.k}", report.mrr),
            (f"NDCG@{report.k}", report.ndcg),
        )
    ]
    title = f"{report.data}: {report.questions} questions, {report.learned} acts learned, source {report.source}"
    out.print(table_of(("figure", "mean (95 % interval)"), rows, title))
    if report.empty:
        say(f"{report.empty} questions got no answer")
    say_switches(report)


def print_replay(report: "ReplayReport") -> None:
    """Print each method's figures, as a whole and over time."""
    rows = [
        (
            each.name,
            str(each.hit_rate),
            str(each.mrr),
            " ".join(f"{part:.2f}" for part in each.hit_rate_over_time),
        )
        for each in report.methods
    ]
    title = f"{report.data}: {report.questions} of {report.rows} acts guessed before they were learned"
    out.print(table_of(("method", f"HR@{report.k}", f"MRR@{report.k}", f"HR@{report.k} over time"), rows, title))
    say_switches(report)


def print_learning(report: "LearningReport") -> None:
    """Print the figures of each way of learning, and its gain over the frozen state."""
    rows = [
        (
            each.name,
            str(each.hit_rate),
            str(each.mrr),
            str(each.hit_rate_gain),
            " ".join(f"{part:.2f}" for part in each.hit_rate_by_window),
        )
        for each in report.schedules
    ]
    title = f"{report.data}: {report.questions} questions from row {report.asked_from} of {report.rows} on"
    columns = ("the state", f"HR@{report.k}", f"MRR@{report.k}", f"HR@{report.k} less frozen", "HR by window")
    out.print(table_of(columns, rows, title))
    say_switches(report)
