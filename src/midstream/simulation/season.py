"""Season: one world with one policy, page by page in the order of time.

Visits run in parallel, page by page. The policy learns the acts on a page before it fills the next page of any visitor,
as an engine does that folds every event at once.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Mask
from midstream.simulation.audience import DAY_MS, AudienceOptions, Reaction, VisitedPage, audience
from midstream.simulation.policies import FilledPage, Policy
from midstream.simulation.shop import ShopOptions, SimulatedShop, open_shop

START_MS = 1_750_032_000_000
"""2025-06-16, a Monday, 00:00 UTC."""


@dataclass(frozen=True, slots=True)
class SeasonOptions:
    """How long, how large."""

    seed: int = 1
    day_count: int = 14
    product_count: int = 300
    """For sale from the first day."""
    launch_count: int = 100
    """Come during the season, evenly spread."""
    warm_up: float = 0.3
    """Share of the days that is not measured, for learning."""
    audience: AudienceOptions = field(default_factory=AudienceOptions)

    @property
    def end_ms(self) -> int:
        """When the last page may begin."""
        return START_MS + self.day_count * DAY_MS

    @property
    def measured_from_ms(self) -> int:
        """When the warm-up is over."""
        return START_MS + int(self.day_count * self.warm_up * DAY_MS)

    def shop(self) -> SimulatedShop:
        """Return the shop of these options."""
        every_ms = self.day_count * DAY_MS // (self.launch_count + 1)
        return open_shop(ShopOptions(self.seed, START_MS, self.product_count, self.launch_count, every_ms))


@dataclass(frozen=True, slots=True, eq=False)
class Season:
    """Every measured page of people, robots left out. Columns of shape (pages,)."""

    policy: str
    seed: int
    person: NDArray[np.int64]
    clicked: Mask
    """Whether anything of the slate was clicked."""
    bought: Mask
    """Whether what was clicked was bought."""
    impressions: NDArray[np.int64]
    """Items looked at."""
    events: int
    """Told in all, warm-up and robots included."""
    pages: int
    """Filled in all."""

    @property
    def click_rate(self) -> float:
        """Share of pages on which the slate was clicked; NaN without a page."""
        return float(self.clicked.mean()) if len(self.clicked) else float("nan")

    @property
    def buy_rate(self) -> float:
        """Share of pages on which what was clicked was bought; NaN without a page."""
        return float(self.bought.mean()) if len(self.bought) else float("nan")


@dataclass(slots=True)
class _Ledger:
    rows: list[tuple[int, bool, bool, int]] = field(default_factory=list[tuple[int, bool, bool, int]])
    events: int = 0
    pages: int = 0

    def note(self, page: VisitedPage, reaction: Reaction, event_count: int, *, is_measured: bool) -> None:
        """Count a page; those of robots and of the warm-up are only counted."""
        self.events += event_count
        self.pages += 1
        if is_measured and not page.person.robot:
            clicked = reaction.clicked >= 0
            bought = clicked and "purchase" in reaction.acts
            self.rows.append((page.person.number, clicked, bought, int(reaction.looked_at.sum())))


async def run_season(
    options: SeasonOptions, shop: SimulatedShop, policy: Policy, advance: Callable[[float], None] | None = None
) -> Season:
    """Run one world with one policy.

    Args:
        options: The world; equal options give the same people with the same luck.
        shop: Of these options.
        policy: Fills its pages; knows the products that are for sale on the first day.
        advance: Told the share of the time that is over, once a simulated day.

    Cost: about 0.1 ms a page, and what the policy takes.
    """
    people = audience(options.seed, START_MS, options.audience)
    queue = [(person.next_visit_ms, person.number, True) for person in people]
    heapq.heapify(queue)
    ledger = _Ledger()
    launched, day = options.product_count, 0
    while queue and queue[0][0] < options.end_ms:
        now_ms, number, arrives = heapq.heappop(queue)
        person = people[number]
        on_sale = shop.on_sale(now_ms)
        if on_sale > launched:
            await policy.learn([shop.put_event(product) for product in range(launched, on_sale)])
            launched = on_sale
        if arrives:
            person.arrive()
            heapq.heappush(queue, (person.next_visit_ms, number, True))
        page = person.page(shop, now_ms)
        slate = await policy.fill(page)
        reaction = person.react(shop, page, slate.products)
        events = events_of(shop, page, slate, reaction)
        if events:
            await policy.learn(events)
        ledger.note(page, reaction, len(events), is_measured=now_ms >= options.measured_from_ms)
        if reaction.next_ms is not None:
            heapq.heappush(queue, (reaction.next_ms, number, False))
        if advance is not None and (now_ms - START_MS) // DAY_MS > day:
            day = (now_ms - START_MS) // DAY_MS
            advance(day / options.day_count)
    return _season(policy.name, options.seed, ledger)


def _season(policy: str, seed: int, ledger: _Ledger) -> Season:
    columns = np.array(ledger.rows, dtype=np.int64).reshape(-1, 4)
    return Season(
        policy=policy,
        seed=seed,
        person=columns[:, 0],
        clicked=columns[:, 1] > 0,
        bought=columns[:, 2] > 0,
        impressions=columns[:, 3],
        events=ledger.events,
        pages=ledger.pages,
    )


def events_of(shop: SimulatedShop, page: VisitedPage, slate: FilledPage, reaction: Reaction) -> list[dict[str, object]]:
    """Return what happened on a page as ``POST /v1/events`` takes it: what was seen, then what was done."""
    who: dict[str, object] = {"session_id": page.session_id}
    if page.person.user_id is not None:
        who["user_id"] = page.person.user_id
    request = {} if slate.request_id is None else {"request_id": slate.request_id}
    found: list[dict[str, object]] = []
    seen: list[int] = np.flatnonzero(reaction.looked_at).tolist()
    if seen:
        tiles: list[dict[str, object]] = [
            {"item_id": shop.item_ids[slate.products[position]], "position": position} for position in seen
        ]
        found.append({"type": "impression", **who, **request, "items": tiles, "time": page.time_ms})
    for step, act in enumerate(reaction.acts):
        event = {"type": act, **who, "item_id": shop.item_ids[reaction.viewed], "time": page.time_ms + 1 + step}
        if reaction.clicked >= 0:
            event.update(request)
            event["position"] = reaction.clicked
        found.append(event)
    return found
