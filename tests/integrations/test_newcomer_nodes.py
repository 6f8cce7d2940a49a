"""The way from nothing to three nodes in README.md works as it is printed, on a real broker."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.libraries import library
from tests.support.patience import PATIENCE_S
from tests.support.readme import blocks, free_port
from tests.support.services.server import Server

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
HEADING = "Three nodes on Kafka"
COMMANDS = 10
BROKER = "127.0.0.1:9092"
PORTS = ("8765", "8766", "8767")
_UNTIL_READY = """\
for port in 8765 8766 8767; do until curl -sf -m 5 http://127.0.0.1:$port/health/ready >ready; do sleep 0.2; done; done
"""
_UNTIL_COMPARED = """\
until midstream nodes -f node-2 --json | python -c 'import json, sys; sys.exit(json.load(sys.stdin)["compared"] < 3)'
do sleep 1; curl -s http://127.0.0.1:8765/v1/events -H 'content-type: application/json' \
  -d '{"type": "view", "session_id": "visit-4", "item_id": "lamp-012"}' >sent; done
"""
"""A shop with visitors has events in each interval."""
_AFTER = """\
nodes=($(jobs -p))
kill -9 ${nodes[0]}
curl -s http://127.0.0.1:8766/v1/events -H 'content-type: application/json' \
  -d '{"type": "view", "session_id": "visit-3", "item_id": "lamp-012"}' >acknowledged
position=$(python -c 'import json; print(json.load(open("acknowledged"))["log_position"])')
question="session_id=visit-3&n=5&deadline=5s&min_log_position=$position"
curl -s "http://127.0.0.1:8767/v1/recommendations?$question" >answer
kill ${nodes[1]} ${nodes[2]}
wait ${nodes[1]}
wait ${nodes[2]}
"""


def commands() -> list[str]:
    """Return the commands of the section, each a line and those that it goes on in."""
    return [line for _, text in blocks(HEADING) for line in text.replace("\\\n", "").splitlines()]


def script() -> str:
    """Return the commands as one script that waits where a reader would, with a node that is killed behind them."""
    lines = ["set -euo pipefail", "set -m", "trap 'kill -9 $(jobs -p) 2>jobs || true' EXIT"]
    for line in commands():
        if line.startswith("curl") and "/v1/events" in line:
            lines.append(_UNTIL_READY)
        lines += [_UNTIL_COMPARED] if line.startswith("midstream nodes") else []
        lines += [line, "echo; echo '--- next'"]
    return "\n".join([*lines, _AFTER])


def test_the_way_has_ten_commands() -> None:
    """A newcomer types ten lines."""
    assert len(commands()) == COMMANDS


@pytest.mark.timeout(PATIENCE_S)
def test_ten_commands_make_three_nodes(tmp_path: Path, kafka: Server) -> None:
    """Every command ends well, nodes have equal states, and two of them go on when the third is killed."""
    library("confluent_kafka")
    own = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{own}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}
    text = script().replace(BROKER, kafka.address).replace('topic = "shop"', f'topic = "{tmp_path.name}"')
    for port in PORTS:
        text = text.replace(port, free_port())
    with (tmp_path / "printed").open("w") as printed:
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=tmp_path,
            env=environment,
            stdout=printed,
            stderr=printed,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE_S,
            check=False,
        )
    said = (tmp_path / "printed").read_text()
    assert done.returncode == 0, said
    answers = said.split("--- next\n")
    assert "340 recorded" in answers[2]
    assert '"recorded":1' in answers[7]
    assert '"id":"' in answers[8]
    assert "3 pairs of nodes compared at equal log positions: equal" in answers[9]
    assert len(json.loads((tmp_path / "answer").read_bytes())["items"]) == 5
