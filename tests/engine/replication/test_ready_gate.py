"""A node is ready once it is near the end of the topic, and stays so through an outage that all nodes have."""

from midstream.engine.replication.ready_gate import BEHIND_MS, READY_MS, START_MS, ReadyGate


class Log:
    """Lag, connection and clock that a test sets."""

    def __init__(self):
        self.lag_ms = None
        self.is_unreachable = True
        self.ended = ""
        self.now_ms = 0
        self.gate = ReadyGate(self, lambda: self.now_ms)


def test_a_node_that_starts_is_ready_below_a_second():
    """Not while nothing is known, and not while it is behind."""
    log = Log()
    assert "an unknown time" in log.gate.wait()
    log.now_ms += START_MS
    assert "was not read to its end" in log.gate.wait()
    log.is_unreachable = False
    assert "an unknown time" in log.gate.wait()
    log.lag_ms = READY_MS
    assert "1.0 s of log time behind" in log.gate.wait()
    log.lag_ms = READY_MS - 1
    assert log.gate.wait() == ""


def test_a_node_that_starts_is_not_cut_off_yet():
    """It connects first; one that does not is cut off since its start, and one that was connected is at once."""
    log = Log()
    assert log.gate.concern().said == ""
    log.now_ms = START_MS - 1
    assert log.gate.unreachable_since_ms is None
    log.now_ms = START_MS
    assert log.gate.unreachable_since_ms == 0
    log.is_unreachable = False
    assert log.gate.unreachable_since_ms is None
    log.is_unreachable = True
    assert log.gate.unreachable_since_ms == START_MS


def test_a_pause_of_a_ready_node_is_no_end_of_it():
    """Ten seconds are; it is ready again below one."""
    log = Log()
    log.is_unreachable, log.lag_ms = False, 0
    assert log.gate.wait() == ""
    log.lag_ms = BEHIND_MS - 1
    assert log.gate.wait() == ""
    log.lag_ms = BEHIND_MS
    assert log.gate.wait()
    log.lag_ms = READY_MS
    assert log.gate.wait()
    log.lag_ms = 0
    assert log.gate.wait() == ""


def test_without_a_broker_a_ready_node_goes_on_and_says_since_when():
    """The first look that found it gone counts, until it is back."""
    log = Log()
    log.is_unreachable, log.lag_ms = False, 0
    assert log.gate.wait() == ""
    assert log.gate.concern().said == ""
    log.is_unreachable, log.lag_ms, log.now_ms = True, 10**6, 1_750_000_000_000
    assert log.gate.wait() == ""
    log.now_ms += 60_000
    assert log.gate.concern().said.startswith("log unreachable since 2025-06-15T15:06:40+00:00")
    log.is_unreachable, log.lag_ms = False, 0
    assert log.gate.concern().said == ""
    assert log.gate.unreachable_since_ms is None


def test_a_copy_that_ended_is_not_ready_whatever_the_broker_does():
    """Its state grows old alone."""
    log = Log()
    log.is_unreachable, log.lag_ms = False, 0
    assert log.gate.wait() == ""
    log.ended = "retention cut its place"
    assert "retention cut its place" in log.gate.wait()
    log.is_unreachable = True
    assert log.gate.wait()
