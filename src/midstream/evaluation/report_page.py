"""Reports of models as one page of HTML that needs nothing else: tables, and plots drawn as SVG.

All text is escaped; the page holds no script and loads nothing.
"""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from midstream.evaluation.comparability import stated
from midstream.evaluation.full_ranking import RankingReport
from midstream.evaluation.metrics.click_metrics import Bin
from midstream.evaluation.metrics.statistics import PairedDifference

_WIDTH, _HEIGHT, _EDGE = 420, 260, 44
_COLOURS = ("#1f6fb2", "#c4501b", "#3d8b37", "#7a4fa3")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 960px; color: #222; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .25em .8em; border-bottom: 1px solid #ccc }
td + td, th + th { text-align: right; font-variant-numeric: tabular-nums } svg { margin: .5em 1em .5em 0 }
svg text { font: 12px system-ui, sans-serif; fill: #444 }
"""


def page(
    reports: Sequence[RankingReport],
    differences: Mapping[str, PairedDifference] | None = None,
    calibration: Mapping[str, Sequence[Bin]] | None = None,
) -> str:
    """Return the page of one model, or of several on the same data side by side.

    Args:
        reports: One at least.
        differences: First model less the second, by metric.
        calibration: Model to bins, of models that predict probabilities.
    """
    first = reports[0]
    names = [each.model for each in reports]
    parts = [
        f"<h1>{escape(first.data)}</h1>",
        _facts(first),
        _table(["metric", *names], [[name, *(str(each.metrics[name]) for each in reports)] for name in first.metrics]),
        _table(["coverage", *(f"{each.coverage:.4f}" for each in reports)], []),
    ]
    if differences:
        less = f"{names[0]} less {names[1]}"
        parts.append(_table(["metric", less], [[name, str(each)] for name, each in differences.items()]))
    parts += ["<h2>By length of the list</h2>"]
    parts += [
        _plot(
            f"{metric}@k",
            {each.model: [(float(k), value) for k, value in each.curves[metric].items()] for each in reports},
        )
        for metric in ("recall", "NDCG")
    ]
    parts += ["<h2>By segment</h2>", *_segments(reports)]
    if first.windows:
        parts.append("<h2>By window of time</h2>")
        parts += [
            _plot(
                name,
                {
                    each.model: [(float(at + 1), window[name]) for at, window in enumerate(each.windows)]
                    for each in reports
                },
            )
            for name in (f"recall@{first.k}", f"NDCG@{first.k}")
        ]
    for name, bins in (calibration or {}).items():
        seen = [(each.predicted, each.observed) for each in bins if each.count]
        parts += [
            "<h2>Calibration</h2>",
            _plot("observed by predicted", {name: seen, "true": [(0.0, 0.0), (1.0, 1.0)]}),
        ]
    body = "\n".join(parts)
    title = escape(f"{first.data}: {', '.join(names)}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def switches(report: RankingReport) -> str:
    """Return in words what decides which figures a report can be compared with."""
    said = stated(last_item_allowed=report.last_item_allowed, validation_learned=report.validation_learned)
    return f"removed: {report.removed}; {said}"


def _facts(report: RankingReport) -> str:
    """Return what was asked, and by which switches."""
    text = (
        f"Protocol {report.protocol}, lists of {report.k} over all {report.items} items, none sampled. "
        f"{report.questions} questions; {report.learned} acts learned; {report.unknown} right items are not known "
        f"to the model and count as missed; {report.without_history} questions are of nobody known and answered by "
        f"popularity. {switches(report)}. Intervals: 95 %, by bootstrap."
    )
    return f"<p>{escape(text)}</p>"


def _segments(reports: Sequence[RankingReport]) -> list[str]:
    """Return a table of each segment's figures, and bars of its recall."""
    k = reports[0].k
    rows = [
        [part.name, str(part.questions), *(str(each.segments[at].metrics[f"recall@{k}"]) for each in reports)]
        for at, part in enumerate(reports[0].segments)
    ]
    columns = ["segment", "questions", *(f"recall@{k}, {each.model}" for each in reports)]
    bars = [
        (f"{part.name}, {each.model}", each.segments[at].metrics[f"recall@{k}"].mean, number)
        for at, part in enumerate(reports[0].segments)
        for number, each in enumerate(reports)
    ]
    return [_table(columns, rows), _bars(f"recall@{k}", bars)]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of text."""
    head = "".join(f"<th>{escape(each)}</th>" for each in columns)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>"


def _plot(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return lines over a common pair of axes, each from 0; points that are not known are left out."""
    points = {name: [each for each in line if np.isfinite(each).all()] for name, line in lines.items()}
    across = max((x for line in points.values() for x, _ in line), default=1.0) or 1.0
    up = max((y for line in points.values() for _, y in line), default=1.0) or 1.0
    drawn: list[str] = []
    for number, (name, line) in enumerate(points.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        at = [
            (_EDGE + x / across * (_WIDTH - 2 * _EDGE), _HEIGHT - _EDGE - y / up * (_HEIGHT - 2 * _EDGE))
            for x, y in line
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at]
        drawn.append(_words(_EDGE + 8, _EDGE + 14 * number, name, colour))
    marks = [
        _words(_WIDTH - _EDGE, _HEIGHT - _EDGE + 18, f"{across:g}"),
        _words(4, _EDGE + 4, f"{up:.3f}"),
        _words(_EDGE - 12, _HEIGHT - _EDGE + 18, "0"),
    ]
    return _svg(title, _HEIGHT, [*drawn, *marks])


def _bars(title: str, bars: Sequence[tuple[str, float, int]]) -> str:
    """Return a bar for each name and value, coloured by number."""
    most = max((value for _, value, _ in bars if np.isfinite(value)), default=1.0) or 1.0
    drawn: list[str] = []
    for place, (name, value, number) in enumerate(bars):
        y = _EDGE + 34 * place
        width = value / most * (_WIDTH - 2 * _EDGE) if np.isfinite(value) else 0.0
        colour = _COLOURS[number % len(_COLOURS)]
        drawn.append(f'<rect x="{_EDGE}" y="{y}" width="{width:.1f}" height="12" fill="{colour}"/>')
        drawn.append(_words(_EDGE, y - 4, f"{name}: {value:.4f}" if np.isfinite(value) else f"{name}: not known"))
    return _svg(title, _EDGE + 34 * len(bars), drawn, axes=False)


def _svg(title: str, height: int, drawn: Sequence[str], *, axes: bool = True) -> str:
    """Return a drawing with its title."""
    low, right = height - _EDGE, _WIDTH - _EDGE
    lines = f'<path d="M{_EDGE},{_EDGE} V{low} H{right}" fill="none" stroke="#888"/>' if axes else ""
    inside = "".join([lines, _words(_EDGE, 18, title), *drawn])
    return f'<svg width="{_WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">{inside}</svg>'


def _words(x: float, y: float, text: str, colour: str | None = None) -> str:
    fill = f' style="fill:{colour}"' if colour else ""
    return f'<text x="{x}" y="{y}"{fill}>{escape(text)}</text>'
