"""Freshness probe: sends one event to a running server over HTTP and measures when an answer has it.

The event is an act of a session of its own on the item ``midstream-probe``, which is in the catalogue and not
available. So the act moves no figure of another item, and no visitor is served the item. The answer is a slate for that
session with its explanation, which names the items of the session as the answer's state had them.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import msgspec

from midstream.app.opening import DATA_NAME, config_to_read
from midstream.app.scheduled.text_metrics import write_metrics
from midstream.app.server_address import server_of
from midstream.app.server_refusals import refusal_of, server_client
from midstream.core.errors import ConfigInvalid, Fault, MidstreamError, StoreUnavailable
from midstream.engine.folder import DataFolder

if TYPE_CHECKING:
    import httpx

ITEM = "midstream-probe"
PAGE = "/docs/observability.md"
ANSWER_S_MAX = 10.0
_PAUSE_S = 0.02
"""Between two questions: the resolution of the measurement on a server that is behind."""


@dataclass(frozen=True, slots=True)
class ProbeOrder:
    """Wishes of one probe."""

    within_s: float = 2.0
    """Longest time from sending until an answer has the event."""
    url: str = ""
    """Empty = the server that has the folder open. Events may be sent to another server than the one that is asked."""
    ask_url: str = ""
    """Server that is asked, such as another node; empty = that of the events."""
    placement: str = ""
    """Empty = the server's default."""
    metrics: Path | None = None
    """File for the results, for the node exporter."""


@dataclass(frozen=True, slots=True)
class Probed:
    """Result of one probe."""

    is_fresh: bool
    """An answer had the event in time."""
    acknowledged_ms: float | None
    """From sending until the event was acknowledged; None = it was not."""
    seen_ms: float | None
    """From sending until an answer had it; None = none had."""
    answers: int
    """Slates that were asked for."""
    reason: str = ""
    """Why it is not fresh."""


def probe(folder: Path, order: ProbeOrder) -> Probed:
    """Send an event and ask until an answer has it, or the time is over; write metrics.

    A server that cannot be reached or refuses is a result that is not fresh, so that the metrics say so.

    Raises:
        ConfigInvalid: No type of interactions is configured.
        OSError: The metrics cannot be written.
    """
    kind = act_type(config_to_read(folder).events.types)
    try:
        found = _probed(folder, order, kind)
    except MidstreamError as error:
        found = Probed(is_fresh=False, acknowledged_ms=None, seen_ms=None, answers=0, reason=str(error))
    if order.metrics is not None:
        write_metrics(order.metrics, _metrics(found))
    return found


def check_result(found: Probed, order: ProbeOrder, warn_s: float) -> tuple[int, str]:
    """Return the exit status and the line of a check, as monitors of the kind of Nagios read them.

    Args:
        found: Result of the probe.
        order: Has the bound of what is critical.
        warn_s: A later answer is a warning; 0 = none is.

    Reference: Monitoring Plugins Development Guidelines, sections on exit status and performance data.
    """
    seen_s = None if found.seen_ms is None else found.seen_ms / 1_000
    if not found.is_fresh:
        status, said = 2, found.reason.replace("|", "/").replace("\n", " ")
    else:
        is_slow = seen_s is not None and 0 < warn_s < seen_s
        status, said = int(is_slow), f"an answer had the event after {seen_s:.3f} s"
    value = "U" if seen_s is None else f"{seen_s:.4f}s"
    bounds = f"{warn_s:g};{order.within_s:g}" if warn_s else f";{order.within_s:g}"
    return status, f"FRESHNESS {('OK', 'WARNING', 'CRITICAL')[status]}: {said} | seen={value};{bounds};0"


def _metrics(found: Probed) -> Mapping[str, float]:
    return {
        "midstream_probe_success": float(found.is_fresh),
        "midstream_probe_acknowledged_seconds": _seconds(found.acknowledged_ms),
        "midstream_probe_seen_seconds": _seconds(found.seen_ms),
        "midstream_probe_timestamp_seconds": time.time(),
    }


def _seconds(milliseconds: float | None) -> float:
    return math.nan if milliseconds is None else milliseconds / 1_000


def act_type(types: Mapping[str, Any]) -> str:
    """Return the interaction that says least of an item: that of the smallest weight above 0.

    Raises:
        ConfigInvalid: There is none.
    """
    weights = {name: each.weight for name, each in types.items() if each.weight > 0}
    if not weights:
        came = "No interaction has a weight above 0."
        raise ConfigInvalid((Fault("$.events.types", came, "Such as view = { weight = 1.0 }", PAGE),))
    return min(weights, key=lambda name: (weights[name], name))


def _probed(folder: Path, order: ProbeOrder, kind: str) -> Probed:
    url = order.url or server_of(DataFolder(folder / DATA_NAME))
    if not url:
        message = f"no server has {folder} open"
        raise StoreUnavailable(message)
    session = f"{ITEM}-{token_hex(8)}"
    with server_client(url, ANSWER_S_MAX) as events:
        _require_item(events, url)
        sent = time.monotonic()
        event = {"type": kind, "session_id": session, "item_id": ITEM}
        _good(events.post("/v1/events", json=event), url)
        acknowledged_ms = (time.monotonic() - sent) * 1_000
    ask_url = order.ask_url or url
    question = {"session_id": session, "n": 1, "explain": True}
    if order.placement:
        question["placement"] = order.placement
    answers = 0
    with server_client(ask_url, ANSWER_S_MAX) as asked:
        while True:
            answers += 1
            slate = _good(asked.post("/v1/recommendations", json=question), ask_url)
            elapsed_s = time.monotonic() - sent
            if ITEM in _recent(slate):
                in_time = elapsed_s <= order.within_s
                reason = "" if in_time else f"an answer had the event after {elapsed_s:.3f} s"
                return Probed(in_time, acknowledged_ms, elapsed_s * 1_000, answers, reason)
            if elapsed_s > order.within_s:
                reason = f"no answer had the event within {order.within_s:g} s"
                return Probed(
                    is_fresh=False, acknowledged_ms=acknowledged_ms, seen_ms=None, answers=answers, reason=reason
                )
            time.sleep(_PAUSE_S)


def _require_item(client: "httpx.Client", url: str) -> None:
    """Put the item of the probe into the catalogue, not available, unless it is there."""
    found = client.get(f"/v1/items/{ITEM}")
    if found.status_code != HTTPStatus.NOT_FOUND and _good(found, url).get("available") is False:
        return
    _good(client.put(f"/v1/items/{ITEM}", json={"available": False}), url)


def _good(answer: "httpx.Response", url: str) -> dict[str, Any]:
    """Return the content of an answer.

    Raises:
        MidstreamError: It is a refusal.
    """
    if not answer.is_success:
        raise refusal_of(answer, url)
    return msgspec.json.decode(answer.content, type=dict[str, Any])


def _recent(slate: Mapping[str, Any]) -> list[str]:
    """Return the items of the session that the answer knew.

    Raises:
        StoreUnavailable: The answer has no explanation.
    """
    explanation = slate.get("explanation")
    if explanation is None:
        message = f"the answer has no explanation: {slate.get('unexplained')}"
        raise StoreUnavailable(message)
    recent: list[str] = explanation["recent"]
    return recent
