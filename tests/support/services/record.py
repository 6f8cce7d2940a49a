"""Record of what ran against which server: a plugin of pytest that keeps versions and outcome of each such test.

It is kept in pytest's cache folder, newest outcome of each test; ``scripts/compatibility`` makes a page of it.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.services.versions import client_versions

CACHE_KEY = "midstream/compatibility"
PROPERTY = "servers"
_asked: dict[str, str] = {}
"""Version of each server that the test under way was given."""


def note(name: str, version: str) -> None:
    """Say that the test under way is given a server, or a library, of this version."""
    _asked[name] = version


def cache_file(root: Path) -> Path:
    """Return where runs of a checkout keep the record."""
    return root / ".pytest_cache" / "v" / CACHE_KEY


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Forget what the test before was given."""
    _asked.clear()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> None:
    """Put what a test was given into its report, which another process of the same run sends to the one that writes."""
    if _asked:
        given = {name: {"server": version, "clients": client_versions(name)} for name, version in _asked.items()}
        item.user_properties[:] = [each for each in item.user_properties if each[0] != PROPERTY]
        item.user_properties.append((PROPERTY, json.dumps(given)))


class Recorder:
    """Collects the reports of a run and writes them down at its end, beside what earlier runs left."""

    def __init__(self) -> None:
        """Begin with none."""
        self._found: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the outcome of a test that was given a server; a failure of any of its phases is one."""
        given = dict(report.user_properties).get(PROPERTY)
        if given is not None and (report.failed or (report.when == "call" and report.passed)):
            self._found[report.nodeid] = {"outcome": report.outcome, "given": json.loads(str(given))}

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the newest outcome of each test."""
        cache = getattr(session.config, "cache", None)  # a run without pytest's cache has no such attribute
        if self._found and cache is not None:
            cache.set(CACHE_KEY, {**cache.get(CACHE_KEY, {}), **self._found})


def pytest_configure(config: pytest.Config) -> None:
    """Collect in the process that all others report to."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(), "midstream-servers")
