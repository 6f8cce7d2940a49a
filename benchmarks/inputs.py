"""The rows of inputs of docs/benchmarks.md: messages of a broker into the state, by format.

Without ``--servers`` the messages are in memory, so that what is measured is decoding, the log and the fold; with it a
topic of Kafka is read through the configured client to its end. Every event is new, durable, with all tables on. CPU
time is that of the whole process, client threads included. A row is the median of ``--runs`` runs, each into a log of
its own; the forms take turns. About 4 minutes at full size.
"""

import argparse
import asyncio
import io
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from ingest import events_table
from serving import CONFIG

from midstream.app.config.broker_inputs import KafkaInput
from midstream.app.config.reader import parse_config
from midstream.app.inputs.decoding import decoder_of
from midstream.app.opening import accept_of, open_running
from midstream.app.operate.consume import ConsumeOptions, consume
from midstream.engine.inputs.broker_consumer import OpenedTopic, PartitionMessages
from midstream.engine.inputs.broker_input import BrokerInput, InputSource

SIZES = {"json": 1, "ndjson": 100, "arrow": 1_000}
"""Events of a message."""
MAP = {"user_id": "visitor", "item_id": "product"}
PARTITIONS = 4


class ListConsumer:
    """Messages in memory, in partitions of equal length."""

    topic = "events"

    def __init__(self, values: Sequence[bytes]) -> None:
        """Deal ``values`` out."""
        self._parts = [values[part::PARTITIONS] for part in range(PARTITIONS)]
        self._next = [0] * PARTITIONS

    def open(self, _: str, positions: Mapping[str, str]) -> OpenedTopic:
        """Begin at positions."""
        self._next = [int(positions.get(str(part), 0)) for part in range(PARTITIONS)]
        return OpenedTopic("one", {str(part): str(at) for part, at in enumerate(self._next)})

    def poll(self, messages_max: int, wait_s: float) -> Sequence[PartitionMessages]:
        """Return as many of each partition."""
        found: list[PartitionMessages] = []
        each_max = max(1, messages_max // PARTITIONS)
        for part, (values, at) in enumerate(zip(self._parts, self._next, strict=True)):
            if some := values[at : at + each_max]:
                stop = at + len(some)
                positions = [str(place) for place in range(at, stop)]
                found.append(PartitionMessages(str(part), some, positions, str(stop)))
                self._next[part] = stop
        if not found:
            time.sleep(min(wait_s, 0.01))
        return found

    def is_outdated(self) -> bool:
        """Never."""
        return False

    def lag(self) -> Mapping[str, int]:
        """Return what is behind."""
        return {str(part): len(self._parts[part]) - at for part, at in enumerate(self._next)}

    def show(self, positions: Mapping[str, str]) -> None:
        """Tell nobody."""

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Form:
    """One row of the table."""

    name: str
    options: KafkaInput
    values: list[bytes]
    events: int


@dataclass(frozen=True)
class Took:
    """Seconds of one run."""

    wall_s: float
    cpu_s: float


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=500_000, help="of each run in memory")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--servers", help="read a topic of Kafka instead")
    parser.add_argument("--topic", default="events")
    parser.add_argument("--format", choices=tuple(SIZES), default="json")
    parser.add_argument("--client", choices=("confluent", "kafka-python"), default="confluent")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| messages | events/s | events per CPU-second | decoding alone, per CPU-second |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        if options.servers:
            topic_row(Path(folder), options)
            return
        forms = list(all_forms(options.events))
        for number, form in enumerate(forms):
            record(Path(folder) / f"warm-{number}", Form(form.name, form.options, form.values[:40], 0))
        took: dict[str, list[tuple[Took, float]]] = {form.name: [] for form in forms}
        for run in range(options.runs):
            for form in forms:
                decoded = decoding_s(form)
                took[form.name].append((record(Path(folder) / f"{run}-{form.name}", form), decoded))
        for form in forms:
            wall = statistics.median(form.events / each.wall_s for each, _ in took[form.name])
            cpu = statistics.median(form.events / each.cpu_s for each, _ in took[form.name])
            alone = statistics.median(form.events / each for _, each in took[form.name])
            print(f"| {form.name} | {wall:,.0f} | {cpu:,.0f} | {alone:,.0f} |", flush=True)


