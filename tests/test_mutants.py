"""Pieces of the mutation run, on modules made for it; the run itself is ``scripts/mutants``."""

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
mutants, mutation = (import_module(name) for name in ("mutants", "mutation"))
sys.path.remove(str(SCRIPTS))
Mutant, candidates, draw, is_another = mutation.Mutant, mutation.candidates, mutation.draw, mutation.is_another
PACKAGE, Change, Changed, Result = mutants.PACKAGE, mutants.Change, mutants.Changed, mutants.Result

TOY = b'''"""Says what is said."""
from typing import Annotated

MAX = 5 + 1


class Options:
    """Some."""

    most: Annotated[int, 3] = 7


@kernel
def least(a: int | None, b: int = 2) -> int:
    """Return one."""
    if a < b and not (b in MANY):
        count += 1
        found.add(min(a, b), first=1,
                  last=True)
        found[0] = a - 1
        found += zip(a, b, strict=True)
    for each in found:
        continue
    return a * b


def told(each: "list[int]") -> str:
    if not each:
        raise ValueError(f"{each!r} {1 + 1}")
    return "\xc3\xa9" if each is None else more(
        each,
    )
'''


def lines_of(found, operator):
    """What stands in the line of each mutant of an operator."""
    return [each.lines(TOY)[1] for each in found if each.operator == operator]


def test_candidates_are_all_small_faults_of_functions_and_classes():
    """Nothing of modules, annotations, decorators and texts; every operator is there."""
    found = candidates("engine/toy.py", TOY)
    assert lines_of(found, "comparison") == [
        "if a <= b and not (b in MANY):",
        "if a < b and not (b not in MANY):",
        'return "é" if each is not None else more(',
    ]
    assert lines_of(found, "and_or") == ["if a < b or not (b in MANY):"]
    assert lines_of(found, "arithmetic") == ["found[0] = a + 1", "return a // b"]
    assert lines_of(found, "min_max") == ["found.add(max(a, b), first=1,"]
    assert lines_of(found, "keyword") == ["found.add(min(a, b),", "found.add(min(a, b), first=1)"]
    assert lines_of(found, "drop") == ["pass"] * 6
    assert lines_of(found, "return") == ["return None", "return None"]
    assert lines_of(found, "negation") == [
        "if not (a < b and not (b in MANY)):",
        "if a < b and b in MANY:",
        "if each:",
        'return "é" if not (each is None) else more(',
    ]
    constants = [each for each in found if each.operator == "constant"]
    assert Counter(each.old for each in constants) == {"7": 2, "2": 2, "1": 6, "True": 2, "0": 2}
    assert {each.line for each in found if each.in_kernel} == {14, 16, 17, 18, 19, 20, 21, 23, 24}


def test_what_writes_code_into_kernels_is_part_of_them():
    """And each function of its module: else its machine code would lie where that of the source does."""
    source = b"def helper(a):\n    return a + 1\n\n\ndef _code(a):\n    return helper(a)\n\n\ncode = intrinsic(_code)\n"
    found = candidates("models/toy.py", source)
    assert {each.line for each in found} == {2, 6}
    assert all(each.in_kernel for each in found)
    assert not any(each.in_kernel for each in candidates("models/toy.py", source.replace(b"intrinsic", b"other")))
    for file in ("models/kernels/simd_dot.py", "models/kernels/wide_vectors.py", "state/structures/prefetch.py"):
        found = candidates(file, (PACKAGE / file).read_bytes())
        assert found
        assert all(each.in_kernel for each in found), file


def test_a_constant_of_kernels_is_part_of_them():
    """They keep its value: a table that a function of the module makes, and members of an enumeration."""
    table = b"def made(a):\n    return a + 1\n\n\nTABLE = made(2)\n"
    members = b"class Place(IntEnum):\n    FIRST = 1\n\n\nclass Other:\n    FIRST = 1\n"
    assert all(each.in_kernel for each in candidates("state/toy.py", table))
    assert not any(each.in_kernel for each in candidates("state/toy.py", table.replace(b"made(2)", b"2")))
    assert {each.line for each in candidates("state/toy.py", members) if each.in_kernel} == {2}
    for file in ("state/structures/decay.py", "state/structures/exact_math.py", "events/kernel.py"):
        assert all(each.in_kernel for each in candidates(file, (PACKAGE / file).read_bytes())), file


def test_a_mutant_is_one_place_of_a_source_with_as_many_lines():
    """All that are drawn can be compiled, and say something else."""
    for each in candidates("engine/toy.py", TOY):
        after = each.applied(TOY)
        assert after.count(b"\n") == TOY.count(b"\n")
        assert after[: each.start] == TOY[: each.start]
        assert after.endswith(TOY[each.stop :])
    assert is_another(next(each for each in candidates("engine/toy.py", TOY) if each.operator == "drop"), TOY)
    same = Mutant("engine/toy.py", 1, "none", 0, 0, "", "", in_kernel=False)
    assert not is_another(same, TOY)
    assert not is_another(Mutant("engine/toy.py", 1, "none", 0, 3, '"""', "(", in_kernel=False), TOY)


