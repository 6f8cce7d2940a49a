"""A shop in which all happens that an engine can serve, one thing after another: what is served there is run again.

Events, changes of the catalogue and of profiles, merges and erasures of users, placements set and given back while
questions are under way, a ranker put in service, restarts; questions of every shape, among them parts that fail and
are left out for a while. The clock is the shop's own and moves by seconds, now and then by half an hour.
"""

import asyncio
import tomllib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from midstream.app.config.reader import parse_config
from midstream.app.config.schema import Config
from midstream.app.opening import Outside, open_running
from midstream.core.types import TimestampMs
from midstream.engine.folder import DataFolder
from midstream.engine.recommender import Recommender
from midstream.engine.requests.keywords import Request
from midstream.engine.types import Answer
from midstream.ranking.plan import SIMILAR
from midstream.training.registry import Registry
from tests.support.busy_shop import BUSY, COMPONENTS, LATER, START_MS
from tests.support.fakes.models import publish_chain, publish_linear

ITEMS, USERS, LEAVING = 80, 25, 5
CATEGORIES = 7
NAMES = ("plain", "home", "shelf", "corner", "letter", "hours", "goals", "own", SIMILAR)
"""Placements that are asked."""
PHASES = 4
"""Between two of them all is stopped and started again."""
TURNS = 3
"""Slates behind the first that are asked for at most."""
_SHARE = 0.3
"""Of the questions that bring a filter, an exclusion or a basket; of changed items that are not available as many."""


@dataclass(slots=True, eq=False)
class Busy:
    """A shop and what happened in it."""

    folder: Path
    config: Config
    """Of the file, until its last restart."""
    file: Config
    """As it is now."""
    dice: np.random.Generator
    shop: Recommender | None = None
    now_ms: int = START_MS
    asked: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    """The user of each logged request, by its id, less those of users who were erased later."""
    did: Counter[str] = field(default_factory=Counter[str])
    """How often each thing was done, by its name."""

    @property
    def ids(self) -> list[str]:
        """Return the ids of the requests, in their order."""
        return list(self.asked)

    def outside(self) -> Outside:
        """Return time and randomness of this shop."""
        chance = np.random.default_rng(self.dice.integers(1 << 32))
        return Outside(
            clock=lambda: TimestampMs(self.now_ms), monotonic=lambda: self.now_ms / 1_000, entropy=chance.bytes
        )

    def open(self) -> Recommender:
        """Open the shop."""
        running = open_running(self.folder, self.file, outside=self.outside())
        return Recommender(running, lambda: msgspec.structs.replace(running.service.accept, now_ms=self.now_ms))

    def chance(self, probability: float) -> bool:
        """Return whether something happens."""
        return bool(self.dice.random() < probability)

    def item(self) -> str:
        """Return an item, the first ones more often."""
        return f"i{min(int(self.dice.geometric(0.05)), ITEMS) - 1}"

    def user(self) -> str:
        """Return somebody: who stays, who is to leave, or who has no name yet, or had none a while ago."""
        kind = self.dice.choice(["u", "gone", "anon"], p=[0.8, 0.1, 0.1])
        if kind == "anon":
            return f"anon{self.did['merge'] + self.dice.integers(-2, 2)}"
        return f"{kind}{self.dice.integers(0, USERS if kind == 'u' else LEAVING)}"


def served_shop(folder: Path, requests: int, seed: int = 1) -> Busy:
    """Let a shop be busy until at least so many requests are logged; return it, closed.

    Its first quarter has no models, the second some, the third a newer ranker, the last another state.
    """
    config = parse_config(BUSY)
    busy = Busy(folder, config, config, np.random.default_rng(seed))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "components.py").write_text(COMPONENTS)
    registry = Registry(DataFolder(folder / "data").models)
    for name in ("ranker", "buyer"):
        publish_linear(registry, name=name)
    publish_chain(registry, 3, items=ITEMS, prefix="i")
    with busy.open() as shop:
        shop.record([_stocked(busy, f"i{number}", f"c{number % CATEGORIES}") for number in range(ITEMS)])
        shop.record([_told_of(busy, f"u{number}") for number in range(USERS)])
    for phase in range(1, PHASES + 1):
        with busy.open() as shop:
            while len(busy.asked) < requests * phase // PHASES:
                _go_on(busy, shop)
        if phase == 1:
            asyncio.run(_promote(busy, "ranker", "buyer", "near"))
        elif phase == 2:
            publish_linear(registry, ("score.trending", "carts"))
            asyncio.run(_promote(busy, "ranker"))
        else:
            busy.file = parse_config(BUSY + LATER)
    return busy


