"""Reports of public data sets as tables."""

from collections.abc import Sequence

from benchmarks.quality.continuous import ContinuousReport
from benchmarks.quality.diversity_curve import DiversityReport
from benchmarks.quality.published import ListComparison
from benchmarks.quality.reranking import RerankingReport
from midstream.cli.console import out, say, table_of


def print_reranking(report: RerankingReport) -> None:
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


def print_diversity(report: DiversityReport) -> None:
    """Print a line a weight."""
    rows = [
        (f"{each.weight:g}", str(each.ndcg), str(each.distance), f"{each.coverage:.3f}", str(each.ndcg_difference))
        for each in report.points
    ]
    title = f"{report.data}: {report.questions} questions, scores of {report.ranker}, likeness by {report.attribute}"
    columns = ("weight", f"NDCG@{report.k}", "distance in a list", "coverage", "NDCG less weight 0")
    out.print(table_of(columns, rows, title))


def print_published(comparisons: Sequence[ListComparison]) -> None:
    """Print a line for each published list that answers some of the questions."""
    beside = [(each.name, str(each.hit_rate_difference), str(each.mrr_difference)) for each in comparisons]
    if beside:
        out.print(table_of(("published list", "HR, ours less theirs", "MRR"), beside))


def print_continuous(report: ContinuousReport) -> None:
    """Print a line for each way of learning, then what the frozen model has never seen."""
    rows = [
        (
            each.name,
            str(each.trained or "each act"),
            str(each.ndcg),
            f"{each.hit_rate.mean:.4f}",
            str(each.ndcg_gain),
            str(each.hit_rate_gain),
            " ".join(f"{part:.3f}" for part in each.ndcg_by_period),
        )
        for each in report.ways
    ]
    k = report.k
    title = (
        f"{report.data}: {report.questions} questions of {report.groups} users or sessions; {report.kind}, "
        f"{report.window_days} days learned, trained each {report.every_days} days"
    )
    gains = (f"NDCG@{k} less frozen", f"HR@{k} less frozen")
    out.print(table_of(("model", "trained", f"NDCG@{k}", f"HR@{k}", *gains, f"NDCG@{k} by period"), rows, title))
    shares = " ".join(f"{each:.1%}" for each in report.unknown)
    say(f"right items that the frozen model has never seen, by period: {shares}")
