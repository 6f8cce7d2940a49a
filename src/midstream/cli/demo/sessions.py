"""Sessions of the demo: clicks in time order, from a file or from the simulator."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from midstream.app.mapping.batches import read_events
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.mapping.readers import header_of
from midstream.core.errors import Fault, Invalid
from midstream.core.kinds import RESERVED_TYPES

ROWS_MAX = 500_000
"""Rows read of a file: 1,000 clicks a second for the two minutes of a demo, and ample room."""
SESSION_GAP_MS = 1_800_000
"""Without session ids a user's silence of 30 min ends a session, as in the engine."""
CLICKS_MAX = 60
"""Of one session; robots click more."""


@dataclass(frozen=True, slots=True)
class DemoSession:
    """One visit: clicked items, oldest first."""

    session_id: str
    user_id: str | None
    clicks: tuple[str, ...]
    action: str = "view"


@dataclass(frozen=True, slots=True)
class DemoData:
    """Sessions to replay."""

    name: str
    note: str
    """Where it comes from, in a sentence."""
    sessions: tuple[DemoSession, ...]
    items: Mapping[str, dict[str, object]] = field(default_factory=dict[str, dict[str, object]])
    """Attributes by item id, as far as they are known."""

    def label(self, item_id: str) -> str:
        """Return an item with its attributes as text."""
        known = self.items.get(item_id, {})
        colour, category, price = (known.get(name) for name in ("colour", "category", "price"))
        words = " ".join(str(each) for each in (colour, category) if each is not None)
        cost = f"${price:,.2f}".removesuffix(".00") if isinstance(price, int | float) else ""
        about = ", ".join(each for each in (words, cost) if each)
        return f"{item_id} ({about})" if about else item_id


def find_data(file: Path | None, columns: ColumnOptions, session_count: int) -> DemoData:
    """Return the sessions of the named file, else those of a simulated shop.

    Raises:
        Invalid: The file cannot be read with these options, or has no session.
    """
    return simulated(session_count) if file is None else from_file(file, columns, session_count)


def from_file(path: Path, columns: ColumnOptions, session_count: int) -> DemoData:
    """Return the first sessions of a file, in the order in which they begin."""
    header = header_of(path)
    if header and "type" not in {*header, *columns.columns, *columns.constants}:
        columns = replace(columns, constants={**columns.constants, "type": "view"})
    events = list(islice(read_events(path, columns, {"price": "number"}), ROWS_MAX))
    items = {str(each["item_id"]): _attributes(each) for each in events if "item_id" in each}
    sessions = tuple(islice(sessions_of(events), session_count))
    if not sessions:
        came = f"None of {len(events)} rows has an item and a session or user."
        raise Invalid((Fault(path.name, came, "--map item_id=COLUMN and --map session_id=COLUMN", "/docs/data.md"),))
    return DemoData(path.name, "your file", sessions, items)


def _attributes(event: Mapping[str, object]) -> dict[str, object]:
    told = event.get("attributes")
    return {str(k): v for k, v in told.items()} if isinstance(told, dict) else {}  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]


def sessions_of(events: list[dict[str, object]]) -> Iterator[DemoSession]:
    """Yield the sessions of events, in the order in which they begin; rows of other kinds are passed over."""
    rows = [each for each in events if "item_id" in each and str(each.get("type", "view")) not in RESERVED_TYPES]
    timed = [(_time_ms(each.get("time")), each) for each in rows]
    if all(time_ms is not None for time_ms, _ in timed):
        timed.sort(key=lambda pair: pair[0] or 0)
    clicks: dict[str, list[str]] = {}
    users: dict[str, str] = {}
    last_ms: dict[str, int] = {}
    visit: dict[str, int] = {}
    for time_ms, each in timed:
        user = each.get("user_id")
        key = str(each.get("session_id") or "")
        if not key:
            if user is None:
                continue
            name = str(user)
            now_ms = time_ms or 0
            visit[name] = visit.get(name, 0) + (now_ms - last_ms.get(name, now_ms) > SESSION_GAP_MS)
            last_ms[name] = now_ms
            key = f"{name}/{visit[name]}"
        if user is not None:
            users[key] = str(user)
        clicks.setdefault(key, []).append(str(each["item_id"]))
    for key, items in clicks.items():
        yield DemoSession(key, users.get(key), tuple(items[:CLICKS_MAX]))


def _time_ms(value: object) -> int | None:
    """Return a time, as events may have it, in milliseconds; None = there is none."""
    if isinstance(value, int | float):
        return int(value)
    try:
        parsed = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1_000)


def simulated(session_count: int) -> DemoData:
    """Return the first visits of a simulated shop, whose visitors' tastes drift and whose catalogue grows."""
    from midstream.simulation.shop import ShopOptions, open_shop
    from midstream.simulation.world import World, visits

    world = World(ShopOptions(seed=20, start_ms=0, launch_every_ms=3_600_000))
    shop = open_shop(world.shop)
    sessions = tuple(
        DemoSession(
            visit.session_id,
            visit.user_id,
            tuple(shop.item_ids[act.product] for act in visit.acts if act.action == "view"),
        )
        for visit in islice(visits(world, shop), session_count)
    )
    items = {item_id: shop.attributes(product) for product, item_id in enumerate(shop.item_ids)}
    note = "visitors are simulated; --data FILE replays clicks of your own"
    return DemoData("simulated shop", note, sessions, items)
