"""Compiled load on a topic of Kafka: messages made here, sent by ``KafkaLoad.java`` with the client of the lock.

    python -m benchmarks.generator.kafka_load ADDRESS TOPIC --format json --rate 20000 --seconds 10

The program is compiled by ``javac`` when it is first used, into the folder of fetched servers, under a name that
changes with its source and with the lock of Kafka. Rates are in messages: one event each as ``json``, ``--batch``
events each as ``ndjson`` and ``arrow``. Each event has the time of its sending as its time, so that who reads it knows
its age.
"""

import argparse
import hashlib
import io
import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from tests.support.services import cache, locks
from tests.support.services.faults import Unavailable
from tests.support.services.java import find_java
from tests.support.services.kafka import PACKAGE

SOURCE = Path(__file__).with_name("KafkaLoad.java")
TIME_DIGITS = b"@" * 13
"""A place in a text that becomes the time of sending, in milliseconds."""
TIME_INTEGER = int.from_bytes(b"@INT64@@", "little")
"""A number in Arrow that becomes the same."""
FORMATS = ("json", "ndjson", "arrow")
COMPILE_S_MAX = 300
SLACK_S = 300
"""Beyond the time of a run: the start of Java and the acknowledgements of what is still under way."""


@dataclass(frozen=True)
class Sent:
    """What one run of the program printed; times in microseconds."""

    count: int
    """Messages that the broker acknowledged."""
    errors: int
    bytes: int
    seconds: float
    """Until the last acknowledgement."""
    per_second: float
    """Messages, over all of that."""
    late_p50_us: float
    late_p99_us: float
    late_max_us: float
    """From the scheduled time to the call."""
    acked_p50_us: float
    acked_p99_us: float
    acked_max_us: float
    """From the call to the acknowledgement."""


@dataclass(frozen=True)
class Shop:
    """Who looks at what in generated events: items by Zipf's law, users and sessions uniformly."""

    items: int = 100_000
    users: int = 1_000_000
    seed: int = 7

    def columns(self, count: int) -> dict[str, list[str]]:
        """Return the columns of so many views."""
        rng = np.random.default_rng(self.seed)
        weight = 1.0 / np.arange(1, self.items + 1)
        edges = np.cumsum(weight / weight.sum())
        items = np.searchsorted(edges, rng.random(count)).clip(0, self.items - 1).tolist()
        users = rng.integers(0, self.users, count).tolist()
        return {
            "type": ["view"] * count,
            "user_id": [f"u{each:07d}" for each in users],
            "session_id": [f"s{each:07d}" for each in users],
            "item_id": [f"i{each:07d}" for each in items],
        }


def messages_of(kind: str, columns: dict[str, list[str]], batch: int) -> Iterator[bytes]:
    """Yield messages of events: one each for ``json``, else ``batch`` each, the last one fewer."""
    count = len(columns["type"])
    if kind == "arrow":
        for start in range(0, count, batch):
            yield arrow_message({name: values[start : start + batch] for name, values in columns.items()})
        return
    lines = [
        json.dumps(dict(zip(columns, row, strict=True)), separators=(",", ":")).encode()[:-1]
        + b',"time":'
        + TIME_DIGITS
        + b"}"
        for row in zip(*columns.values(), strict=True)
    ]
    step = 1 if kind == "json" else batch
    for start in range(0, count, step):
        yield b"\n".join(lines[start : start + step])


def arrow_message(columns: dict[str, list[str]]) -> bytes:
    """Return one IPC stream of one record batch, the time of sending to be filled in."""
    times = pa.array(np.full(len(columns["type"]), TIME_INTEGER, dtype=np.int64), pa.timestamp("ms"))
    batch = pa.record_batch([*(pa.array(each, pa.string()) for each in columns.values()), times], [*columns, "time"])
    written = io.BytesIO()
    with pyarrow.ipc.new_stream(written, batch.schema) as stream:
        stream.write_batch(batch)
    return written.getvalue()


def write_messages(path: Path, messages: Iterable[bytes]) -> Path:
    """Write messages as the program reads them."""
    with path.open("wb") as file:
        for each in messages:
            file.write(b"%d\n" % len(each) + each)
    return path


def compiled() -> Path:
    """Return the folder of the compiled program, compiling it the first time.

    Raises:
        Unavailable: Kafka was not fetched, or there is no Java of 17 or newer with its compiler beside it.
    """
    key = hashlib.sha256(SOURCE.read_bytes() + locks.key_of("kafka").encode()).hexdigest()
    return cache.fetch("kafka-load", key, _compile)


def _compile(folder: Path) -> None:
    javac = Path(find_java(range(17, 26), "17 or newer")).resolve().with_name("javac")
    if not javac.is_file():
        message = f"{javac} is not installed: a Java with its compiler is a JDK"
        raise Unavailable(message)
    command = [str(javac), "-Xlint:all", "-Werror", "-cp", f"{PACKAGE.find()}/lib/*", "-d", str(folder), str(SOURCE)]
    subprocess.run(command, check=True, timeout=COMPILE_S_MAX)


def produce(
    address: str,
    topic: str,
    path: Path,
    *,
    rate: float,
    seconds: float,
    messages_max: int = 1 << 40,
    settings: Sequence[str] = (),
    core: int | None = None,
) -> Sent:
    """Send messages of a file to a topic until the time or the messages are over; return what came of it.

    Args:
        address: Host and port of a broker.
        topic: Name of a topic that there is.
        path: What ``write_messages`` wrote; begun anew when all was sent.
        rate: Messages a second; 0 = as fast as it goes.
        seconds: Time after which nothing more is sent.
        messages_max: Messages after which nothing more is sent.
        settings: Of the producer, as ``name=value``.
        core: The one core that it runs on, where one is named.
    """
    java = find_java(range(17, 26), "17 or newer")
    pinned = ["taskset", "-c", str(core)] if core is not None and shutil.which("taskset") else []
    options = ["-Xmx1g", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
    command = [*pinned, java, *options, "-cp", f"{compiled()}:{PACKAGE.find()}/lib/*", "KafkaLoad"]
    order = [address, topic, str(path), str(rate), str(seconds), str(messages_max), *settings]
    ran = subprocess.run([*command, *order], stdout=subprocess.PIPE, timeout=seconds + SLACK_S, check=True)
    found = json.loads(ran.stdout)
    return Sent(**{each.name: found[each.name] for each in fields(Sent)})


def main() -> None:
    """Send what the arguments say and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("topic")
    parser.add_argument("--format", choices=FORMATS, default="json")
    parser.add_argument("--events", type=int, default=200_000, help="different ones, sent again and again")
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--core", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE")
    options = parser.parse_args()
    with TemporaryDirectory() as made:
        messages = messages_of(options.format, Shop().columns(options.events), options.batch)
        path = write_messages(Path(made) / "messages", messages)
        sent = produce(
            options.address,
            options.topic,
            path,
            rate=options.rate,
            seconds=options.seconds,
            settings=options.set,
            core=options.core,
        )
    print(json.dumps({each.name: getattr(sent, each.name) for each in fields(Sent)}))


if __name__ == "__main__":
    main()
