"""A real server in a process of its own, for tests that kill it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from midstream.app.opening import DATA_NAME
from midstream.app.server_address import read_address
from tests.support.patience import wait_until

MIDSTREAM = ("-m", "midstream")
SAID = "stderr.txt"
"""What the server says, in its folder."""


@contextmanager
def serving(folder: Path, *program: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Serve a folder, with another program than midstream's where one is named; yield the process and its address.

    Whatever happens it is gone at the end.
    """
    published = folder / DATA_NAME / "server.url"
    published.unlink(missing_ok=True)  # of a server that was killed
    command = [sys.executable, *(program or MIDSTREAM), "serve", "-f", str(folder), "--port", "0"]
    said = folder / SAID
    with said.open("w") as file:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, text=True)
    with process:
        try:
            wait_until(lambda: process.poll() is not None or published.exists())
            address = read_address(folder / DATA_NAME)
            assert address is not None, said.read_text()
            yield process, address.url
        finally:
            process.kill()