async def _promote(busy: Busy, *names: str) -> None:
    """Put the newest versions of models in service."""
    running = open_running(busy.folder, busy.file, outside=busy.outside())
    await running.start()
    try:
        for name in names:
            await running.champions.promote(name)
    finally:
        await running.stop()


def _go_on(busy: Busy, shop: Recommender) -> None:
    """Let time pass and some things happen, then ask."""
    busy.now_ms += int(busy.dice.exponential(6_000)) + 1
    if busy.chance(0.03):
        busy.now_ms += 30 * 60_000
    shop.record([_happening(busy) for _ in range(int(busy.dice.integers(1, 8)))])
    for change, share in ((_merge, 0.03), (_erase, 0.03), (_set, 0.06), (_give_back, 0.04)):
        if busy.chance(share):
            change(busy, shop)
    kinds = list(QUESTIONS)
    kind = kinds[busy.dice.choice(len(kinds), p=[0.6, 0.1, 0.08, 0.08, 0.04, 0.1])]
    busy.did[kind] += 1
    for user, answer in QUESTIONS[kind](busy, shop):
        busy.asked[answer.request_id] = user


def _stocked(busy: Busy, item: str, category: str) -> dict[str, object]:
    """Return an event that says all of an item."""
    attributes: dict[str, object] = {
        "price": int(busy.dice.integers(0, ITEMS)),
        "stock": int(busy.dice.integers(0, 40)),
        "category": category,
        "tags": [str(each) for each in busy.dice.choice(["sale", "desk", "red"], int(busy.dice.integers(0, 3)))],
        "look": busy.dice.normal(size=4).round(3).tolist(),
        "available": not busy.chance(_SHARE / 3),
    }
    return {"type": "item", "item_id": item, "operation": "put", "attributes": attributes}


def _told_of(busy: Busy, user: str) -> dict[str, object]:
    """Return an event that says where somebody lives."""
    return {"type": "user", "user_id": user, "attributes": {"country": str(busy.dice.choice(["de", "fr", "it"]))}}


def _happening(busy: Busy) -> dict[str, object]:
    """Return an event of a busy shop."""
    kind = str(
        busy.dice.choice(
            ["view", "cart", "purchase", "impression", "item", "new", "delete", "user"],
            p=[0.58, 0.14, 0.1, 0.1, 0.04, 0.02, 0.005, 0.015],
        )
    )
    busy.did[kind] += 1
    if kind == "user":
        return _told_of(busy, busy.user())
    if kind == "new":
        number = ITEMS + busy.did["new"] % ITEMS
        return _stocked(busy, f"i{number}", f"c{number % CATEGORIES}")
    if kind == "delete":
        return {"type": "item", "item_id": busy.item(), "operation": "delete"}
    if kind == "item":
        return _stocked(busy, busy.item(), f"c{busy.dice.integers(0, CATEGORIES)}")
    act: dict[str, object] = {"type": kind, "user_id": busy.user(), "item_id": busy.item()}
    return act | ({"session_id": f"s{busy.dice.integers(0, 9)}"} if busy.chance(_SHARE) else {})


def _merge(busy: Busy, shop: Recommender) -> None:
    """Say who somebody without a name is."""
    source, target = f"anon{busy.did['merge']}", f"u{busy.dice.integers(0, USERS)}"
    shop.record({"type": "user", "user_id": target, "operation": "merge", "attributes": {"from": source}})
    busy.did["merge"] += 1


def _erase(busy: Busy, shop: Recommender) -> None:
    """Forget somebody; the log is not written anew."""
    user = f"gone{busy.dice.integers(0, LEAVING)}"
    shop.erase(user)
    busy.now_ms += 1  # what comes in the same millisecond counts as a late copy
    busy.asked = {request_id: who for request_id, who in busy.asked.items() if who != user}
    busy.did["erase"] += 1


def _told(name: str) -> dict[str, Any]:
    """Return the table of a placement of the file."""
    return next(each for each in tomllib.loads(BUSY)["placements"] if each["name"] == name)


def _set(busy: Busy, shop: Recommender) -> None:
    """Set a placement while questions to it are under way."""
    name = str(busy.dice.choice(NAMES[:-1]))
    told = _told(name) | {"slate_size": int(busy.dice.integers(3, 12))}
    if busy.chance(0.5):
        told["filter"] = f"item.price < {busy.dice.integers(30, 80)}"
    if busy.chance(0.5) and name != "own":  # whose own selector knows nothing of rules
        told["caps"] = [{"attribute": "category", "max": int(busy.dice.integers(1, 4)), "within": "1h"}]
    if busy.chance(0.2) and name != "own":
        told["selector"] = {"kind": "plackett_luce", "temperature": round(float(busy.dice.random()) + 0.1, 3)}
    _while_asked(busy, shop, name, lambda: shop.set_placement(name, told, author="ann"))
    busy.did["set"] += 1


