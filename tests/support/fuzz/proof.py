"""The log read a second time, from its beginning: what everybody was told during the run must follow from it.

The fold goes through the log in other batches than the live one did, and stops wherever something was promised: where
the live state was digested, where a slate was made. Each logged request is answered again there, the values of features
that were kept with it are read again as of then, and what came of slates is compared with dictionaries.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from midstream.app.point_in_time.parity import compare
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.erasure.log_rewrite import receipts
from midstream.engine.erasure.redaction import NEUTRAL
from midstream.events.disk import RealDisk
from midstream.events.schema import Event, concat, event_at
from midstream.events.segments.segment_reader import SegmentReader
from midstream.features.as_of import FoldCursor, PointInTimeQuestion, as_of
from midstream.features.parity import Parity, comparable
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.plan import Plan
from midstream.ranking.record.served import ServedRecord, decode_served, encode_served
from midstream.ranking.rules.traces import pack_traces
from midstream.state.fold import Fold
from tests.support.dice import Dice
from tests.support.fuzz.conditions import STRICT_FILTER
from tests.support.fuzz.joined import check_forgotten, check_join
from tests.support.fuzz.ledger import Broken, Ledger, Mark, ServedSlate
from tests.support.fuzz.letters import check_letters
from tests.support.fuzz.model import ExpectedState, SeenIds, Sold
from tests.support.fuzz.traffic import USERS, face_of
from tests.support.fuzz.world import FuzzWorld

CUT_MAX = 40
"""Events in the largest batch of the second reading."""
_OF_A_LETTER = "dead-letter:"


async def prove(world: FuzzWorld, end: LogPosition) -> None:
    """Check the log of ``world``, which ends at ``end``, against its ledger.

    Raises:
        Broken: A promise was not kept; the text says which and where.
    """
    reader = SegmentReader(world.data.log, RealDisk())
    batch = concat([each for _, each in reader.read(LogPosition(0), max(1, end), end)])
    events = [event_at(batch, row) for row in range(len(batch))]
    if len(events) != end:
        raise Broken(f"the log holds {len(events)} events of {end}")
    lasting = world.conditions.lasting
    check_times(events)
    check_copies(events, lasting.event_ids_max)
    may_refuse = world.conditions.may_refuse or world.met["erase"] > 0
    check_acknowledged(events, world.ledger, may_refuse=may_refuse, is_rewritten=reader.identity.generation > 0)
    check_order(events)
    check_letters(world.data.dead_letters, receipts(world.data), world.ledger.forgotten)
    log = _Log(batch, events, reader.identity.generation)
    versions = {each.fold_version for each in world.ledger.marks if each.generation == log.generation}
    versions.update(each.fold_version for each in world.ledger.answers if each.generation == log.generation)
    for number, version in enumerate(sorted(versions)):
        reading = _Reading(log, world.ledger, version, Dice(world.seed, 60, number))
        await reading.run()
        world.met.update(reading.met)


class _Log(NamedTuple):
    batch: EventBatch
    events: Sequence[Event]
    """The same."""
    generation: int
    """What was seen of an earlier writing of the log cannot be proven by this one."""


def check_times(events: Sequence[Event]) -> None:
    """Log time never goes back."""
    last = 0
    for position, event in enumerate(events):
        if event.log_time_ms < last:
            raise Broken(f"log time goes back from {last} to {event.log_time_ms} at {position}")
        last = event.log_time_ms


def check_copies(events: Sequence[Event], ids_max: int) -> None:
    """No event stands in the log twice while its id is remembered."""
    seen = SeenIds(ids_max)
    for position, event in enumerate(events):
        if not seen.is_new(event):
            raise Broken(f"a second copy of {event.event_id or event!r} stands at {position}")


def check_acknowledged(events: Sequence[Event], ledger: Ledger, *, may_refuse: bool, is_rewritten: bool) -> None:
    """What was acknowledged is there, as it was sent, and of each request all or nothing.

    In a log that was written anew nobody can say from outside whose events were blanked: there it is checked for the
    catalogue alone, and for ids that nothing else was sent under: copies of a blanked event get another.
    """
    places: dict[str, int] = {}
    for position, event in enumerate(events):
        if event.event_id:
            places.setdefault(event.event_id, position)
            is_resent = event.event_id.startswith(_OF_A_LETTER)  # it was sent without an id, and got one
            sent = ledger.nameless if is_resent else ledger.faces.get(event.event_id, [])
            if not event.event_id.startswith(NEUTRAL) and face_of(event) not in sent:
                raise Broken(f"nobody sent what stands at {position}: {event!r}")
    for row_id, position in ledger.acknowledged.items():
        kinds = {face[0].partition(" ")[0] for face in ledger.faces.get(row_id, ())}
        may_be_blank = is_rewritten and kinds != {"item"}
        if places.get(row_id, position) >= position and not may_be_blank:
            raise Broken(f"{row_id} was acknowledged at {position} and is not before it, but at {places.get(row_id)}")
    for ids, position in () if is_rewritten else ledger.orders:
        if all(places.get(row_id, position) >= position for row_id in ids):
            raise Broken(f"an order was acknowledged at {position}, and none of {ids} is before it")
    if may_refuse:  # what was refused once may be taken when it is sent again
        return
    for ids in ledger.whole:
        found = [places[row_id] for row_id in ids if row_id in places]
        if found and len(found) < len(ids):
            raise Broken(f"of one request only some is in the log: {found} of {ids}")
        if found and len({events[place].log_time_ms for place in found}) > 1:
            raise Broken(f"one request is in several commits: {found} of {ids}")


def check_order(events: Sequence[Event]) -> None:
    """What follows from an answer stands behind the answer's own record."""
    served = {event.request_id: position for position, event in enumerate(events) if event.kind == Kind.SERVED}
    for position, event in enumerate(events):
        if event.kind == Kind.INTERACTION and served.get(event.request_id, -1) > position:
            raise Broken(f"the act at {position} stands before the slate that it follows from: {event.request_id}")


