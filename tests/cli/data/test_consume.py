"""Commands of inputs: consume a topic by hand, show and move its positions, and what a check says of them."""

import json
import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

from midstream.app.inputs import consumers
from midstream.app.operate import consume
from midstream.cli.app import main
from midstream.cli.data.inputs import positions_of
from midstream.core.errors import ExtraMissing
from midstream.core.types import LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import locked
from midstream.engine.types import Health, InputView, PartitionView
from midstream.events.disk import RealDisk
from tests.support.brokers import FakeConsumer, FakeTopic

Run = Callable[..., tuple[int, str, str]]
INPUT = '[[inputs]]\nname = "clicks"\nkind = "kafka"\nservers = "localhost:1"\ntopic = "events"\n'
READY = (False, True)
"""It is not ready, and takes events."""
VIEW = b'{"type":"view","user_id":"u%d","item_id":"lamp"}'


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command; return its status and what it printed."""

    def one(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        return (int(ended.value.code or 0), *capfd.readouterr())

    return one


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> FakeTopic:
    """A topic that every consumer of this process reads."""
    topic = FakeTopic([[VIEW % (10 * part + place) for place in range(5)] for part in range(2)])

    def connect(options: object, _: object) -> FakeConsumer:
        return FakeConsumer(topic, getattr(options, "start", "earliest"))

    monkeypatch.setattr(consumers, "_kafka", connect)
    return topic


def shop(folder: Path) -> Path:
    """Return a folder with one input."""
    (folder / "midstream.toml").write_text(INPUT)
    return folder


@contextmanager
def health_server(health: bytes) -> Generator[str]:
    """Serve one answer to every question; return the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/health/ready"
            self.send_response(503)
            self.send_header("Content-Length", str(len(health)))
            self.end_headers()
            self.wfile.write(health)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_topic_is_consumed_to_its_end_shown_and_moved(tmp_path: Path, broker: FakeTopic, run: Run) -> None:
    """A second run finds nothing new; after a move what is known is left out, and what is new comes."""
    folder = shop(tmp_path)
    status, out, err = run("consume", "-f", folder, "--until-end", "--json")
    told = json.loads(out)
    assert (status, told["at_end"], told["inputs"][0]["events"]) == (0, True, 10), err
    status, out, _ = run("consume", "-f", folder, "clicks", "--until-end")
    assert status == 0
    assert re.search(r"^clicks: 0 events in ", out, re.MULTILINE)
    status, out, _ = run("inputs", "show", "-f", folder)
    assert len(re.findall(r"│ offline │ [01] +│ 5 ", out)) == 2
    broker.partitions[1].append(VIEW % 99)
    status, out, _ = run("inputs", "move", "clicks", "1=3", "-f", folder, "--json")
    assert [each["position"] for each in json.loads(out)["partitions"]] == ["5", "3"]
    status, out, _ = run("consume", "-f", folder, "--until-end", "--json")
    assert json.loads(out)["inputs"][0]["events"] == 3
    status, out, _ = run("inputs", "show", "-f", folder, "--json")
    assert [each["position"] for each in json.loads(out)["inputs"][0]["partitions"]] == ["5", "6"]


@pytest.mark.parametrize("waits, status", [("", 0), ("a partition is gone", 1)])
def test_what_a_server_reads_is_followed(
    tmp_path: Path, broker: FakeTopic, run: Run, monkeypatch: pytest.MonkeyPatch, waits: str, status: int
) -> None:
    """Its progress is shown until the end, and nothing is read here; without a server the owner is an error."""
    assert broker.partitions
    folder = shop(tmp_path)
    partition = PartitionView("0", "5", 0)
    view = InputView("clicks", "events", "stopped" if waits else "reading", (partition,), 0, 5, 0, waits)
    health = msgspec.json.encode(Health(*READY, "", LogPosition(5), LogPosition(5), 0, inputs=(view,)))
    assert run("consume", "-f", folder, "--until-end")[0] == 0
    with locked(DataFolder(folder / "data"), RealDisk()), health_server(health) as url:
        ended, _, err = run("consume", "-f", folder, "--until-end")
        assert (ended, "is in use by process" in err) == (1, True), err
        monkeypatch.setattr(consume, "server_of", lambda _: url)
        ended, out, err = run("consume", "-f", folder, "--until-end", "--json")
        told = json.loads(out)
        assert (ended, told["at_end"], told["server"], told["log_position"]) == (status, not status, url, 5), err
        assert told["inputs"][0]["events"] == 0
        _, _, err = run("consume", "-f", folder, "--until-end")
        assert f"{url} has the folder open and reads the inputs" in " ".join(err.split())


def test_what_a_broker_does_not_have_is_refused(tmp_path: Path, broker: FakeTopic, run: Run) -> None:
    """With the offsets that it has; and so is an input that there is not."""
    assert len(broker.partitions) == 2
    folder = shop(tmp_path)
    status, _, err = run("inputs", "move", "clicks", "0=77", "-f", folder)
    assert (status, "From 0 to 5." in err) == (1, True)
    status, _, err = run("inputs", "move", "cliks", "0=1", "-f", folder)
    assert "clicks" in err
    status, _, err = run("consume", "-f", folder, "nothing")
    assert (status, "Inputs: clicks" in err) == (1, True)


def test_a_run_to_the_end_of_a_topic_that_waits_for_an_operator_fails(
    tmp_path: Path, broker: FakeTopic, run: Run
) -> None:
    """Both offsets are named."""
    folder = shop(tmp_path)
    assert run("consume", "-f", folder, "--until-end")[0] == 0
    broker.first[0] = 8
    broker.partitions[0] += [VIEW % 7] * 5
    status, _, err = run("consume", "-f", folder, "--until-end")
    assert (status, "position 5 is gone, the broker has 8 to 10" in err) == (1, True)


def test_a_check_names_a_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Before a server is started; no broker is asked."""

    def connect(*_: object) -> FakeConsumer:
        message = "Kafka needs the extra `kafka`: pip install 'midstream[kafka]'"
        raise ExtraMissing(message)

    monkeypatch.setattr(consumers, "_kafka", connect)
    status, out, _ = run("check", "-f", shop(tmp_path), "--json")
    (problem,) = [each["problem"] for each in json.loads(out)["findings"] if each["part"] == "input clicks"]
    assert (status, "pip install 'midstream[kafka]'" in problem) == (1, True)


def test_positions_are_pairs_or_one_place() -> None:
    """A time becomes milliseconds."""
    assert positions_of(["0=42", "1=x=y"]) == {"0": "42", "1": "x=y"}
    assert positions_of(["2023-11-14T22:13:20Z"]) == "1700000000000"
    assert positions_of(["latest"]) == "latest"
    for wrong in (["soon"], ["0=1", "0=2"], ["=1"], ["0="], ["latest", "0=1"]):
        with pytest.raises(Exception, match="PARTITION=POSITION"):
            positions_of(wrong)
