"""A server in a process of its own, as ``midstream serve`` starts it, on a folder of a test."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from midstream.app.server_address import read_address
from tests.support.patience import PATIENCE_S, wait_until


@contextmanager
def served_shop(folder: Path, config: str) -> Generator[str]:
    """Serve a folder with a configuration; the value is the address of the server, which is ready."""
    (folder / "midstream.toml").write_text(config, "utf-8")
    said = folder / "said.txt"
    command = [sys.executable, "-P", "-m", "midstream", "serve", "-f", str(folder), "--port", "0"]
    with said.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    urls: list[str] = []

    def is_ready() -> bool:
        assert process.poll() is None, said.read_text()
        address = read_address(folder / "data")
        if address is None:
            return False
        urls[:] = [address.url]
        with suppress(httpx.TransportError):
            return httpx.get(f"{address.url}/health/ready").status_code == 200
        return False

    try:
        wait_until(is_ready)
        yield urls[0]
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
