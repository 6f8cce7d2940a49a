"""Machine code is cached where it may be, and never used after a change of what it was made from."""

import ast
import os
import shutil
import stat
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from midstream.events import import_closure, kernel

CALLER = "from midstream.state.callee import step\n\n\ndef walk():\n    return step()\n"
CALLEE = "def step():\n    return 1\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two modules in place of this one."""
    monkeypatch.setattr(import_closure, "_read", import_closure._read.__wrapped__)  # files change within a test
    folder = tmp_path / "midstream" / "state"
    folder.mkdir(parents=True)
    (folder / "caller.py").write_text(CALLER)
    (folder / "callee.py").write_text(CALLEE)
    (folder / "other.py").write_text(CALLEE)
    monkeypatch.setattr(kernel, "_PACKAGE", tmp_path / "midstream")
    return folder


def test_a_change_of_a_called_module_changes_the_cache(package):
    """This is what the cache of numba alone would not notice."""
    before = kernel.source_hash(package / "caller.py")
    (package / "callee.py").write_text(CALLEE.replace("1", "2"))
    assert kernel.source_hash(package / "caller.py") != before


def test_a_change_elsewhere_keeps_the_cache(package):
    """Otherwise every edit anywhere would compile everything again."""
    before = kernel.source_hash(package / "caller.py")
    (package / "other.py").write_text(CALLEE.replace("1", "2"))
    assert kernel.source_hash(package / "caller.py") == before


def written(folder, name, text=""):
    """Write a module, and the packages that it lies in."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    for each in path.relative_to(folder).parents:
        (folder / each / "__init__.py").touch()
    path.write_text(text)
    return path


IMPORTS = {
    "absolute": "from midstream.state.deep.er.callee import step\n",
    "of_a_module": "from midstream.state.deep.er import callee\n",
    "plain": "import midstream.state.deep.er.callee as callee\n",
    "relative": "from .deep.er.callee import step\n",
    "relative_up": "from ..state.deep.er import callee\n",
    "on_lines": "from midstream.state.deep.er import (\n    other,\n    callee,\n)\n",
    "continued": "from midstream.state.deep.er import other, \\\n    callee\n",
    "passed_on": "from midstream.state.passing import step\n",
    "in_a_block": "import sys\n\nif sys.byteorder:\n    import midstream.state.deep.er.callee\nelse:\n    x = None\n",
    "in_a_try": "try:\n    # first\n    import midstream.state.deep.er.callee\nexcept ImportError:\n    x = None\n",
    "bracket_in_a_comment": "from midstream.state.deep.er import (  # noqa: X (reason)\n    other,\n    callee,\n)\n",
    "continued_module": "from midstream.state.deep.er \\\n    import callee\n",
    "continued_line": "from \\\n    midstream.state.deep.er.callee \\\n    import step\n",
    "behind_a_statement": "x = 1; from midstream.state.deep.er import callee\n",
    "behind_a_bracket": "def f(): pass\nx = [1,\n     2]; from midstream.state.deep.er import callee\n",
    "in_a_line": "if 1: from midstream.state.deep.er import callee\n",
    "in_a_match": "match 1:\n    case _:\n        from midstream.state.deep.er import callee\n",
    "behind_a_text": 'try:\n    x = """\ndef f():\n"""\n    import midstream.state.deep.er.callee\nfinally:\n    1\n',
    "behind_a_comment": "x = 1  # it's \\\nfrom midstream.state.deep.er import callee  # don't\n",
    "behind_a_function": "def f():\n    return '#'\nif 1:\n    from midstream.state.deep.er import callee\n",
    "behind_a_form_feed": "def f():\n    return 1\n\f\nif 1:\n    from midstream.state.deep.er import callee\n",
    "in_a_class": "class A:\n    from midstream.state.deep.er import callee\n",
    "in_a_loop": "async def f():\n    return 1\nfor x in ():\n    pass\nelse:\n    from .deep.er import callee\n",
    "spaced": "from  midstream . state.deep . er  import(callee)\n",
    "relative_close": "from.deep.er import callee\n",
    "all_of_a_package": "from midstream.state.deep.er import *\n",
    "of_a_name_that_ends_in_the_word": "from midstream.state.reimport import step\n",
    "line_ends": "import sys\r\nfrom midstream.state.deep.er import callee\r\n",
    "byte_order_mark": "\ufefffrom midstream.state.deep.er import callee\n",
}


@pytest.mark.parametrize("form", IMPORTS)
def test_imports_are_followed_at_any_depth_in_each_form(package, form):
    """Machine code of a callee that has changed would run else."""
    caller = written(package, "caller.py", IMPORTS[form])
    callee = written(package, "deep/er/callee.py", CALLEE)
    written(package, "passing/__init__.py", "from .on import step\n")
    written(package, "reimport.py", "from .deep.er.callee import step\n")
    written(package, "passing/on.py", "from ..deep.er.callee import step\n")
    before = kernel.source_hash(caller)
    callee.write_text(CALLEE.replace("1", "2"))
    assert kernel.source_hash(caller) != before


@pytest.mark.parametrize("name", ["__init__.py", "state/__init__.py"])
def test_the_packages_of_the_module_are_part_of_it(package, name):
    """They are loaded first, whether or not the module imports anything."""
    written(package, "caller.py", "SIZE = 1\n")
    (package.parent / "__init__.py").touch()
    before = kernel.source_hash(package / "caller.py")
    (package.parent / name).write_text("SIZE = 2\n")
    assert kernel.source_hash(package / "caller.py") != before


@pytest.mark.parametrize("name", ["deep/__init__.py", "deep/er/__init__.py"])
def test_the_packages_on_the_way_are_part_of_it(package, name):
    """A package may set what a kernel below it reads."""
    caller = written(package, "caller.py", IMPORTS["absolute"])
    written(package, "deep/er/callee.py", CALLEE)
    before = kernel.source_hash(caller)
    (package / name).write_text("SIZE = 2\n")
    assert kernel.source_hash(caller) != before


@pytest.mark.parametrize(
    "text",
    [
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from midstream.state.callee import step\n",
        "def later():\n    from midstream.state.callee import step\n    return step\n",
        "def later(\n    a,\n):\n# at the margin\n    import midstream.state.callee as step\n    return step\n",
        "async def later(): from midstream.state.callee import step\n",
        'x = \'a\'; y = """\nfrom midstream.state.callee import step\n"""  # import midstream.state.callee\n',
    ],
)
def test_what_loading_does_not_import_keeps_the_cache(package, text):
    """Else the package's own entry, which opens everything, would tie every kernel to every file."""
    caller = written(package, "caller.py", text)
    before = kernel.source_hash(caller)
    (package / "callee.py").write_text(CALLEE.replace("1", "2"))
    assert kernel.source_hash(caller) == before


