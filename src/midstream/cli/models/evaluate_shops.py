"""``midstream evaluate reranking`` and ``diversity``: a placement's candidates in another order, on sets with items."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, out, print_json, say, table_of
from midstream.cli.data.import_file import Map
from midstream.cli.help import CommandHelp
from midstream.cli.progress import working

if TYPE_CHECKING:
    from midstream.app.benchmark.reranking import ShopBenchmark
    from midstream.evaluation.diversity_curve import DiversityReport
    from midstream.evaluation.reranking import RerankingReport

app = typer.Typer()
Data = Annotated[
    str, typer.Argument(metavar="DATA", help="Name of a known data set with items, or a file of interactions.")
]
Placement = Annotated[str, typer.Option(metavar="NAME", help="Placement with the candidates and features.")]
Option = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Option of the ranker; repeatable; default: several are tried."),
]
Share = Annotated[
    float, typer.Option(metavar="X", min=0.001, max=1.0, help="Share of the requests to use; less is faster.")
]
Attribute = Annotated[str, typer.Option(metavar="NAME", help="Item attribute that measures similarity.")]


@app.command(
    "reranking",
    cls=CommandHelp,
    epilog="""
    midstream evaluate reranking eshop-clothing-2008 trees --share 0.1
    """,
)
def reranking_command(
    data: Data,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Kind of ranker, such as trees.")] = "trees",
    option: Option = None,
    placement: Placement = "default",
    share: Share = 1.0,
    columns: Map = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare a ranker with the blend of a placement.

    The ranker is fitted on the candidates of a placement before earlier interactions, and orders those before later
    ones. At a share of 1, 20,000 requests are learned, 5,000 select the options and 20,000 are tested.
    """
    from midstream.app.benchmark.reranking import evaluate_reranking

    with working("reading") as say_step:
        told = asked(option, placement, share, columns, folder)
        report = evaluate_reranking(data, kind, told, say_step)
    print_json(report.builtins()) if as_json else print_reranking(report)


@app.command(
    "diversity",
    cls=CommandHelp,
    epilog="""
    midstream evaluate diversity eshop-clothing-2008 --attribute category
    """,
)
def diversity_command(
    data: Data,
    attribute: Attribute,
    ranker: Annotated[str, typer.Option(metavar="KIND", help="Scores to use: blend, or a kind of ranker.")] = "blend",
    option: Option = None,
    placement: Placement = "default",
    share: Share = 0.2,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Measure the trade-off between accuracy and diversity.

    NDCG, the distance between the items of a list, and coverage are printed for diversity weights from 0 to 1.
    """
    from midstream.app.benchmark.reranking import evaluate_diversity

    with working("reading") as say_step:
        told = asked(option, placement, share, None, folder)
        report = evaluate_diversity(data, ranker, attribute, told, say_step)
    print_json(report.builtins()) if as_json else print_diversity(report)


def asked(
    option: list[str] | None, placement: str, share: float, columns: list[str] | None, folder: Path
) -> "ShopBenchmark":
    """Return what the arguments of both commands say."""
    from midstream.app.benchmark.placements import EvaluationOptions
    from midstream.app.benchmark.reranking import ShopBenchmark
    from midstream.app.ingest.columns import parse_pairs

    file = EvaluationOptions(parse_pairs(columns or (), "--map"))
    return ShopBenchmark(folder, placement, parse_pairs(option or (), "--option"), share, file=file)


def print_reranking(report: "RerankingReport") -> None:
    """Print each order's figures on the test part, and what was tried before."""
    rows = [
        (each.name, str(each.ndcg), str(each.hit_rate), str(each.mrr), str(each.less_blend["NDCG"]))
        for each in report.methods
    ]
    k = report.k
    title = f"{report.data}: {report.asked} questions of {report.sessions} sessions, {report.learned} learned"
    columns = ("order", f"NDCG@{k}", f"HR@{k}", f"MRR@{k}", f"NDCG@{k} less blend")
    out.print(table_of(columns, rows, title))
    tried = [
        (" ".join(f"{name}={value}" for name, value in each.options.items()), f"{each.ndcg:.4f}")
        for each in report.trials
    ]
    before = f"tried on {report.chosen} questions before"
    out.print(table_of((before, f"NDCG@{k}"), [*tried, ("blend", f"{report.blend_chosen:.4f}")]))
    say(f"the right item is among the {report.candidates_max} candidates of {report.reach:.1%} of the questions")


def print_diversity(report: "DiversityReport") -> None:
    """Print a line a weight."""
    rows = [
        (f"{each.weight:g}", str(each.ndcg), str(each.distance), f"{each.coverage:.3f}", str(each.ndcg_difference))
        for each in report.points
    ]
    title = f"{report.data}: {report.questions} questions, scores of {report.ranker}, likeness by {report.attribute}"
    columns = ("weight", f"NDCG@{report.k}", "distance in a list", "coverage", "NDCG less weight 0")
    out.print(table_of(columns, rows, title))
