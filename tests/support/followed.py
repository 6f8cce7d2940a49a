"""A log of slates and what followed them, the same for a seed: most soon, some late, some before the slate.

Each slate has five to ten items and some outcomes; of all events a share comes again later, under the same id. Log time
moves by the same step with each event, so it is known how many slates are ever held at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch
from midstream.events.schema import Event, build
from tests.support.events import START_MS, served_body

_ACTIONS = ("", "", "", "click", "click", "cart", "purchase")
"""An outcome is one of these; empty = an impression."""


@dataclass(frozen=True, slots=True)
class LogShape:
    """How the log looks."""

    slates: int
    seed: int = 1
    outcomes_per_slate: float = 1.5
    duplicate_share: float = 0.3
    late_share: float = 0.05
    """Outcomes that come up to ``late_slates_max`` slates after their own; the others about 20 after."""
    late_slates_max: int = 250_000
    early_share: float = 0.03
    """Outcomes that come up to three slates before their own."""
    items: int = 100_000
    users: int = 200_000
    step_ms: int = 20
    placements: int = 3

    def events(self) -> Iterator[Event]:
        """Yield the events, stamped. Cost: about 8 µs each."""
        slate, outcome = self._order()
        for place, (number, which) in enumerate(zip(slate.tolist(), outcome.tolist(), strict=True)):
            log_time_ms = START_MS + place * self.step_ms
            yield self._served(number, log_time_ms) if which < 0 else self._outcome(number, which, log_time_ms)

    def batches(self, size: int) -> Iterator[EventBatch]:
        """Yield them in batches."""
        events = self.events()
        while some := tuple(islice(events, size)):
            yield build(some)

    def _order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for each event its slate, and the number of the outcome, -1 = it is the served event."""
        rng = np.random.default_rng(self.seed)
        count = int(self.slates * self.outcomes_per_slate)
        slate = np.concatenate((np.arange(self.slates), rng.integers(0, self.slates, count)))
        outcome = np.concatenate((np.full(self.slates, -1), np.arange(count)))
        after = np.concatenate((np.zeros(self.slates), rng.exponential(20.0, count)))
        is_outcome = outcome >= 0
        odd = rng.random(len(slate))
        late = is_outcome & (odd < self.late_share)
        early = is_outcome & (odd > 1 - self.early_share)
        after[late] = rng.uniform(0, self.late_slates_max, int(late.sum()))
        after[early] = rng.uniform(-3, 0, int(early.sum()))
        again = np.flatnonzero(rng.random(len(slate)) < self.duplicate_share)
        at = np.concatenate((slate + after, slate[again] + after[again] + rng.exponential(50.0, len(again))))
        order = np.argsort(at, kind="stable")
        return np.concatenate((slate, slate[again]))[order], np.concatenate((outcome, outcome[again]))[order]

    def _items_of(self, number: int) -> list[str]:
        return [f"i{(number * 7_919 + each * 10_007) % self.items}" for each in range(5 + number % 6)]

    def _user_of(self, number: int) -> str:
        return f"u{number * 31 % self.users}"

    def _served(self, number: int, log_time_ms: int) -> Event:
        request_id = f"request-{number}"
        plan = f"plan-{number * 3 // self.slates}"
        body = served_body(request_id, self._items_of(number), f"place-{number % self.placements}", plan)
        return Event(
            Kind.SERVED, user_id=self._user_of(number), request_id=request_id, body=body, log_time_ms=log_time_ms
        )

    def _outcome(self, number: int, which: int, log_time_ms: int) -> Event:
        items = self._items_of(number)
        action = _ACTIONS[which % len(_ACTIONS)]
        # One of 40 names an item that is not in the slate.
        item_id = f"i{which % self.items}" if which % 40 == 0 else items[which // 7 % len(items)]
        return Event(
            Kind.INTERACTION if action else Kind.IMPRESSION,
            event_id=f"o{which}",
            action=action,
            user_id=self._user_of(number),
            item_id=item_id,
            request_id=f"request-{number}",
            value=float(which % 97) / 4 if action == "purchase" else float("nan"),
            quantity=float(which % 3 + 1) if which % 2 else float("nan"),
            log_time_ms=log_time_ms,
        )
