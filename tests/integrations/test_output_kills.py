"""Outputs whose process and whose broker are killed again and again: each record once, and in the order of the log."""

import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from midstream.app.inspect.folder_view import LogView
from midstream.events.schema import event_at
from tests.integrations.test_kafka_output import committed, header, make_topic
from tests.support.services.server import Server
from tests.support.topics import pulsar_outputs

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow, pytest.mark.crash]
ROOT = Path(__file__).parents[2]
ROUNDS, ROUNDS_LONG = 3, 50
RUN_S_MAX = 2.5
"""A process is killed between its first event and so much later."""
DOWN_S_MAX = 4.0
"""A broker is down for so long at most."""


def start(folder: Path, seed: int) -> subprocess.Popen[str]:
    """Start a process that records and delivers; return it when it does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.output_process", str(folder), str(seed)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "began\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    """Have it deliver all, and end."""
    with process:
        out, _ = process.communicate("end\n", timeout=300)
    assert process.returncode == 0, out


def log_ids(folder: Path) -> list[str]:
    """Return the id of each event of a log, in order."""
    return [event_at(batch, row).event_id for batch in LogView(folder).batches() for row in range(len(batch))]


def kill_rounds(folder: Path, server: Server, rounds: int) -> list[str]:
    """Kill the process at random moments, each third time the broker instead; return the events of the log."""
    chance = random.Random(rounds)  # noqa: S311  no secret
    for number in range(rounds):
        process = start(folder, number)
        time.sleep(chance.random() * RUN_S_MAX)
        if number % 3 == 1:
            server.kill()
            time.sleep(chance.random() * DOWN_S_MAX)
            server.up()
            time.sleep(chance.random() * RUN_S_MAX)
        with process:
            process.kill()
    end(start(folder, rounds))
    return log_ids(folder)


CONFIG = """
[[outputs]]
name = "shop"
topic = "{topic}"
from = "beginning"
{broker}
"""


def configure(folder: Path, topic: str, broker: str) -> None:
    """Write the configuration of a folder with one output of all events."""
    (folder / "midstream.toml").write_text(CONFIG.format(topic=topic, broker=broker), "utf-8")


def rounds_of(request: pytest.FixtureRequest) -> int:
    """Return how often something is killed."""
    return ROUNDS_LONG if request.config.getoption("--long") else ROUNDS


def test_each_record_is_in_kafka_once_after_any_kill(kafka, tmp_path, request):
    """No record is lost or double for readers of committed records, and their order is that of the log."""
    topic, rounds, began = "out-killed", rounds_of(request), time.monotonic()
    make_topic(kafka.address, topic)
    configure(tmp_path, topic, f'kind = "kafka"\nservers = "{kafka.address}"')
    expected = kill_rounds(tmp_path, kafka, rounds)
    found = committed(kafka.address, topic)
    ids = [msgspec.json.decode(each.value()).get("event_id", "") for each in found]
    print(f"{rounds} rounds: {len(expected)} events, {len(ids)} records, {time.monotonic() - began:.0f} s")
    assert ids == expected
    assert [int(header(each, "log_position")) for each in found] == [*range(len(expected))]


@pytest.mark.parametrize("partitions", [0, 2])
def test_each_record_is_in_pulsar_once_after_any_kill(pulsar, tmp_path, request, partitions):
    """No record is lost or double for any reader, and within a partition their order is that of the log."""
    rounds, began = rounds_of(request), time.monotonic()
    topic = pulsar_outputs.make_topic(pulsar, f"out-killed-{partitions}", partitions)
    urls = f'service_url = "pulsar://{pulsar.address}"\nadmin_url = "{pulsar_outputs.admin_url(pulsar)}"'
    configure(tmp_path, topic, f'kind = "pulsar"\n{urls}')
    expected = kill_rounds(tmp_path, pulsar, rounds)
    names = [f"{topic}-partition-{number}" for number in range(partitions)] or [topic]
    parts = [pulsar_outputs.received(pulsar, name) for name in names]
    found = {at: each for part in parts for at, each in zip(pulsar_outputs.log_positions(part), part, strict=True)}
    count = sum(map(len, parts))
    print(f"{rounds} rounds: {len(expected)} events, {count} records, {time.monotonic() - began:.0f} s")
    assert count == len(found) == len(expected)
    assert [msgspec.json.decode(found[at].data()).get("event_id", "") for at in range(count)] == expected
    assert all(each == sorted(each) for each in map(pulsar_outputs.log_positions, parts))