IMPORTS_OF_KERNELS = """
import builtins, collections, importlib, importlib.util, itertools, sys
from pathlib import Path
from typing import Any

needed, real = collections.defaultdict(set), builtins.__import__

def noted(name, globals=None, locals=None, fromlist=(), level=0):
    if globals and globals["__name__"].startswith("midstream"):
        whole = importlib.util.resolve_name("." * level + name, globals["__package__"]) if level else name
        needed[globals["__name__"]] |= {whole, *(f"{whole}.{each}" for each in fromlist or ())}
    return real(name, globals, locals, fromlist, level)

builtins.__import__ = noted
from midstream.events import import_closure, kernel
root, count, missing = kernel._PACKAGE, 0, []
for path in sorted(root.rglob("*.py")):
    if "kernel import" not in path.read_text():
        continue
    name = ".".join(path.relative_to(root.parent).with_suffix("").parts)
    importlib.import_module(name)
    count, seen, todo = count + 1, set(), [name]
    while todo:
        if (each := todo.pop()) in sys.modules and each.startswith("midstream") and each not in seen:
            seen.add(each)
            todo += [*itertools.accumulate(each.split("."), "{}.{}".format), *needed[each]]
    found = import_closure.sources_of(path, root)
    missing += [(name, each) for each in sorted(seen) if sys.modules[each].__file__ not in found]
print(count, missing)
"""


