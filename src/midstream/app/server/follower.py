"""Follower process: newest snapshot, replay of the rest of the log, then answers on the shared port.

It owns nothing of the data folder and ends with the leader: the kernel kills it when the leader dies, and so does the
end of its standard input. That pipe also brings new plans and models, which it takes up in its current state. When it
cannot continue it ends loudly, and is restarted from the newest snapshot.
"""

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import uvloop
from prometheus_client import CollectorRegistry

from midstream.app.config.schema import Config
from midstream.app.drift_watch import baseline_of
from midstream.app.fetch_connections import FetchConnections
from midstream.app.models_in_service import champions_of
from midstream.app.opening import DATA_NAME, Outside, engine_of, loaded_state, service_of
from midstream.app.server.freshness import follower_probe
from midstream.app.server.keys import watch_keys
from midstream.app.server.leader import FollowerOrder
from midstream.app.tracing import tracing_of
from midstream.core.errors import ArtifactInvalid, MidstreamError
from midstream.core.types import LogPosition
from midstream.engine.active_config import Service
from midstream.engine.answer.user_ids import UserIds
from midstream.engine.engine import Engine, EngineOptions
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.served_forwarder import Forwarding, lot_length
from midstream.engine.log_readers import open_reader
from midstream.engine.models.champions import Champions
from midstream.engine.operational_log import OperationalLog
from midstream.engine.rebuild.rebuilder import warm
from midstream.engine.replication.follower_log import FollowedLog, Following
from midstream.engine.replication.shared_board import Board, BoardRow
from midstream.engine.types import Liveness
from midstream.engine.vectors.indexing import VectorIndexing
from midstream.monitoring.logs import LogOptions, logging_to
from midstream.monitoring.metrics import Metrics
from midstream.ranking.plan import Plan
from midstream.serving.access.callers import OWN_PROBE
from midstream.serving.access.gate import KeyGate
from midstream.serving.app import Maintenance, asgi
from midstream.serving.cluster.follower_app import FollowedApp, recording_at
from midstream.serving.cluster.internal_routes import LOTS, SERVED_PATH, Inside
from midstream.serving.cluster.proxy import Passage
from midstream.serving.cluster.unix_server import served_at
from midstream.serving.http.connection_sharing import Share
from midstream.serving.operation import OtherProcesses
from midstream.serving.options import ServerOptions
from midstream.serving.run import serve_share
from midstream.state.settings import decode_settings, read_duration

if TYPE_CHECKING:
    from midstream.engine.instance import EngineService

