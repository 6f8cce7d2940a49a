"""What an engine that follows another promises: the same state at the same position, and the caller's own writes."""

import asyncio
import random
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from midstream.app.wiring import plans
from midstream.core.errors import AppendFailed, Overloaded, RequestInvalid
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition, TimestampMs
from midstream.engine.ingest import served_forwarder as forwarding_part
from midstream.engine.ingest.log_reader import batches
from midstream.engine.ingest.served_forwarder import LOTS_MAX, Forwarding, decode_lot, encode_lot
from midstream.engine.ingest.writer import QueueEntry
from midstream.engine.listeners import Listener
from midstream.engine.live import Host
from midstream.engine.replication.follower_log import FollowedLog
from midstream.engine.replication.shared_board import LEADER, PROCESSES_MAX, Board, BoardRow
from midstream.engine.tokens import RequestIds
from midstream.engine.types import Ask
from midstream.events.schema import Event, build, event_at
from midstream.monitoring.metrics import Metrics
from midstream.state.fold import Fold
from tests.support.following import pair
from tests.support.patience import PATIENCE_S
from tests.support.rig import SMALL

NOW_MS = 1_750_000_000_000


def run(folder, play):
    """Start a leader and its follower, let ``play`` ask them, stop both."""

    async def go():
        numbers = iter(range(1, 1_000_000))
        ids = RequestIds(b"k" * 32, lambda size: next(numbers).to_bytes(size, "little"))
        host = Host(lambda: TimestampMs(NOW_MS), asyncio.get_running_loop().time, ids)
        both = pair(folder, lambda: Fold(SMALL.fold_settings()), plans(SMALL), host)
        await both.start()
        try:
            return await play(both)
        finally:
            await both.stop()

    return asyncio.run(go())


def acts(chance, count):
    """Return a batch of views."""
    return build(
        [
            Event(
                Kind.INTERACTION,
                event_id=f"{chance.random()}",
                action="view",
                user_id=f"u{chance.randrange(30)}",
                item_id=f"i{chance.randrange(50)}",
                session_id=f"s{chance.randrange(20)}",
                event_time_ms=NOW_MS,
            )
            for _ in range(count)
        ]
    )


def test_equal_positions_have_equal_digests(tmp_path):
    """After commits of any sizes, some of them while the follower reads, it has the leader's state in every bit."""
    chance = random.Random(7)  # noqa: S311  no secret

    async def play(both):
        for _ in range(30):
            sizes = [chance.choice((1, 1, 2, 40, 400)) for _ in range(chance.randrange(1, 4))]
            recorded = await asyncio.gather(*(both.leader.record(acts(chance, size)) for size in sizes))
            end = max(each.log_position for each in recorded)
            assert await both.follower.reached(end, PATIENCE_S)
            assert both.follower.fold.log_position == both.leader.fold.log_position == end
            assert both.follower.fold.digest() == both.leader.fold.digest()

    run(tmp_path, play)


def test_a_follower_that_begins_late_catches_up(tmp_path):
    """What was durable before it began is read like the rest, in pieces."""
    chance = random.Random(8)  # noqa: S311  no secret

    async def play(both):
        both.leader.listeners.add(Listener(name="follower"))  # in place of the one that tells it
        for _ in range(12):
            await both.leader.record(acts(chance, 4_000))
        assert both.follower.fold.log_position == 0
        both._tell()
        assert await both.follower.reached(48_000, PATIENCE_S)
        assert both.follower.fold.digest() == both.leader.fold.digest()

    run(tmp_path, play)


def test_own_writes_are_seen_by_the_token(tmp_path):
    """A slate of the follower that names the position of a write at the leader has seen it, or says that it has not."""

    async def play(both):
        for number in range(50):
            recorded = await both.leader.record(build([view(number)]))
            token = both.leader.token(recorded.log_position)
            answer = await both.follower.recommend(Ask(user_id="bob", min_log_position=token, deadline_ms=5_000, n=100))
            assert answer.read_your_writes
            assert f"i{number}" in [item.id for item in answer.items]
        await both.following.stop()
        recorded = await both.leader.record(build([view(99)]))
        token = both.leader.token(recorded.log_position)
        answer = await both.follower.recommend(Ask(min_log_position=token, deadline_ms=30))
        assert answer.read_your_writes is False
        future = both.leader.token(LogPosition(both.leader.log.end + 1_000))
        with pytest.raises(RequestInvalid, match="of the future"):
            both.follower.check(Ask(min_log_position=future))

    run(tmp_path, play)


def view(number):
    """Return a view of an item of its own."""
    return Event(
        Kind.INTERACTION,
        event_id=f"v{number}",
        action="view",
        user_id="ann",
        item_id=f"i{number}",
        event_time_ms=NOW_MS,
    )


def test_what_a_follower_served_is_in_the_log(tmp_path):
    """Every answer's record goes to the leader, and is found at both when it is folded."""

    async def play(both):
        await both.record(build([view(1)]))
        served = [(await both.follower.recommend(Ask())).request_id for _ in range(20)]
        both.follower.flush_served()
        for _ in range(500):
            await asyncio.sleep(0.01)
            if both.leader.log.end == both.leader.fold.log_position == both.follower.fold.log_position == 21:
                break
        log = [
            event_at(batch, row)
            for _, batch in batches(both.leader.log.read, LogPosition(1), LogPosition(21))
            for row in range(len(batch))
        ]
        assert [each.request_id for each in log] == served
        for engine in (both.leader, both.follower):
            assert [engine.served(each).query.request_id for each in served] == served
        assert both.leader.served("A" * 32) is None

    run(tmp_path, play)


