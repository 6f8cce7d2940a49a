"""Three nodes share a log in Kafka, each machine a network namespace, and keep their promises through faults.

``--long`` makes it 20 rounds; a round kills a node, cuts it off or slows it down. The figures are printed. The
limits of time hold as far as the machine keeps them without a fault: each is at least a multiple of the longest gap of
the seconds before the first one.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from midstream.app.config_history import settings_of
from midstream.app.opening import config_of
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.engine.log_completeness import survey_folder
from midstream.engine.log_readers import open_reader
from midstream.engine.snapshots import snapshots
from midstream.engine.snapshots.base_state import beginning
from midstream.events.disk import RealDisk
from midstream.events.schema import event_at
from midstream.state.fold import Fold
from midstream.state.ids.compacted_items import NOTHING
from tests.support.libraries import library, missing
from tests.support.namespaces import require_namespaces
from tests.support.node_client import ASK_S_MAX
from tests.support.patience import wait_until
from tests.support.services.faults import Unavailable
from tests.support.services.kafka import PACKAGE
from tests.support.three_nodes import SEED, Node, Shop, faults, longest_gap, three_nodes

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
ROUNDS, ROUNDS_LONG = 3, 20
KEY = bytes(range(32))
CONFIG = """
[limits]
users_max = 1000

[log]
kind = "kafka"
servers = "{servers}"
topic = "shop"

[snapshots]
interval = "2s"
keep = 50
"""
QUIET_S = 5.0
ANSWERS_S_MAX, WRITES_S_MAX = 1.0, 5.0
"""Without an answer of any node, without an acknowledgement of any."""
QUIET_GAPS = 4
"""A machine that is so busy that gaps without a fault are a quarter of a limit proves nothing by that limit."""


def configure(folder: Path, servers: str) -> None:
    """Write the folder of a node of the shop."""
    (folder / "midstream.toml").write_text(CONFIG.format(servers=servers))
    (folder / "data").mkdir()
    (folder / "data" / "key").write_bytes(KEY)


@pytest.fixture(scope="module", autouse=True)
def ready() -> None:
    """Skip by name where something is missing."""
    require_namespaces()
    library("confluent_kafka")
    try:
        PACKAGE.find()
    except Unavailable as fault:
        missing(str(fault))


@pytest.mark.timeout(3_600)
def test_faults_lose_nothing_double_nothing_and_are_answered_through(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Whatever happens to one node: acknowledged events are there once, states are equal, some node answers."""
    rounds = ROUNDS_LONG if request.config.getoption("--long") else ROUNDS
    print(f"MIDSTREAM_SEED={SEED}")
    with three_nodes(tmp_path, configure) as shop:
        with shop.load(tmp_path):
            time.sleep(QUIET_S)
            for name, number in faults(rounds, SEED):
                shop.fault(name, number)
            wait_until(lambda: shared_marks(digests_of(shop.nodes)))  # a busy machine is late with snapshots
        shop.wait_until_level()
        for node in shop.nodes:
            assert node.end(signal.SIGTERM) == 0, node.said()
    print_figures(shop)
    assert len(shop.report["acknowledged"]) > 20 * rounds
    require_answers(shop)
    require_once(shop)
    require_equal(shop.nodes)


def require_answers(shop: Shop) -> None:
    """In each round some node answered and some node took events all the time."""
    first = shop.rounds[0].began
    for what, limit in (("answers", ANSWERS_S_MAX), ("writes", WRITES_S_MAX)):
        times = times_of(shop, what)
        quiet = longest_gap(times, min(times), first)
        gaps = [longest_gap(times, each.began, each.ready) for each in shop.rounds]
        print(f"{what}: at most {max(gaps):.2f} s without, {quiet:.2f} s before the first fault")
        assert max(gaps) <= max(limit, QUIET_GAPS * quiet), f"{what} stopped in one of {shop.rounds}"


def times_of(shop: Shop, what: str) -> list[float]:
    """Return the times of answers, or of acknowledgements of events."""
    if what == "answers":
        return [at for at, _ in shop.report["answers"]]
    return list(shop.report["acknowledged"].values())


