"""Runs a built image as docs/deployment.md says: times of starts, health, stop, a configuration that is wrong.

    python scripts/image_check.py
    python scripts/image_check.py --program docker --image midstream --starts 5 --option=--network=host

It needs podman or docker with a built image, and makes a volume of its own, which it removes. It prints a figure a line
and ends with 1 where something is not as the page says.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence

START_S_MAX = 3.0
"""Until the first slate, from the start of the container, as a median."""
WAIT_S_MAX = 120.0
FLAGS = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL")  # noqa: S108  a path in the container
PROBE = """
import os
fields = open("/proc/1/stat").read().rpartition(")")[2].split()
print((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
print(os.getuid(), *(os.access(path, os.W_OK) for path in ("/opt/kernels", "/", "/opt/midstream", "/shop")))
print(open("/proc/1/status").read().split("CapEff:")[1].split()[0])
"""
STALE = """
import pathlib, struct
for path in pathlib.Path("/opt/midstream").rglob("*.pyc"):
    flags, when, size = struct.unpack("<4xLLL", path.read_bytes()[:16])
    source = path.parents[1] / (path.name.partition(".")[0] + ".py")
    if not flags and (when, size) != (int(source.stat().st_mtime), source.stat().st_size):
        print(source)
"""
EVENTS = 60_000
"""A stop writes a snapshot when there are 50,000 new ones."""


class Check:
    """Containers of one image and one volume; each thing that is not as promised is kept."""

    def __init__(self, program: Sequence[str], image: str, port: int, options: Sequence[str]) -> None:
        """Take what runs containers, the image, a free port of loopback and further options of `run`."""
        self.program, self.image, self.port, self.options = list(program), image, port, list(options)
        self.name = f"midstream-check-{uuid.uuid4().hex[:8]}"
        self.faults: list[str] = []

    def call(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the program of containers to its end."""
        done = subprocess.run([*self.program, *words], capture_output=True, text=True, timeout=300, check=False)
        if check and done.returncode:
            sys.exit(f"{' '.join([*self.program, *words])}\n{done.stdout}{done.stderr}")
        return done

    def run(self, *words: str, flags: Sequence[str] = (), check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one container with the flags of the documentation."""
        volume = f"{self.name}:/shop"
        return self.call("run", *self.options, *FLAGS, "--volume", volume, *flags, self.image, *words, check=check)

    def expect(self, holds: object, what: str) -> None:
        """Keep what does not hold."""
        if not holds:
            self.faults.append(what)

    def start(self) -> float:
        """Start a server; return the seconds until a slate came."""
        began = time.monotonic()
        self.run(flags=("--detach", "--name", self.name, "--publish", f"127.0.0.1:{self.port}:8765"))
        url = f"http://127.0.0.1:{self.port}/v1/recommendations?session_id=visit-1&n=5"
        while time.monotonic() - began < WAIT_S_MAX:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    took = time.monotonic() - began
                    self.expect(len(json.load(answer)["items"]) == 5, "the first slate has 5 items")
                    return took
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        sys.exit(f"no answer after {WAIT_S_MAX} s\n{self.call('logs', self.name).stderr}")

    def look(self) -> float:
        """Look into the running server; return its CPU seconds so far."""
        cpu, access, rights = self.call("exec", self.name, "python", "-c", PROBE).stdout.strip().split("\n")
        self.expect(access == "10001 False False False True", f"user 10001 writes /shop alone (found {access})")
        self.expect(int(rights, 16) == 0, f"the process has no capability (found {rights})")
        return float(cpu)

    def record(self) -> None:
        """Send events, so many that a snapshot of them is worth its time."""
        line = '{{"type": "view", "event_id": "check-{0}", "session_id": "s-{1}", "item_id": "lamp-{2:03}"}}'
        lines = (line.format(number, number % 997, 1 + number % 12) for number in range(EVENTS))
        url = f"http://127.0.0.1:{self.port}/v1/events/bulk"
        kind = {"content-type": "application/x-ndjson"}
        request = urllib.request.Request(url, "\n".join(lines).encode(), kind)
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310  loopback
            answer.read()

    def health(self) -> str:
        """Return what the health check says once it had time to say it."""
        if "podman" in self.program[0]:  # its timers are systemd's, which a container's host may lack
            return "healthy" if self.call("healthcheck", "run", self.name, check=False).returncode == 0 else "unhealthy"
        began, status = time.monotonic(), ""
        while status != "healthy" and time.monotonic() - began < WAIT_S_MAX:
            status = self.call("inspect", "--format", "{{.State.Health.Status}}", self.name).stdout.strip()
            time.sleep(0.5)
        return status

    def stop(self) -> dict[str, object]:
        """End the server by SIGTERM; return its last line of the log, with the seconds that it took."""
        began = time.monotonic()
        self.call("stop", "--time", "60", self.name)
        took = time.monotonic() - began
        code = self.call("inspect", "--format", "{{.State.ExitCode}}", self.name).stdout.strip()
        self.expect(code == "0", f"SIGTERM ends the server with 0 (found {code})")
        logs = self.call("logs", self.name)
        lines = [json.loads(line) for line in (logs.stdout + logs.stderr).splitlines() if line.startswith("{")]
        self.call("rm", self.name)
        return {**(lines[-1] if lines else {}), "took": took}

    def wrong(self) -> str:
        """Return what a server says of a configuration that has an unknown key."""
        text = "printf '[limits]\\nitems_most = 5\\n' > /shop/midstream.toml"
        self.run("-c", text, flags=("--rm", "--entrypoint", "/bin/sh"))
        done = self.run(flags=("--rm",), check=False)
        self.expect(done.returncode not in {0, 125, 126, 127}, f"a wrong configuration fails (found {done.returncode})")
        self.expect("items_most" in done.stderr, "a wrong configuration is named")
        return done.stderr


def measure(check: Check, starts: int) -> None:
    """Go through all of it, and print the figures."""
    size = int(check.call("image", "inspect", "--format", "{{.Size}}", check.image).stdout)
    print(f"image_mb          {size / 1e6:.0f}")
    stale = check.run("-c", STALE, flags=("--rm", "--entrypoint", "python")).stdout.split()
    check.expect(not stale, f"each start would compile {len(stale)} files of Python, as {stale[:3]}")
    check.run("init", "/shop", flags=("--rm",))
    check.run("import", "/shop/example.ndjson", "--folder", "/shop", flags=("--rm",))
    times: list[float] = []
    cpus: list[float] = []
    last: dict[str, object] = {}
    for number in range(starts):
        times.append(check.start())
        cpus.append(check.look())
        if not number:
            health = check.health()
            check.expect(health == "healthy", f"the health check is {health}")
            print(f"health            {health}")
        if number == starts - 1:
            check.record()
        last = check.stop()
    check.expect(
        last.get("event") == "stopped" and last.get("snapshot") == last.get("log_position"), f"no stop: {last}"
    )
    print(f"first_slate_s     {statistics.median(times):.2f}  ({', '.join(f'{each:.2f}' for each in times)})")
    print(f"cpu_s             {statistics.median(cpus):.2f}  ({', '.join(f'{each:.2f}' for each in cpus)})")
    print(f"stop              {json.dumps(last)}")
    check.expect(statistics.median(times) <= START_S_MAX, f"a slate within {START_S_MAX} s")
    print(f"wrong             {check.wrong().strip()}")


def main() -> None:
    """Read the command line, and remove what was made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--program", default="podman", help="program and its global options, apart by spaces")
    parser.add_argument("--image", default="midstream")
    parser.add_argument("--port", type=int, default=18765)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--option", action="append", default=[], help="further option of `run`")
    given = parser.parse_args()
    check = Check(given.program.split(), given.image, given.port, given.option)
    try:
        measure(check, given.starts)
    finally:
        check.call("rm", "--force", check.name, check=False)
        check.call("volume", "rm", check.name, check=False)
    for fault in check.faults:
        print(f"not so: {fault}", file=sys.stderr)
    sys.exit(1 if check.faults else 0)


if __name__ == "__main__":
    main()