BEHIND_EVENTS_MAX = 10_000
"""A follower that has more events than this to fold takes no connections: 30 ms of folding."""
NEAR_EVENTS = 1_000
"""Until it has come so near."""
FLUSH_S_MAX = 0.2
"""A write waits so long for the served records before it: ten times what a lot takes."""
LOT_S_MAX = 5.0
"""How long the leader may take for a lot before it counts as lost."""
PASS_MARGIN_S = 5.0
"""Beyond the waits of the leader for a body and for a commit: it says itself that one of them was too long."""
LEVEL_S_MAX = 1.0
"""Between two looks whether what a state is brought level for is still wanted."""
ORDER_BYTES_MAX = 1 << 26
"""Of a line from the leader: room for the texts of all placements that may be set, as JSON within JSON."""
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True, eq=False)
class FollowerState:
    """Where a follower stands, and whether it takes connections."""

    order: FollowerOrder
    board: Board
    engine: Engine
    following: Following
    service: Service
    champions: Champions
    failure: BaseException | None = None
    cannot: BaseException | None = None
    """Why what is in service next was not taken up."""
    is_ready: bool = False
    accepts: bool = False

    def is_current(self) -> bool:
        """Return whether what this process has loaded is what is in service."""
        return self.board.epoch == self.order.epoch

    def end(self, failure: BaseException) -> None:
        """Keep what ended the following."""
        self.failure = failure

    async def take_up(self, order: FollowerOrder) -> None:
        """Serve other plans and models in the state that is here, once it has what says that they are in service.

        Raises:
            Exception: This process cannot go on: they cannot be loaded, or what ended the following or the folding.
        """
        engine, service = self.engine, self.service
        if order.plans != self.order.plans:
            service = await asyncio.to_thread(service_of, Path(order.folder), config_of(order), service.settings)
            fresh = fresh_plans(self.service.plans, service.plans)
            await self.champions.follow_pinned(fresh)
            await warm(engine, service.settings, fresh)
        while not await engine.reached(LogPosition(order.log_position), LEVEL_S_MAX):
            if not self.is_next(order):
                return
            if (failure := self.failure or engine.failure) is not None:
                raise failure
        if service is not self.service:
            self.service = service
            engine.swap(engine.fold, service.plans)
            engine.metrics.set_configuration(service.config_hash, service.settings.version())
        await self.champions.follow(order.models)
        if (here := dict(self.champions.in_service)) != order.models:
            message = f"models {order.models} are in service, and here {here}"
            raise ArtifactInvalid(message)
        self.order = order

    def is_next(self, order: FollowerOrder) -> bool:
        """Return whether an order is of what is in service now."""
        return order.epoch == self.board.epoch

    def tick(self, connections: int) -> bool:
        """Say on the board how this process is; return whether it takes further connections.

        Raises:
            BaseException: What ended the following or the folding: this process cannot go on.
        """
        failure = self.failure or self.engine.failure
        if failure is not None and self.is_current():
            raise failure
        if self.cannot is not None:
            raise self.cannot
        self.accepts = self.is_current() and self.following.behind <= (
            BEHIND_EVENTS_MAX if self.accepts else NEAR_EVENTS
        )
        self.is_ready = self.is_ready or self.accepts
        line = BoardRow(connections, self.accepts, self.engine.fold.log_position, self.is_ready)
        self.board.write(self.order.number, line)
        return self.accepts


def fresh_plans(before: Mapping[str, Plan], after: Mapping[str, Plan]) -> list[Plan]:
    """Return the plans that answer in another way than before; that each names another configuration is none."""
    known = {name: replace(plan, config_hash="") for name, plan in before.items()}
    return [plan for name, plan in after.items() if replace(plan, config_hash="") != known.get(name)]


def main() -> None:
    """Read the order, follow until a signal asks to stop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(follow())


def end_with(leader: int) -> None:
    """Have the kernel kill this process when the one that started it dies, however that happens."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != leader:  # it died before that was said
        sys.exit(1)


async def follow() -> None:
    """Open, catch up, serve; return after a signal asked to stop.

    Raises:
        MidstreamError: The log or the configuration cannot be used.
    """
    orders = asyncio.StreamReader(ORDER_BYTES_MAX)
    protocol = asyncio.StreamReaderProtocol(orders)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin.buffer)
    order = msgspec.json.decode(await orders.readline(), type=FollowerOrder)
    end_with(order.leader)
    options = msgspec.json.decode(order.options, type=ServerOptions, dec_hook=read_duration)
    with logging_to(sys.stderr, LogOptions(options.log_level, options.log_format, f"follower-{order.number}")):
        await _follow(order, options, orders)


