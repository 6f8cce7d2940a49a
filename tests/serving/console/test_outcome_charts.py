"""Charts of outcomes: each value once in the chart of its label, on one scale, and no bar where nothing is known."""

import math
import re

from hypothesis import example, given
from hypothesis import strategies as st

from midstream.serving.console.api_reader import ApiAnswer
from midstream.serving.console.outcome_charts import BAR_WIDTH, ROWS_MAX, outcome_charts
from midstream.serving.console.page_templates import Templates

NAMES = ("click_rate", "conversion_rate", "revenue_per_slate")


def row(label, value, settled, so_far=None, slates=10):
    """A row as the route has it; a figure that is not given is null."""
    figures = [dict(zip(NAMES, told or (None, None, None), strict=True)) for told in (settled, so_far)]
    told = {"window": "1h", "label": label, "value": value, "slates": slates, "open": 3}
    return {**told, "settled": figures[0], "so_far": figures[1]}


def test_labels_have_charts_of_their_own():
    """Placements first, then variants of each experiment, segments, and what else there is."""
    rows = [
        row("model", "taste 7", None),
        row("context.country", "de", None),
        row("placement", "home@size.few", None),
        row("placement", "home@size.as-is", None),
        row("placement", "home", None),
        row("placement", "cart@size.few", None),
        row("tier", "full", None),
    ]
    found = outcome_charts(rows)
    assert [each.title for each in found] == [
        *("By placement", "By variant of size on cart", "By variant of size on home"),
        *("By segment country", "By model", "By tier"),
    ]
    assert [each.value for each in found[2].rows] == ["as-is", "few"]
    assert [each.label for each in found] == ["Placement", "Variant", "Variant", "country", "Model", "Tier"]


def test_bars_of_a_figure_have_one_scale():
    """The greatest of the chart is as long as there is room, settled or not; 0 and what is not known have no length."""
    rows = [
        row("tier", "full", (0.02, 0.0, 1.0), (0.01, 0.0, 4.0), slates=9),
        row("tier", "popular", (0.01, 0.0, None), (0.005, None, 2.0), slates=99),
    ]
    popular, full = outcome_charts(rows)[0].rows
    assert (popular.value, popular.slates, popular.open) == ("popular", 99, 3)
    assert [(bar.settled_width, bar.so_far_width) for bar in full.bars] == [(100, 50), (0, 0), (25, 100)]
    assert [(bar.settled_width, bar.so_far_width) for bar in popular.bars] == [(50, 25), (0, 0), (0, 50)]
    assert popular.bars[2].settled is None
    assert full.bars[1].settled == 0.0


@example([(None, 2.225073858507203e-309, 1)])
@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(-1, 1e9) | st.just(math.nan), st.none() | st.floats(0, 1e9), st.integers(1, 50)
        ),
        min_size=1,
        max_size=40,
    )
)
def test_charts_are_bounded(figures):
    """Whatever comes: every bar fits, rows go by slates, and what has no room is counted."""
    rows = [row("context.x", str(n), (a, b, a), (b, a, b), slates=s) for n, (a, b, s) in enumerate(figures)]
    (chart,) = outcome_charts(rows)
    assert len(chart.rows) + chart.left_out == len(rows)
    assert len(chart.rows) <= ROWS_MAX
    assert [each.slates for each in chart.rows] == sorted((s for _, _, s in figures), reverse=True)[:ROWS_MAX]
    widths = [width for each in chart.rows for bar in each.bars for width in (bar.settled_width, bar.so_far_width)]
    assert all(0 <= width <= BAR_WIDTH for width in widths)


def test_the_page_shows_them():
    """Rates as percent, revenue as a number, lengths as attributes of elements, values escaped, windows apart."""
    hostile = '<b>"de"'
    rows = [
        row("context.country", hostile, (0.05, 0.01, 2.5), (0.04, 0.02, 1.25)),
        {**row("tier", "full", None, (0.5, 0.25, 3.0)), "window": "1d"},
    ]
    body = {
        "now": 1_767_225_600_000,
        "unread": 0,
        "left_out": 0,
        "drift": [],
        "rows": rows,
        "hours": [{"placement": None}],
    }
    values = {"found": ApiAnswer(200, body), "by": "hour", "names": [], "plots": []}
    text = Templates().render("outcomes.html", "", values)
    assert "<h3>By segment country</h3>" in text
    assert hostile not in text
    assert "&lt;b&gt;&#34;de&#34;" in text
    assert re.search(r'5 %<td class="n dim">4 %\s*<td class="bars">', text)
    assert re.search(r'2.5<td class="n dim">1.25', text)
    assert re.findall(r'class="settled" y="1" width="([\d.]+)"', text) == [
        "0.0",
        "0.0",
        "0.0",
        "100.0",
        "50.0",
        "100.0",
    ]
    assert text.index("Last 1d") < text.index("Last 1h")
    assert len(set(re.findall(r'<div [^>]*aria-label="([^"]+)"', text))) == text.count('role="region"')
