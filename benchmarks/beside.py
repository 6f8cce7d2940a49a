"""p99 of slates and of events beside a snapshot, a rebuild, a training and promotions, and of the same load alone.

Serves a folder of the named size with the real server, pinned to one core, loaded by the compiled generator on the
other; children go where the system puts them. What goes on beside is done again and again until its load is over. Alone
and beside take turns, and who is first changes with each round, so that what else the machine does meets both alike.
Needs a C compiler. About 8 minutes at full size.
"""

import argparse
import http
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import model_swap
import msgspec
from rebuilding import acts, ask_server
from serving import (
    CONFIG,
    DATA_NAME,
    Row,
    Server,
    arguments,
    asks,
    compiled,
    disk_rows,
    load,
    prepare,
    report,
    request,
    serving,
    spread,
    world_of,
    write_requests,
)
from world import World

from midstream.app.config_history import settings_of
from midstream.app.opening import config_of
from midstream.engine.folder import DataFolder
from midstream.engine.snapshots.worker import SnapshotOrder
from midstream.state.settings import encode_settings
from midstream.training.registry import Registry

MODELS = """
[[models]]
name = "near"
kind = "ease"

[[models]]
name = "taste"
kind = "als"
options = { factors = 32 }

[[placements]]
name = "default"
sources = [
    { kind = "session_knn" }, { kind = "covisitation" }, { kind = "ease", model = "near" }, { kind = "trending" },
]
"""
"""``near`` is promoted, from versions of random weights; ``taste`` is trained, and put into service by nobody."""
CONNECTIONS, WARM_S, POLL_S = 32, 2.0, 0.05
WANTED = 1.5
"""p99 beside of p99 alone."""


class StoppedError(Exception):
    """The load is over, so what goes on beside it ends."""


@dataclass
class Beside:
    """Work that is done again and again in a thread."""

    work: Callable[["Beside"], None]
    over: threading.Event = field(default_factory=threading.Event)
    took: list[float] = field(default_factory=list[float])
    """Seconds of each time that it came to its end."""
    failed: BaseException | None = None

    def run(self) -> None:
        """Do it until the load is over; what goes wrong is kept for whoever waits."""
        try:
            while not self.over.is_set():
                began = time.perf_counter()
                self.work(self)
                self.took.append(time.perf_counter() - began)
        except StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001  raised where the load ends
            self.failed = error

    def child(self, command: list[str], told: bytes = b"") -> None:
        """Run a program to its end, or to that of the load.

        Raises:
            StoppedError: It was ended, as the load is over.
            RuntimeError: It failed.
        """
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT) as ran,
        ):
            assert ran.stdin is not None
            ran.stdin.write(told)
            ran.stdin.close()
            while ran.poll() is None and not self.over.wait(POLL_S):
                pass
            if ran.poll() is None:
                ran.terminate()
                ran.wait()
                raise StoppedError
            if ran.returncode:
                said.seek(0)
                message = f"{' '.join(command)} ended with {ran.returncode}: {said.read()[-500:]!r}"
                raise RuntimeError(message)


@contextmanager
def going_on(work: Callable[[Beside], None]) -> Generator[Beside]:
    """Do work in a thread until the block ends, and raise what went wrong in it."""
    beside = Beside(work)
    thread = threading.Thread(target=beside.run)
    thread.start()
    try:
        yield beside
    finally:
        beside.over.set()
        thread.join()
    if beside.failed is not None:
        raise beside.failed


