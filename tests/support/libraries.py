"""Libraries that only some tests need: where one is missing the test skips by its name, and fails in CI."""

import importlib
import os
from typing import Any, NoReturn

import pytest

from tests.support.services import record
from tests.support.services.versions import LIBRARIES, library_version


def missing(message: str) -> NoReturn:
    """End a test for something that this machine lacks: it skips at home, and fails in CI.

    Raises:
        Skipped: At home.
        Failed: In CI.
    """
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def library(name: str) -> Any:
    """Import a library, and put it on record that the test under way met it."""
    try:
        found = importlib.import_module(name)
    except ImportError:
        missing(f"{name} is not installed; scripts/test-integrations installs it")
    top = name.partition(".")[0]
    version = library_version(top)
    if version:
        record.note(LIBRARIES[top], version)
    return found