def test_a_follower_takes_no_events(tmp_path):
    """What somebody waits for cannot be made durable there, neither through the engine nor through its log."""

    async def play(both):
        with pytest.raises(AppendFailed):
            await both.follower.record(build([view(1)]))
        with pytest.raises(AppendFailed):
            both.follower.log.append(build([view(1)]))
        return both.leader.log.end

    assert run(tmp_path, play) == 0


def test_damage_ends_the_following(tmp_path):
    """A log that cannot be read is told to who started the follower, and nothing of it is folded."""
    told = []

    async def play(both):
        heard = asyncio.Event()

        def hear(error):
            told.append(error)
            heard.set()

        both.following._on_end = hear
        both.leader.listeners.add(Listener(name="follower"))  # in place of the one that tells it
        await both.leader.record(acts(random.Random(1), 100))  # noqa: S311  no secret
        (segment,) = (tmp_path / "log").glob("*.segment")
        content = bytearray(segment.read_bytes())
        content[len(content) // 2] ^= 1
        segment.write_bytes(bytes(content))
        both._tell()
        await heard.wait()
        return both.follower.fold.log_position

    assert run(tmp_path, play) == 0
    assert "does not match" in str(told[0])


def test_lots_that_find_no_room_are_refused():
    """The queue of a leader that does not answer is bounded, and goes on when it does."""

    async def play():
        gate, sent = asyncio.Event(), []

        async def send(lot):
            await gate.wait()
            sent.append(decode_lot(lot))
            return True

        forwarding = Forwarding(send, Metrics(CollectorRegistry()))
        forwarding.start()
        lot = build([Event(Kind.SERVED, request_id="r", event_time_ms=1)])
        for _ in range(LOTS_MAX):
            forwarding.submit(QueueEntry(lot, None))
        with pytest.raises(Overloaded):
            forwarding.submit(QueueEntry(lot, None))
        assert not await forwarding.sent(0.01)
        gate.set()
        assert await forwarding.sent(5)
        assert (len(sent), forwarding.queued_events) == (LOTS_MAX, 0)
        await asyncio.to_thread(forwarding.close)

    asyncio.run(play())


def test_a_lot_that_was_not_taken_is_sent_again(monkeypatch):
    """A leader that is busy, or does not answer: each lot comes once it can, in order, and none is lost."""
    monkeypatch.setattr(forwarding_part, "AGAIN_S", 0.0)

    async def play():
        tries, taken = [], []

        async def send(lot):
            tries.append(lot)
            if len(tries) % 3:
                return False
            batch = decode_lot(lot)
            assert batch is not None
            taken.append(event_at(batch, 0).request_id)
            return True

        metrics = Metrics(CollectorRegistry())
        forwarding = Forwarding(send, metrics)
        forwarding.start()
        for name in "abc":
            forwarding.submit(QueueEntry(build([Event(Kind.SERVED, request_id=name, event_time_ms=1)]), None))
        assert await forwarding.sent(PATIENCE_S)
        assert taken == list("abc")
        assert len(tries) == 9
        await asyncio.to_thread(forwarding.close)

    asyncio.run(play())


def served(user, request, body):
    """Return a served record, as far as it travels."""
    return Event(Kind.SERVED, user_id=user, request_id=request, body=body, event_time_ms=NOW_MS)


records = st.lists(
    st.builds(served, st.text(max_size=9), st.text(max_size=9), st.binary(max_size=50)), min_size=1, max_size=9
)


@given(records, st.data())
def test_lot_survives_the_way(events, data):
    """A lot is the same on the other side; one that was cut, has more, or holds anything else, is none."""
    lot = build(events)
    sent = encode_lot(lot)
    found = decode_lot(sent)
    assert found is not None
    assert (found.rows.tobytes(), found.text) == (lot.rows.tobytes(), lot.text)
    assert decode_lot(sent[: data.draw(st.integers(0, len(sent) - 1))]) is None
    assert decode_lot(sent + b"x") is None
    assert decode_lot(encode_lot(build([events[0], view(1)]))) is None


def test_board_is_one_for_all_who_map_it():
    """What one writes the others read; a process that takes none, or is gone, is nobody to leave connections to."""
    board = Board.make()
    other = Board(board.descriptor)
    board.publish(2**40, 7)
    board.renew()
    assert (other.end, other.last_log_time_ms, other.epoch) == (2**40, 7, 1)
    taking = BoardRow(connections=5, accepts=True, applied=LogPosition(12), is_ready=True)
    other.write(2, taking)
    board.write(LEADER, taking._replace(connections=6))
    assert board.line(2) == taking
    assert board.is_fuller_than_another(LEADER)
    assert not board.is_fuller_than_another(2)
    other.write(2, taking._replace(accepts=False))
    assert not board.is_fuller_than_another(LEADER)
    other.write(PROCESSES_MAX - 1, taking._replace(connections=0))
    assert board.is_fuller_than_another(LEADER)
    board.clear(PROCESSES_MAX - 1)
    assert not board.is_fuller_than_another(LEADER)


def test_numbers_of_the_board_are_never_torn():
    """A reader beside a writer sees numbers that were written, in the order in which they were."""
    board = Board.make()
    other = Board(board.descriptor)
    values = np.cumsum(np.full(20_000, 0x0001_0001_0001)).tolist()

    def write():
        for value in values:
            board.publish(value, 0)

    writer = threading.Thread(target=write)
    writer.start()
    known, before = {0, *values}, 0
    while writer.is_alive():
        now = other.end
        assert now in known
        assert now >= before
        before = now
    writer.join()


def test_followed_log_has_the_generation_it_was_opened_with(tmp_path):
    """So its tokens are of the history that its state was folded from."""

    async def play(both):
        assert isinstance(both.follower.log, FollowedLog)
        return both.follower.log.generation, both.leader.log.generation

    follower, leader = run(tmp_path, play)
    assert follower == leader
