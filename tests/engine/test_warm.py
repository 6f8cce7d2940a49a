"""The warm-up compiles all that serving uses, so that no request waits for a compiler."""

import subprocess
import sys
from pathlib import Path

PROBE = Path(__file__).with_name("warm_probe.py")


def test_nothing_is_compiled_after_the_warm_up(tmp_path):
    """A process of its own, because here other tests have compiled kernels already."""
    run = subprocess.run(
        [sys.executable, str(PROBE), str(tmp_path / "shop")], capture_output=True, text=True, check=False, timeout=100
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
