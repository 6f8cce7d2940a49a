"""Online metrics of a data folder: figures of its slates over windows of log time, by label."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.core.durations import format_duration, parse_duration_ms
from midstream.core.errors import Fault, RequestInvalid
from midstream.core.kinds import IMPRESSION
from midstream.core.nearest import nearest
from midstream.feedback.online_metrics import MetricOptions, MetricRow
from midstream.feedback.slate_labels import online_metrics
from midstream.state.outcomes.outcomes import Outcomes

WINDOWS_MAX = 8
CLICK, CONVERSION = "click", "purchase"
SEGMENTS_MAX = 8
_PAGE = "/docs/online-metrics.md"


@dataclass(frozen=True, slots=True)
class OnlineAsk:
    """Windows and actions, as people write them."""

    windows: Sequence[str] = ("1h", "1d")
    """Durations."""
    settle: str = "30m"
    """Age from which a slate is settled."""
    clicks: Sequence[str] = ()
    """Actions; none = ``CLICK``, where it is configured."""
    conversions: Sequence[str] = ()
    """Actions; none = ``CONVERSION``, where it is configured."""
    segments: Sequence[str] = ()
    """Keys of the request's context."""


@dataclass(frozen=True, slots=True)
class OnlineReport:
    """Rows, and what is not in them."""

    rows: tuple[MetricRow, ...]
    left_out: int
    """Slates for which there was no room."""
    held_window_ms: int
    """Log time for which slates are held: a longer window has no more."""


def online_report(folder: Path, config: Config, ask: OnlineAsk) -> OnlineReport:
    """Return the figures at the end of the log, whether a server runs or not. Cost: that of a start, and of the slates.

    Raises:
        RequestInvalid: A window is no duration, an action is not configured, or they are too many.
    """
    windows_ms = tuple(_duration_ms("--window", each) for each in ask.windows)
    settle_ms = _duration_ms("--settle", ask.settle)
    _require_few("--window", windows_ms, WINDOWS_MAX)
    _require_few("--segment", ask.segments, SEGMENTS_MAX)
    log = LogView(folder)
    fold = state_of(folder, config, log).fold
    outcomes = fold.outcomes
    options = MetricOptions(
        now_ms=fold.log_time_ms,
        windows_ms=windows_ms,
        settle_ms=settle_ms,
        seen=outcomes.action_bit(IMPRESSION),
        clicks=_bits("--click", ask.clicks, CLICK, outcomes),
        conversions=_bits("--conversion", ask.conversions, CONVERSION, outcomes),
        items_count=fold.vocabulary.item_count - fold.items.deleted_count,
    )
    found = online_metrics(fold, log.read, log.begin, options, ask.segments)
    return OnlineReport(tuple(found.rows()), found.left_out, config.feedback.window.ms)


def online_table(report: OnlineReport) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    """Return names of columns and rows for people: figures of all slates so far, and how many are open."""
    columns = ("window", "label", "value", "slates", "open", "clicks", "conversion", "revenue/slate")
    rows = [
        (
            format_duration(row.window_ms),
            row.label,
            row.value[:8] if row.label == "plan" else row.value,
            row.so_far.slates,
            row.open,
            _percent(row.so_far.click_rate),
            _percent(row.so_far.conversion_rate),
            _number(row.so_far.revenue_per_slate),
            _number(row.so_far.revenue_per_session),
            _percent(row.so_far.coverage),
            _number(row.so_far.novelty),
            _percent(row.so_far.repeat_rate),
        )
        for row in report.rows
    ]
    return (*columns, "revenue/session", "coverage", "novelty", "repeats"), rows


def _duration_ms(name: str, text: str) -> int:
    try:
        found = parse_duration_ms(text)
    except ValueError as error:
        raise _refused(name, f"{text!r} is no duration.", "A whole number and ms, s, m, h or d, such as 1h.") from error
    if not found:
        raise _refused(name, f"{text!r} came.", "More than 0.")
    return found


def _require_few(name: str, values: Sequence[object], count_max: int) -> None:
    if not 0 <= len(values) <= count_max:
        raise _refused(name, f"{len(values)} came.", f"At most {count_max}.")


def _bits(name: str, asked: Sequence[str], default: str, outcomes: Outcomes) -> int:
    """Return the bits of some actions; 0 = none was named and the default is not configured."""
    known = outcomes.actions
    for each in asked:
        if each not in known:
            raise _refused(name, f"{each!r} is no interaction.{nearest(each, known)}", f"One of {', '.join(known)}.")
    found = asked or [each for each in known if each == default]
    return sum({outcomes.action_bit(each) for each in found})


def _refused(name: str, came: str, right: str) -> RequestInvalid:
    return RequestInvalid((Fault(name, came, right, _PAGE),))


def _percent(rate: float) -> str:
    return "–" if math.isnan(rate) else f"{rate:.2%}"


def _number(number: float) -> str:
    return "–" if math.isnan(number) else f"{number:.4g}"