def _give_back(busy: Busy, shop: Recommender) -> None:
    """Give a placement back to the file while questions to it are under way."""
    there = [each.placement for each in shop.placements() if each.origin == "api"]
    if there:
        name = str(busy.dice.choice(there))
        _while_asked(busy, shop, name, lambda: shop.remove_placement(name, author="bob"))
        busy.did["given back"] += 1


def _while_asked(busy: Busy, shop: Recommender, name: str, change: Callable[[], object]) -> None:
    """Ask a placement three times while something is changed, and something is recorded."""
    users, happening = [busy.user() for _ in range(3)], _happening(busy)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(shop.recommend, name, user_id=users[0])
        changing, recording = pool.submit(change), pool.submit(shop.record, happening)
        asked = [first, *(pool.submit(shop.recommend, name, user_id=user) for user in users[1:])]
    changing.result()
    recording.result()
    busy.asked |= {each.result().request_id: user for each, user in zip(asked, users, strict=True)}


Asked = list[tuple["str | None", Answer]]


def _alone(busy: Busy, shop: Recommender) -> Asked:
    """Ask for one slate."""
    name = str(busy.dice.choice(NAMES[:-1]))
    question = _question(busy)
    return [(question.get("user_id"), shop.recommend(name, **question))]


def _similar(busy: Busy, shop: Recommender) -> Asked:
    """Ask what is like one item."""
    told = (shop.item(busy.item()) for _ in range(ITEMS))  # some were deleted
    return [(None, shop.similar(str(next(each["item_id"] for each in told if each and each["attributes"]))))]


def _page(busy: Busy, shop: Recommender) -> Asked:
    """Ask for several slates at once."""
    names = [str(each) for each in busy.dice.permutation(NAMES[:-1])[: busy.dice.integers(2, 5)]]
    slots = [{"placement": name, "n": int(busy.dice.integers(1, 10))} for name in names]
    if busy.chance(_SHARE):
        slots[-1]["filter"] = "item.price > 10"
    user = busy.user()
    page = shop.page(slots, user_id=user, context={"channel": "app"})
    return [(user, each) for each in page.slates if isinstance(each, Answer)]


def _rank(busy: Busy, shop: Recommender) -> Asked:
    """Bring items of the caller in an order, some of which nobody knows."""
    items = [f"i{number}" for number in busy.dice.permutation(2 * ITEMS)[: busy.dice.integers(2, 60)]]
    user = busy.user()
    fields = {items[0]: {"margin": float(busy.dice.random())}}
    name = str(busy.dice.choice(NAMES[:-1]))
    return [(user, shop.rank(items, name, user_id=user, item_fields=fields))]


def _many(busy: Busy, shop: Recommender) -> Asked:
    """Ask the same for several users."""
    users = [busy.user() for _ in range(3)]
    answers = shop.recommend_many(users, str(busy.dice.choice(NAMES[:-1])), n=5)
    return [(user, each) for user, each in zip(users, answers, strict=True) if isinstance(each, Answer)]


def _on_and_on(busy: Busy, shop: Recommender) -> Asked:
    """Ask for a slate and go on in it, while things happen between."""
    user, name = busy.user(), str(busy.dice.choice(NAMES[:-1]))
    answer = shop.recommend(name, user_id=user, n=4, cursor=True)
    found: Asked = [(user, answer)]
    while answer.cursor is not None and len(found) <= TURNS:
        shop.record([_happening(busy), _happening(busy)])
        busy.now_ms += 2_000
        answer = shop.recommend(name, cursor=answer.cursor)
        found.append((user, answer))
    return found


QUESTIONS: dict[str, Callable[[Busy, Recommender], Asked]] = {
    "alone": _alone,
    "similar": _similar,
    "page": _page,
    "rank": _rank,
    "many": _many,
    "cursor": _on_and_on,
}


def _question(busy: Busy) -> Request:
    """Return what a slate is asked with."""
    channel = str(busy.dice.choice(["app", "web"]))
    question: Request = {"n": int(busy.dice.integers(1, 20)), "context": {"channel": channel}}
    if not busy.chance(0.1):
        question["user_id"] = busy.user()
    if busy.chance(_SHARE):
        question["filter"] = "item.price < context.budget"
        question["context"] = {"channel": channel, "budget": 40}
    if busy.chance(_SHARE):
        question["exclude"] = [f"i{number}" for number in busy.dice.integers(0, ITEMS, 5)]
    if busy.chance(_SHARE):
        question["items"], question["session_id"] = ["i1", "i2"], "s"
    return question