def require_once(shop: Shop) -> None:
    """Each acknowledged event is in every node's log and was counted once, whatever was sent again."""
    acknowledged = set(shop.report["acknowledged"])
    for node in shop.nodes:
        fold, times = read_back(node)
        lost = acknowledged - times.keys()
        assert not lost, sorted(lost)[:5]
        items = np.arange(fold.vocabulary.item_count, dtype=np.int32)
        counted = int(fold.items.window_count("view", 30 * 86_400_000, fold.log_time_ms, items).sum())
        assert counted == len(times), "an event that was sent again was counted twice, or one not at all"
        print(f"{node.folder.name}: {len(times)} events, {sum(times.values()) - len(times)} of them in the log again")


def read_back(node: Node) -> tuple[Fold, Counter[str]]:
    """Return the state at the end of a node's log, folded from its beginning, and how often each event id is there."""
    data = DataFolder(node.folder / "data")
    reader, settings = open_reader(data), settings_of(data, config_of(node.folder))
    fold = beginning(settings, NOTHING, reader)
    end = end_of(node)
    times: Counter[str] = Counter()
    for first, batch in batches(lambda after, limit: reader.read(after, limit, end), fold.log_position, end):
        fold.apply(first, batch)
        events = (event_at(batch, index) for index in range(len(batch)))
        times.update(event.event_id for event in events if event.kind == Kind.INTERACTION)
    return fold, times


def end_of(node: Node) -> LogPosition:
    """Return the end of a node's log."""
    survey = survey_folder(DataFolder(node.folder / "data"), RealDisk(), thorough=True)
    assert survey is not None
    assert survey.damage is None
    return LogPosition(survey.end)


def digests_of(nodes: Sequence[Node]) -> dict[int, dict[str, str]]:
    """Return the digest of each node's snapshot by log position and name of the node."""
    found: dict[int, dict[str, str]] = {}
    for node in nodes:
        for _, manifest in snapshots.manifests(DataFolder(node.folder / "data").snapshots):
            found.setdefault(manifest.log_position, {})[node.folder.name] = manifest.digest
    return found


def shared_marks(digests: Mapping[int, Mapping[str, str]]) -> list[int]:
    """Return the log positions at which two nodes or more took a snapshot."""
    return [position for position, found in digests.items() if len(found) > 1]


def require_equal(nodes: Sequence[Node]) -> None:
    """Snapshots of nodes at one log position have one digest, and so have the states at the end of the shortest log."""
    digests = digests_of(nodes)
    shared = shared_marks(digests)
    print(f"{len(shared)} log positions at which nodes took snapshots alike")
    assert shared, "no two nodes took a snapshot at one mark, so no states were compared"
    assert {position: found for position, found in digests.items() if len(set(found.values())) > 1} == {}
    end = min(end_of(node) for node in nodes)
    found = {node.folder.name: digest_at(node, end) for node in nodes}
    assert len(set(found.values())) == 1, found


def digest_at(node: Node, end: LogPosition) -> str:
    """Return the digest of a node's state at a log position, folded from the beginning of its own log."""
    data = DataFolder(node.folder / "data")
    reader, settings = open_reader(data), settings_of(data, config_of(node.folder))
    fold = beginning(settings, NOTHING, reader)
    for first, batch in batches(lambda after, limit: reader.read(after, limit, end), fold.log_position, end):
        fold.apply(first, batch)
    return fold.digest()


def print_figures(shop: Shop) -> None:
    """Print what the client saw of each round."""
    answers, writes = times_of(shop, "answers"), times_of(shop, "writes")
    failed = len(shop.report["failed"])
    print(f"cores {os.cpu_count()}, {len(writes)} events of {shop.report['sent']}, {len(answers)} answers")
    print(f"{failed} questions that three nodes in a row did not answer within {ASK_S_MAX} s each")
    print("fault node  without answers s  without writes s  ready again s")
    for each in shop.rounds:
        gaps = [longest_gap(times, each.began, each.ready) for times in (answers, writes)]
        print(f"{each.fault:5} {each.node + 1:4}  {gaps[0]:17.2f}  {gaps[1]:16.2f}  {each.ready - each.healed:13.1f}")
    for fault in ("kill", "cut", "slow"):
        mine = [each for each in shop.rounds if each.fault == fault]
        if mine:
            worst = [max(longest_gap(t, each.began, each.ready) for each in mine) for t in (answers, writes)]
            ready_s = median(each.ready - each.healed for each in mine)
            print(f"{fault}: {len(mine)} rounds, at most {worst[0]:.2f} s without answers, {worst[1]:.2f} s without")
            print(f"      writes; ready again after {ready_s:.1f} s (median)")
