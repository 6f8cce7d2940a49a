"""Children hold back: they write at a bounded rate, rest while others work, and are gone when nobody waits for them."""

import asyncio
import errno
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from io import BytesIO, TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.schema import Config
from midstream.app.encoding import worker as encoding_child
from midstream.app.explain import worker as explain_child
from midstream.app.training import worker as training_child
from midstream.core.errors import Fault
from midstream.engine import child_process
from midstream.engine.child_process import PIECE_BYTES, Pace, PacedFile
from midstream.engine.erasure import worker as rewrite_child
from midstream.engine.folder import DataFolder
from midstream.engine.history import worker as seal_child
from midstream.engine.log_opening import open_log
from midstream.engine.snapshots import worker as snapshot_child
from midstream.events.processes.spawned_process import SpawnedProcess, spawn
from midstream.state.settings import encode_settings
from tests.support.patience import PATIENCE_S
from tests.support.worker_orders import order_type


class Time:
    """A clock that moves when somebody sleeps or works."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.worked = 0.0
        self.slept = 0.0
        self.others = 0.0
        """Cores that others keep busy."""
        patch.setattr(time, "monotonic", lambda: self.now)
        patch.setattr(time, "process_time", lambda: self.worked)
        patch.setattr(time, "sleep", self.sleep)
        patch.setattr(child_process, "busy_seconds", lambda: self.worked + self.now * self.others)

    def work(self, seconds: float, *, share: float = 1.0) -> None:
        """Work, with a share of one core."""
        self.worked += seconds
        self.now += seconds / share

    def sleep(self, seconds: float) -> None:
        """Let time go by."""
        self.slept += seconds
        self.now += seconds


@pytest.mark.parametrize(
    "sizes", [(), (1,), (4_096,), (PIECE_BYTES - 1, 2), (PIECE_BYTES, 5), (2 * PIECE_BYTES + 7,), (3, 0, PIECE_BYTES)]
)
@pytest.mark.parametrize("refusing", ["nothing", "open", "write"])
def test_what_is_written_is_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], refusing: str
) -> None:
    """Every byte, in order, whatever the pieces, also where a file system refuses to go past the page cache."""
    real_open, real_write = os.open, os.pwrite
    is_first = True

    def refuses_open(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no")
        return real_open(path, flags, mode)

    def refuses_write(file: int, piece: memoryview, start: int) -> int:
        nonlocal is_first
        if is_first:
            is_first = False
            raise OSError(errno.EINVAL, "no")
        return real_write(file, piece, start)

    if refusing == "open":
        monkeypatch.setattr(os, "open", refuses_open)
    if refusing == "write":
        monkeypatch.setattr(os, "pwrite", refuses_write)
    pieces = [os.urandom(size) for size in sizes]
    with PacedFile(tmp_path / "file", Pace(hurried=True)) as file:
        for piece in pieces:
            file.write(memoryview(piece))
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)


@given(
    counts=st.lists(st.sampled_from([1, 100_000, PIECE_BYTES]), max_size=30),
    works=st.lists(st.floats(0, 0.01), min_size=30),
)
def test_the_rate_is_kept(counts: list[int], works: list[float]) -> None:
    """After any piece no more was written than the rate allows since the first one, and a hurried child never waits."""
    for hurried in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            clock = Time(patch)
            pace = Pace(hurried=hurried)
            written = 0
            for count, work in zip(counts, works, strict=False):
                clock.work(work)
                pace.wrote(count)
                written += count
                assert hurried or written <= (clock.now - 100.0) * child_process.BYTES_S_MAX + PIECE_BYTES + 1
            assert clock.slept == 0 or not hurried


@pytest.mark.parametrize("share", [1.0, 0.1])
@pytest.mark.parametrize("others, hurried, rests", [(0.0, False, False), (1.0, False, True), (1.0, True, False)])
def test_a_child_rests_while_others_are_busy(
    monkeypatch: pytest.MonkeyPatch, others: float, hurried: bool, rests: bool, share: float
) -> None:
    """As long as it worked, however long it waited for a core; not at all while the machine is idle or a stop waits."""
    clock = Time(monkeypatch)
    clock.others = others
    pace = Pace(hurried=hurried)
    for _ in range(1_000):
        clock.work(0.02, share=share)
        pace.rest()
    assert clock.slept == (pytest.approx(20, rel=0.05) if rests else 0)


SHARE = """
import os, sys, time
from midstream.engine import child_process as child
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.nice(max(0, int(sys.argv[1]) - os.nice(0)))
reading, writing = os.pipe()
first = os.fork()
if not first:
    child.step_behind(0)
    os.write(writing, b"x")
    while True:
        pass
