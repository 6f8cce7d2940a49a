"""A mutation run: small faults are put into modules, one after another, and the tests of each must notice.

What a test leaves untested nobody sees in a green run. A drawn sample of mutants says how much of it there is, and the
survivors say where. ``scripts/mutation.py`` has the mutants.

The sources on disk stay as they are: the process of a run imports the changed text in place of the module's, also in
processes that its tests start. So kernels of all other modules come from the cache, and a module that has one, or that
is imported by one, is compiled anew in a folder of its own only where a kernel was changed. Processes are forked from
one that has imported the libraries and nothing of this package. What is run: the module's own test file first, then the
files that import it, those of its folder and the nearest first.

A test that noticed is run once more without any mutant, at the end: what fails then has noticed nothing.
"""

import argparse
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import CodeType
from typing import Any, Literal

from import_graph import HEAVY_TAKEN, Graph, dotted
from mutation import Mutant, draw

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "midstream"
EQUIVALENT = Path(__file__).resolve().with_name("mutants_equivalent.toml")
FOLDERS = ("engine", "events", "state", "ranking", "features", "models", "serving")
COUNT, SEED, LEAST = 200, 1, 90.0
MARKERS = "not slow and not crash and not quality and not service and not integration"
TEST_CPU_S = 60
"""A test that computes for so much longer than any does hangs: a loop that a mutant made endless."""
RUN_S = 400
"""Of all tests of one step; what goes on then is cut off, and a test that has waited for ``TEST_WAIT_S`` hangs."""
TEST_WAIT_S = 120
LIBRARIES = (
    "asyncio", "fastapi", "httpx", "hypothesis", "hypothesis.strategies", "numba", "numpy", "prometheus_client",
    "pyarrow", "pyarrow.parquet", "pytest", "schemathesis.pytest.plugin", "scipy.sparse", "structlog", "typer",
    "uvicorn",
)  # fmt: skip
"""Imported once for all runs."""
AMISS = (3, 4)
"""Exit statuses of pytest for a fault of its own or of how it was called: no test noticed anything."""
BROKEN = 70
"""Exit status of a process that did not come to its tests: a fault of this script, or of the machine."""
OWN = "MIDSTREAM_MUTANT"
"""Environment variable: the file that says what is changed, for processes that tests start."""
Fate = Literal["killed", "killed by time", "survived", "equivalent", "unsure"]


@dataclass(frozen=True)
class Result:
    """What became of one mutant."""

    mutant: Mutant
    fate: Fate
    seconds: float = 0.0
    cpu_s: float = 0.0
    """Of all processes, where the time did not end."""
    by: str = ""
    """The test that noticed, or in which the time ended."""
    tests: int = 0
    """That passed."""


@dataclass
class Change:
    """One changed module, and where kernels that it has a part in are compiled."""

    name: str
    """Dotted."""
    path: str
    text: str
    cache: str = ""
    """Folder for kernels of the modules below; empty = no kernel was changed."""
    anew: list[str] = field(default_factory=list)
    """Paths of modules that the change is a part of."""


