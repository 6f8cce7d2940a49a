"""Quickstart of README.md as one shell script, for every installation of the program that has to pass it."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

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


def run_quickstart(
    programs: Path, folder: Path, environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """Run the blocks in order, in one shell.

    Args:
        programs: Folder of ``midstream`` and ``python``, before all others on the path.
        folder: Where the reader is.
        environment: Of the shell, its path aside.
    """
    told = {**environment, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}
    command = ["bash", "-c", script().replace(PORT, free_port())]
    return subprocess.run(
        command, cwd=folder, env=told, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def assert_as_promised(done: subprocess.CompletedProcess[str], shop: Path) -> None:
    """Assert that every block ended with status 0 and printed what the text around it promises."""
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    said = done.stdout.split("--- next\n")
    assert "340 recorded" in said[0]
    assert "session_knn" in said[1]
    assert "Ctrl-C stops" in said[2] + said[3]  # the server answers already while it prints
    assert '"recorded":1' in said[3]
    assert '"id":"' in said[3]
    assert "equal" in said[4]
    assert (shop / "events.parquet").stat().st_size > 0
    assert said[5].strip().startswith("['")
