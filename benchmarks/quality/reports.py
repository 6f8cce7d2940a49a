"""Reports of public data sets as tables."""

from collections.abc import Sequence

from benchmarks.quality.audiences import AudienceReport
from benchmarks.quality.calibration import CalibrationReport
from benchmarks.quality.continuous import ContinuousReport
from benchmarks.quality.diversity_curve import DiversityReport
from benchmarks.quality.published import ListComparison
from benchmarks.quality.reranking import RerankingReport
from benchmarks.quality.search import SearchReport
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


def print_search(report: SearchReport) -> None:
    """Print a table for each form of queries."""
    k = report.k
    for form, methods in report.forms.items():
        rows = [
            (each.name, str(each.mrr), str(each.ndcg), str(each.hit_rate), str(each.less_plain)) for each in methods
        ]
        title = f"{report.data}, {report.items} items, {report.queries} queries of {report.sessions} sessions: {form}"
        columns = ("by", f"MRR@{k}", f"NDCG@{k}", f"HR@{k}", "MRR less plain BM25")
        out.print(table_of(columns, rows, title))


def print_audiences(report: AudienceReport) -> None:
    """Print a table of users for items, and one of users like users."""
    named = {f"users for {report.items} items": report.for_items, f"users like {report.users} users": report.like_users}
    for title, ways in named.items():
        columns = ("by", *ways[0].figures, f"{next(iter(ways[0].figures))} less most active")
        rows = [(each.name, *map(str, each.figures.values()), str(each.less_active)) for each in ways]
        out.print(table_of(columns, rows, f"{report.data}: {title}, {report.k} each"))


def print_calibration(report: CalibrationReport) -> None:
    """Print a line a weight."""
    rows = [
        (f"{each.weight:g}", str(each.divergence), str(each.ndcg), str(each.hit_rate), str(each.less_plain))
        for each in report.points
    ]
    columns = ("weight", "divergence, nats", f"NDCG@{report.k}", f"HR@{report.k}", "NDCG less weight 0")
    out.print(table_of(columns, rows, f"{report.data}: {report.users} users"))


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
