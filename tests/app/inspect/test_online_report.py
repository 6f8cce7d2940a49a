"""Online metrics of a folder: real answers and what followed, by each label, and refusals in four parts."""

import math
from dataclasses import replace

import pytest

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.inspect.online_report import OnlineAsk, online_report, online_table
from midstream.app.opening import open_shop
from midstream.core.errors import RequestInvalid
from midstream.core.kinds import IMPRESSION
from midstream.feedback.online_metrics import MetricOptions
from midstream.feedback.slate_labels import online_metrics
from midstream.state.settings import EventType

ITEMS = [f"lamp-{number}" for number in range(10)]
ASK = OnlineAsk(windows=("1h",), segments=("country",))


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """Two slates for a session, one for a user, one for nobody; the first is seen, clicked and bought from."""
    folder = tmp_path_factory.mktemp("shop")
    with open_shop(folder, Config()) as shop:
        shop.record([{"type": "view", "user_id": "eve", "item_id": item} for item in ITEMS])
        first = shop.recommend(session_id="s1", n=4, context={"country": "de"}, deadline_ms=5_000)
        second = shop.recommend(session_id="s1", n=4, context={"country": "fr"}, deadline_ms=5_000)
        shop.recommend(user_id="ann", n=2, deadline_ms=5_000)
        shop.recommend(n=2, deadline_ms=5_000)
        ids = [each.id for each in first.items]
        named = {"session_id": "s1", "request_id": first.request_id}
        shop.record([{"type": "impression", "item_id": item, **named} for item in ids[:2]])
        shop.record([{"type": "click", "item_id": ids[0], **named}])
        shop.record([{"type": "purchase", "item_id": ids[0], "value": 12.5, "quantity": 2, **named}])
    REPEATED.append(len({each.id for each in second.items} & set(ids)))
    return folder


REPEATED: list[int] = []
"""Items that the second slate of the session has again."""


def rows_of(report):
    """Rows by label and value."""
    return {(row.label, row.value): row for row in report.rows}


def test_figures_are_those_of_what_happened(used):
    """All slates are younger than half an hour, so they are open."""
    report = online_report(used, Config(), ASK)
    rows = rows_of(report)
    row = rows["placement", "default"]
    figures = row.so_far
    assert (row.open, row.settled.slates) == (4, 0)
    assert math.isnan(row.settled.click_rate)
    assert (figures.slates, figures.positions, figures.impressions, figures.sessions) == (4, 12, 2, 2)
    assert (figures.click_rate, figures.conversion_rate) == (0.5, 0.25)
    assert (figures.revenue_per_slate, figures.revenue_per_session) == (6.25, 12.5)
    assert 0.4 <= figures.coverage <= 1.0
    assert figures.repeat_rate == REPEATED[0] / 10
    assert report.left_out == 0
    assert rows["plan", Config().config_hash].so_far == rows["model", "none"].so_far == figures
    assert rows["context.country", "de"].so_far.conversion_rate == 1.0
    assert rows["context.country", "fr"].so_far.slates == 1
    assert rows["context.country", "none"].so_far.slates == 2


def test_slates_settle(used):
    """After a millisecond already, where that is asked for; other acts may be clicks and conversions."""
    ask = replace(ASK, settle="1ms", clicks=("purchase",), conversions=("click", "cart"))
    row = rows_of(online_report(used, Config(), ask))["context.country", "de"]
    assert (row.open, row.settled) == (0, row.so_far)
    assert (row.settled.click_rate, row.settled.revenue_per_slate) == (0.5, 25.0)


def test_people_get_a_table(used):
    """Percent, four digits, and a dash for what is unknown."""
    columns, rows = online_table(online_report(used, Config(), ASK))
    assert len(columns) == len(rows[0]) == 12
    assert rows[0][:8] == ("1h", "placement", "default", 4, 4, "50.00%", "25.00%", "6.25")
    nobody = next(row for row in rows if row[1:3] == ("context.country", "none"))
    assert nobody[5] == "–"


def test_a_record_that_the_log_holds_no_more_is_gone(used):
    """Its group and outcomes are in the state, and it counts for its user: a session alone is not known."""
    log = LogView(used)
    fold = state_of(used, Config(), log).fold
    seen, clicked, bought = (fold.outcomes.action_bit(name) for name in (IMPRESSION, "click", "purchase"))
    options = MetricOptions(fold.log_time_ms, (3_600_000,), 1, seen, clicked, bought, len(ITEMS))
    rows = {(row.label, row.value): row for row in online_metrics(fold, log.read, log.end, options, ["country"]).rows()}
    assert rows["placement", "default"].so_far.slates == 4
    assert rows["model", "gone"].so_far.slates == rows["context.country", "gone"].so_far.slates == 4
    assert rows["model", "gone"].so_far.sessions == 1


def test_an_empty_folder_has_no_rows(tmp_path):
    """No log."""
    assert online_report(tmp_path, Config(), ASK).rows == ()


def test_a_shop_without_clicks_has_no_click_rate(tmp_path):
    """The default is no fault where it is not configured."""
    config = Config(events=replace_types({"view": EventType()}))
    with open_shop(tmp_path, config) as shop:
        shop.record([{"type": "view", "user_id": "eve", "item_id": item} for item in ITEMS])
        shop.recommend(user_id="ann", deadline_ms=5_000)
    (row, *_) = online_report(tmp_path, config, OnlineAsk()).rows
    assert math.isnan(row.so_far.click_rate)


def replace_types(types):
    """The section of events with other interactions."""
    section = Config().events
    return type(section)(types=types)


@pytest.mark.parametrize(
    "ask, where, came",
    [
        (OnlineAsk(windows=("1 hour",)), "--window", "1 hour"),
        (OnlineAsk(windows=("0s",)), "--window", "0s"),
        (OnlineAsk(windows=("1h",) * 9), "--window", "9 came"),
        (OnlineAsk(settle="soon"), "--settle", "soon"),
        (OnlineAsk(segments=("a",) * 9), "--segment", "9 came"),
        (OnlineAsk(clicks=("clik",)), "--click", 'Nearest: "click"'),
        (OnlineAsk(conversions=("order",)), "--conversion", "order"),
    ],
)
def test_what_cannot_be_asked_is_refused(tmp_path, ask, where, came):
    """With the option, what came, what would be right, and the page."""
    with pytest.raises(RequestInvalid) as caught:
        online_report(tmp_path, Config(), ask)
    (fault,) = caught.value.faults
    assert fault.where == where
    assert came in fault.came
    assert fault.page == "/docs/online-metrics.md"
