"""Server of the demo: ``midstream serve`` in a process of its own, in a temporary folder."""

import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from midstream.app.server_address import read_address
from midstream.core.errors import StoreUnavailable

START_S_MAX = 900.0
"""A cold compile of all kernels takes two minutes of one core; a busy machine may leave it a seventh of one. A server
that cannot start ends by itself, and who looks on can end it with Ctrl-C."""
_STOP_S_MAX = 30.0
_POLL_S = 0.1


@contextmanager
def running_server(folder: Path, told: Callable[[float], None]) -> Generator[str]:
    """Serve ``folder`` on a free loopback port; give its URL, stop it at the end.

    Args:
        folder: With or without midstream.toml.
        told: Called while it starts, with the seconds since.

    Raises:
        StoreUnavailable: It did not start; the text has what it said last.
    """
    output = folder / "server.txt"
    with output.open("wb") as file:
        command = [sys.executable, "-P", "-m", "midstream", "serve", "--folder", str(folder), "--port", "0"]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)  # noqa: S603  our own program
    try:
        yield _wait(process, folder, output, told)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", folder: Path, output: Path, told: Callable[[float], None]) -> str:
    began = time.monotonic()
    while (waited := time.monotonic() - began) < START_S_MAX:
        address = read_address(folder / "data")
        if address is not None and address.pid == process.pid:
            return address.url
        if process.poll() is not None:
            break
        told(waited)
        time.sleep(_POLL_S)
    said = output.read_text("utf-8", "replace")[-2_000:].strip()
    message = f"the server did not start in {waited:.0f} s; it said last: {said or 'nothing'}"
    raise StoreUnavailable(message)