async def _follow(order: FollowerOrder, options: ServerOptions, orders: asyncio.StreamReader) -> None:
    data = DataFolder(Path(order.folder) / DATA_NAME)
    config = config_of(order)
    wait_s_max = (options.body_wait_max.ms + options.commit_wait_max.ms) / 1_000 + PASS_MARGIN_S
    leader, inside = Passage(data.sockets / "leader", wait_s_max), Passage(data.sockets / "leader-inside", LOT_S_MAX)
    board = Board(order.board)
    service = service_of(Path(order.folder), config, decode_settings(order.settings))
    forwarding, baseline = _forwarding(inside), baseline_of(config, Path(order.folder))
    engine = _open(data, service, board, EngineOptions(forwarding=forwarding, baseline=baseline), order.leader)
    champions = champions_of(engine, data, config)
    await champions.follow(order.models)
    place: FollowerState | None = None
    following = Following(engine, lambda error: None if place is None else place.end(error))
    place = FollowerState(order, board, engine, following, service, champions)
    await engine.start()
    following.start()
    hearing = _listen_to_leader(place, orders)
    operational_log = OperationalLog(engine)

    async def flush() -> None:
        engine.flush_served()
        await forwarding.sent(FLUSH_S_MAX)

    record = recording_at(leader, flush)
    traces = tracing_of(engine, config)
    services: list[EngineService] = [operational_log, FetchConnections(engine.plans.values), VectorIndexing(engine)]
    services += [] if traces is None else [traces.export]
    services += follower_probe(engine, recording_at(leader, flush, OWN_PROBE), data, config, order.number)
    for each in services:
        each.start()
    upkeep = Maintenance(tracing=None if traces is None else traces.tracing)
    elsewhere = OtherProcesses(record=record)
    app = asgi(engine, lambda: place.service.accept, options, upkeep=upkeep, elsewhere=elsewhere)
    share = Share(socket.socket(fileno=order.listener), board, order.number, place.tick)
    share.listener.settimeout(0)
    async with served_at(data.sockets / f"follower-{order.number}", Inside(engine), options):
        behind = FollowedApp(app, engine, leader, flush, place.is_current)
        keys = watch_keys(data, f"follower-{order.number}", identity=config.identity, is_closed=order.asks_for_keys)
        engine.listeners.add(keys.listener)
        front = KeyGate(behind, keys, options, UserIds(lambda: engine.fold))
        await serve_share(front, options, share, engine.facts)
    hearing.cancel()
    for each in reversed(services):
        await each.stop()
    await following.stop()
    await engine.stop()
    operational_log.write_all()


def config_of(order: FollowerOrder) -> Config:
    """Return the configuration that an order is about."""
    return msgspec.json.decode(order.config, type=Config, dec_hook=read_duration)


def _open(data: DataFolder, service: Service, board: Board, options: EngineOptions, leader: int) -> Engine:
    """Return an engine whose state is that of the newest snapshot."""
    reader = open_reader(data)
    loaded = loaded_state(data, service.settings, reader, board.end)
    options = replace(options, liveness=Liveness("live", reader.identity.public_name, leader))
    return engine_of(FollowedLog(reader, board), loaded.fold, service, data, options, Outside())


def _forwarding(inside: Passage) -> Forwarding:
    metrics = Metrics(CollectorRegistry())

    async def send(lot: bytes) -> bool:
        try:
            status = (await inside.ask("POST", SERVED_PATH, lot, LOTS)).status
        except MidstreamError:
            return False  # the leader may have it: the same record twice is one
        refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        if refused:  # and would be again
            metrics.served_lost.inc(lot_length(lot))
        return refused or status == HTTPStatus.NO_CONTENT

    return Forwarding(send, metrics)


def _listen_to_leader(place: FollowerState, orders: asyncio.StreamReader) -> asyncio.Task[None]:
    """Hear that there is more to read, what is in service next, and that the leader is gone."""
    loop, wake_by = asyncio.get_running_loop(), place.order.wake

    def wake() -> None:
        os.eventfd_read(wake_by)
        place.following.wake()

    async def hear() -> None:
        while line := await orders.readline():
            order = msgspec.json.decode(line, type=FollowerOrder)
            if place.is_next(order):
                await place.take_up(order)
        os._exit(1)  # whoever could take what is left to be done is not there

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        loop.call_exception_handler({"message": "what is in service next was not taken up", "exception": error})
        place.cannot = error

    loop.add_reader(wake_by, wake)
    task = loop.create_task(hear(), name="midstream-orders")
    task.add_done_callback(ended)
    return task


if __name__ == "__main__":
    main()
