"""Numbers in orders of experiments: shares and times, checked as they came, then in buckets and clock time."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from midstream.core.errors import ConfigInvalid, Fault
from midstream.engine.experiments.views import RampOrder, StartOrder
from midstream.events.faults import shown
from midstream.experiments.assignment import BUCKETS
from midstream.experiments.documents import AFTER_MS_MAX, FAULTS_MAX, PAGE, STEPS_MAX, RampStep


def buckets_of(share: float) -> int:
    """Return a share in buckets; -1 = it is no share."""
    return round(share * BUCKETS) if 0 <= share <= 1 else -1


def steps_of(orders: Sequence[RampOrder], now_ms: int) -> tuple[RampStep, ...]:
    """Return the steps of an order at a time."""
    return tuple(RampStep(now_ms + each.after_ms, buckets_of(each.exposed)) for each in orders)


def start_order_faults(order: StartOrder) -> Iterator[Fault]:
    """Yield which numbers of a start cannot be used."""
    if buckets_of(order.share) < 1:
        yield Fault("/share", f"{shown(order.share)} came.", "From 0.0001 to 1.", PAGE)
    yield from ramp_order_faults(order.ramp)


def ramp_order_faults(orders: Sequence[RampOrder]) -> Iterator[Fault]:
    """Yield which numbers of a ramp cannot be used."""
    for number, each in enumerate(orders[: STEPS_MAX + 1]):
        where = f"/ramp/{number}"
        if (size := buckets_of(each.exposed)) < 0 or (size == 0 and each.exposed > 0):
            right = "0 to 1; what is not 0 is at least 0.0001."
            yield Fault(f"{where}/exposed", f"{shown(each.exposed)} came.", right, PAGE)
        if not 0 <= each.after_ms <= AFTER_MS_MAX:
            right = f"0 to {AFTER_MS_MAX}, a year."
            yield Fault(f"{where}/after_ms", f"{shown(each.after_ms)} came.", right, PAGE)


def require_no_fault(faults: Iterable[Fault]) -> None:
    """Refuse an order that has faults.

    Raises:
        ConfigInvalid: It has; the first ones are named.
    """
    if told := tuple(islice(faults, FAULTS_MAX)):
        raise ConfigInvalid(told)