os.read(reading, 1)
while time.process_time() < 1.5:
    pass
with open(f"/proc/{first}/stat") as file:
    ticks = file.read().rpartition(")")[2].split()
os.kill(first, 9)
print((int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK") / time.process_time())
"""


@pytest.mark.skipif(os.getpriority(os.PRIO_PROCESS, 0) > 10, reason="there are not enough ranks behind this one")
@pytest.mark.parametrize("niceness", [0, 8])
def test_a_child_has_little_of_a_core_that_others_want_and_never_nothing(niceness: int) -> None:
    """One core, wanted by a child and its server: a tenth, however much others take of that core as well, and where the
    server itself stands behind them.
    """
    command = [sys.executable, "-c", SHARE, str(niceness)]
    share = float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert 0.02 < share < 0.3


@pytest.mark.parametrize("hurried", [False, True])
@pytest.mark.parametrize("part", [rewrite_child, seal_child, snapshot_child])
def test_a_child_that_somebody_waits_for_rests_for_nobody(
    monkeypatch: pytest.MonkeyPatch, part: ModuleType, hurried: bool
) -> None:
    """Any other rests while its server works."""
    done: list[object] = []
    empty = {int: 0, str: ""}
    needed = {each.name: empty[each.type] for each in msgspec.structs.fields(order_type(part)) if each.required}
    order = msgspec.json.encode({**needed, "hurried": hurried})
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(order)))
    monkeypatch.setattr(child_process, "tell_bugs", lambda: None)
    monkeypatch.setattr(child_process, "Pace", lambda _notify, *, hurried: hurried)
    monkeypatch.setattr(child_process, "report", done.append)
    child_process.main(order_type(part), lambda _order, pace: done.append(pace))
    assert done == [hurried, b"null"]


Rank = tuple[int, int]


def rank(process: int) -> Rank:
    """Return niceness and policy of a process."""
    return os.getpriority(os.PRIO_PROCESS, process), os.sched_getscheduler(process)


@pytest.mark.parametrize("hurried", [False, True])
def test_a_child_that_somebody_waits_for_keeps_the_rank_of_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: bool
) -> None:
    """Any other is behind it from its start: before it has its order, and so before it imports anything large."""
    found: list[Rank] = []
    followed = child_process._followed

    async def looked(process: SpawnedProcess, *more: Any) -> child_process.Ended:
        found.append(rank(process.pid))
        return await followed(process, *more)

    monkeypatch.setattr(child_process, "_followed", looked)
    assert ended(tmp_path, monkeypatch, "well", hurried=hurried)[0].line == b"well"
    niceness, policy = rank(0)
    behind = (min(niceness + child_process.NICENESS, 19), os.SCHED_BATCH)
    assert found == [(niceness, policy) if hurried else behind]


def test_a_system_that_gives_no_rank_has_children_of_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank is a courtesy: a child without one works."""

    def refuses(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuses)
    assert ended(tmp_path, monkeypatch, "well")[0].line == b"well"


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_child_that_ends_at_once_is_an_end(
    monkeypatch: pytest.MonkeyPatch, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Also where it has ended before it is given its order: without memory for it a program does not even begin."""
    monkeypatch.setattr(sys, "executable", "/bin/false")

    async def work() -> list[str]:
        busy = asyncio.create_task(held_up())
        found = [(await child_process.run("none", child_process.WorkOrder(folder=""), print)).reason for _ in range(20)]
        busy.cancel()
        return found

    async def held_up() -> None:
        while True:
            time.sleep(0.003)  # noqa: ASYNC251  what holds the loop up
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(work()) == ["its process ended with status 1; standard error says why"] * 20


def test_a_server_that_has_idle_time_alone_has_its_children_there() -> None:
    """Nobody may leave that policy without a privilege: its child is let be."""
    program = (
        "import os; from midstream.engine import child_process as child; "
        "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)); before = os.nice(0); child.step_behind(0); "
        "assert (os.nice(0), os.sched_getscheduler(0)) == (before, os.SCHED_IDLE)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


WORKERS = (rewrite_child, seal_child, snapshot_child, explain_child, training_child, encoding_child)
UNREADABLE = {"settings": "{}", "config": "{}", "name": "none", "request_id": "r-1"}
"""Texts of orders with which no worker does anything, as there is nothing in the folder."""


def run_main(worker: ModuleType, monkeypatch: pytest.MonkeyPatch, **fields: object) -> None:
    """Run a worker as its process does, from the order on standard input on."""
    empty = {int: 0, str: "", tuple[str, ...]: ()}
    needed = {
        each.name: UNREADABLE.get(each.name, empty.get(each.type))
        for each in msgspec.structs.fields(order_type(worker))
        if each.required
    }
    order = msgspec.json.encode({**needed, "hurried": True, **fields})
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(order)))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    before = signal.getsignal(signal.SIGINT)
    try:
        runpy.run_module(worker.__name__, run_name="__main__")
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("worker", WORKERS)
def test_each_worker_reads_its_order_and_tells_why_it_failed(
    worker: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In one line of its standard output, and with status 1."""
    with pytest.raises(SystemExit) as left:
        run_main(worker, monkeypatch, folder=str(tmp_path / "none"))
    (line,) = capfd.readouterr().out.splitlines()
    assert left.value.code == 1
    assert line.startswith(("failed ", "faults ")), line
    assert "a bug" not in line


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_a_worker_reports_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As the last line of its standard output, which whoever ordered it decodes."""
    data = DataFolder(tmp_path / "data")
    open_log(data, bytes(16), 1 << 20).close()
    settings = encode_settings(Config().fold_settings())
    run_main(seal_child, monkeypatch, folder=str(data.root), hot_ms=1, settings=settings)
    report = msgspec.json.decode(capfd.readouterr().out.splitlines()[-1], type=seal_child.SealReport)
    assert (report.begin, report.end, report.files, report.cut_events) == (0, 0, 0, 0)


def test_a_child_ends_with_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """When another process is its parent now, nobody waits for what it makes."""
    clock = Time(monkeypatch)
    pace = Pace(hurried=True)
    clock.work(1)
    pace.rest()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    clock.work(1)
    with pytest.raises(SystemExit):
        pace.rest()


Said = list[tuple[str, int, int]]
CHILD = """
import json, os, sys, time
from midstream.core.errors import Fault, Invalid
from midstream.engine import child_process as child
order = json.load(sys.stdin)["folder"]
child.say_progress("folding", 1, 2)
if order == "variables":
    order = os.environ["TOLD"] + os.pathsep + os.environ["KEPT"]
if order == "hang":
    time.sleep(60)
if order == "fail":
    child.fail(OSError(28, "no room\\non this disk"))
if order == "refuse":
    child.fail(Invalid((Fault("$.a", "1 came.\\n", "2", "/docs/a.md"), Fault("b", "", "ü", "/docs/b.md"))))
if order == "break":
    raise ZeroDivisionError
if order == "babble":
    print("progress so far so good", flush=True)
    time.sleep(60)
if order.isdigit():
    order = "x" * int(order)
child.report(order.encode())
"""


def ended(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    order: str,
    stall_s: float = PATIENCE_S,
    time_s_max: float | None = None,
    *,
    hurried: bool = False,
) -> tuple[child_process.Ended, Said]:
    """Run a child that does as it is told; return how it ended and what it said on the way."""
    (tmp_path / "told_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))))
    said: Said = []
    asked = child_process.WorkOrder(folder=order, hurried=hurried)
    work = child_process.run(
        "told_child",
        asked,
        lambda *each: said.append(each),
        stall_s=stall_s,
        time_s_max=time_s_max,
        variables={"TOLD": "so"},
    )
    return asyncio.run(work), said


@pytest.mark.parametrize(
    "order, line, reason",
    [
        ("well", b"well", ""),
        ("fail", b"", "OSError: [Errno 28] no room on this disk"),
        ("break", b"", "its process ended with status 1; standard error says why"),
    ],
)
def test_how_a_child_ended_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, line: bytes, reason: str
) -> None:
    """What it reports, or why it did not, and how far it was on the way."""
    found, said = ended(tmp_path, monkeypatch, order)
    assert (found.line, found.reason) == (line, reason)
    assert said == [("folding", 1, 2)]


def test_a_bug_is_told_by_its_type_and_its_calls(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In one line, which is the reason; not by what it says, which may name a user, and not on standard error."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    child_process.tell_bugs()
    try:
        dict[str, int]()["MARKED"]
    except KeyError as error:
        sys.excepthook(KeyError, error, error.__traceback__)
    told = capfd.readouterr()
    assert told.out.startswith("failed a bug: KeyError at ")
    assert "test_a_bug_is_told" in told.out
    assert told.out.count("\n") == 1
    assert "MARKED" not in told.out + told.err


def test_a_child_has_the_variables_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside those of its server."""
    monkeypatch.setenv("KEPT", "too")
    assert ended(tmp_path, monkeypatch, "variables")[0].line == b"so:too"


def test_faults_come_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their four parts, beside a reason in one line; what is no fault is no report of one."""
    found, _ = ended(tmp_path, monkeypatch, "refuse")
    assert found.faults == (Fault("$.a", "1 came.\n", "2", "/docs/a.md"), Fault("b", "", "ü", "/docs/b.md"))
    assert (found.line, found.is_told, found.reason) == (
        b"",
        True,
        "Invalid: $.a 1 came. 2 midstream docs a b ü midstream docs b",
    )
    found, _ = ended(tmp_path, monkeypatch, "fail")
    assert (found.faults, found.is_told) == ((), True)
    found, _ = ended(tmp_path, monkeypatch, "break")
    assert (found.faults, found.is_told) == ((), False)
    found = child_process._invalid(b"of mine")
    assert (found.faults, found.is_told) == ((), False)
    assert "could not be read" in found.reason


@pytest.mark.parametrize("length", [65_537, 3_000_000])
def test_a_report_may_be_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    """Longer than what asyncio takes for a line unless it is told."""
    found, said = ended(tmp_path, monkeypatch, str(length))
    assert (found.line, found.reason) == (b"x" * length, "")
    assert said == [("folding", 1, 2)]


@pytest.mark.parametrize("order, reason", [("3000000", "a line of more than 100,000 bytes"), ("babble", "so far so")])
def test_what_cannot_be_read_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, reason: str
) -> None:
    """A report that is too long, progress that is none: the child is ended, and whoever ran it is told why."""
    monkeypatch.setattr(child_process, "LINE_BYTES_MAX", 100_000)
    found, _ = ended(tmp_path, monkeypatch, order)
    assert found.line == b""
    assert reason in found.reason


def test_a_silent_child_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed, and the reason says so."""
    found, _ = ended(tmp_path, monkeypatch, "hang", 3)
    assert "said nothing for 3 s" in found.reason


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A living one is killed and waited for, however often it says how far it is; the reason says so."""
    started: list[SpawnedProcess] = []

    async def noted(command: Sequence[str], **options: Any) -> SpawnedProcess:
        started.append(await spawn(command, **options))
        return started[0]

    monkeypatch.setattr(child_process, "spawn", noted)
    found, _ = ended(tmp_path, monkeypatch, "hang", time_s_max=0.2)
    assert (found.line, found.reason) == (b"", "its process took longer than 0.2 s and was ended")
    assert [process.returncode for process in started] == [-signal.SIGKILL]
