"""Supervisor of follower processes: starts, watches, restarts and stops them with the process that owns the log.

They get the folder, the configuration in service, and three descriptors: the shared socket of the port, the board, and
the wake-up. The pipe to their standard input stays open. It brings new plans and models that read the state as it is,
such as another placement or version of a model; they end with its other end.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from midstream.core.errors import MidstreamError
from midstream.engine.active_config import Configuration
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.listeners import Listener
from midstream.engine.replication.shared_board import LEADER, Board, BoardRow
from midstream.engine.types import FollowerView
from midstream.events.processes.spawned_process import SpawnedProcess, spawn
from midstream.monitoring.by_process import LEADER as LEADER_NAME
from midstream.monitoring.by_process import merged
from midstream.monitoring.metrics_text import text_in_turns
from midstream.serving.access.callers import TellingCaller
from midstream.serving.access.measured_app import Measured
from midstream.serving.cluster.internal_routes import METRICS_PATH, Inside
from midstream.serving.cluster.proxy import Passage
from midstream.serving.cluster.unix_server import served_at
from midstream.serving.http.connection_sharing import Share
from midstream.serving.http.draining import AT_ONCE
from midstream.serving.options import ServerOptions
from midstream.state.settings import encode_settings

if TYPE_CHECKING:
    from midstream.ranking.plan import Plan

RESTART_S_MIN = 0.1
RESTART_S_MAX = 10.0
"""A follower that ends at once is started again after 0.1 s, 0.2 s, ... 10 s: six times in the first ten seconds."""
LIVED_S = 60.0
"""One that lived so long begins with the shortest wait again."""
ANSWER_S_MAX = 2.0
"""How long the metrics of a follower are waited for."""
SAID_S_MAX = 1.0
"""What a follower says of itself on the board is no older."""
TAKE_UP_S_MAX = 60.0
"""A follower that takes no connections so long after it was told of other plans or models is exchanged."""
KILL_S = 5.0
"""A follower that has not ended so long after its last answer had to be given is killed."""


class FollowerOrder(msgspec.Struct, frozen=True):
    """Order of a follower, as one line of JSON on its standard input, at its start and when plans change."""

    folder: str
    """Of ``midstream.toml``; components of one's own are looked for there."""
    number: int
    config: str
    """The configuration in service, as ``encode_config`` writes it."""
    plans: int
    """How often other plans than those at the start were put in service: as before, and code is not read again."""
    models: dict[str, str]
    """Version of each model in service, by name."""
    settings: str
    """``FoldSettings`` of the state in service, as ``encode_settings`` writes it."""
    options: str
    """``ServerOptions`` in use, which the command line may have changed."""
    epoch: int
    """Of the board, when this was ordered."""
    log_position: int
    """Where the state of the leader stood then: it has what says that this is in service."""
    asks_for_keys: bool
    """Whether the leader asks for keys: a follower that finds no file of keys then lets nobody in."""
    leader: int
    """Its process id."""
    board: int
    listener: int
    wake: int
    """Descriptors."""


@dataclass(slots=True, eq=False)
class _Child:
    """One follower, from start to end."""

    process: SpawnedProcess
    wake: int
    """Descriptor."""
    epoch: int
    """Of the board, when its last order was given."""
    is_to_end: bool = False
    """Something else is in service, of which it cannot be told."""
    told_at: float | None = None
    """When it was told, in seconds of the loop; None = it has taken that up."""

    def exchange(self) -> None:
        """Ask it to end; another one takes its place."""
        self.is_to_end = self.process.returncode is None
        _signal(self, kill=False)

    def end(self) -> None:
        """Kill it, if it is still there: it was asked to end."""
        if self.process.returncode is None:
            _signal(self, kill=True)

    def tell(self, order: FollowerOrder) -> bool:
        """Give it another order; return False when it has not read the one before, or is gone."""
        if not self.process.send(_line(order)):
            return False
        self.epoch = order.epoch
        return True


