"""The program that tests rules of Prometheus: that of the machine, or that of the fetched package."""

import shutil

from tests.support.libraries import missing
from tests.support.services.debian import PROMETHEUS
from tests.support.services.faults import Unavailable


def promtool() -> str:
    """Return the program; without it a test skips at home, and fails in CI."""
    if found := shutil.which("promtool"):
        return found
    try:
        return str(PROMETHEUS.find() / "usr" / "bin" / "promtool")
    except Unavailable as fault:
        missing(str(fault))
