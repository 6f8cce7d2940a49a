"""A node says how it is, and its health says when another node's state differs at the same position."""

import asyncio
from dataclasses import replace
from pathlib import Path

import msgspec

from midstream.core.types import LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.replication.node_board import Heartbeat, Mark
from midstream.engine.replication.node_reporter import HEARTBEAT_S, NodeFacts, NodeReporter
from midstream.engine.snapshots import snapshots
from midstream.events.disk import RealDisk
from midstream.events.segments.log_identity import identity_of, write_identity
from midstream.events.segments.segment_scan import make_first_segment
from tests.support.fakes.node_boards import MemoryBoard
from tests.support.patience import wait_on_loop
from tests.support.rig import Rig, view

FACTS = NodeFacts("n1", "log", "0.1", 7, lambda: "http://n1", lambda: 12, lambda: None, lambda: 0)


def begin_log(data: DataFolder) -> None:
    """Make a log without events."""
    RealDisk().make_folder(data.log)
    write_identity(data.log, RealDisk(), identity_of(bytes(16), 0))
    make_first_segment(data.log, RealDisk(), LogPosition(0))


def test_a_heartbeat_has_position_marks_and_lag(tmp_path: Path) -> None:
    """The marks are the digests of the node's own snapshots of its version."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(view("mug")))
        data, board, fold = DataFolder(tmp_path), MemoryBoard(), rig.engine.fold
        begin_log(data)
        snapshots.write(data.snapshots, fold, identity_of(bytes(16), 0))
        reporter = NodeReporter(rig.engine, data, board, FACTS)
        await reporter.report()
        said = msgspec.json.decode(board.messages["n1"], type=Heartbeat)
        assert (said.log_position, said.lag_ms, said.url) == (fold.log_position, 12, "http://n1")
        assert said.marks == (Mark(fold.log_position, fold.digest()),)
        assert rig.engine.health().reason == ""
        other = msgspec.structs.replace(said, node="n2", marks=(Mark(fold.log_position, "0" * 32),))
        board.messages["n2"] = msgspec.json.encode(other)
        await reporter.report()
        assert f"differ at log position {fold.log_position}" in rig.engine.health().reason
        assert "n2 has 0000" in rig.engine.health().reason
        board.messages["n2"] = msgspec.json.encode(msgspec.structs.replace(other, marks=said.marks))
        await reporter.report()
        assert rig.engine.health().reason == ""

    Rig().run(work)


def test_a_board_that_is_down_is_named_and_tried_again(tmp_path: Path) -> None:
    """Health says so until a round succeeds; the end closes the board."""

    async def work(rig: Rig) -> None:
        board = MemoryBoard()
        board.is_down = True
        reporter = NodeReporter(rig.engine, DataFolder(tmp_path), board, FACTS)
        assert reporter._service.back_off_s_max == HEARTBEAT_S  # a broker that is back is not told a minute later
        reporter.start()
        await wait_on_loop(lambda: "the board is down" in rig.engine.health().reason)
        board.is_down = False
        await wait_on_loop(lambda: "n1" in board.messages)
        await wait_on_loop(lambda: rig.engine.health().reason == "")
        async with asyncio.timeout(5):
            await reporter.stop()
        assert board.is_closed

    Rig().run(work)


def test_an_erasure_that_one_node_carried_out_is_no_difference(tmp_path: Path) -> None:
    """Its state has none pending, and another digest; both are compared again once they have carried out the same."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(view("mug")))
        identity, fold, boards = identity_of(bytes(16), 0), rig.engine.fold, MemoryBoard()
        marks: list[Mark] = []
        for node, is_carried_out in (("n1", False), ("n2", True), ("n3", True)):
            data = DataFolder(tmp_path / node)
            begin_log(data)
            fold.vocabulary.erasures.add([7], fold.log_time_ms, LogPosition(0), 1, is_pending=not is_carried_out)
            snapshots.write(data.snapshots, fold, identity)
            fold.vocabulary.erasures.carry_out(fold.log_time_ms + (1 << 40))
            reporter = NodeReporter(rig.engine, data, boards, replace(FACTS, node=node))
            await reporter.report()
            marks += msgspec.json.decode(boards.messages[node], type=Heartbeat).marks
        assert rig.engine.health().reason == ""
        assert marks[0].digest != marks[1].digest
        assert marks[0].erased != marks[1].erased
        assert marks[1].erased == marks[2].erased != ""

    Rig().run(work)
