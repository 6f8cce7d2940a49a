"""What all tests share: the Hypothesis profiles, that a busy machine makes no answer late, and that what a test leaves
is gone before memory is short.

``HYPOTHESIS_PROFILE`` picks one of ``dev``, ``ci``, ``nightly``. Without it, ``CI=true`` picks ``ci`` and all
else ``dev``.
"""

import ctypes
import gc
import os
import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from midstream.app.config import Placement
from midstream.engine.answering import Answering
from midstream.engine.types import Ask
from midstream.testing.patience import PATIENCE_S

# No deadline for one example: the first call of a kernel compiles it. pytest's timeout bounds the whole test.
settings.register_profile("dev", max_examples=50, deadline=None)
# The same examples in each run, so that a red run is about the change; nightly looks for new ones.
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "nightly",
    max_examples=5_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def profile_name(environ: Mapping[str, str]) -> str:
    """Name the profile that an environment asks for."""
    return environ.get("HYPOTHESIS_PROFILE") or ("ci" if environ.get("CI") == "true" else "dev")


settings.load_profile(profile_name(os.environ))


def give_time() -> None:
    """Give questions for which nobody chose a deadline as long as may be necessary.

    In the usual 50 ms a machine that is busy may stand still, and sources are left out. What deadlines do is proven
    with questions and placements that have one, and on clocks of the tests' own.
    """
    until, usual_ms = Answering._until, Placement().deadline.ms

    def patient(self: Answering, asks: Sequence[Ask]) -> float:
        chosen = until(self, asks)
        is_chosen = asks[0].deadline_ms or any(plan.deadline_ms != usual_ms for plan in self._plans_of(asks))
        has_own_clock = self._engine.host.monotonic is not time.monotonic
        return chosen if is_chosen or has_own_clock else chosen + PATIENCE_S

    Answering._until = patient  # type: ignore[method-assign]


give_time()


HEAVY = ("slow", "crash", "quality")
"""Markers of tests that take long."""


INTEGRATION = "integration"
"""Marker of tests that need programs of others."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs programs of others unless ``-m`` names it; put the files with heavy tests first.

    A heavy one that a process begins when the others are done is waited for.
    """
    if INTEGRATION not in str(config.getoption("markexpr")):
        left_out = [item for item in items if item.get_closest_marker(INTEGRATION)]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]
    heavy = {item.path for item in items if any(item.get_closest_marker(name) for name in HEAVY)}
    items.sort(key=lambda item: item.path not in heavy)


GROWTH_BYTES = 1 << 30
"""Memory that a process of tests may gain before garbage is looked for."""
_resident = {"bytes": 0}


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


def pytest_runtest_logfinish() -> None:
    """Drop states of gigabytes that refer to themselves, and give back what lies free between what is in use."""
    if resident_bytes() > _resident["bytes"] + GROWTH_BYTES:
        gc.unfreeze()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        _resident["bytes"] = resident_bytes()
