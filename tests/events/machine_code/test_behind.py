"""Compilation of optional kernels behind a start: nothing waits for it, and nothing is compiled where it is called."""

import json

import pytest

from tests.support.kernel_package import CALLS, began, ended, run

FAST = """
import os, sys, time
from midstream.events.kernel import kernel, optional_kernel
from midstream.state.callee import step


@kernel
def part(value):
    return step(value) * 2


@optional_kernel
def fast(value):
    return part(part(value))
"""
RECORDED = [
    ("callee", "step", [], False, False),
    ("callee", "turn", [], False, False),
    ("caller", "walk", [0, 1], True, False),
    ("fast", "part", [0], False, False),
    ("fast", "fast", [3], True, True),
]
BEGIN = """
import asyncio, time
from midstream.events.kernel import is_pending
from midstream.events.machine_code.ahead import Manner, compile_ahead
from midstream.events.machine_code.behind import CompilationBehind
done = compile_ahead(lambda done, total: None, Manner(workers=2, leaves_optional=True))
from midstream.state.fast import fast
found = [done.kernels, done.left, is_pending(fast)]
told = []
behind = CompilationBehind(lambda compiled: told.append((compiled.kernels, len(compiled.failures))))
loop = asyncio.new_event_loop()
async def begin():
    behind.start()
loop.run_until_complete(begin())
"""
WAIT = """
until = time.monotonic() + 240
while behind.is_running and time.monotonic() < until:
    time.sleep(0.02)
loop.run_until_complete(asyncio.sleep(0))
found += [is_pending(fast)]
"""
STOP = """
loop.run_until_complete(behind.stop())
"""
TELL = """
print(found)
"""


@pytest.fixture
def shop(package):
    """The package with an optional kernel, on the list."""
    (package / "state/fast.py").write_text(FAST)
    kernels = [
        {"module": f"midstream.state.{module}", "name": name, "cost_ms": 5, "needs": needs, "is_called": is_called,
         "is_optional": is_optional, "signatures": [[0]]}
        for module, name, needs, is_called, is_optional in RECORDED
    ]  # fmt: skip
    path = package / "events/machine_code/recorded.json"
    path.write_text(json.dumps({"types": ["int64"], "kernels": kernels}))
    return package


def in_worker(shop, program):
    """Have processes that compile the optional kernel do something first."""
    path = shop / "state/fast.py"
    path.write_text(FAST + f'\nif sys.argv[0].endswith("worker.py"):\n    {program}\n')


def test_a_start_waits_for_what_has_no_other_way(shop):
    """Three kernels are compiled before it and two behind it; then the optional one is loaded, and compiled by none."""
    calls = CALLS.replace("print(walk(20), walk(2.5), Compiles.count)", "found += [fast(3), Compiles.count, *told]")
    assert run(shop, BEGIN + WAIT + calls + TELL) == str([3, 2, True, False, 18, 0, (2, 0)])


def test_a_later_start_leaves_nothing(shop):
    """All of it has machine code."""
    run(shop, BEGIN + WAIT + TELL)
    assert run(shop, BEGIN + WAIT + TELL) == str([0, 0, False, False])


def test_a_stop_does_not_wait_for_it(shop):
    """A process that never ends is ended, and the kernel stays pending."""
    in_worker(shop, "time.sleep(3600)")
    assert run(shop, BEGIN + STOP + "found += [is_pending(fast)]" + TELL) == str([3, 2, True, True])


def test_a_kernel_that_cannot_be_compiled_stays_pending(shop):
    """Its callers have another way; to compile it where it is called would hold them."""
    in_worker(shop, "os.kill(os.getpid(), 9)")
    assert run(shop, BEGIN + WAIT + STOP + "found += [told[0][0] == 0 < told[0][1]]" + TELL) == str(
        [3, 2, True, True, True]
    )


def test_two_that_serve_compile_once(shop):
    """The second waits behind its start for the first."""
    processes = [began(shop, BEGIN + WAIT + "found += [told[0][0] if told else 0]" + TELL) for _ in range(2)]
    found = [json.loads(ended(each).replace("True", "1").replace("False", "0")) for each in processes]
    assert sorted(each[-1] for each in found) in ([0, 2], [1, 1])
    assert {each[-2] for each in found} == {0}


HELD = """
import fcntl, os
from midstream.events.kernel import cache_folder
from midstream.events.machine_code.recorded import recording
lock = os.open(cache_folder(recording().kernels[0].source).parent / "compiling.lock", os.O_WRONLY | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
"""


def test_a_start_does_not_wait_for_another_ones_optional_kernels(shop):
    """What has no other way is there: whoever compiles the rest has the lock, and may have it for minutes."""
    run(shop, BEGIN + STOP + TELL)
    for path in (shop.parent / "cache").glob("fast-*/*.nbc"):
        path.unlink()
    found = run(shop, HELD + BEGIN.replace("behind.start()", "pass") + TELL)
    assert found == str([0, 2, True])


FAILS = """
from unittest import mock
from midstream.events.machine_code import behind as module
mock.patch.object(module, "{}", side_effect=OSError("no memory")).start()
"""


@pytest.mark.parametrize("fails", ["compile_ahead", "_load"])
def test_what_fails_behind_a_start_is_told(shop, fails):
    """No process can be started, or a file of machine code is damaged: the kernel stays pending, and that is said."""
    found = run(shop, BEGIN.replace("told = []", FAILS.format(fails) + "told = []") + WAIT + "found += told" + TELL)
    assert found.startswith("[3, 2, True, True, (")
    assert found.endswith(", 1)]")
