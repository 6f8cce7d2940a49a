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


def test_each_record_is_in_kafka_once_after_any_kill(kafka, tmp_path, request):
    """No record is lost or double for readers of committed records, and their order is that of the log."""
    rounds = ROUNDS_LONG if request.config.getoption("--long") else ROUNDS
    topic = "out-killed"
    make_topic(kafka.address, topic)
    (tmp_path / "midstream.toml").write_text(
        f"""
[[outputs]]
name = "shop"
kind = "kafka"
servers = "{kafka.address}"
topic = "{topic}"
from = "beginning"
""",
        "utf-8",
    )
    began = time.monotonic()
    expected = kill_rounds(tmp_path, kafka, rounds)
    found = committed(kafka.address, topic)
    ids = [msgspec.json.decode(each.value()).get("event_id", "") for each in found]
    print(f"{rounds} rounds: {len(expected)} events, {len(ids)} records, {time.monotonic() - began:.0f} s")
    assert ids == expected
    assert [int(header(each, "log_position")) for each in found] == [*range(len(expected))]