def all_forms(count: int) -> list[Form]:
    """Return the messages of each format, with ids and without, and foreign ones that are mapped."""
    table = events_table(count, 1)
    nameless = table.drop_columns(["event_id"])
    foreign = nameless.rename_columns(
        ["visitor" if name == "user_id" else "product" if name == "item_id" else name for name in nameless.column_names]
    )
    forms: list[Form] = []
    for form, size in SIZES.items():
        for name, each, mapped in (("", table, {}), (", ids of positions", nameless, {}), (", mapped", foreign, MAP)):
            rows = count if form == "arrow" or not mapped else count // 4
            options = KafkaInput(name="bench", topic="events", servers="-", format=form, map=mapped)
            forms.append(
                Form(f"{form}, {size} events each{name}", options, messages(each.slice(0, rows), form, size), rows)
            )
    return forms


def messages(table: pa.Table, form: str, size: int) -> list[bytes]:
    """Return a table as messages of so many events."""
    pieces = [table.slice(start, size) for start in range(0, len(table), size)]
    if form == "arrow":
        return [stream(piece) for piece in pieces]
    context = [{**row, "context": msgspec.Raw(row["context"].encode())} for row in table.to_pylist()]
    lines = [msgspec.json.encode(row) for row in context]
    return [b"\n".join(lines[start : start + size]) for start in range(0, len(lines), size)]


def stream(table: pa.Table) -> bytes:
    """Return a table as an Arrow IPC stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue()


def decoding_s(form: Form) -> float:
    """Return the CPU seconds of decoding alone, in polls of as many rows as a frame."""
    decode = decoder_of(form.options, lambda: accept_of(parse_config(CONFIG)))
    size = max(1, 10_000 // SIZES[form.options.format])
    size = min(size, 5_000)
    began = time.process_time()
    for start in range(0, len(form.values), size):
        decode(form.values[start : start + size])
    return time.process_time() - began


def record(folder: Path, form: Form) -> Took:
    """Return the time of messages into a log of their own."""
    folder.mkdir()
    (folder / "midstream.toml").write_text(CONFIG)

    async def work() -> Took:
        running = open_running(folder, parse_config(CONFIG))
        decode = decoder_of(form.options, lambda: running.service.accept)
        source = InputSource("bench", "events", lambda _: ListConsumer(form.values), decode)
        one = BrokerInput(source, running.engine, running.ingest)
        async with running:
            began, cpu = time.perf_counter(), time.process_time()
            one.start()
            while not one.is_at_end:  # noqa: ASYNC110  the end of a topic is no event
                await asyncio.sleep(0.005)
            took = Took(time.perf_counter() - began, time.process_time() - cpu)
            assert not form.events or one.view().events == form.events, one.view()
            await one.stop()
        return took

    return asyncio.run(work())


def topic_row(folder: Path, options: argparse.Namespace) -> None:
    """Print the row of a topic that is read to its end."""
    text = msgspec.json.encode(options.topic).decode()
    (folder / "midstream.toml").write_text(
        f'{CONFIG}\n[[inputs]]\nname = "bench"\nkind = "kafka"\nservers = "{options.servers}"\ntopic = {text}\n'
        f'format = "{options.format}"\nclient = "{options.client}"\n'
    )
    config = parse_config((folder / "midstream.toml").read_bytes())
    marks: list[tuple[float, float, int]] = []

    def tell(views: Sequence[Any]) -> None:
        if not marks or views[0].events > marks[-1][2]:
            marks.append((time.perf_counter(), time.process_time(), views[0].events))

    done = consume(folder, config, ConsumeOptions(until_end=True), tell)
    (began, cpu, first), (ended, cpu_end, last) = marks[0], marks[-1]
    count = max(last, done.inputs[0].events) - first
    wall, cpu_rate = count / max(ended - began, 1e-9), count / max(cpu_end - cpu, 1e-9)
    name = f"{options.format} from Kafka, {options.client}"
    print(f"| {name}, {count:,} events | {wall:,.0f} | {cpu_rate:,.0f} | |")


if __name__ == "__main__":
    main()
