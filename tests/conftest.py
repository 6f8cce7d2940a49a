"""What all tests share: the Hypothesis profiles, that a busy machine makes no answer late, that random ids are those of
the run before, that a state costs what is used of it, and that what a test leaves is gone before memory is short.

``HYPOTHESIS_PROFILE`` picks one of ``dev``, ``ci``, ``nightly``. Without it, ``CI=true`` picks ``ci`` and all
else ``dev``.
"""

import compileall
import ctypes
import gc
import hashlib
import itertools
import os
import resource
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from midstream.app.opening import Outside
from tests.support.selection import is_left_out
from tests.support.unhurried import give_time

pytest_plugins = ["tests.support.services.record", "tests.support.services.fixtures"]

# No deadline for one example: the first call of a kernel compiles it. pytest's timeout bounds the whole test.
settings.register_profile("dev", max_examples=50, deadline=None)
# The same examples in each run, so that a red run is about the change, and as many as seeded bugs are found with;
# nightly looks for new ones.
settings.register_profile("ci", max_examples=50, deadline=None, derandomize=True, print_blob=True)
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


SOURCES = Path(__file__).parents[1] / "src"


def write_bytecode() -> None:
    """Compile sources that changed, where ``PYTHONDONTWRITEBYTECODE`` keeps each process from keeping what it compiled.

    A child of a test reads bytecode that is there; without it compiles 400 modules, a second of CPU each time.
    """
    if sys.dont_write_bytecode and "PYTEST_XDIST_WORKER" not in os.environ:
        compileall.compile_dir(SOURCES, quiet=1)


write_bytecode()


M_MMAP_THRESHOLD = -3
"""Of ``mallopt(3)``."""
MAPPED_BYTES_MIN = 1 << 20
"""Size from which on memory comes from the system, and goes back to it when it is freed."""


def map_large_arrays() -> None:
    """Keep the size from which on an allocation is a mapping of its own, which the C library would raise to 32 MiB.

    It does so once a state was freed. The next one is then reserved in freed memory that has to be cleared, and so pays
    for each page that it reserves: a test that opened sixty states spent ten seconds of the system's time in that, and
    spends two without.
    """
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES_MIN)


map_large_arrays()


give_time()


class Drawn:
    """Bytes in place of the system's random ones: in each run the same for the same test.

    Ids of logs, keys and requests are made of them, and which of equal scores comes first follows from the id of the
    log. So a red run is about the change; the profile ``nightly`` draws others each time.
    """

    def __init__(self) -> None:
        """Begin with no name."""
        self.name = ""
        self.counts = itertools.count()

    def __call__(self, size: int) -> bytes:
        """Return the next bytes of the test, or of the fixture that several share, that is running."""
        return hashlib.shake_128(f"{self.name} {next(self.counts)}".encode()).digest(size)

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """Draw under a name from its beginning, and go on as before afterwards."""
        before = self.name, self.counts
        self.name, self.counts = name, itertools.count()
        try:
            yield
        finally:
            self.name, self.counts = before


drawn = Drawn()
if profile_name(os.environ) != "nightly":
    made = Outside.__init__
    usual = made.__defaults__ or ()
    assert usual.count(os.urandom) == 1
    made.__defaults__ = tuple(drawn if each is os.urandom else each for each in usual)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Draw what a test draws under its name."""
    with drawn.named(item.nodeid):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Draw what a fixture of several tests draws under a name of its own, whichever of them comes first."""
    if fixturedef.scope == "function":
        return (yield)
    with drawn.named(f"{fixturedef.baseid} {fixturedef.argname} {getattr(request, 'param_index', '')}"):
        return (yield)


LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)


@pytest.fixture(autouse=True)
def _limits_stay() -> Iterator[None]:
    """Fail a test that leaves other limits of memory or files behind: programs of later ones inherit them."""
    before = [resource.getrlimit(each) for each in LIMITS]
    yield
    after = [resource.getrlimit(each) for each in LIMITS]
    for each, limit in zip(LIMITS, before, strict=True):
        resource.setrlimit(each, limit)
    assert after == before, "the test left other limits of this process behind"


HEAVY = ("slow", "crash", "quality", "long")
"""Markers of tests that take more than some seconds: files with one of them are begun first."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take ``--long``."""
    parser.addoption(
        "--long", action="store_true", help="Run long proofs too: many seeds, many kills, whole data sets."
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out programs of others and long proofs unless they are asked for; put the files with heavy tests first.

    A heavy one that a process begins when the others are done is waited for.
    """
    is_long = bool(config.getoption("--long")) or any("::" in each for each in config.args)
    markers = str(config.getoption("markexpr"))
    left_out = {item for item in items if is_left_out(item, markers, is_long=is_long)}
    if left_out:
        config.hook.pytest_deselected(items=[*left_out])
        items[:] = [item for item in items if item not in left_out]
    heavy = {item.path for item in items if any(item.get_closest_marker(name) for name in HEAVY)}
    items.sort(key=lambda item: item.path not in heavy)


GROWTH_BYTES = 1 << 29
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
