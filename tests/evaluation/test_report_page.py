"""The page of a report: it stands alone, says the switches, and holds every figure; what is text stays text."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from midstream.evaluation.data.item_data import vocabulary_of
from midstream.evaluation.full_ranking import ItemData, RankingOptions, Task, compare, judge, report_of
from midstream.evaluation.metrics.click_metrics import reliability
from midstream.evaluation.metrics.list_metrics import RelevantItems
from midstream.evaluation.metrics.statistics import Resampling
from midstream.evaluation.report_page import page, switches
from midstream.models.histories import Histories, Interactions
from midstream.models.items import popular

OPTIONS = RankingOptions(k=2, cuts=(1, 2), resampling=Resampling(resamples=50))
NAMES = ("<b>popular</b>", "other")


@pytest.fixture(scope="module")
def judged():
    """Two models over two windows."""
    learned = Interactions(vocabulary_of(list("abcd")), Histories.of([[0, 1], [0, 2], [1]]))
    data = ItemData("a & b", "rolling", tuple, tuple, "seen", validation_learned=False)
    tasks = [
        Task(learned, Histories.of([[0], []]), RelevantItems.of([[1, 3], [2, -1]]), np.arange(2)) for _ in range(2)
    ]
    return [
        judge(name, lambda found: popular.fit(found, popular.PopularOptions()), data, tasks, OPTIONS) for name in NAMES
    ]


def test_the_page_stands_alone_and_holds_what_was_found(judged):
    """Every mean with its interval, segments, windows and the difference are there; nothing is loaded or run."""
    reports = [report_of(each) for each in judged]
    bins = reliability(np.array([True, False, False]), np.array([0.7, 0.2, 0.4]))
    text = page(reports, compare(*judged), {"clicks": bins})
    for metric, estimate in reports[0].metrics.items():
        assert metric in text
        assert str(estimate) in text
    assert switches(reports[0]) in text
    assert all(segment.name in text for segment in reports[0].segments)
    assert not re.search(r"<script|<link|<img|https?:|url\(|@import", text)
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    titles = [ET.fromstring(each).attrib["aria-label"] for each in drawings]  # noqa: S314  our own page
    assert titles == ["recall@k", "NDCG@k", "recall@2", "recall@2", "NDCG@2", "observed by predicted"]
    assert "nan" not in "".join(drawings)


def test_text_of_data_is_no_markup(judged):
    """Names of data and of models are shown as they are."""
    text = page([report_of(judged[0])])
    assert "<b>popular" not in text
    assert "&lt;b&gt;popular&lt;/b&gt;" in text
    assert "<h1>a &amp; b</h1>" in text


def test_the_switches_are_said_in_words(judged):
    """What may not be recommended, and what was learned."""
    said = switches(report_of(judged[0]))
    assert said == "removed: seen; the last item is never recommended; the validation part is not learned"