def test_a_draw_is_that_of_its_seed_and_each_module_has_its_share():
    """As many as are wanted, no two at one place; a module of twice the candidates has about twice as many."""
    sources = {f"state/m{number}.py": TOY for number in range(9)} | {
        "state/long.py": TOY + TOY[TOY.index(b"def told") :]
    }
    drawn = draw(sources, 40, 7)
    assert drawn == draw(sources, 40, 7) != draw(sources, 40, 8)
    assert len(drawn) == len({(each.file, each.start, each.stop) for each in drawn}) == 40
    assert set(Counter(each.file for each in drawn).values()) <= {3, 4, 5, 6}
    assert len({each.operator for each in drawn}) >= 7
    assert draw(sources, 0, 7) == draw({}, 5, 7) == []


@pytest.fixture
def tree(tmp_path):
    """A small project: a module, one that imports it, one with a file of tests of its own, and some tests."""
    files = {
        "src/midstream/state/low.py": "X = 1",
        "src/midstream/state/high.py": "from midstream.state.low import X",
        "src/midstream/engine/top.py": "from midstream.state import high\n# >>> X",
        "tests/state/test_low.py": "",
        "tests/state/test_low_edges.py": "",
        "tests/state/test_high.py": "from midstream.state.high import X",
        "tests/engine/test_top.py": "import midstream.engine.top",
        "tests/engine/test_other.py": "import json",
        "tests/parity/test_all.py": "from midstream.state.high import X",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return mutants.Graph(tmp_path)


def test_the_own_test_file_comes_first_then_those_that_import_the_module(tree):
    """Nearest first, over whatever imports it, with its examples; then those of its folder, which may have it from a
    fixture; those that take minutes only when they are asked for.
    """
    own, near = (
        ["tests/state/test_low.py", "tests/state/test_low_edges.py"],
        ["tests/state/test_high.py", "tests/engine/test_top.py"],
    )
    assert tree.tests_of("state/low.py") == [own, near]
    assert tree.tests_of("state/low.py", heavy=True) == [own, near, ["tests/parity/test_all.py"]]
    beside = ["tests/engine/test_other.py"]
    assert tree.tests_of("engine/top.py") == [["tests/engine/test_top.py"], ["src/midstream/engine/top.py"], beside]
    assert tree.above("midstream.state.low")["midstream.engine.top"] == 2


def test_a_change_is_imported_in_place_of_the_module_and_the_file_stays(tmp_path, monkeypatch):
    """Under the same path and name."""
    path = tmp_path / "toy_of_mutants.py"
    path.write_text("X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [Changed(Change("toy_of_mutants", str(path), "X = 2\n")), *sys.meta_path])
    found = __import__("toy_of_mutants")
    monkeypatch.delitem(sys.modules, "toy_of_mutants")
    assert (found.X, found.__file__, path.read_text()) == (2, str(path), "X = 1\n")


def test_a_changed_kernel_is_compiled_in_a_folder_of_its_own(tmp_path):
    """So is what it is a part of; what has nothing to do with it is not."""
    own, other = PACKAGE / "state" / "pairs" / "covisitation.py", PACKAGE / "state" / "users" / "users.py"
    change = Change("midstream.state.pairs.covisitation", str(own), "", str(tmp_path / "kernels"), [str(own)])
    spec = Changed(change).find_spec("midstream.events.kernel", [str(PACKAGE / "events")])
    assert spec is not None
    assert spec.loader is not None
    module = SimpleNamespace(__file__=str(PACKAGE / "events" / "kernel.py"), __name__="toy_kernel")
    exec(spec.loader.get_code("midstream.events.kernel"), vars(module))  # noqa: S102  # as an import does
    assert module.cache_folder(own) == tmp_path / "kernels" / "state" / "pairs" / "covisitation"
    assert module.cache_folder(other) == module._usual_folder(other) != module.cache_folder(own)
    assert (
        Changed(Change("midstream.state.pairs.covisitation", str(own), "")).find_spec("midstream.events.kernel") is None
    )


RUNS = """
import json, os, sys, time

import pytest
sys.path.insert(0, {scripts!r})
import mutants

os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
toy = mutants.Change("toy_of_mutants", {module!r}, "X = 2")
for change, test, test_cpu_s in ((None, "a", 9), (toy, "a", 9), (None, "b", 0.2), (None, "c", 9)):
    mutants.TEST_CPU_S = test_cpu_s
    run = mutants.start([f"test_{{test}}.py"], change, 1.0)
    while (end := run.look()) is None:
        time.sleep(0.01)
    mutants._remove(run.folder)
    print(json.dumps([end.fate, end.by, end.passed]))
    assert end.cpu_s > 0
"""
"""Forks as the run does, from a process without threads."""
ASKS = """
import subprocess, sys
from toy_of_mutants import X

def test_here():
    assert X == 1

def test_there():
    subprocess.run([sys.executable, "-c", "from toy_of_mutants import X; assert X == 1"], check=True)
"""


def test_a_run_says_which_test_noticed(tmp_path):
    """The first that failed, that all passed, that the time ended in one, or that it could not even be imported."""
    module = tmp_path / "toy_of_mutants.py"
    texts = {"a": ASKS, "b": "def test_b():\n    while True:\n        pass\n", "c": "import nothing_of_that_name\n"}
    module.write_text("X = 1")
    for name, text in texts.items():
        (tmp_path / f"test_{name}.py").write_text(text)
    work = RUNS.format(scripts=str(SCRIPTS), module=str(module)).replace(
        'f"test_{test}.py"', f'f"{tmp_path}/test_{{test}}.py"'
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", work], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    ends = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(fate, by.rpartition("::")[2], passed) for fate, by, passed in ends] == [
        ("survived", "", 2),
        ("killed", "test_here", 0),
        ("killed by time", "test_b", 0),
        ("killed", ends[3][1], 0),
    ]


FAILED = '{"begins": "t::a", "at": 0}\n{"failed": "t::a"}\n'
BEGUN = '{"begins": "t::a", "at": 0}\n'


@pytest.mark.parametrize(
    "status, notes, end",
    [
        (1, FAILED, ("killed", "t::a")),
        (2, '{"failed": "tests/test_a.py"}\n', ("killed", "tests/test_a.py")),
        (-11, BEGUN, ("killed", "t::a")),
        (-11, "", ("unsure", "exit status -11 in the start")),
        (2, "", ("unsure", "exit status 2 in the start")),
        (3, BEGUN, ("unsure", "exit status 3 in t::a")),
        (3, FAILED, ("unsure", "exit status 3 in t::a")),
        (4, "", ("unsure", "exit status 4 in the start")),
        (4, '{"passed": 0}\n', ("unsure", "exit status 4 in the start")),
        (5, "", ("survived", "")),
        (0, BEGUN + '{"passed": 1}\n', ("survived", "")),
    ],
)
def test_a_run_that_ends_without_a_test_has_killed_nothing(tmp_path, monkeypatch, status, notes, end):
    """A fault of pytest, a wrong call, or the machine that ends a process: none is checked again at the end."""
    monkeypatch.setattr(mutants, "_kill_group", lambda _: None)
    (tmp_path / "notes").write_text(notes)
    found = mutants.Run(0, tmp_path, 0.0, 1.0)._end(status)
    assert (found.fate, found.by) == end


def result(file, fate, by="", operator="drop"):
    """One result."""
    return Result(Mutant(file, 3, operator, 0, 8, "a < b", "a <= b", in_kernel=False), fate, 2.0, 1.5, by, 5)


def test_the_score_is_of_what_can_be_killed_and_what_fails_anyway_has_noticed_nothing(tmp_path):
    """Equivalents are left out; a test that fails without a mutant is no killer; results are read as written."""
    results = [result("state/a.py", "killed", "t::a"), result("state/b.py", "killed", "t::b")]
    results += [
        result("engine/c.py", "killed by time", "t::c"),
        result("engine/d.py", "survived"),
        result("engine/e.py", "equivalent"),
    ]
    assert mutants.score(results) == 75.0
    assert mutants.score([]) == 100.0
    sure = mutants.judged(results, {"t::b"})
    assert [each.fate for each in sure] == ["killed", "unsure", "killed by time", "survived", "equivalent"]
    assert mutants.score(sure) == pytest.approx(200 / 3)
    said = "\n".join(mutants.report(sure, {each.mutant.file: b"if a < b:\n" for each in sure}))
    assert "engine      50.0 %  of   3: 1 equivalent, 1 killed by time, 1 survived" in said
    assert "survived engine/d.py:3 (5 tests passed)" in said
    assert "CPU of a mutant: median 2 s, all 6 s; they waited 8 s" in said
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps({**vars(each), "mutant": vars(each.mutant)}) + "\n" for each in results))
    assert mutants.read_results(path) == results
    assert mutants.read_results(tmp_path / "none") == []
    assert (mutants.arguments(["--only", "state", "--resume"]).only, mutants.arguments([]).count) == (["state"], 200)


def test_each_equivalent_mutant_is_one_of_the_sources():
    """And its reason is a sentence: a line that was changed since is a fault again until somebody looks. A line that
    stands there twice is named for neither place, as what is said of one may not hold at the other.
    """
    for (file, old, new), reason in mutants.equivalents().items():
        source = (PACKAGE / file).read_bytes()
        assert (old, new) in {each.lines(source) for each in candidates(file, source)}, file
        assert [line.strip() for line in source.decode().splitlines()].count(old) == 1, (file, old)
        assert reason.endswith(".")


def test_no_source_has_a_mutant_that_the_script_cannot_write():
    """In all that a run goes over: a syntax that nobody thought of would end it."""
    path = PACKAGE / "ranking" / "frame.py"
    source = path.read_bytes()
    found = candidates("ranking/frame.py", source)
    assert len(found) > 100
    assert sum(is_another(each, source) for each in found[::40]) > 0.9 * len(found[::40])
    assert ast.dump(ast.parse(found[0].applied(source)))
