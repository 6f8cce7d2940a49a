"""The quickstart of README.md works as it is printed: its blocks are run in order, in one shell, in a fresh folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.readme import blocks, free_port

PORT = "8765"
_WAIT = f"""\
for _ in $(seq {PATIENCE_S * 10:.0f}); do [ -s data/server.url ] && break; sleep 0.1; done
"""


def script() -> str:
    """Return all blocks as one shell script; after the server's start it waits as a reader would."""
    lines = ["set -euo pipefail", "set -m"]
    for language, text in blocks("Quickstart"):
        if language == "python":
            lines.append(f"python - <<'END'\n{text}END")
        else:
            lines.append(text)
            if "midstream serve" in text:
                lines.append(_WAIT)
        lines.append("echo '--- next'")
    return "\n".join(lines)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the quickstart sends with curl")
def test_quickstart_runs(tmp_path):
    """Every block ends with status 0 and says what the text around it promises."""
    own = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{own}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}
    text = script().replace(PORT, free_port())
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    said = done.stdout.split("--- next\n")
    assert "340 recorded" in said[0]
    assert "session_knn" in said[1]
    assert "Ctrl-C stops" in said[2] + said[3]  # the server answers already while it prints
    assert '"recorded":1' in said[3]
    assert '"id":"' in said[3]
    assert "equal" in said[4]
    assert (tmp_path / "shop" / "events.parquet").stat().st_size > 0
    assert said[5].strip().startswith("['")


def test_quickstart_is_found():
    """There are blocks to run: a heading of another name would leave none."""
    assert [language for language, _ in blocks("Quickstart")].count("sh") >= 5
