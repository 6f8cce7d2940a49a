"""Made-up ids cannot fill the memory: resident memory stays under what ``midstream size`` says, the catalogue whole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings

FLOOD = Path(__file__).with_name("flood.py")
CROWD = "tests.state.crowd"
ROOT = FLOOD.parents[2]
MARGIN = 1.05


@pytest.mark.long
@pytest.mark.slow
def test_ten_million_users_and_a_million_made_up_items_stay_within_the_sizes() -> None:
    """At default maxima: resident memory <= printed sizes + 5 %, every user beyond 1 M evicted, no catalogue item lost.

    Run in a process of its own, because memory that was once touched stays resident.
    """
    found = json.loads(subprocess.run([sys.executable, str(FLOOD)], check=True, capture_output=True).stdout)
    limits = FoldSettings().limits
    printed = sum(size.bytes_max for size in Fold(FoldSettings()).sizes().values())
    assert found["resident_bytes"] <= MARGIN * printed
    assert found["user_count"] == limits.users_max
    assert found["evicted"] == found["distinct_users"] - limits.users_max
    assert found["distinct_users"] == 10_000_000
    assert found["catalogue_intact"]
    assert found["click_item_count"] == limits.click_items_max
    assert found["refused_items"] > 0


def test_what_is_listed_is_what_millions_of_events_made_resident() -> None:
    """Within 5 %, beside the process: documents are among it, and lists of sessions of items that have any."""
    run = [sys.executable, "-m", CROWD]
    measured = [subprocess.run(run, check=True, capture_output=True, cwd=ROOT).stdout for _ in range(2)]
    found = json.loads(measured[-1])  # the first one may have compiled, and what that leaves is used again
    assert found["listed"] > 500 << 20
    assert found["listed"] / MARGIN <= found["resident"] <= found["listed"] * MARGIN
