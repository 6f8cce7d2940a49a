"""The suite measures every row of its table, compares versions in turns, and keeps runs; every benchmark can start."""

import importlib
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (FOLDER, ROOT)))}
SHORT_S_MAX = 1_100
"""Of which all but one or two minutes is compiling, where nothing has compiled before."""
PEERS = {"surprise"}
"""Libraries that a benchmark compares with, in environments of their own; all else has to be here."""
IMPORTING = f"""
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as fault:
        if fault.name not in {PEERS!r}:
            raise
"""


@pytest.fixture
def measures(monkeypatch):
    """The modules of the suite, which its program finds beside itself."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("goals", "machine", "checkouts", "programs", "growth", "turns", "report", "history")
    return SimpleNamespace(**{name: importlib.import_module(f"measures.{name}") for name in names})


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("", marks=pytest.mark.integration),
        pytest.param("--growth", marks=pytest.mark.long),
        "--peers",
        # The table by a server under load and by ingest: parts, children and loads that the other programs use too.
        "--only lean JSON",
    ],
)
def test_short_form_measures_every_row_and_keeps_the_run(mode, tmp_path):
    """Every program runs for real, with sizes that take seconds: no row is without a figure, and no program fails."""
    path = str(tmp_path / "history.jsonl")
    command = [sys.executable, str(FOLDER / "suite.py"), "--short", "--history", path, *mode.split()]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=SHORT_S_MAX, check=False)
    assert ran.returncode == 0, ran.stderr
    (line,) = (tmp_path / "history.jsonl").read_text("utf-8").splitlines()
    run = json.loads(line)
    rows = {name: each for name, each in run["figures"]["here"].items() if len(each) == 1 and each[0] >= 0}
    told = [row for row in ran.stdout.splitlines() if row.startswith("| ")][1:]
    assert (len(rows), len(told)) == (len(run["figures"]["here"]), len(rows))
    assert "no figure" not in ran.stdout
    assert set(run["noise"]) == set(run["programs"])
    assert run["revisions"]["here"]
    assert run["machine"]["cores"] == os.cpu_count()
    assert "--short" in run["command"]


@pytest.mark.slow
def test_a_point_of_growth_has_a_figure_for_each_of_its_rows(measures, tmp_path):
    """The costliest axis, which declares features; all points together are a long proof."""
    goals, programs = measures.growth.growth(is_short=True)
    name = next(each for each in programs if "columns" in each)
    bench = measures.programs.Bench(tmp_path, measures.programs.SHORT)
    figures = programs[name](bench, measures.checkouts.here())
    assert set(figures) == {goal.name for goal in goals if goal.program == name}
    assert min(figures.values()) >= 0


def test_every_benchmark_can_be_imported():
    """A benchmark whose imports have moved away is found here, not on the day on which it is wanted."""
    names = [path.stem for path in sorted(FOLDER.glob("*.py"))]
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTING, *names],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (len(names) > 30, ran.returncode) == (True, 0), ran.stderr


@pytest.mark.slow
def test_the_benchmark_of_experiments_runs():
    """It counts by the columns that the watch and the report have now, and each of the three has its figures."""
    command = [sys.executable, str(FOLDER / "experiments.py"), "--slates", "20000"]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=SHORT_S_MAX, check=False)
    assert ran.returncode == 0, ran.stderr
    parts = [line.partition(":")[0] for line in ran.stdout.splitlines()]
    assert parts == ["watch", "watch", "watch", "live report", "report", "report"]
    assert "20,000 slates" in ran.stdout


def test_every_row_has_a_program_and_each_program_a_row(measures):
    """A row of an unknown program would never be measured."""
    assert set(measures.goals.PROGRAMS) == set(measures.programs.PROGRAMS)
    assert len(measures.goals.BY_NAME) == len(measures.goals.GOALS)
    assert set(measures.programs.ONCE) <= set(measures.programs.PROGRAMS)


def test_goals_know_what_is_better(measures):
    """More of a rate, less of a time; a floor itself is kept."""
    rate, time_ms = (
        measures.goals.BY_NAME["lean slates/s, one process"],
        measures.goals.BY_NAME["restart with all events"],
    )
    assert [rate.is_missed(each) for each in (2_499, 2_500, 2_501)] == [True, False, False]
    assert [time_ms.is_missed(each) for each in (4.9, 5, 5.1)] == [False, False, True]
    assert (rate.times_better(3_000, 1_500), time_ms.times_better(2, 8)) == (2, 4)


def in_turns(measures, tmp_path, rounds, ask):
    """Run two versions through two programs that ``ask`` plays."""
    programs = {name: lambda _, each, name=name: ask(name, each) for name in ("lean", "fresh clone")}
    versions = [measures.checkouts.Checkout(name, "0" * 40, tmp_path) for name in ("before", "here")]
    bench = measures.programs.Bench(tmp_path, measures.programs.SHORT)
    return versions, measures.turns.measured(bench, versions, programs, rounds, lambda _: None)


def test_versions_take_turns_and_change_who_is_first(measures, tmp_path):
    """Both run each program before the next one; what takes minutes runs in the first round alone."""
    asked = []

    def ask(name, each):
        asked.append((name, each.name))
        return {"lean slates/s, one process": 1.0}

    in_turns(measures, tmp_path, 2, ask)
    assert asked == [
        ("lean", "before"),
        ("lean", "here"),
        ("fresh clone", "before"),
        ("fresh clone", "here"),
        ("lean", "here"),
        ("lean", "before"),
    ]


def test_ratio_is_that_of_each_round(measures, tmp_path):
    """A machine that is half as fast in one round is so for both: medians differ, the ratio does not."""
    speeds = iter((100.0, 200.0, 1.0, 1.0, 100.0, 50.0, 40.0, 80.0))

    def ask(name, _):
        return {"lean slates/s, one process" if name == "lean" else "first slate of a fresh clone": next(speeds)}

    versions, found = in_turns(measures, tmp_path, 3, ask)
    lines = list(measures.report.table(found, versions, measures.goals.GOALS[:1], is_judged=True))
    row = next(line for line in lines if line.startswith("| lean slates/s"))
    assert "| 2.00 (2.00 to 2.00) |" in row
    assert "50 (40 to 100), **below its floor**" in row
    assert "spin" in row


def test_a_program_that_fails_is_named_and_the_others_go_on(measures, tmp_path):
    """No figure is made up, and the noise of a failed turn belongs to none."""

    def ask(name, each):
        if (name, each.name) == ("lean", "here"):
            message = "no answer has status 200"
            raise RuntimeError(message)
        return {f"of {name}": 1.0}

    versions, found = in_turns(measures, tmp_path, 1, ask)
    assert found.failures == ["lean of here: RuntimeError: no answer has status 200"]
    lines = "\n".join(measures.report.table(found, versions, measures.goals.GOALS[:1], is_judged=True))
    assert "no figure" in lines
    assert (len(found.noise["lean"]), len(found.noise["fresh clone"])) == (2, 4)


def test_history_grows_and_is_read_back(measures, tmp_path):
    """A line a run; what stood there stays."""
    path, found = tmp_path / "runs" / "history.jsonl", measures.turns.Measured()
    here = measures.checkouts.Checkout("here", "a" * 40, tmp_path)
    for value in (7.0, 9.0):
        found.figures["here"]["restart with all events"] = [value, value + 1, value + 2]
        run = measures.history.entry(["suite.py"], measures.programs.SHORT, [here], ("restart",), found)
        measures.history.add(path, run)
    assert len(path.read_text("utf-8").splitlines()) == 2
    assert "| restart with all events, s | 8 | 10 |" in list(measures.history.past(path, 5))


def test_a_revision_is_unpacked_as_it_was(measures, monkeypatch, tmp_path):
    """Its files, not those of the tree; a second comparison finds them there."""
    if not (ROOT / ".git").exists():
        pytest.skip("this tree is no checkout of git")
    monkeypatch.setenv("MIDSTREAM_SERVICES", str(tmp_path))
    found = measures.checkouts.of("HEAD")
    assert (found.root / "src" / "midstream" / "__init__.py").is_file()
    assert found.environment["PYTHONPATH"].startswith(str(found.root / "src"))
    assert not measures.checkouts.locks_differ(found, measures.checkouts.of("HEAD"))
    assert not (found.root / ".venv").exists()


@pytest.fixture
def beside(monkeypatch):
    """The benchmark of what goes on beside requests."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("beside")


