"""Part of ``requirements.lock`` that ``midstream demo`` needs, on standard output, for ``scripts/env demo`` and images.

It is the dependencies in ``pyproject.toml``, what fits the demo's model, what installs this package, and all that the
lock says they need, with the same hashes. A server, an import and a training of trees need no more. Arguments are
further packages of the lock, such as clients of brokers and stores.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
BESIDE = ("lightgbm", "hatchling")
"""Of the extras: what the demo's model is made with, and the build backend."""
_ENTRY = re.compile(r"^([A-Za-z0-9][A-Za-z0-9_.-]*)==(?:.*\n(?:[ \t].*\n)*)", re.MULTILINE)
_NEEDED_BY = re.compile(r"^\s+#\s+(?:via\s+)?([A-Za-z0-9][A-Za-z0-9_.-]*)\b(?: \(.*\))?$", re.MULTILINE)


def normal(name: str) -> str:
    """Return a name as all tools compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def demo_part(lock: str, dependencies: list[str]) -> str:
    """Return the entries of a lock that some dependencies, as ``pyproject.toml`` writes them, need."""
    entries = {normal(found[1]): found[0] for found in _ENTRY.finditer(lock)}
    needed_by = {name: {normal(each) for each in _NEEDED_BY.findall(text)} - {"via"} for name, text in entries.items()}
    found = {normal(re.split(r"[^A-Za-z0-9_.-]", each)[0]) for each in [*dependencies, *BESIDE]}
    while more := {name for name, users in needed_by.items() if name not in found and users & found}:
        found |= more
    return "".join(text for name, text in entries.items() if name in found)


if __name__ == "__main__":
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    if unknown := sorted({normal(each) for each in sys.argv[1:]} - {normal(each[1]) for each in _ENTRY.finditer(lock)}):
        sys.exit(f"requirements.lock has no {', '.join(unknown)}")
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    print(demo_part(lock, [*told["project"]["dependencies"], *sys.argv[1:]]), end="")
