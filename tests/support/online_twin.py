"""What goes on learning in the state, in dictionaries: the paper's algorithm, one event after another."""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from midstream.core.kinds import Kind
from midstream.events.schema import Event
from midstream.events.served_body import decode_body
from midstream.models.rows.ftrl import Ftrl
from midstream.models.rows.online_sums import HEAD, OnlineSums, binning_of, part_count
from midstream.state.structures.logistic import logistic
from tests.support.online import (
    FEW,
    ITEMS,
    MODEL,
    NUMBER,
    OPTIONS,
    OTHER,
    SLATES,
    SMALL,
    VALUES,
    WAIT_MS,
    WINDOW_MS,
)

Sums = dict[object, float]
PLAIN: Callable[[float], float] = logistic.py_func  # type: ignore[attr-defined]


@dataclass
class Position:
    """One position of a slate."""

    item: str
    seen: bool = False
    clicked: bool = False
    learned: str = ""
    expected: float = 0.0


@dataclass
class Slate:
    """One slate."""

    version: Ftrl
    time_ms: int
    place: int
    positions: list[Position]
    seen: bool = False
    settled: bool = False


@dataclass
class Reference:
    """The sums of a version and what is held, one event after another."""

    z: Sums = field(default_factory=dict[object, float])
    n: Sums = field(default_factory=dict[object, float])
    version: Ftrl | None = None
    binning: int = 0
    name: str = ""
    slates: OrderedDict[str, Slate] = field(default_factory=OrderedDict[str, Slate])
    waiting: list[tuple[int, Event]] = field(default_factory=list[tuple[int, Event]])
    corrected: int = 0
    ids: set[str] = field(default_factory=set[str])

    def add(self, event: Event) -> None:
        now = event.log_time_ms
        self.pass_time(now)
        if event.event_id in self.ids:
            return
        self.ids.add(event.event_id)
        if event.kind == Kind.CONTROL:
            self.promote(event)
        elif event.kind == Kind.SERVED and self.version is not None and event.request_id not in self.slates:
            self.serve(event)
        elif event.kind in {Kind.IMPRESSION, Kind.INTERACTION} and event.request_id and self.version is not None:
            if event.request_id in self.slates:
                self.note(self.slates[event.request_id], event, now)
            else:
                self.waiting = [*self.waiting, (now, event)][-SMALL.outcomes_waiting_max :]

    def pass_time(self, now: int) -> None:
        for slate in self.slates.values():
            if now - slate.time_ms >= WAIT_MS and not slate.settled:
                self.settle(slate)
        while self.slates and now - next(iter(self.slates.values())).time_ms > WINDOW_MS:
            self.leave()
        self.waiting = [each for each in self.waiting if now - each[0] <= WINDOW_MS]

    def settle(self, slate: Slate) -> None:
        slate.settled = True
        self.learn_known(slate)

    def leave(self) -> None:
        _, slate = self.slates.popitem(last=False)
        if not slate.settled:
            self.settle(slate)

    def serve(self, event: Event) -> None:
        assert self.version is not None
        told = decode_body(event.body)
        for each in told.bins:
            binning, place = HEAD.unpack(each[: HEAD.size])
            if binning == self.binning:
                break
        else:
            return
        if len(each) != HEAD.size + len(told.ids) * len(self.version.inputs):
            return
        while len(self.slates) == SLATES or sum(len(s.positions) for s in self.slates.values()) + len(told.ids) > ITEMS:
            self.leave()
        slate = Slate(self.version, event.log_time_ms, place, [Position(each) for each in told.ids])
        self.slates[event.request_id] = slate
        for _, early in [each for each in self.waiting if each[1].request_id == event.request_id]:
            self.note(slate, early, event.log_time_ms)
        self.waiting = [each for each in self.waiting if each[1].request_id != event.request_id]

    def note(self, slate: Slate, event: Event, now: int) -> None:
        found = [each for each in slate.positions if each.item == event.item_id]
        if not found:
            return
        found[0].seen = True
        found[0].clicked |= event.action == "click"
        slate.seen |= event.kind == Kind.IMPRESSION
        slate.settled |= now - slate.time_ms >= WAIT_MS
        self.learn_known(slate)

    def learn_known(self, slate: Slate) -> None:
        for number, each in enumerate(slate.positions if slate.seen else ()):
            if each.clicked and each.learned != "click":
                self.learn(slate, number, "click")
            elif each.seen and slate.settled and not each.learned:
                self.learn(slate, number, "none")

    def parts(self, slate: Slate, number: int) -> list[object]:
        edges = slate.version.edges.tolist()
        values = VALUES[NUMBER[slate.positions[number].item], : len(edges)].tolist()
        bins = [
            "unknown" if math.isnan(value) else sum(value > edge for edge in edges[column])
            for column, value in enumerate(values)
        ]
        return [*enumerate(bins), "bias", ("position", min(slate.place + number, 63))]

    def learn(self, slate: Slate, number: int, came: str) -> None:
        position, parts = slate.positions[number], self.parts(slate, number)
        weights = [self.weight(part) for part in parts]
        first, second, third, fourth = (sum(weights[lane::4], 0.0) for lane in range(4))
        expected = PLAIN((first + second) + (third + fourth))
        gradient = expected - (came == "click")
        if came == "click" and position.learned:
            gradient -= position.expected
            self.corrected += 1
        if came == "none":
            position.expected = expected
        position.learned = came
        for part, weight in zip(parts, weights, strict=True):
            before = self.n.get(part, 0.0)
            after = before + gradient * gradient
            self.z[part] = self.z.get(part, 0.0) + (
                gradient - (math.sqrt(after) - math.sqrt(before)) * (1.0 / OPTIONS.alpha) * weight
            )
            self.n[part] = after

    def weight(self, part: object) -> float:
        z = self.z.get(part, 0.0)
        if abs(z) <= OPTIONS.l1:
            return 0.0
        rate = (OPTIONS.beta + math.sqrt(self.n.get(part, 0.0))) * (1.0 / OPTIONS.alpha) + OPTIONS.l2
        return -(z - math.copysign(OPTIONS.l1, z)) / rate

    def promote(self, event: Event) -> None:
        told = msgspec.json.decode(event.body)
        if told["version"] == self.name:
            return
        binning = told["online"]["binning"]
        whole = OTHER if binning == binning_of(OTHER) else MODEL
        version = FEW if told["online"]["inputs"] == len(FEW.inputs) else whole
        if (self.version, self.binning) != (version, binning):
            self.slates.clear()
            self.waiting.clear()
        self.version, self.binning, self.name = version, binning, told["version"]
        sums = msgspec.convert(told["online"], OnlineSums).arrays()
        assert sums is not None
        for array, own in zip(sums, (self.z, self.n), strict=True):
            own.clear()
            own.update((self.part(place), value) for place, value in enumerate(array.tolist()))
        for slate in self.slates.values():
            for number, each in enumerate(slate.positions):
                came, each.learned = each.learned, ""
                if came:
                    self.learn(slate, number, came)

    def part(self, place: int) -> object:
        assert self.version is not None
        width, inputs = OPTIONS.bins + 2, len(self.version.inputs)
        if place >= inputs * width:
            return "bias" if place == inputs * width + 64 else ("position", place - inputs * width)
        column, part = divmod(place, width)
        return column, "unknown" if part == OPTIONS.bins else "value" if part == OPTIONS.bins + 1 else part

    def arrays(self) -> tuple[list[float], list[float]]:
        inputs = 0 if self.version is None else len(self.version.inputs)
        parts = [self.part(place) for place in range(part_count(inputs, OPTIONS.bins))]
        z, n = ([own.get(part, 0.0) for part in parts] for own in (self.z, self.n))
        return z, n