def test_what_goes_on_beside_a_load_is_ended_with_it(beside):
    """A child of minutes ends when the load does, and is not counted; one that is done is begun again."""
    for program, ended in (("import time; time.sleep(120)", 0), ("", 2)):
        begun = time.monotonic()

        def work(going, told=program):
            going.child([sys.executable, "-c", told])

        with beside.going_on(work) as going:
            while len(going.took) < ended or time.monotonic() < begun + 0.2:
                time.sleep(0.01)
        assert (len(going.took) >= ended, bool(going.took)) == (True, bool(ended))
        assert time.monotonic() < begun + 100


def test_what_fails_beside_a_load_fails_the_benchmark(beside):
    """Else a load would be measured beside nothing; what the child said is named."""

    def work(going):
        going.child([sys.executable, "-c", "raise SystemExit('no such model')"])

    def loaded():
        with beside.going_on(work) as going:
            while going.failed is None:
                time.sleep(0.01)

    with pytest.raises(RuntimeError, match="no such model"):
        loaded()


def test_a_row_is_the_ratio_of_each_round(beside):
    """A round on a slow machine is slow for both; refusals of both are told."""
    turns = [
        (
            {"p99_us": each * 1e3, "p50_us": 1e3, "errors": 1},
            {"p99_us": each * 2e3, "p50_us": 1e3, "errors": 2, "took": []},
        )
        for each in (1, 100)
    ]
    row = beside.row_of("slate", "a snapshot", turns)
    assert "× 2.00 (2.00 to 2.00)" in row.value
    assert row.value.endswith("0 came to an end; 6 refused or failed")


