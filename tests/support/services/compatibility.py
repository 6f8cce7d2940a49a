"""The page of systems that were tested, written from what tests ran: ``scripts/compatibility``.

``docs/compatibility.json`` has the numbers, from the record of the runs of this checkout, and ``docs/compatibility.md``
is made of it. A test holds both against the locks and the tests that there are.
"""

import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.support.services.beside import BESIDE
from tests.support.services.record import cache_file
from tests.support.services.systems import SYSTEMS
from tests.support.services.versions import CLIENTS, LIBRARIES

ROOT = Path(__file__).parents[3]
JSON, PAGE = "docs/compatibility.json", "docs/compatibility.md"
LIBRARY_LOCKS = ("requirements.lock", *(f"scripts/{name}.lock" for name in ("frames", "models", "torch", "tensorflow")))
OF_DEBIAN = "of Debian"
"""Version of a package that each release of Debian has its own of."""


@dataclass(frozen=True)
class Row:
    """One system, as tests met it."""

    server: str
    """What the server said; of a library, its version."""
    clients: Mapping[str, str]
    """Versions of clients by package, of all tests together."""
    passed: Mapping[str, int]
    """Tests by file."""
    failed: Mapping[str, int]
    how: str = "server-tested"
    """How far its tests go, where they pass."""

    @property
    def level(self) -> str:
        """How far it is tested."""
        if any(self.failed.values()):
            return "**fails**"
        return self.how if any(self.passed.values()) else "not tested"


def rows_of(record: Mapping[str, Any], tests: Iterable[str]) -> dict[str, Row]:
    """Return a row for each system, from the newest outcome of each test that there still is.

    Args:
        record: By test: its outcome, and server and clients by system.
        tests: Names of all tests, as ``file::function``.

    Raises:
        ValueError: Tests met servers of several versions: one of the runs is out of date.
    """
    known = frozenset(tests)
    found = {name: each for name, each in record.items() if re.sub(r"\[.*$", "", name) in known}
    return {name: _row(name, found) for name in (*SYSTEMS, *BESIDE, *LIBRARIES.values())}


def _row(system: str, record: Mapping[str, Any]) -> Row:
    given = {name: each for name, each in record.items() if system in each["given"]}
    versions = {each["given"][system]["server"] for each in given.values()}
    if len(versions) > 1:
        message = f"{system}: tests met {', '.join(sorted(versions))}; run scripts/test-integrations again"
        raise ValueError(message)
    clients = {
        package: version for each in given.values() for package, version in each["given"][system]["clients"].items()
    }
    counts = {
        outcome: Counter(name.partition("::")[0] for name, each in given.items() if each["outcome"] == outcome)
        for outcome in ("passed", "failed")
    }
    return Row(
        "".join(versions),
        dict(sorted(clients.items())),
        dict(sorted(counts["passed"].items())),
        dict(sorted(counts["failed"].items())),
        BESIDE[system].how if system in BESIDE else "server-tested" if system in SYSTEMS else "tested",
    )


def names_of_tests(root: Path, files: Iterable[str]) -> set[str]:
    """Return the names of all tests in those of the files that there are, as ``file::function``."""
    found: set[str] = set()
    for file in files:
        path = root / file
        for node in ast.parse(path.read_text("utf-8")).body if path.exists() else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(f"{file}::{node.name}")
            elif isinstance(node, ast.ClassDef):
                methods = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
                found |= {f"{file}::{node.name}::{each.name}" for each in methods}
    return found


def encode(rows: Mapping[str, Row]) -> str:
    """Write rows as JSON."""
    return json.dumps({name: asdict(row) for name, row in rows.items()}, indent=1) + "\n"


def decode(text: str) -> dict[str, Row]:
    """Read rows."""
    return {name: Row(**each) for name, each in json.loads(text).items()}


def page(rows: Mapping[str, Row], root: Path) -> str:
    """Return the page."""
    files = sorted({file for row in rows.values() for file in (*row.passed, *row.failed)})
    lines = [
        _HEAD,
        "| system | server | how far | clients | tests passed |",
        "|---|---|---|---|---|",
        *(_line(name, row) for name, row in rows.items() if name not in LIBRARIES.values()),
        "",
        _LIBRARIES,
        "| library | version | how far | tests passed |",
        "|---|---|---|---|",
        *(_library_line(name, row) for name, row in rows.items() if name in LIBRARIES.values()),
        "",
        _BETWEEN,
        "| file | promises | systems, tests passed |",
        "|---|---|---|",
        *(_file_line(file, rows, root) for file in files),
        "",
        _TAIL,
    ]
    return "\n".join(lines)


