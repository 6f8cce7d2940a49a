"""A partition that stays behind while polls wait is named, and one that moves or waits for room is not."""

from midstream.engine.inputs.stall_watch import STALL_S, STALL_S_MAX, StallWatch


def test_a_partition_that_stays_behind_is_named_after_its_allowance() -> None:
    """Others that move do not hide it, and one that has nothing behind it is never named."""
    watch = StallWatch()
    assert watch.looked({"0": 5, "1": 5, "2": 0}) == ()
    watch.polled(["0"], STALL_S - 1)
    assert watch.looked({"0": 3, "1": 5, "2": 0}) == ()
    watch.polled(["0"], 1)
    assert watch.looked({"0": 1, "1": 5, "2": 0}) == ("1",)


def test_time_counts_from_the_look_that_found_something_behind() -> None:
    """A topic that was quiet for an hour has not stood still when a message comes."""
    watch = StallWatch()
    watch.polled([], 3_600)
    assert watch.looked({"0": 1}) == ()
    watch.polled([], STALL_S)
    assert watch.looked({"0": 0}) == ()
    assert not watch.is_watching
    assert watch.looked({"0": 1}) == ()
    assert watch.is_watching


def test_without_a_poll_no_time_counts() -> None:
    """An input that waits for room in the log makes none."""
    watch = StallWatch()
    for _ in range(1_000):
        assert watch.looked({"0": 1}) == ()


def test_an_opening_that_brought_nothing_doubles_the_allowance_to_its_maximum() -> None:
    """What is behind may be no message; a message sets the allowance back."""
    watch = StallWatch()
    allowed_s, waited = STALL_S, []
    while allowed_s < STALL_S_MAX:
        watch.opened()
        watch.looked({"0": 1})
        watch.polled([], allowed_s - 1)
        assert watch.looked({"0": 1}) == ()
        watch.polled([], 1)
        assert watch.looked({"0": 1}) == ("0",)
        waited.append(allowed_s)
        allowed_s = min(2 * allowed_s, STALL_S_MAX)
    assert len(waited) == 6
    watch.polled(["0"], 0.1)
    watch.looked({"0": 1})
    watch.polled([], STALL_S)
    assert watch.looked({"0": 1}) == ("0",)