@pytest.fixture
def engines(monkeypatch):
    """The comparison with other engines: what measures, and what builds and starts them."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return SimpleNamespace(**{name: importlib.import_module(name) for name in ("engines_beside", "engine_peers")})


def test_a_path_without_an_engine_is_refused_in_four_parts(engines, tmp_path):
    """A wrong path would else be built for minutes, or leave the engine out without a word."""
    with pytest.raises(engines.engine_peers.PathRefused) as refused:
        engines.engine_peers.program(engines.engine_peers.GORSE, tmp_path)
    where, came, right, page = str(refused.value).splitlines()
    assert (where, str(tmp_path) in came, "cmd/gorse-in-one" in right) == ("--gorse", True, True)
    assert page.endswith("benchmarks#other-engines-beside-it")


def test_a_tree_is_built_once_and_a_program_is_taken_as_it_is(engines, tmp_path):
    """A second run measures what the first one built; no path = the engine is left out."""
    (tmp_path / "marker").write_text("")
    building = "import pathlib; path = pathlib.Path('built'); path.write_text('1'); path.chmod(0o755)"
    peer = engines.engine_peers.Peer("gorse", "marker", "built", (sys.executable, "-c", building), {})
    assert engines.engine_peers.program(peer, tmp_path) == tmp_path / "built"
    (tmp_path / "built").write_text("2")
    assert engines.engine_peers.program(peer, tmp_path).read_text() == "2"
    assert engines.engine_peers.program(peer, tmp_path / "built") == tmp_path / "built"
    assert engines.engine_peers.program(peer, None) is None


def test_a_server_of_another_project_ends_with_its_block(engines, tmp_path):
    """It is ended by its own process id; one that does not start is named with its last lines."""
    port = engines.engine_peers.free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with engines.engine_peers.running(command, tmp_path, port, "/") as server:
        assert server.process.poll() is None
    assert server.process.poll() is not None
    fails = [sys.executable, "-c", "raise SystemExit('no such database')"]
    with (
        pytest.raises(RuntimeError, match="no such database"),
        engines.engine_peers.running(fails, tmp_path, port, "/"),
    ):
        pass


def test_clicks_are_the_events_of_the_world(engines, tmp_path):
    """Every engine has the same events: each click once, in log order, with its session."""
    world = engines.engine_peers.World(items=50, users=20, sessions=40, events=200)
    engines.engine_peers.write_clicks(tmp_path / "clicks", world)
    lines = [line.split("\t") for line in (tmp_path / "clicks").read_text().splitlines()]
    _, item, session = engines.engine_peers.interactions(world)
    assert lines[0] == ["SessionId", "ItemId", "Time"]
    assert [(int(s), int(i)) for s, i, _ in lines[1:]] == list(zip(session.tolist(), item.tolist(), strict=True))
    times = [float(time) for _, _, time in lines[1:]]
    assert times == sorted(times)


@pytest.fixture
def late_engine():
    """An engine whose answers have an event's item ``late`` questions after it; 0 = never."""

    class Late(BaseHTTPRequestHandler):
        protocol_version, late, asked, item = "HTTP/1.1", 0, 0, None

        def do_POST(self):
            cls = type(self)
            told = self.path.removeprefix("/event/")
            if self.path == "/question":
                cls.asked += 1
                seen = cls.item is not None and cls.late and cls.asked >= cls.late
                content = json.dumps(["popular", *([cls.item] if seen else [])]).encode()
            else:
                cls.item, cls.asked, content = told, 0, b"{}"
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            """Keep the output of the tests clean."""

    with HTTPServer(("127.0.0.1", 0), Late) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port, Late
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("late", [1, 3, 0])
def test_the_time_of_an_event_ends_with_the_first_answer_that_has_it(engines, late_engine, monkeypatch, late):
    """An answer without it is asked again, up to the bound; what never comes is infinite and not the bound."""
    port, handler = late_engine
    handler.late = late
    monkeypatch.setattr(engines.engines_beside, "FRESH_USERS", 1)
    monkeypatch.setattr(engines.engines_beside, "FRESH_S_MAX", 10 if late else 0.3)
    contestant = engines.engine_peers.Contestant(
        "late",
        SimpleNamespace(port=port),
        Path(),
        list,
        (),
        lambda _, item: f"POST /event/{item} HTTP/1.1\r\nhost: x\r\n\r\n".encode(),
        lambda _: b"POST /question HTTP/1.1\r\nhost: x\r\n\r\n",
    )
    seen = engines.engines_beside.times_until_seen(contestant)
    assert len(seen) == 1
    assert math.isfinite(seen[0]) == bool(late)
    assert not late or handler.asked == late


def test_an_answer_without_success_ends_the_comparison(engines, late_engine):
    """An engine that refuses would else be measured as a fast one."""
    port, _ = late_engine
    with (
        closing(socket.create_connection(("127.0.0.1", port))) as connection,
        pytest.raises(RuntimeError, match="501"),
    ):
        engines.engines_beside.exchanged(connection, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")


@pytest.mark.slow
def test_the_comparison_runs_with_midstream_alone():
    """Engines without a path are named as left out; ours has its line, full answers and no errors."""
    size = ["--events", "5000", "--users", "500", "--items", "300", "--seconds", "0.3", "--turns", "1", "--rate", "5"]
    command = [sys.executable, str(FOLDER / "engines_beside.py"), *size]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=SHORT_S_MAX, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["gorse is left out", "serenade is left out"]
    cells = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    assert (cells[0], cells[4], "inf" in cells[5]) == ("midstream", "20.0", False)
