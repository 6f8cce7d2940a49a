"""A leader and a follower in one process and on one log: what goes in at the one comes out of the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from midstream.core.types import EventBatch
from midstream.engine.engine import Engine, EngineOptions
from midstream.engine.ingest.served_forwarder import Forwarding, decode_lot
from midstream.engine.listeners import Listener
from midstream.engine.live import Host
from midstream.engine.replication.follower_log import FollowedLog, Following
from midstream.engine.replication.shared_board import Board
from midstream.engine.types import Recorded
from midstream.events.disk import RealDisk
from midstream.events.segments.segment_reader import SegmentReader
from midstream.events.segments.segments import SegmentLog
from midstream.monitoring.metrics import Metrics
from midstream.ranking.plan import Plan
from midstream.state.fold import Fold

WAIT_S_MAX = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two engines of one log. Start and stop it on the loop that uses it."""

    leader: Engine
    follower: Engine
    following: Following
    board: Board

    async def start(self) -> None:
        """Start both."""
        self.leader.listeners.add(Listener(name="follower", committed=self._tell))
        self._tell()
        await self.leader.start()
        await self.follower.start()
        self.following.start()

    async def stop(self) -> None:
        """Stop both, the follower first: its last served records go to the leader."""
        await self.following.stop()
        await self.follower.stop()
        await self.leader.stop()
        self.leader.log.close()

    async def record(self, batch: EventBatch) -> Recorded:
        """Record at the leader; return when the follower has it too."""
        recorded = await self.leader.record(batch)
        await self.follower.reached(recorded.log_position, WAIT_S_MAX)
        return recorded

    def _tell(self) -> None:
        self.board.publish(self.leader.log.end, self.leader.log.last_log_time_ms)
        self.following.wake()


def pair(folder: Path, fold: Callable[[], Fold], plans: Mapping[str, Plan], host: Host) -> Pair:
    """Return a leader and a follower on a new log in ``folder``, each with a state of its own."""
    disk, board = RealDisk(), Board.make()
    log = SegmentLog(folder / "log", disk, b"p" * 16)
    leader = Engine(log, fold(), plans, host, Metrics(CollectorRegistry()))

    async def send(lot: bytes) -> bool:
        batch = decode_lot(lot)
        if batch is not None:
            leader.record_served(batch)
        return batch is not None

    metrics = Metrics(CollectorRegistry())
    options = EngineOptions(forwarding=Forwarding(send, metrics))
    followed = FollowedLog(SegmentReader(folder / "log", disk), board)
    follower = Engine(followed, fold(), plans, host, metrics, options)
    return Pair(leader, follower, Following(follower, _raise), board)


def _raise(error: BaseException) -> None:
    raise error
