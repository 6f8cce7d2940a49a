"""Static import graph: which modules and test files import a module, over how many steps, read from the sources."""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

NEAR_FILES_MAX = 20
"""Test files beside the module's own: with 8 a mutant of the pipeline lived whose test was the twelfth."""
HEAVY = frozenset({"crash", "http_fuzz", "integrations", "parity", "quality", "service", "simulation"})
"""Folders of tests that take minutes, and say little of one module."""
HEAVY_TAKEN = ("parity", "simulation")
"""Those of them that ``--heavy`` takes, where they import the module or what imports it."""


class Graph:
    """Which modules and test files import which, read from the sources."""

    def __init__(self, root: Path) -> None:
        """Read all of them below ``root``."""
        self._root = root
        self._package = root / "src" / "midstream"
        sources = [*self._package.rglob("*.py"), *(root / "tests").rglob("*.py")]
        self.names = {dotted(path, root): path for path in sources}
        self.importers: dict[str, set[str]] = defaultdict(set)
        self._imports = Counter[str]()
        for name, path in self.names.items():
            for other in set(_imported(ast.parse(path.read_bytes()), self.names)):
                self.importers[other].add(name)
                self._imports[name] += 1

    def above(self, name: str) -> dict[str, int]:
        """Return all that import a module, directly or not, and over how many steps."""
        found, edge, steps = {name: 0}, {name}, 0
        while edge:
            steps += 1
            edge = {each for one in edge for each in self.importers[one]} - found.keys()
            found |= dict.fromkeys(edge, steps)
        return found

    def tests_of(self, file: str, *, heavy: bool = False) -> list[list[str]]:
        """Return the test files of a module below the package, step by step: its own, those near it, heavy ones.

        Its own are its examples too. Behind those near it come the others of its folder: a fixture may give it to them.
        """
        folder, stem = Path(file).parent.as_posix(), Path(file).stem
        steps = self.above(f"midstream.{folder.replace('/', '.')}.{stem}")
        tests = {name: self.names[name] for name in steps if self.names[name].name.startswith("test_")}
        beside = self._root / "tests" / folder
        own = sorted([*beside.glob(f"test_{stem}.py"), *beside.glob(f"test_{stem}_*.py")])
        source = self._package / file
        examples = [source] if ">>> " in source.read_text() else []
        others = [name for name, path in tests.items() if path not in own]
        others.sort(key=lambda name: (tests[name].parent.name != folder, steps[name], self._imports[name], name))
        near = [name for name in others if tests[name].parent.name not in HEAVY][:NEAR_FILES_MAX]
        rest = [
            path for path in sorted(beside.glob("test_*.py")) if path not in {*own, *(tests[name] for name in near)}
        ]
        slow = [name for name in others if tests[name].parent.name in HEAVY_TAKEN and steps[name] <= 2] if heavy else []
        found = [own, [*examples, *(tests[name] for name in near)], rest, [tests[name] for name in slow]]
        return [[path.relative_to(self._root).as_posix() for path in each] for each in found if each]


def dotted(path: Path, root: Path) -> str:
    start = root / "src" if (root / "src") in path.parents else root
    return ".".join(path.relative_to(start).with_suffix("").parts)


def _imported(tree: ast.Module, names: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules of ``names`` that a source imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            wider = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
            yield from (each for each in wider if each in names)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in names)
