"""The quickstart of README.md works as it is printed: its blocks are run in order, in one shell, in a fresh folder."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.support.quickstart import assert_as_promised, run_quickstart
from tests.support.readme import blocks


@pytest.mark.skipif(shutil.which("curl") is None, reason="the quickstart sends with curl")
def test_quickstart_runs(tmp_path):
    """Every block ends with status 0 and says what the text around it promises."""
    done = run_quickstart(Path(sys.executable).parent, tmp_path)
    assert_as_promised(done, tmp_path / "shop")


def test_quickstart_is_found():
    """There are blocks to run: a heading of another name would leave none."""
    assert [language for language, _ in blocks("Quickstart")].count("sh") >= 5
