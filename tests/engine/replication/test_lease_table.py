"""Leases by the order and the clock of the topic: one owner at a time, and tables that began anywhere agree."""

import random

import pytest

from midstream.engine.replication.lease_table import (
    LEASES_MAX,
    NO_POSITION,
    TTL_MS_MAX,
    Claimed,
    LeaseTable,
    claim,
    encode_claim,
)

KEY = "key"
TTL_MS = 1_000


def said(process: str, *names: str, since: int = NO_POSITION, ttl_ms: int = TTL_MS, key: str = KEY) -> bytes:
    """Return the claim of a process whose node has the same name."""
    claimed = dict.fromkeys(names or ("input clicks",), Claimed(since, 7))
    return encode_claim(claim(key, process.encode(), process, 0, ttl_ms, claimed))


def owner(table: LeaseTable, name: str = "input clicks") -> str:
    """Return the node that has a lease."""
    row = table.rows.get(name)
    return "" if row is None else row.node


def test_the_first_in_the_topic_has_it_until_it_runs_out() -> None:
    """A claim of another one counts from the moment at which the lease ran out, by append times."""
    table = LeaseTable(KEY)
    assert table.take(said("a"), 0, 5_000)
    assert table.take(said("b"), 1, 5_999)
    assert owner(table) == "a"
    assert table.take(said("b"), 2, 6_000)
    assert owner(table) == "b"
    assert table.rows["input clicks"].since == 2


def test_renewals_and_a_clock_that_goes_back_keep_it() -> None:
    """The clock is the running maximum, as log time is."""
    table = LeaseTable(KEY)
    table.take(said("a"), 0, 5_000)
    table.take(said("a", since=0), 1, 5_900)
    table.take(said("b"), 2, 1_000)
    table.take(said("b"), 3, 6_899)
    table.take(said("a", since=0), 4, 1_000)
    table.take(said("b"), 5, 6_900)
    assert owner(table) == "a"
    assert table.rows["input clicks"].since == 0


def test_what_is_given_up_is_free_and_only_its_own() -> None:
    """A process gives up what it has, and nothing of another."""
    table = LeaseTable(KEY)
    table.take(said("a"), 0, 5_000)
    table.take(said("b", ttl_ms=0), 1, 5_001)
    assert owner(table) == "a"
    late = LeaseTable(KEY)
    late.take(said("b"), 1, 5_000)
    late.take(said("a", since=0, ttl_ms=0), 2, 5_001)
    assert owner(late) == "b"
    table.take(said("a", ttl_ms=0), 2, 5_002)
    assert owner(table) == ""


def test_tables_that_began_anywhere_agree_after_a_renewal() -> None:
    """A table that knows nothing takes a late claim for good, until the holder renews."""
    full, late = LeaseTable(KEY), LeaseTable(KEY)
    full.take(said("a"), 0, 5_000)
    for table in (full, late):
        table.take(said("b"), 1, 5_100)
    assert (owner(full), owner(late)) == ("a", "b")
    for table in (full, late):
        table.take(said("a", since=0), 2, 5_200)
        table.take(said("b", since=1), 3, 5_300)
    assert owner(full) == owner(late) == "a"


@pytest.mark.parametrize("seed", range(20))
def test_tables_from_any_offset_agree_once_all_holders_renewed(seed: int) -> None:
    """Processes claim and renew by what their own table says; a table that begins late agrees soon, and stays so."""
    chance = random.Random(seed)  # noqa: S311  an order, no secret
    messages: list[tuple[bytes, int, int]] = []
    tables = {each: LeaseTable(KEY) for each in "abc"}
    now = 0
    for offset in range(400):
        now += chance.randrange(300)
        each = chance.choice("abc")
        if chance.random() < 0.05:  # it is started anew, and knows nothing
            tables[each] = LeaseTable(KEY)
        row = tables[each].rows.get("input clicks")
        is_mine = row is not None and row.node == each
        if row is not None and not is_mine and now < row.until_ms:
            continue
        messages.append((said(each, since=row.since if row is not None and is_mine else NO_POSITION), offset, now))
        for table in tables.values():
            table.take(*messages[-1])
    holder = owner(tables["a"]) or "a"
    for offset in range(400, 440):  # the holder by the first table renews, the others renew what they believe
        now += 100
        for name, table in tables.items():
            row = table.rows.get("input clicks")
            if row is not None and row.node == name:
                message = (said(name, since=row.since), offset, now)
                for other in tables.values():
                    other.take(*message)
    assert len({owner(table) for table in tables.values()}) == 1, holder


def test_what_is_no_claim_of_this_log_changes_nothing() -> None:
    """Rubbish, another shop, another form, too long a name and too many of them."""
    table = LeaseTable(KEY)
    names = [f"input {n}" for n in range(LEASES_MAX + 1)]
    for value in (b"", b'{"lease":', b'{"lease":2}', said("a", key="other"), said("a", "x" * 601), said("a", *names)):
        assert not table.take(value, 0, 5_000)
    assert not table.rows


def test_there_are_bounds() -> None:
    """So many leases, each for so long."""
    table = LeaseTable(KEY)
    table.take(said("a", *(f"input {n}" for n in range(LEASES_MAX)), ttl_ms=10**9), 0, 5_000)
    table.take(said("a", "one more"), 1, 5_000)
    assert len(table.rows) == LEASES_MAX
    assert table.rows["input 0"].until_ms == 5_000 + TTL_MS_MAX
    for number in range(1_000):
        table.take(said(f"p{number}"), number, 5_000)
    assert len(table.heard_ms) <= 256