def printed(program, *arguments, **environment):
    """Return what a program prints in a process of its own. A file that changes within a second keeps no bytecode."""
    words, names = (
        [sys.executable, "-c", program, *arguments],
        {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
    )
    done = subprocess.run(words, env=names, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_closure_has_every_module_that_is_imported():
    """Of each module with kernels, what the scan finds is held against the imports that Python makes to load it."""
    count, missing = printed(IMPORTS_OF_KERNELS).split(maxsplit=1)
    assert int(count) > 60
    assert missing.strip() == "[]"


def loaded_imports(node):
    """Yield the import statements of a syntax tree that loading it runs; the standard library names no type checker."""
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.Import | ast.ImportFrom):
            yield each
        elif not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from loaded_imports(each)


def test_no_import_is_missed_in_sources_of_other_hands():
    """Each that the syntax tree has, in a part of the standard library."""
    root, missing, count = Path("/none/package"), [], 0
    for path in [Path(ast.__file__).with_name("pkgutil.py"), *sorted(Path(ast.__file__).parent.glob("[c-h]*.py"))]:
        text = path.read_text("utf-8")
        found = {
            (module, name)
            for module, names in import_closure._imports(text, str(root / "a" / "b.py"), str(root))
            for name in names
        }
        for each in loaded_imports(ast.parse(text)):
            level, module = (each.level, each.module or "") if isinstance(each, ast.ImportFrom) else (0, "")
            folder = (root / "a" / "b.py").parents[level - 1] if level else root.parent
            needed = {(str(folder.joinpath(*filter(None, module.split(".")))), name.name) for name in each.names}
            missing += [(path.name, each.lineno)] if needed - found else []
            count += 1
    assert count > 200
    assert missing == []


def test_the_cache_lies_where_it_is_told_to(package, tmp_path, monkeypatch):
    """``NUMBA_CACHE_DIR`` is the parent."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    kernel._parents.cache_clear()
    try:
        folder = kernel.cache_folder.__wrapped__(package / "caller.py")
    finally:
        kernel._parents.cache_clear()
    assert folder is not None
    assert folder.parent == tmp_path / "cache"
    assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0


def test_a_place_that_cannot_be_used_is_passed_by(package, tmp_path, monkeypatch):
    """A file where the folder should be stands for a read-only container."""
    (tmp_path / "blocked").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "blocked"))
    kernel._parents.cache_clear()
    try:
        folder = kernel.cache_folder.__wrapped__(package / "caller.py")
    finally:
        kernel._parents.cache_clear()
    assert folder is not None
    assert folder.is_dir()
    assert tmp_path / "blocked" not in folder.parents


OUTSIDE = (
    "from midstream.events.kernel import kernel\n\n\n@kernel\ndef step(value):\n    return value + SIZE\n\n\nSIZE = 1\n"
)


@pytest.fixture
def machine_code(tmp_path, monkeypatch):
    """A folder for machine code, of this test alone."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "machine_code"))
    kernel._parents.cache_clear()
    yield tmp_path / "machine_code"
    kernel._parents.cache_clear()


def imported(path):
    """Import a file as a component of a shop is."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_kernel_outside_the_package_is_compiled_and_cached(tmp_path, machine_code):
    """Such as one of a test, of a benchmark, or of a component; after an edit the new code is not taken for the old."""
    path = tmp_path / "component.py"
    path.write_text(OUTSIDE)
    assert imported(path).step(1) == 2
    assert [each.name[:14] for each in machine_code.rglob("*.nbi")] == ["component.step"]
    path.write_text(OUTSIDE.replace("SIZE = 1", "SIZE = 20"))
    assert imported(path).step(1) == 21
    assert len(list(machine_code.rglob("*.nb[ic]"))) == 2


def test_a_kernel_of_no_file_is_compiled(machine_code):
    """Such as one that was typed in."""
    names: dict[str, Any] = {}
    exec(OUTSIDE, names)  # noqa: S102  # as at a prompt
    assert names["step"](1) == 2
    assert not list(machine_code.rglob("*.nb[ic]"))


FIRST_CALL = """
import sys
from pathlib import Path
from typing import Any
from midstream.state.caller import walk
if len(sys.argv) > 1:
    Path(sys.argv[1]).write_text(sys.argv[2])
print(walk())
"""


def test_code_that_was_changed_after_its_import_is_not_cached(tmp_path):
    """An upgrade under a running process: the process after it must not get the old code under the new key."""
    for name in ("__init__", "core/__init__", "events/__init__", "state/__init__"):
        written(tmp_path / "midstream", f"{name}.py")
    written(tmp_path / "midstream", "core/types.py", "class EventBatch:\n    rows = text = None\n")
    machine_code = ("machine_code/__init__.py", "machine_code/cache.py")
    for name in ("kernel.py", "import_closure.py", "file_modes.py", *machine_code):
        copy = written(tmp_path / "midstream", f"events/{name}")
        shutil.copy(Path(kernel.__file__).parent / name, copy)
    made = "from midstream.events.kernel import kernel\n\n\n"
    written(tmp_path / "midstream", "state/caller.py", made + CALLER.replace("def", "@kernel\ndef"))
    callee = made + CALLEE.replace("def", "@kernel\ndef")
    path = written(tmp_path / "midstream", "state/callee.py", callee)
    cache = tmp_path / "machine_code"
    environment = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(cache)}
    results = []
    for change in ([str(path), callee.replace("1", "2")], []):
        result = int(printed(FIRST_CALL, *change, **environment))
        results.append((result, len(list(cache.rglob("*.nbi")))))
    assert results == [(1, 0), (2, 2)]


def test_a_kernel_is_loaded_without_linear_algebra(tmp_path):
    """SciPy's is imported when somebody compiles a product of matrices, and not for any other kernel."""
    program = """
import sys
from midstream.events.siphash import id_hash, id_key_of
print(id_hash("u1", id_key_of("00" * 16)) != 0, "scipy.linalg" in sys.modules)
import numba
import numpy as np
product = numba.njit(lambda left, right: left @ right)
print(product(np.eye(2), np.full((2, 2), 3.0)).sum(), "scipy.linalg" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.split() == ["True", "False", "12.0", "True"], done.stderr
