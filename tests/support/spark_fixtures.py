"""Fixtures of a Spark session of two threads, for the modules of tests that import them."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.libraries import library
from tests.support.services.record import note
from tests.support.spark import spark_session


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Yield a session of two threads."""
    library("pyspark")
    library("pandas")
    with spark_session(tmp_path_factory.mktemp("spark")) as found:
        yield found


@pytest.fixture
def spark(session: Any) -> Any:
    """Return the session, and keep its version for the page of compatibility."""
    note("spark", session.version)
    return session