def _line(name: str, row: Row) -> str:
    clients = ", ".join(f"{package} {version}" for package, version in row.clients.items()) or "–"
    passed, failed = sum(row.passed.values()), sum(row.failed.values())
    count = f"{passed}, {failed} failed" if failed else str(passed)
    return f"| {name} | {row.server or '–'} | {row.level} | {clients} | {count} |"


def _library_line(name: str, row: Row) -> str:
    passed, failed = sum(row.passed.values()), sum(row.failed.values())
    count = f"{passed}, {failed} failed" if failed else str(passed)
    return f"| {name} | {row.server or '–'} | {row.level} | {count} |"


def _file_line(file: str, rows: Mapping[str, Row], root: Path) -> str:
    promise = (ast.get_docstring(ast.parse((root / file).read_text("utf-8"))) or "").splitlines()[0]
    met = ", ".join(f"{name} {row.passed[file]}" for name, row in rows.items() if row.passed.get(file))
    return f"| [{file.removeprefix('tests/')}](../{file}) | {promise.replace('|', '/')} | {met or '–'} |"


def without_lock() -> set[str]:
    """Return the systems whose version the machine's release chooses."""
    return {name for name, each in SYSTEMS.items() if each.package.version == OF_DEBIAN}


def locked_libraries(root: Path) -> dict[str, str]:
    """Return the versions of all libraries in the locks of what tests have."""
    text = "\n".join((root / name).read_text("utf-8") for name in LIBRARY_LOCKS)
    found = re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    return {package: version for package, version in found if package in LIBRARIES.values()}


def locked_clients(root: Path) -> dict[str, str]:
    """Return the versions of all clients in the lock of the environment."""
    lock = (root / "requirements.lock").read_text("utf-8")
    packages = {package for each in CLIENTS.values() for package in each.values()}
    found = re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE)
    return {package: version for package, version in found if package in packages}


def main() -> int:
    """Write both files."""
    record = json.loads(cache_file(ROOT).read_text("utf-8"))
    found = rows_of(record, names_of_tests(ROOT, {name.partition("::")[0] for name in record}))
    # What no run of this checkout met has the row that it has; a test holds its version against the locks.
    kept = decode((ROOT / JSON).read_text("utf-8"))
    rows = {name: row if row.server else kept.get(name, row) for name, row in found.items()}
    (ROOT / JSON).write_text(encode(rows), "utf-8")
    (ROOT / PAGE).write_text(page(rows, ROOT), "utf-8")
    for name, row in rows.items():
        print(f"{name}: {row.level}, {sum(row.passed.values())} passed, {sum(row.failed.values())} failed")
    return 0


_HEAD = """\
# Compatibility

Which versions of which systems are tested, and how far. This page is not written by hand: `scripts/compatibility` makes
it from what the last runs of `scripts/test-integrations` met. A server's version is what that server said when it
started, a client's is that of the package which the tests imported; a library has the version of its package. All are
those of the locks, which a test holds.

| word | means |
|---|---|
| *server-tested*, *tested* | tests passed against the system or with the library itself, in the version named |
| *protocol-tested* | tests passed against another program that speaks its protocol |
| *contract-tested* | tests passed against a fake that passes the adapter's checks, or has the client's signatures |
| *fails*, *not tested* | a test of it failed in the last run; no test met it |
"""
_LIBRARIES = """\
Libraries and frameworks that models, frames and applications come from. The versions are those of the locks in
`scripts`; what they are tested with is [models.md](models.md), [data.md](data.md#frames) and
[web frameworks](tasks/web-frameworks.md).
"""
_BETWEEN = """\
What these tests are:
"""
_TAIL = """\
**What is not tested.** Each server is one node on loopback, on Linux x86-64, started as
[contributing.md](contributing.md#real-servers) says. There is no cluster of several brokers, nor of several nodes of a
store: replication and failover within those systems are theirs, and are not tried. Other versions than those above are
not run. Managed services (MSK, Confluent Cloud, ElastiCache, Aurora, Astra and the like) are not run.
"""

if __name__ == "__main__":
    sys.exit(main())