class Followers:
    """All of a server's followers, on the event loop of the process that owns the log."""

    def __init__(self, running: Instance, folder: Path, options: ServerOptions, asks: Callable[[], bool]) -> None:
        """Have ``options.followers`` processes follow ``running``, whose data and components are in ``folder``.

        ``asks`` tells whether this process asks for keys.
        """
        self._asks = asks
        self._running = running
        self._engine = running.engine
        self._folder = folder
        self._data = DataFolder(folder / "data")
        self._options = options
        self._board = Board.make()
        self._children: dict[int, _Child] = {}
        self._restarts = dict.fromkeys(self._numbers, 0)
        self._ended: set[int] = set()
        """Those that wait to be started again."""
        self._ends = asyncio.Event()
        self._listener: socket.socket | None = None
        self._followed = self._engine.log, self._engine.fold
        self._told: tuple[Mapping[str, Plan] | None, int, str] = None, 0, ""
        """The plans that followers were last told of, how often there were others, their configuration as text."""

    @property
    def _numbers(self) -> range:
        return range(1, self._options.followers + 1)

    @asynccontextmanager
    async def joining(self, app: Measured, listener: socket.socket) -> AsyncGenerator[Share]:
        """Start them on a socket that listens; stop them, each with its last answer given, on leaving."""
        sockets, engine = self._data.sockets, self._engine
        listener.settimeout(0)
        self._listener = listener
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(
                served_at(sockets / "leader", TellingCaller(app, self._asks), self._options)
            )
            await stack.enter_async_context(served_at(sockets / "leader-inside", Inside(engine), self._options))
            self._tell()
            self._followed = engine.log, engine.fold
            engine.listeners.add(
                Listener(
                    name="followers",
                    committed=self._tell,
                    swapped=self.renew,
                    gauges=self._set_gauges,
                    followers=self.views,
                )
            )
            tasks = [asyncio.ensure_future(self._keep(number)) for number in self._numbers]
            try:
                yield Share(listener, self._board, LEADER, self._tick)
            finally:
                self._ends.set()
                await self._end_all()
                await asyncio.gather(*tasks)

    def renew(self) -> None:
        """What they have loaded is no longer in service: until they have what is, they pass all requests on.

        Where the state and the log are those that they follow they are told of the rest, else they are exchanged.
        """
        self._board.renew()
        (log, fold), self._followed = self._followed, (self._engine.log, self._engine.fold)
        if log is self._engine.log and fold is self._engine.fold:
            asyncio.get_running_loop().call_soon(self._order_all)  # what is in service is said behind the swap
            return
        for child in self._children.values():
            self._exchange(child)

    def _exchange(self, child: _Child) -> None:
        """Ask one to end, and kill it where it does not within the time of a stop."""
        child.exchange()
        wait_s = self._options.stop_wait_max.ms / 1_000 + KILL_S
        asyncio.get_running_loop().call_later(wait_s, child.end)

    def _order_all(self) -> None:
        """Tell each follower what is in service now; one that cannot be told is exchanged."""
        for number, child in self._children.items():
            if child.is_to_end or child.epoch == self._board.epoch:
                continue
            if child.tell(self._order(number, child.wake)):
                child.told_at = asyncio.get_running_loop().time()
            else:
                self._exchange(child)

    def views(self) -> tuple[FollowerView, ...]:
        """Return how each of them is."""
        return tuple(self._view(number) for number in self._numbers)

    async def metrics_text(self) -> bytes:
        """Return the metrics of all processes; of a follower that does not answer, none."""
        texts = {LEADER_NAME: await text_in_turns(self._engine.metrics.registry)}
        found = await asyncio.gather(*(self._metrics_of(number) for number in self._numbers))
        texts |= {f"follower-{number}": text for number, text in zip(self._numbers, found, strict=True) if text}
        return await merged(texts)

    async def _metrics_of(self, number: int) -> bytes:
        passage = Passage(self._data.sockets / f"follower-{number}", ANSWER_S_MAX)
        try:
            return (await passage.ask("GET", METRICS_PATH)).body
        except MidstreamError:
            return b""
        finally:
            passage.close()

    def _view(self, number: int) -> FollowerView:
        line = self._board.line(number)
        state = "ended" if number in self._ended else "starting"
        if number in self._children:
            state = "serving" if line.accepts else "behind" if line.is_ready else "starting"
        behind = max(0, self._engine.log.end - line.applied)
        return FollowerView(number, state, behind, self._restarts[number])

    def _set_gauges(self) -> None:
        for view in self.views():
            self._engine.metrics.set_follower(view.number, view.behind_events, serves=view.state == "serving")

    def _tell(self) -> None:
        """Say how far the log is durable, and wake who waits for it."""
        log = self._engine.log
        self._board.publish(log.end, log.last_log_time_ms)
        for child in self._children.values():
            os.eventfd_write(child.wake, 1)

    def _tick(self, connections: int) -> bool:
        """Ten times a second: this process takes connections whatever the others do."""
        self._board.write(LEADER, BoardRow(connections, True, self._engine.fold.log_position, True))  # noqa: FBT003  a row
        for number in self._numbers:
            if self._board.line(number).is_ready:
                self._engine.concerns.pop(_concern(number), None)
        now = asyncio.get_running_loop().time()
        for number, child in self._children.items():
            self._look_at(child, self._board.line(number), now)
        return True

    def _look_at(self, child: _Child, line: BoardRow, now: float) -> None:
        """Exchange a follower that was told of what is in service and has not taken it up."""
        if child.told_at is None or child.is_to_end or now - child.told_at <= SAID_S_MAX:
            return
        if line.accepts:
            child.told_at = None
        elif now - child.told_at > TAKE_UP_S_MAX:
            self._exchange(child)

    @property
    def _is_stopping(self) -> bool:
        """Whether the server was asked to stop, and may still answer: no follower is started any more."""
        return self._ends.is_set() or self._board.stops

    async def _keep(self, number: int) -> None:
        """Have one follower running until the server is asked to stop."""
        loop = asyncio.get_running_loop()
        delay_s = RESTART_S_MIN
        while not self._is_stopping:
            began = loop.time()
            said = await self._run(number)
            if self._is_stopping:
                return
            if said is None:
                continue
            self._restarts[number] += 1
            self._engine.metrics.follower_restarts.labels(number).inc()
            self._engine.concerns[_concern(number)] = f"follower {number} {said} and is started again"
            delay_s = RESTART_S_MIN if loop.time() - began > LIVED_S else delay_s
            self._ended.add(number)
            await self._pause(delay_s)
            self._ended.discard(number)
            delay_s = min(2 * delay_s, RESTART_S_MAX)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the end comes first."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ends.wait()

    async def _run(self, number: int) -> str | None:
        """Run one follower until it ends; return how it ended, None when it was asked to."""
        try:
            child = await self._start(number)
        except OSError as error:  # no memory, no process or no descriptor to be had now
            return f"could not be started ({error.strerror or error})"
        self._children[number] = child
        if self._ends.is_set() or child.epoch != self._board.epoch:  # while it was being started
            self._exchange(child)
        try:
            status = await child.process.wait()
        finally:
            del self._children[number]
            os.close(child.wake)
            self._board.clear(number)
        if child.is_to_end:
            return None
        return f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"

    async def _start(self, number: int) -> _Child:
        """Start one follower and give it its order.

        Raises:
            OSError: No descriptor, memory or process is to be had now; nothing of it stays open.
        """
        with ExitStack() as undo:
            wake = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            undo.callback(os.close, wake)
            order = self._order(number, wake)
            process = await self._process(order)
            undo.pop_all()
        return _Child(process, wake, order.epoch)

    def _order(self, number: int, wake: int) -> FollowerOrder:
        service = self._running.service
        if service.plans is not self._told[0]:
            self._told = service.plans, self._told[1] + 1, encode_config(service.config)
        _, plans, config = self._told
        return FollowerOrder(
            folder=str(self._folder.resolve()),
            number=number,
            config=config,
            plans=plans,
            settings=encode_settings(service.settings),
            models=dict(self._running.champions.in_service),
            options=msgspec.json.encode(self._options, enc_hook=str).decode(),
            epoch=self._board.epoch,
            log_position=self._engine.fold.log_position,
            asks_for_keys=self._asks(),
            leader=os.getpid(),
            board=self._board.descriptor,
            listener=-1 if self._listener is None else self._listener.fileno(),
            wake=wake,
        )

    async def _process(self, order: FollowerOrder) -> SpawnedProcess:
        process = await spawn(
            (sys.executable, "-P", "-m", "midstream.app.server.follower"),  # -P: nothing of this folder is imported
            limit=0,
            descriptors=(order.board, order.listener, order.wake),
            has_own_session=True,  # Ctrl-C is the leader's to hear
        )
        process.send(_line(order))
        return process

    async def _end_all(self) -> None:
        """Ask all to end, wait for their last answers, and kill those that do not."""
        waits = [asyncio.ensure_future(child.process.wait()) for child in self._children.values()]
        for child in self._children.values():
            _signal(child, kill=False)
        try:
            if waits:
                await asyncio.wait(waits, timeout=self._options.stop_wait_max.ms / 1_000 + KILL_S)
        finally:
            await asyncio.gather(*(child.process.end() for child in self._children.values()))


def encode_config(config: Configuration) -> str:
    """Return a configuration as JSON, for another process."""
    return msgspec.json.encode(config, enc_hook=str).decode()


def _line(order: FollowerOrder) -> bytes:
    return msgspec.json.encode(order) + b"\n"


def _signal(child: _Child, *, kill: bool) -> None:
    try:
        if kill:
            child.process.kill()
        else:
            child.process.send_signal(AT_ONCE)
    except ProcessLookupError:
        return  # it has ended by itself


def _concern(number: int) -> str:
    return f"follower-{number}"