@dataclass
class Shop:
    """The folder that is served, and what is done to it."""

    root: Path
    world: World
    versions: list[str]
    """Of ``near``; the next one to promote is the first."""
    server: Server
    snapshots: int = 0
    """So many were ordered."""

    def snapshot(self, beside: Beside) -> None:
        """Write one of a copy of the folder, each of one event more: the child that a server starts."""
        copy = self.root / "copy"
        if not copy.exists():
            ignored = shutil.ignore_patterns("lock", "models")
            shutil.copytree(self.root / DATA_NAME, copy / DATA_NAME, ignore=ignored)
        settings = encode_settings(settings_of(DataFolder(copy / DATA_NAME), config_of(self.root)))
        self.snapshots += 1
        order = SnapshotOrder(str(copy / DATA_NAME), self.world.events + self.snapshots, settings, 2)
        beside.child([sys.executable, "-m", "midstream.engine.snapshots.worker"], msgspec.json.encode(order))

    def rebuild(self, beside: Beside) -> None:
        """Change a weight, and wait until the state of the new configuration is in service."""
        weight = 1.0 + time.time_ns() % 997 / 1_000  # another one each time
        self.configure(f"[events.types]\nview = {{ weight = {weight} }}\n")
        while (view := ask_server(self.server, "POST")).get("status") == http.HTTPStatus.CONFLICT:
            time.sleep(POLL_S)  # the one before is done, and its last steps are not
        if "state" not in view:
            raise RuntimeError(view)
        while view["state"] not in {"done", "failed"}:
            time.sleep(POLL_S)  # to its end also when the load is over: the next load is to be alone
            view = ask_server(self.server, "GET")
        if view["state"] == "failed":
            raise RuntimeError(view["reason"])
        if beside.over.is_set():
            raise StoppedError

    def training(self, beside: Beside) -> None:
        """Fit a model on the log, as ``midstream train`` does."""
        beside.child([sys.executable, "-m", "midstream", "train", "taste", "--folder", str(self.root)])

    def promotion(self, beside: Beside) -> None:
        """Put the next version into service: read, hashed, asked its golden questions, swapped."""
        del beside
        self.versions.append(self.versions.pop(0))
        model_swap.promote(self.server, self.versions[0])

    def configure(self, more: str = "") -> None:
        """Write the configuration."""
        (self.root / "midstream.toml").write_text(more + CONFIG + MODELS)


def measured(shop: Shop, generator: Path, told: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each kind of request and each thing that goes on beside it."""
    slates = write_requests(
        shop.root / "slates", [request("/v1/recommendations", ask) for ask in asks(shop.world, 20_000, 1)]
    )
    rows = {"a snapshot": shop.snapshot, "a rebuild": shop.rebuild, "a training": shop.training}
    rows |= {"promotions": shop.promotion}
    load(shop.server, generator, slates, CONNECTIONS, told.rate, WARM_S, "single")
    for name, work in rows.items():
        if told.only and name.split()[-1] not in told.only:
            continue
        for kind in ("slate", "event"):
            turns = [one_round(shop, (generator, slates), told, (kind, work), number) for number in range(told.rounds)]
            yield row_of(kind, name, turns)


def one_round(
    shop: Shop,
    programs: tuple[Path, Path],
    told: argparse.Namespace,
    measured_with: tuple[str, Callable[[Beside], None]],
    number: int,
) -> tuple[dict, dict]:
    """Return what a load alone and one beside some work measured; in odd rounds the second is measured first."""
    generator, slates = programs
    kind, work = measured_with

    def loaded() -> dict:
        file = slates if kind == "slate" else write_requests(shop.root / "events", acts(shop.world, 20_000))
        return load(shop.server, generator, file, CONNECTIONS, told.rate, told.seconds, "single")

    def beside() -> dict:
        with going_on(work) as going:
            found = loaded()
            return {**found, "took": going.took}

    if number % 2:
        second = beside()
        return loaded(), second
    first = loaded()
    return first, beside()


def row_of(kind: str, name: str, turns: list[tuple[dict, dict]]) -> Row:
    """Return the row of one kind of request beside one thing: medians, the least and the most."""
    alone, beside = (spread([turn[at]["p99_us"] / 1e3 for turn in turns], "{:.1f}") for at in (0, 1))
    ratio = spread([second["p99_us"] / first["p99_us"] for first, second in turns], "{:.2f}")
    halves = " / ".join(spread([turn[at]["p50_us"] / 1e3 for turn in turns], "{:.2f}") for at in (0, 1))
    ended = sum(len(second["took"]) for _, second in turns)
    lost = sum(first["errors"] + second["errors"] for first, second in turns)
    return Row(
        f"{kind}, p99 ms alone / beside {name}",
        f"{alone} / {beside}: × {ratio}; p50 {halves}; {ended} came to an end; {lost} refused or failed",
        f"× {WANTED}",
        "",
    )


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seconds=8.0)
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model-bytes", type=int, default=100_000_000, help="size of the model that is promoted")
    parser.add_argument("--only", nargs="*", choices=("snapshot", "rebuild", "training", "promotions"))
    told = parser.parse_args()
    world = world_of(told)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root = Path(folder)
        (root / "midstream.toml").write_text(CONFIG + MODELS)
        rows = [*prepare(root, world, None), *disk_rows(root)]
        versions = list(model_swap.publish(Registry(root / DATA_NAME / "models"), told.model_bytes, world.items))
        before = os.getloadavg()[0]
        with serving(root) as server:
            model_swap.promote(server, versions[0])
            rows += measured(Shop(root, world, versions, server), compiled(), told)
        rows.append(Row("load of the machine before and after", f"{before:.1f}, {os.getloadavg()[0]:.1f}", "", ""))
    report(rows, told.json)


if __name__ == "__main__":
    main()
