"""A real server in a process of its own, for tests that kill it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from midstream.app.running import DATA_NAME
from midstream.app.server_address import read_address
from midstream.testing.patience import wait_until

MIDSTREAM = ("-m", "midstream")


@contextmanager
def serving(folder: Path, *program: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Serve a folder, with another program than midstream's where one is named; yield the process and its address.

    Whatever happens it is gone at the end.
    """
    published = folder / DATA_NAME / "server.url"
    published.unlink(missing_ok=True)  # of a server that was killed
    command = [sys.executable, *(program or MIDSTREAM), "serve", "-f", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: process.poll() is not None or published.exists())
            address = read_address(folder / DATA_NAME)
            assert address is not None, process.stderr and process.stderr.read()
            yield process, address.url
        finally:
            process.kill()