class Changed(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports the changed text in place of a module's, and has kernels that it is a part of compiled anew."""

    def __init__(self, change: Change) -> None:
        super().__init__(change.name, change.path)
        self._change = change

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return this loader for the module that is changed, and for the one that says where kernels are cached."""
        if fullname == self._change.name:
            return importlib.util.spec_from_file_location(fullname, self._change.path, loader=self)
        if fullname == "midstream.events.kernel" and self._change.cache:
            found = importlib.machinery.PathFinder.find_spec(fullname, path)  # type: ignore[arg-type]
            return importlib.util.spec_from_file_location(
                fullname, found.origin, loader=Apart(found.origin, self._change)
            )
        return None

    def get_code(self, fullname: str) -> CodeType:
        """Return the changed text, compiled: the cache of bytecode has the other."""
        return compile(self._change.text, self._change.path, "exec", dont_inherit=True)


class Apart(importlib.machinery.SourceFileLoader):
    """Loads the module of the decorator, whose cache folders of some modules are then others."""

    def __init__(self, origin: str, change: Change) -> None:
        super().__init__("midstream.events.kernel", origin)
        self._change = change

    def get_code(self, fullname: str) -> CodeType:
        """Return the module with other folders for some."""
        text = Path(self.path).read_text()
        if self._change.name == fullname:
            text = self._change.text
        text += (
            "\n\n_usual_folder = cache_folder\n\n\ndef cache_folder(source: Path) -> Path:\n"
            f"    if str(source) not in {self._change.anew!r}:\n        return _usual_folder(source)\n"
            f"    folder = Path({self._change.cache!r}) / source.with_suffix('').relative_to({str(PACKAGE)!r})\n"
            "    folder.mkdir(parents=True, exist_ok=True)\n    return folder\n"
        )
        return compile(text, self.path, "exec", dont_inherit=True)


def install(change: Change) -> None:
    """Have this process import what is changed."""
    sys.meta_path.insert(0, Changed(change))


def install_from_environment() -> None:
    """Have this process, which a test started, import what is changed."""
    install(Change(**json.loads(Path(os.environ[OWN]).read_text())))


class Notes:
    """Writes down which test begins and which failed, and lets one compute for so long and no longer. A plugin."""

    def __init__(self, path: Path, test_cpu_s: float) -> None:
        self._file = path.open("w", buffering=1)
        self._test_cpu_s = test_cpu_s
        self._passed = 0

    def pytest_collection(self) -> None:
        """Have no counterexample made smaller: one is enough."""
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        how: Any = {"max_examples": 100, "deadline": None, "derandomize": True, "database": None}
        settings.register_profile("mutants", phases=phases, **how)
        settings.load_profile("mutants")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Begin the time of a test: at its end the process is."""
        signal.setitimer(signal.ITIMER_PROF, self._test_cpu_s)
        self._say(begins=nodeid, at=time.monotonic())

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note what failed, wherever it did."""
        if report.failed:
            self._say(failed=report.nodeid)
        elif report.when == "call" and report.passed:
            self._passed += 1

    def pytest_collectreport(self, report: Any) -> None:
        """Note what could not be imported."""
        if report.failed:
            self._say(failed=report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Say how many passed."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._say(passed=self._passed)

    def _say(self, **what: object) -> None:
        print(json.dumps(what), file=self._file)


@dataclass
class Run:
    """One process of tests."""

    pid: int
    folder: Path
    began: float
    patience: float

    def look(self) -> "End | None":
        """Return how it ended, None = it goes on; what takes too long is ended."""
        pid, status, used = os.wait4(self.pid, os.WNOHANG)
        if pid:
            end = self._end(os.waitstatus_to_exitcode(status))
            return replace(end, cpu_s=used.ru_utime + used.ru_stime)
        if time.monotonic() < self.began + RUN_S * self.patience:
            return None
        _kill_group(self.pid)
        os.waitpid(self.pid, 0)
        return self._end(None)

    def _end(self, status: int | None) -> "End":
        _kill_group(self.pid)  # what its tests started goes with it
        notes: dict[str, Any] = {}
        text = (self.folder / "notes").read_text() if (self.folder / "notes").exists() else ""
        for line in text.splitlines():
            notes = json.loads(line) | {key: notes[key] for key in ("failed",) if key in notes} | {
                key: value for key, value in notes.items() if key in {"begins", "at"} and '"begins"' not in line
            }  # fmt: skip
        begins, failed = notes.get("begins", ""), notes.get("failed", "")
        waited = time.monotonic() - notes.get("at", time.monotonic())
        if status == -signal.SIGPROF or (status is None and waited > TEST_WAIT_S * self.patience):
            return End("killed by time", begins)
        if status is None or (status == 0 and not failed) or status == 5:  # 5 = no test there
            return End("survived", "" if status is not None else f"cut off in {begins}", notes.get("passed", 0))
        if status == BROKEN:
            raise RuntimeError((self.folder / "output").read_text())
        if status in AMISS or not (failed or begins):
            return End("unsure", f"exit status {status} in {begins or 'the start'}", notes.get("passed", 0))
        return End("killed", failed or begins)


@dataclass(frozen=True)
class End:
    """How a run ended."""

    fate: Fate
    by: str = ""
    passed: int = 0
    cpu_s: float = 0.0


def start(tests: Sequence[str], change: Change | None, patience: float, *, goes_on: bool = False) -> Run:
    """Fork a process that runs tests with a change in; ``goes_on``: after a failure, too."""
    folder = Path(tempfile.mkdtemp(prefix="mutant-"))
    pid = os.fork()
    if pid:
        return Run(pid, folder, time.monotonic(), patience)
    status = BROKEN
    try:
        os.setsid()
        output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        status = _tested(folder, tests, change, (patience, goes_on))
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(int(status))  # nothing else of the parent's is flushed or closed here


def _tested(folder: Path, tests: Sequence[str], change: Change | None, how: tuple[float, bool]) -> int:
    import pytest

    os.chdir(ROOT)
    paths = [str(ROOT / "src")]
    os.environ |= {"HYPOTHESIS_PROFILE": "ci", "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    sys.dont_write_bytecode = True
    if change is not None:
        change.cache = change.cache and str(folder / "kernels")
        (folder / "change").write_text(json.dumps(asdict(change)))
        os.environ[OWN] = str(folder / "change")
        hook = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport mutants\n"
        (folder / "sitecustomize.py").write_text(f"{hook}mutants.install_from_environment()\n")
        install(change)
        paths.insert(0, str(folder))
    sys.path[:0] = [*paths[-1:], str(ROOT)]
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    options = ["-q", "--tb=line", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", MARKERS]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of libraries that were there before
    stops = [] if how[1] else ["-x"]
    notes = Notes(folder / "notes", TEST_CPU_S * how[0])
    return int(pytest.main([*options, *stops, "--basetemp", str(folder / "tmp"), *tests], [notes]))


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


class Campaign:
    """All mutants of a run, some at a time."""

    def __init__(self, graph: Graph, options: argparse.Namespace) -> None:
        self._graph = graph
        self._options = options

    def change_of(self, mutant: Mutant) -> Change:
        """Return what a process is to import."""
        path = PACKAGE / mutant.file
        name = dotted(path, ROOT)
        text = mutant.applied(path.read_bytes()).decode()
        if not mutant.in_kernel:
            return Change(name, str(path), text)
        anew = sorted(str(self._graph.names[each]) for each in self._graph.above(name))
        return Change(name, str(path), text, "kernels", anew)

    def results(self, mutants: Sequence[Mutant]) -> Iterator[Result]:
        """Yield what became of each, in the order in which it is known."""
        left = list(reversed(mutants))
        running: dict[int, tuple[Mutant, Run, list[list[str]], Result]] = {}
        while left or running:
            while left and len(running) < self._options.jobs:
                mutant = left.pop()
                steps = self._graph.tests_of(mutant.file, heavy=self._options.heavy)
                self._go_on(running, steps, Result(mutant, "survived"))
            time.sleep(0.05)
            for pid, (mutant, run, steps, before) in list(running.items()):
                if (end := run.look()) is None:
                    continue
                del running[pid]
                _remove(run.folder)
                seconds = round(before.seconds + time.monotonic() - run.began, 1)
                cpu_s = round(before.cpu_s + end.cpu_s, 1)
                result = Result(mutant, end.fate, seconds, cpu_s, end.by or before.by, before.tests + end.passed)
                if end.fate == "survived" and steps:
                    self._go_on(running, steps, result)
                else:
                    yield result

    def _go_on(self, running: dict[int, Any], steps: list[list[str]], so_far: Result) -> None:
        """Begin the next step of a mutant."""
        run = start(steps[0] if steps else [], self.change_of(so_far.mutant), self._options.patience)
        running[run.pid] = (so_far.mutant, run, steps[1:], so_far)

    def failing(self, tests: Sequence[str]) -> set[str]:
        """Return which of some tests fail, or take too long, without any mutant."""
        if not tests:
            return set()
        run = start(tests, None, self._options.patience * len(tests), goes_on=True)
        while (end := run.look()) is None:
            time.sleep(0.05)
        lines = [json.loads(line) for line in (run.folder / "notes").read_text().splitlines()]
        _remove(run.folder)
        begun = {line["begins"] for line in lines if "begins" in line}
        failed = {line["failed"] for line in lines if "failed" in line}
        left_out = {each for each in tests if not any(other.startswith(each) for other in begun)}
        return failed | left_out | ({end.by} if "killed" in end.fate else set())


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def equivalents() -> dict[tuple[str, str, str], str]:
    """Return why a mutant is no fault, by file, line as it was and line as it is."""
    listed = tomllib.loads(EQUIVALENT.read_text())["equivalent"]
    return {(each["file"], each["old"], each["new"]): each["reason"] for each in listed}


def judged(results: Sequence[Result], failing: set[str]) -> list[Result]:
    """Return results in which what fails without a mutant has noticed none."""
    return [replace(each, fate="unsure") if each.by in failing and "killed" in each.fate else each for each in results]


def score(results: Sequence[Result]) -> float:
    """Return the share that was killed, in percent, of those that can be; 100 of none."""
    fates = Counter(each.fate for each in results)
    killed = fates["killed"] + fates["killed by time"]
    return 100.0 * killed / (killed + fates["survived"]) if killed + fates["survived"] else 100.0


def report(results: Sequence[Result], sources: Mapping[str, bytes]) -> Iterator[str]:
    """Yield the score by folder, and each survivor with what was changed."""
    for folder in (*FOLDERS, ""):
        part = [each for each in results if each.mutant.file.startswith(folder)]
        if part:
            fates = Counter(each.fate for each in part)
            said = ", ".join(f"{count} {fate}" for fate, count in sorted(fates.items()))
            yield f"{folder or 'all':<10} {score(part):5.1f} %  of {len(part):3}: {said}"
    tried = [each for each in results if each.fate != "equivalent"]
    if tried:
        cpu_s = sorted(each.cpu_s for each in tried if each.cpu_s) or [0.0]
        seconds = sum(each.seconds for each in tried)
        median = cpu_s[len(cpu_s) // 2]
        yield f"CPU of a mutant: median {median:.0f} s, all {sum(cpu_s):.0f} s; they waited {seconds:.0f} s"
    for each in results:
        if each.fate in {"survived", "unsure"}:
            before, after = each.mutant.lines(sources[each.mutant.file])
            yield f"\n{each.fate} {each.mutant.file}:{each.mutant.line} ({each.tests} tests passed; {each.by})".replace(
                "; )", ")"
            )
            yield f"- {before}\n+ {after}"


def said(result: Result) -> str:
    """Return a result as one line."""
    mutant = result.mutant
    return f"{result.fate} {mutant.file}:{mutant.line} {mutant.operator} ({result.seconds:.0f} s) {result.by}"


def read_results(path: Path) -> list[Result]:
    """Return the results of a run so far."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Result(Mutant(**each.pop("mutant")), **each) for each in map(json.loads, lines)]


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(
        prog="scripts/mutants", description="Puts small faults into modules; tests must notice."
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the draw (%(default)s)")
    parser.add_argument("--count", type=int, default=COUNT, help="mutants (%(default)s)")
    parser.add_argument("--only", action="append", default=[], metavar="PATH", help="folder or module, such as state")
    parser.add_argument("--jobs", type=int, default=2, help="at a time (%(default)s)")
    parser.add_argument("--patience", type=float, default=1.0, help="times as long as on a quiet machine (%(default)s)")
    parser.add_argument("--heavy", action="store_true", help=f"tests of {', '.join(HEAVY_TAKEN)} as well")
    parser.add_argument("--least", type=float, default=LEAST, help="percent; with less it fails (%(default)s)")
    parser.add_argument("--results", type=Path, help="file of JSON lines (build/mutants-SEED.jsonl)")
    parser.add_argument("--resume", action="store_true", help="go on with what is in the file")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """Run what is asked for; return 1 when fewer were killed than have to be."""
    options = arguments(words)
    paths = [path for folder in FOLDERS for path in sorted((PACKAGE / folder).rglob("*.py"))]
    sources = {path.relative_to(PACKAGE).as_posix(): path.read_bytes() for path in paths}
    wanted = {file: text for file, text in sources.items() if not options.only or file.startswith(tuple(options.only))}
    mutants = draw(wanted, options.count, options.seed)
    if options.list:
        for each in mutants:
            print(
                each.name,
                *(f"\n  {sign} {line}" for sign, line in zip("-+", each.lines(sources[each.file]), strict=True)),
            )
        return 0
    file = options.results or ROOT / "build" / f"mutants-{options.seed}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    known = {each.mutant: each for each in (read_results(file) if options.resume else [])}
    found = [known[each] for each in mutants if each in known]
    reasons = equivalents()
    skipped = [each for each in mutants if (each.file, *each.lines(sources[each.file])) in reasons]
    left = [each for each in mutants if each not in known and each not in skipped]
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    campaign = Campaign(Graph(ROOT), options)
    with file.open("a" if options.resume else "w", buffering=1) as output:
        for result in campaign.results(left):
            found.append(result)
            print(json.dumps(asdict(result)), file=output)
            print(f"{len(found)}/{len(mutants) - len(skipped)} {said(result)}", flush=True)
    noticed = sorted({each.by for each in found if "killed" in each.fate and each.by.startswith(("src/", "tests/"))})
    found = [*judged(found, campaign.failing(noticed)), *(Result(each, "equivalent") for each in skipped)]
    print(*report(found, sources), sep="\n")
    return int(score(found) < options.least)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