class _Reading:
    """One pass through the log, under the settings of one fold version."""

    def __init__(self, log: _Log, ledger: Ledger, version: str, dice: Dice) -> None:
        settings, dropped = ledger.services[version]
        self._log = log
        self._dice = dice
        self._fold = Fold(settings, dropped)
        self._cursor = FoldCursor(self._fold, [(LogPosition(0), log.batch)])
        self.met: Counter[str] = Counter()
        """What was compared, and how often."""
        self._model = ExpectedState(settings, dropped)
        self._plans = ledger.plans
        self._accepts = settings.unknown_items == "accept"
        self._marks: defaultdict[int, list[Mark]] = defaultdict(list)
        self._answers: defaultdict[int, list[ServedSlate]] = defaultdict(list)
        self._records: defaultdict[int, list[tuple[ServedRecord, bytes]]] = defaultdict(list)
        self._kept: dict[str, ServedRecord] = {}
        for mark in ledger.marks:
            if mark.fold_version == version and mark.generation == log.generation:
                self._marks[mark.position].append(mark)
        for answer in ledger.answers:
            if answer.fold_version == version and answer.generation == log.generation:
                self._answers[answer.position].append(answer)
        known = {answer.request_id for answer in ledger.answers if answer.generation == log.generation}
        for event in log.events:
            if event.kind == Kind.SERVED and (not log.generation or event.request_id in known):
                record = decode_served(event.body)
                if record.fold_version == version:
                    self._records[record.log_position].append((record, event.body))
                    self._kept[record.query.request_id] = record

    async def run(self) -> None:
        end = len(self._log.events)
        position = 0
        for stop in sorted({*self._marks, *self._answers, *self._records}):
            if stop > end:
                raise Broken(f"somebody saw position {stop} of a log that ends at {end}")
            while position < stop:
                then = min(stop, position + 1 + self._dice.few(CUT_MAX))
                self._cursor.to_position(LogPosition(then))
                for event in self._log.events[position:then]:
                    self._model.fold(event)
                position = then
            self._check_marks(stop)
            for record, body in self._records[stop]:
                await self._check_record(record, body)
            for answer in self._answers[stop]:
                self._check_answer(answer)

    def _check_marks(self, position: int) -> None:
        if not self._marks[position]:
            return
        digest = self._fold.digest()
        for mark in self._marks[position]:
            if mark.digest != digest:
                raise Broken(f"the state at {position} was {mark.digest}; folded from the beginning it is {digest}")
        vocabulary = self._fold.vocabulary
        known = {self._model.who(user) for user in _every_user() if vocabulary.user_index(user) >= 0}
        if known != set(self._model.users):
            raise Broken(f"at {position} these users differ: {sorted(known ^ set(self._model.users))}")
        outcomes = self._fold.outcomes
        check_join(outcomes, self._model.join, position)
        check_forgotten(outcomes, self._model.erased_at, position)
        self.met.update(f"slates: {name}" for name, count in self._model.join.totals.items() if count)
        self.met["slates: outcomes wait"] += outcomes.waiting_count > 0

    async def _check_record(self, record: ServedRecord, body: bytes) -> None:
        """A logged request comes out the same when it is answered again, and nothing disappears in it."""
        name = record.query.request_id
        plan = self._plans[record.config_hash, record.fold_version][record.query.placement]
        again = await rerun(plan, partial(self._fold.moment, models=plan.models), record)
        again = replace(again, took_us=record.took_us)  # a measurement, and no content
        found = encode_served(
            again,
            self._fold.vocabulary.item_ids(again.candidates.item_index[again.selection.chosen]),
            pack_traces(again, self._fold.vocabulary),
        )
        if found != body:
            told = decode_served(found)
            raise Broken(f"{name} at {record.log_position} comes out otherwise: {told} was {record}")
        if record.retrieved_count != sum(record.removed.values()) + record.candidate_count:
            raise Broken(f"{name}: {record.retrieved_count} retrieved, {record.removed}, {record.candidate_count} left")
        if len(record.items) > min(record.candidate_count, record.query.slate_size):
            raise Broken(f"{name}: {len(record.items)} served of {record.candidate_count}")
        if not all(0 < item.propensity <= 1 for item in record.items):
            raise Broken(f"{name}: propensities {[item.propensity for item in record.items]}")
        self._check_features(plan, record)

    def _check_features(self, plan: Plan, record: ServedRecord) -> None:
        """What was kept of features is what is read as of then, of the items of the slate alone."""
        if (record.features is not None) != bool(plan.features):
            raise Broken(f"{record.query.request_id}: {plan.features} are read, logged is {record.features}")
        if record.features is None:
            return
        block = plan.declared.block(comparable(plan.declared))
        question = PointInTimeQuestion(record.query, tuple(item.id for item in record.items), record.log_position)
        parity = Parity()
        for answer in as_of(self._cursor, [question], block.read, plan.models):
            compare(parity, record, answer, block.names)
        if parity.mismatched:
            worst = [each for column in parity.columns.values() for each in column.examples]
            raise Broken(f"at {record.log_position} features were not as they are read as of then: {worst}")
        self.met["values as of then"] += parity.compared

    def _check_answer(self, answer: ServedSlate) -> None:
        """A slate holds nothing that may not be served, and something where anything may."""
        record = self._kept.get(answer.request_id)
        if record is not None and tuple(item.id for item in record.items) != answer.items:
            raise Broken(f"{answer.request_id} was {answer.items}, logged is {record.items}")
        if len(set(answer.items)) < len(answer.items):
            raise Broken(f"{answer.request_id} holds an item twice: {answer.items}")
        for item in answer.items:
            if why := self._why_not(item, answer.ask):
                raise Broken(f"{answer.request_id} at {answer.position} holds {item}, which is {why}: {answer.ask}")
        if not answer.items and (missed := self._eligible(answer.ask)):
            raise Broken(f"{answer.request_id} at {answer.position} is empty, and could hold {missed}: {answer.ask}")

    def _why_not(self, item: str, ask: Mapping[str, object]) -> str:
        """Return why an item may not be in an answer, empty = it may."""
        sold = self._model.catalogue.get(item)
        if item in self._model.deleted:
            return "excluded" if item in _list(ask, "exclude") else ""
        if sold is None:
            return "" if self._accepts else "not in the catalogue"
        if not sold.is_available:
            return "deleted or not available"
        if item in _list(ask, "exclude"):
            return "excluded"
        if ask.get("placement") == "strict" and not _passes(STRICT_FILTER, sold):
            return "filtered out by the placement"
        return "" if _passes(str(ask.get("filter", "")), sold) else "filtered out by the request"

    def _eligible(self, ask: Mapping[str, object]) -> list[str]:
        """Return items that may be in an answer for certain: nobody who asks has ever touched them."""
        touched = self._model.touched[f"user:{self._model.who(str(ask.get('user_id', '')))}"]
        touched = touched | self._model.touched[f"session:{ask.get('session_id', '')}"]
        ruled_out = touched.union(_list(ask, "items"))
        ruled_out |= self._model.deleted
        return [item for item in self._model.catalogue if item not in ruled_out and not self._why_not(item, ask)]


def _list(ask: Mapping[str, object], name: str) -> Sequence[str]:
    found = ask.get(name, ())
    return found if isinstance(found, list) else ()  # pyright: ignore[reportUnknownVariableType]


def _passes(text: str, sold: Sold) -> bool:
    """Return whether an item passes one of the filters that are asked with."""
    price = sold.value("price")
    match text:
        case "":
            return True
        case "item.price < 30":
            return isinstance(price, float | int) and price < 30
        case "item.price <= 50":
            return isinstance(price, float | int) and price <= 50
        case 'item.category == "hats"':
            return sold.value("category") == "hats"
        case "item.fresh":
            return sold.value("fresh") is True
        case _:
            raise Broken(f"nobody knows what passes {text}")


def _every_user() -> Iterable[str]:
    return (f"u{number}" for number in range(USERS + 1))
