"""Client actions: a table of small functions, each with a weight. A new part of the engine gets a line in ``ACTS``."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from midstream.core.answers.events import EventsAnswer, Result
from midstream.core.errors import (
    AppendFailed,
    CommitTooSlow,
    MidstreamError,
    NotFound,
    Overloaded,
    RequestInvalid,
    TooLarge,
)
from midstream.core.types import LogPosition
from midstream.engine.tokens import parse_position
from tests.support.dice import Dice
from tests.support.fuzz.conditions import STRICT_FILTER
from tests.support.fuzz.ledger import Broken, ServedSlate
from tests.support.fuzz.process import Process
from tests.support.fuzz.streams import BrokenOff, StreamBody, Streamed
from tests.support.fuzz.traffic import Traffic, TrafficBatch
from tests.support.fuzz.world import FuzzWorld, Unreachable

FILTERS = ("item.price < 30", 'item.category == "hats"', "item.fresh", STRICT_FILTER)
DOUBTFUL_MAX = 20
"""Batches whose fate is unknown, before a client sends nothing new."""
REMEMBERED_MAX = 30
"""Answers that a client remembers beside the last one, to say what followed."""
SENT_MAX = 50
"""Batches that a client remembers, to send them again."""


class Client:
    """Sends events and asks for slates; remembers what it was told, and sends again what it is in doubt about."""

    def __init__(self, world: FuzzWorld, number: int) -> None:
        """Begin with nothing sent."""
        self.world = world
        self.number = number
        self.dice = Dice(world.seed, 100 + number)
        self.traffic = Traffic(number, self.dice, lambda: int(world.wall()))
        self.doubtful: list[TrafficBatch] = []
        self.sent: list[TrafficBatch] = []
        self.position = LogPosition(0)
        """Highest log position that was named to this client."""

    async def live(self) -> None:
        """Act until the run has no steps left."""
        world = self.world
        while world.steps_left > 0:
            world.steps_left -= 1
            name = self.dice.weighted(world.conditions.acts)
            world.note(f"client {self.number}: {name}")
            world.met[name] += 1
            await ACTS[name].run(self)
            world.check()
            if self.dice.chance(0.1):
                world.mark()
            quiet_s = max(0.0, world.quiet_until_s - world.loop.time())
            await asyncio.sleep(quiet_s + 2 * self.dice.share() * world.conditions.pause_s)

    async def settle(self) -> None:
        """Send what is in doubt until all of it is acknowledged."""
        tries = 0
        while self.doubtful:
            await self.send(self.doubtful.pop(0))
            tries += 1
            if tries > 10 * DOUBTFUL_MAX:
                message = f"client {self.number} cannot get rid of its events though all is well"
                raise Broken(message)

    async def send(self, batch: TrafficBatch, patience_s: float | None = None) -> None:
        """Send a batch, for the first time or again."""
        if not batch.is_noted:
            batch.is_noted = True
            self.world.ledger.note_sent(batch)
            self.sent = [*self.sent[-SENT_MAX:], batch]
        body = batch.body()
        try:
            answer, position = await self.world.ask(lambda process: process.take(body), patience_s)
        except (Unreachable, Overloaded, AppendFailed, CommitTooSlow) as error:
            self.world.note(f"  {len(batch.events)} events: {type(error).__name__}")
            self.world.met[f"events: {type(error).__name__}"] += 1
            if isinstance(error, AppendFailed):
                self.world.alarm.set()
            if batch not in self.doubtful and not batch.is_bad:
                self.doubtful.append(batch)
        except (RequestInvalid, TooLarge) as error:
            if not batch.is_bad:
                raise Broken(f"events that are right were refused: {error}") from error
        else:
            self.note_answer(batch, answer, position)

    def note_answer(self, batch: TrafficBatch, answer: EventsAnswer, position: LogPosition) -> None:
        """Keep what was acknowledged."""
        self.world.note(f"  {answer.recorded} recorded, {answer.duplicates} twice, at {position}")
        self.world.met["duplicates"] += answer.duplicates
        self.world.met["conflicts"] += answer.conflicts
        self.world.met["rejected"] += len(answer.rejected)
        may_refuse = batch.is_bad or self.world.met["erase"] or self.world.conditions.may_refuse
        if answer.rejected and not may_refuse:
            raise Broken(f"an event that is right was refused: {answer.rejected[0]}")
        self.position = max(self.position, position)
        self.world.ledger.note_answer(batch, answer, position)

    async def stream(self, batch: TrafficBatch, *, is_cut: bool) -> None:
        """Send a batch as a stream, which may break off anywhere: what was recorded before that stays."""
        batch.is_noted = True
        self.world.ledger.note_sent(batch)
        self.sent = [*self.sent[-SENT_MAX:], batch]
        content = batch.lines()
        body = StreamBody(content, 64 + self.dice.few(4_000), self.dice.below(len(content)) if is_cut else None)
        try:
            told = await self.world.ask(lambda process: process.stream(body, batch.noun))
        except Unreachable:
            self.world.note(f"  {len(batch.events)} events: Unreachable")
        else:
            self.note_streamed(batch, told, is_cut=is_cut)
        if not batch.acknowledged and not batch.is_bad:
            self.doubtful.append(batch)

    def note_streamed(self, batch: TrafficBatch, told: Streamed, *, is_cut: bool) -> None:
        """Keep what was acknowledged of a stream, and check that the rest is missing for a reason."""
        failure = type(told.failure).__name__ if told.failure is not None else "whole"
        self.world.note(f"  {len(told.results)} of {len(batch.events)} events: {failure}")
        self.world.met[f"stream: {failure}"] += 1
        if isinstance(told.failure, AppendFailed):
            self.world.alarm.set()
        elif isinstance(told.failure, BrokenOff) and is_cut:
            self.world.met["stream: broken off behind a piece"] += bool(told.results)
        elif told.failure is not None and not isinstance(told.failure, Overloaded | CommitTooSlow):
            raise Broken(f"a stream ended by {told.failure!r}")
        numbers = sorted(result.index for _, result in told.results)
        expected = range(len(batch.events)) if told.failure is None else dict.fromkeys(numbers)
        if numbers != list(expected):
            raise Broken(f"of a stream of {len(batch.events)} events these have an outcome: {numbers}")
        may_refuse = batch.is_bad or self.world.met["erase"] or self.world.conditions.may_refuse
        for position, result in told.results:
            self.world.ledger.note_result(batch.events[result.index], result.outcome, position)
            self.position = max(self.position, position)
            if result.outcome == "rejected" and not may_refuse:
                raise Broken(f"an event that is right was refused: {batch.events[result.index]}")
        batch.acknowledged = len(told.results) == len(batch.events)

    async def ask(self, question: Mapping[str, object]) -> dict[str, Any] | None:
        """Ask for a slate; return it as it came, None when none came."""
        began = self.world.loop.time()
        try:
            slate = await self.world.ask(lambda process: process.recommend(json.dumps(question).encode()))
        except (Unreachable, Overloaded) as error:
            self.world.note(f"  no slate: {type(error).__name__}")
            self.world.met[f"slate: {type(error).__name__}"] += 1
            return None
        except RequestInvalid as error:
            raise Broken(f"a question that is right was refused: {error}") from error
        items = tuple(item["id"] for item in slate["items"])
        self.world.note(f"  {slate['tier']} of {slate['position']}: {' '.join(items)}")
        self.world.met[f"slate: {slate['tier']}"] += 1
        self.world.met["slate: empty"] += not items
        self.world.met["own writes not seen in time"] += slate.get("read_your_writes") is False
        found = ServedSlate(
            slate["request_id"], slate["position"], question, items, slate["fold_version"], slate["generation"]
        )
        self.world.ledger.answers.append(found)
        self.traffic.request_ids = [*self.traffic.request_ids[-REMEMBERED_MAX:], (found.request_id, items)]
        self._check_own_writes(question, slate, self.world.loop.time() - began)
        return slate

    def _check_own_writes(self, question: Mapping[str, object], slate: Mapping[str, Any], took_s: float) -> None:
        wanted = question.get("min_log_position")
        if wanted is None:
            return
        position = self._position_of(str(wanted))
        if position is None:
            return
        if slate["read_your_writes"] and slate["position"] < position:
            raise Broken(f"a slate of {slate['position']} says that it has seen {position}")
        if not slate["read_your_writes"] and took_s < 0.004:
            raise Broken(f"after {took_s} s the engine gave up waiting for {position}")

    def _position_of(self, token: str) -> LogPosition | None:
        """Return the position that a token names, None when the log was written anew since."""
        return parse_position(token, self.world.generation, 1 << 60)

    def question(self) -> dict[str, object]:
        """Return a question, most of its fields left out."""
        dice = self.dice
        found: dict[str, object] = {"n": 1 + dice.below(8)}
        if dice.chance(0.3):
            found["placement"] = "strict"
        elif dice.chance(0.5):
            found["placement"] = "default"
        if dice.chance(0.7):
            found["user_id"] = self.traffic.user()
        if dice.chance(0.6):
            found["session_id"] = self.traffic.session()
        if dice.chance(0.3):
            found["items"] = [self.traffic.item() for _ in range(1 + dice.below(3))]
        if dice.chance(0.1):
            found |= {"placement": "similar", "items": [self.traffic.item()]}
        if dice.chance(0.2):
            found["context"] = {"page": dice.choice(("home", "list", "cart"))}
        if dice.chance(0.3):
            found["exclude"] = [self.traffic.item() for _ in range(1 + dice.below(6))]
        if dice.chance(0.3):
            found["filter"] = dice.choice(FILTERS)
        if dice.chance(0.2):
            found["deadline"] = dice.choice(("5ms", "100ms", "5s"))
        if dice.chance(0.2):
            found["fields"] = ["price", "category"]
        return found


async def send_acts(client: Client) -> None:
    """Send some acts, unless there is much in doubt already."""
    if len(client.doubtful) < DOUBTFUL_MAX:
        await client.send(client.traffic.acts(1 + client.dice.few(6)))


async def send_outcomes(client: Client) -> None:
    """Say what followed a slate, soon or late."""
    if client.traffic.request_ids and len(client.doubtful) < DOUBTFUL_MAX:
        await client.send(client.traffic.outcomes(1 + client.dice.few(5)))


async def send_changes(client: Client) -> None:
    """Change the catalogue and profiles."""
    if len(client.doubtful) < DOUBTFUL_MAX:
        await client.send(client.traffic.changes(1 + client.dice.few(5)))


async def send_bad(client: Client) -> None:
    """Send what cannot be used."""
    await client.send(client.traffic.bad(1 + client.dice.below(4)))


async def send_again(client: Client) -> None:
    """Send what is in doubt, or else something that was sent before."""
    if client.doubtful:
        await client.send(client.doubtful.pop(client.dice.below(len(client.doubtful))))
    elif client.sent:
        await client.send(client.dice.choice(client.sent))


async def send_twice(client: Client) -> None:
    """Send one batch twice at once, as a client does that gave up waiting."""
    batch = client.traffic.acts(1 + client.dice.below(5))
    await asyncio.gather(client.send(batch), client.send(batch))


async def send_other_content(client: Client) -> None:
    """Send something else under the id of an event that was recorded."""
    known = [batch for batch in client.sent if batch.acknowledged and batch.events]
    if known:
        old = client.dice.choice(client.dice.choice(known).events)
        event_id = old.get("event_id")
        other = client.traffic.acts(1)
        other.is_whole = False
        if event_id is not None and "items" not in old and "items" not in other.events[0]:
            other.events[0]["event_id"] = event_id
            await client.send(other)


async def send_impatiently(client: Client) -> None:
    """Send some acts and go away before there is an answer."""
    if len(client.doubtful) < DOUBTFUL_MAX:
        await client.send(client.traffic.acts(1 + client.dice.below(3)), client.dice.between(0.0, 0.02))


async def burst(client: Client) -> None:
    """Send more at once than may wait."""
    if len(client.doubtful) < DOUBTFUL_MAX:
        batches = [client.traffic.acts(1 + client.dice.below(20)) for _ in range(4 + client.dice.below(6))]
        await asyncio.gather(*(client.send(batch) for batch in batches))


async def ask(client: Client) -> None:
    """Ask for a slate."""
    await client.ask(client.question())


async def ask_many(client: Client) -> None:
    """Ask for several slates at once, each of them having seen all that is in the log."""
    process = client.world.process
    if process is not None and process.is_serving:
        token = process.engine.token(process.engine.log.end)
        questions = [{**client.question(), "min_log_position": token} for _ in range(2 + client.dice.below(9))]
        await asyncio.gather(*(client.ask(question) for question in questions))


async def write_and_ask(client: Client) -> None:
    """Send some acts, then ask for a slate that has seen them."""
    await send_acts(client)
    process = client.world.process
    if client.position and process is not None and process.is_serving:
        token = process.engine.token(client.position)
        await client.ask({**client.question(), "min_log_position": token})


async def ask_with_events(client: Client) -> None:
    """Send acts along with a question."""
    batch = client.traffic.acts(1 + client.dice.below(3))
    batch.is_noted = True
    client.world.ledger.note_sent(batch)
    slate = await client.ask({**client.question(), "events": batch.events})
    told = None if slate is None else slate.get("events")
    if slate is None or told is None:
        client.doubtful.append(batch)
    elif told["recorded"] + told["duplicates"] == len(batch.events):
        every = tuple(Result(number, "recorded") for number in range(len(batch.events)))
        client.note_answer(
            batch, EventsAnswer(told["recorded"], told["duplicates"], (), results=every), slate["position"]
        )


async def merge(client: Client) -> None:
    """Say that two users are one."""
    await client.send(client.traffic.merge())


async def erase(client: Client) -> None:
    """Have a user forgotten."""
    user = client.traffic.user()
    try:
        await client.world.ask(lambda process: process.erase(user))
    except (Unreachable, Overloaded, AppendFailed) as error:
        client.world.note(f"  {user} not erased: {type(error).__name__}")


async def stream(client: Client) -> None:
    """Send a stream of acts, items or users; it may break off."""
    if len(client.doubtful) < DOUBTFUL_MAX:
        batch = client.traffic.stream(3 + client.dice.below(18))
        await client.stream(batch, is_cut=client.dice.chance(0.4))


async def send_letters(client: Client) -> None:
    """Have one or all of the events that were rejected sent again."""
    try:
        letters, told, end = await client.world.ask(lambda process: process.retry(client.dice))
    except (Unreachable, Overloaded, AppendFailed, CommitTooSlow, OSError) as error:
        client.world.note(f"  letters: {type(error).__name__}")
        if isinstance(error, AppendFailed):
            client.world.alarm.set()
        return
    client.world.note(f"  {told}")
    client.world.met["letters recorded"] += told.recorded
    client.world.met["letters refused"] += told.refused
    if told.tried != told.recorded + told.duplicates + told.refused:
        raise Broken(f"of {told.tried} letters this became: {told}")
    in_log = told.recorded + told.duplicates == told.tried
    for letter in letters:
        client.world.ledger.note_resent(letter, end if in_log else None)


async def look_up(client: Client) -> None:
    """Read an item, a user and an answer that was given."""
    item, user = client.traffic.item(), client.traffic.user()

    async def read(process: Process) -> None:
        process.engine.item(item)
        process.engine.user(user)
        process.engine.refresh_metrics()
        for answer in client.world.ledger.answers[-3:]:
            record = process.engine.served(answer.request_id)
            if record is not None and tuple(each.id for each in record.items) != answer.items:
                raise Broken(f"{answer.request_id} was answered with {answer.items}, kept is {record.items}")

    try:
        await client.world.ask(read)
    except (Unreachable, NotFound, OSError) as error:
        client.world.note(f"  nothing read: {type(error).__name__}")


class ClientAction(NamedTuple):
    """One thing that a client may do."""

    weight: float
    run: Callable[[Client], Awaitable[None]]


ACTS: Mapping[str, ClientAction] = {
    "acts": ClientAction(10.0, send_acts),
    "outcomes": ClientAction(2.5, send_outcomes),
    "changes": ClientAction(4.0, send_changes),
    "bad": ClientAction(1.0, send_bad),
    "again": ClientAction(2.0, send_again),
    "twice": ClientAction(1.5, send_twice),
    "other content": ClientAction(0.7, send_other_content),
    "impatient": ClientAction(1.0, send_impatiently),
    "burst": ClientAction(0.4, burst),
    "ask": ClientAction(6.0, ask),
    "ask many": ClientAction(0.7, ask_many),
    "write and ask": ClientAction(4.0, write_and_ask),
    "ask with events": ClientAction(2.0, ask_with_events),
    "stream": ClientAction(0.5, stream),
    "letters": ClientAction(0.7, send_letters),
    "merge": ClientAction(0.7, merge),
    "erase": ClientAction(0.3, erase),
    "look up": ClientAction(1.0, look_up),
}


async def is_well(client: Client) -> bool:
    """Return whether events are taken, slates are whole, and everything durable is applied."""
    probe = client.traffic.acts(1)
    await client.send(probe)
    slate = await client.ask({"n": 1, "deadline": "5s"})
    process = client.world.process
    if not probe.acknowledged or slate is None or process is None or not process.is_serving:
        return False
    try:
        health = process.engine.health()
    except MidstreamError:
        return False
    await asyncio.sleep(5)  # a write that began while the disk was slow takes as long as it would have
    if not process.is_dead and process.engine.served(slate["request_id"]) is None:
        raise Broken(f"5 s after the answer nothing is kept of {slate['request_id']}")
    positions = health.applied_log_position == health.log_position
    return positions and health.accepts_events and health.ready and slate["tier"] == "full"
