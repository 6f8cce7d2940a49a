"""Recorder of the kernels that a warm-up asks for: see ``scripts/kernels``.

The list is what has machine code on disk after a warm-up. That compiles what has changed, or with ``--all`` everything,
in an empty cache; else versions are on the list too that tests have compiled. With ``--asked-for`` it only prints what
is asked for, a version of a kernel a line.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from midstream.events.machine_code.recorded import Recording

Key = tuple[str, str]
"""Module and name."""
BYTES_MS = 500
"""Of machine code that a millisecond compiles, more or less: which kernel is first is decided by it, and no more."""


@dataclass(frozen=True)
class Known:
    """One kernel as it goes into the list."""

    function: Any
    texts: list[tuple[str, ...]]
    """Of each version, the arguments' types as JSON."""
    cost_ms: int
    is_called: bool
    is_optional: bool


def callees(function: Any) -> Iterator[Key]:
    """Yield the kernels whose names stand in a function."""
    from midstream.events.kernel import Kernel

    names, todo = set[str](), [function.__code__]
    while todo:
        code = todo.pop()
        names.update(code.co_names, code.co_freevars)
        todo += [each for each in code.co_consts if isinstance(each, CodeType)]
    spaces = [function.__globals__]
    spaces += [vars(found) for name in names if isinstance(found := function.__globals__.get(name), ModuleType)]
    for space in spaces:
        for name in names:
            if isinstance(found := space.get(name), Kernel):
                yield found.py_func.__module__, found.py_func.__name__


def warm_up_all() -> None:
    """Run a warm-up with the placements of the demo, and one with those of a new shop."""
    from midstream.app.opening import CONFIG_NAME, config_of
    from midstream.app.wiring import plans
    from midstream.cli.demo.demo import SHOP
    from midstream.cli.demo.training import CONFIG
    from midstream.cli.operate.init import starter_files, write_new
    from midstream.engine.answer.warmup import warm_tables, warm_up

    with tempfile.TemporaryDirectory() as place:
        starter, demo = Path(place) / "starter", Path(place) / "demo"
        write_new(starter, starter_files(1_790_000_000_000))
        demo.mkdir()
        (demo / CONFIG_NAME).write_text(SHOP + CONFIG, "utf-8")
        for folder in (demo, starter):
            config = config_of(folder)
            made = plans(config, folder)
            asyncio.run(warm_up(config.fold_settings(), tuple(made.values()), time.monotonic))
    warm_tables()


def kernels_here() -> list[Any]:
    """Return the kernels of the modules that this process has imported."""
    from midstream.events.kernel import Kernel

    modules = [vars(each).values() for name, each in sys.modules.items() if name.startswith("midstream.")]
    return list({id(each): each for values in modules for each in values if isinstance(each, Kernel)}.values())


def asked_for() -> list[str]:
    """Return the versions of kernels that this process has compiled or loaded, in words."""
    from midstream.events.machine_code.type_text import encoded

    return sorted(
        f"{each.py_func.__module__}.{each.py_func.__name__} {json.dumps([encoded(kind) for kind in types])}"
        for each in kernels_here()
        for types in cast("list[tuple[object, ...]]", each.signatures)
    )


def recorded(found: dict[Key, Known]) -> "Recording":
    """Return what goes into the package: callees first."""
    from midstream.events.machine_code.recorded import RecordedKernel, Recording

    needs = {
        key: [each for each in callees(one.function) if each in found and each != key] for key, one in found.items()
    }
    types: list[str] = []
    kernels: list[RecordedKernel] = []
    places: dict[Key, int] = {}
    for key in TopologicalSorter(needs).static_order():
        one = found[key]
        types += [text for text in dict.fromkeys(text for each in one.texts for text in each) if text not in types]
        numbers = tuple(tuple(types.index(text) for text in each) for each in one.texts)
        called = tuple(sorted({places[each] for each in needs[key]}))
        places[key] = len(kernels)
        kernels.append(RecordedKernel(*key, one.cost_ms, called, one.is_called, one.is_optional, numbers))
    return Recording(tuple(json.loads(each) for each in types), tuple(kernels))


def kept_versions() -> dict[Key, Known]:
    """Return the kernels that have machine code on disk, for this CPU and these sources, with the types of versions."""
    from numba.core.registry import cpu_target

    from midstream.events.machine_code.type_text import encoded

    machine: Any = cpu_target.target_context.codegen().magic_tuple()
    found: dict[Key, Known] = {}
    for kernel in kernels_here():
        kept, key = kernel._compiled()._cache, (kernel.py_func.__module__, kernel.py_func.__name__)
        if not key[0].startswith("midstream."):
            continue
        entries = {each[0]: name for each, name in kept._cache_file._load_index().items() if each[1] == machine}
        size = sum((Path(kept.cache_path) / name).stat().st_size for name in entries.values())
        try:
            texts = sorted({tuple(json.dumps(encoded(kind)) for kind in signature) for signature in entries})
        except ValueError as error:  # a type of another form: whoever calls the kernel compiles it
            print(f"left out: {'.'.join(key)}: {error}", file=sys.stderr)
            continue
        if texts:
            is_called, cost_ms = bool(kernel.signatures), round(size / BYTES_MS)
            found[key] = Known(kernel.py_func, texts, cost_ms, is_called=is_called, is_optional=kernel.is_optional)
    return found


def main() -> None:
    """Warm up, write the file, print what it has."""
    from midstream.events.kernel import _parents as cache_parents
    from midstream.events.machine_code.recorded import RECORDED, written

    with ExitStack() as stack:
        usual = cache_parents()[0]
        is_anew = sys.argv[1:] == ["--all"]
        if is_anew:
            os.environ["NUMBA_CACHE_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
            cache_parents.cache_clear()
        # Another process compiles: in one that does, callees count as asked for too.
        subprocess.run([sys.executable, __file__, "--asked-for"], stdout=subprocess.DEVNULL, check=True)
        warm_up_all()
        made = recorded(kept_versions())
        if is_anew:
            shutil.copytree(
                os.environ["NUMBA_CACHE_DIR"], usual, dirs_exist_ok=True
            )  # nothing is compiled again for it
    RECORDED.write_text(written(made), "utf-8")
    versions = sum(len(each.signatures) for each in made.kernels)
    print(f"kernels: {len(made.kernels)} in {versions} versions, in {RECORDED.name}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--asked-for"]:
        warm_up_all()
        print(*asked_for(), sep="\n")
    else:
        main()
