"""A model that goes on learning, slates that it scored, and what followed them."""

from collections.abc import Sequence

import msgspec
import numpy as np

from midstream.core.durations import Duration
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition, Models
from midstream.events.schema import Event, build, cut
from midstream.events.served_body import decode_body, encode_body
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import Ftrl, FtrlOptions, fit_ftrl
from midstream.models.rows.online_sums import HEAD, online_sums, packed_bins
from midstream.state.control.promotions import promotion_body
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings, OnlineModel, StateLimits
from tests.support.events import START_MS, served_body

NAMES = ("a", "b", "c")
OPTIONS = FtrlOptions(alpha=0.5, l1=0.01, l2=0.1, bins=4, is_standardised=False, debias="position")
SMALL = StateLimits(
    users_max=20, items_max=40, click_items_max=20, sessions_max=9, event_ids_max=900, outcomes_waiting_max=3
)
WAIT_MS, WINDOW_MS, SLATES, ITEMS = 60_000, 300_000, 5, 14
SETTINGS = FoldSettings(
    outcome_window=Duration("5m"),
    online=(OnlineModel("ranker", ("click",), Duration("1m"), SLATES, ITEMS),),
    limits=SMALL,
)


def model(seed: int = 1, rows: int = 200, names: Sequence[str] = NAMES) -> Ftrl:
    """Return a version."""
    dice = np.random.default_rng(seed)
    values = dice.normal(size=(rows, len(names))).astype(np.float32)
    values[dice.random(values.shape) < 0.1] = np.nan
    label = (dice.random(rows) < 1 / (1 + np.exp(1 - 2 * np.nan_to_num(values[:, 0])))).astype(np.float32)
    return fit_ftrl(Examples.of_rows(tuple(names), values, label), OPTIONS)


MODEL, OTHER, FEW = model(), model(2), model(3, names=NAMES[:1])
VALUES = np.random.default_rng(7).normal(size=(6, len(NAMES))).astype(np.float32)
VALUES[2, 1] = np.nan
NUMBER = {name: number for number, name in enumerate("abcdef")}


def served(
    request: str, ids: str, version: Ftrl = MODEL, place: int = 0, user: str = "ann", binning: int | None = None
) -> Event:
    """Return a slate whose items were scored by a version: each has its own row of ``VALUES``.

    ``binning`` is what the slate says of its bins where that is another one than the version's.
    """
    values = VALUES[[NUMBER[each] for each in ids], : len(version.inputs)]
    bins = packed_bins(version, values, place)
    bins = bins if binning is None else HEAD.pack(binning, place) + bins[HEAD.size :]
    body = msgspec.structs.replace(decode_body(served_body(request, ids)), bins=(b"other bins of a model", bins))
    return Event(Kind.SERVED, user_id=user, request_id=request, body=encode_body(body))


def promoted(version: Ftrl = MODEL, name: str = "0001", binning: int | None = None) -> Event:
    """Return a promotion; ``binning`` is what it says of the bins where that is another one than the version's."""
    sums = online_sums(version, "ranker")
    sums = sums if binning is None else msgspec.structs.replace(sums, binning=binning)
    body = promotion_body("ranker", "champion", name, f"{name:0>64}", sums)
    return Event(Kind.CONTROL, body=body)


def seen(request: str, item: str) -> Event:
    """Return an impression."""
    return Event(Kind.IMPRESSION, user_id="ann", request_id=request, item_id=item)


def clicked(request: str, item: str, action: str = "click") -> Event:
    """Return an act."""
    return Event(Kind.INTERACTION, action=action, user_id="ann", request_id=request, item_id=item)


def stamped(events: Sequence[Event], step_ms: int = 1_000, start_ms: int = START_MS) -> EventBatch:
    """Return events, one after the other."""
    times = [start_ms + number * step_ms for number in range(len(events))]
    ids = [each.event_id or f"{time}" for each, time in zip(events, times, strict=True)]
    found = zip(events, ids, times, strict=True)
    return build([each._replace(event_id=name, log_time_ms=time) for each, name, time in found])


def folded(batch: EventBatch, size: int = 10**9, told: FoldSettings = SETTINGS, *, is_general: bool = False) -> Fold:
    """Return the state after some events, by so many at a time."""
    fold = Fold(told)
    fold.is_general = is_general
    for start in range(0, len(batch), size):
        fold.apply(LogPosition(start), cut(batch, start, min(start + size, len(batch))))
    return fold


def of(wait: Duration, **changes: int) -> FoldSettings:
    """Return settings with room for much."""
    limits = msgspec.structs.replace(SMALL, outcomes_waiting_max=100)
    return FoldSettings(online=(OnlineModel("ranker", ("click",), wait, **changes),), limits=limits)


def serving(fold: Fold, name: str = "0001") -> Ftrl:
    """Return the model that answers."""
    found = fold.online.serving(Models({"ranker": MODEL}, {"ranker": name})).by_name["ranker"]
    assert isinstance(found, Ftrl)
    return found


def sums_of(fold: Fold) -> tuple[list[float], list[float]]:
    """Return z and n of the model."""
    arrays = fold.online.arrays()
    return arrays["ranker.z"].tolist(), arrays["ranker.n"].tolist()
