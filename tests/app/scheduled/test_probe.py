"""The freshness probe: an event that an answer has, an event that none has, and a server that is not there."""

import json
from pathlib import Path

import httpx
import pytest

from midstream.app.scheduled.probe import ITEM, Probed, ProbeOrder, act_type, check_result
from midstream.app.scheduled.text_metrics import TEXT_METRICS, write_metrics
from midstream.cli.app import main
from midstream.cli.demo.server import running_server
from midstream.core.errors import ConfigInvalid
from tests.app.scheduled.test_backup_rotation import metrics_of
from tests.support.fakes.rebuilds import write_config
from tests.support.patience import PATIENCE_S


def run(*arguments: object) -> int:
    """Run a command; return its exit status."""
    with pytest.raises(SystemExit) as left:
        main([str(each) for each in arguments])
    return int(str(left.value.code))


def test_an_event_is_seen_and_moves_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The probe of a server sees its event, twice; its item is in no slate; another server's answer is not fresh."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        write_config(folder)
    file = tmp_path / "probe.prom"
    with running_server(here, lambda _: None) as url, running_server(there, lambda _: None) as other:
        for number in range(2):
            status = run("probe", "-f", here, "--within", 30, "--metrics", file, "--json")
            told = json.loads(capfd.readouterr().out)
            assert (status, told["answers"] >= 1, told["seen_ms"] > told["acknowledged_ms"] > 0) == (0, True, True), (
                number
            )
        found = metrics_of(file)
        assert found["midstream_probe_success"] == 1
        assert 0 < found["midstream_probe_acknowledged_seconds"] < found["midstream_probe_seen_seconds"] < 30
        with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            assert client.get(f"/v1/items/{ITEM}").json()["available"] is False
            assert ITEM not in client.get("/v1/recommendations?n=100").text

        assert run("probe", "-f", here, "--ask-url", other, "--within", 0.3, "--metrics", file) == 1
        assert "no answer had the event within 0.3 s" in capfd.readouterr().err
        assert run("probe", "-f", here, "--within", 30, "--nagios", "--warn", 0.0001) == 1
        assert capfd.readouterr().out.startswith("FRESHNESS WARNING: an answer had the event after ")
        assert metrics_of(file)["midstream_probe_success"] == 0
    assert run("probe", "-f", here, "--nagios") == 2
    assert capfd.readouterr().out.startswith("FRESHNESS CRITICAL: no server has ")
    assert run("probe", "-f", here, "--metrics", file) == 1
    assert "no server has" in capfd.readouterr().err
    assert metrics_of(file)["midstream_probe_success"] == 0


def seen(milliseconds: float) -> Probed:
    """Return the result of a probe whose event was in an answer in time."""
    return Probed(is_fresh=True, acknowledged_ms=3.0, seen_ms=milliseconds, answers=1)


def unseen(milliseconds: float | None, reason: str) -> Probed:
    """Return that of one whose event was not."""
    return Probed(is_fresh=False, acknowledged_ms=None, seen_ms=milliseconds, answers=9, reason=reason)


@pytest.mark.parametrize(
    "found,warn_s,expected",
    [
        (seen(9.44), 0.0, (0, "OK: an answer had the event after 0.009 s | seen=0.0094s;;2;0")),
        (
            seen(900.0),
            0.5,
            (1, "WARNING: an answer had the event after 0.900 s | seen=0.9000s;0.5;2;0"),
        ),
        (seen(500.0), 0.5, (0, "OK: an answer had the event after 0.500 s | seen=0.5000s;0.5;2;0")),
        (unseen(2_500.0, "late"), 0.5, (2, "CRITICAL: late | seen=2.5000s;0.5;2;0")),
        (unseen(None, "no | server\nhere"), 0.5, (2, "CRITICAL: no / server here | seen=U;0.5;2;0")),
    ],
)
def test_a_check_has_the_status_that_monitors_read(found: Probed, warn_s: float, expected: tuple[int, str]) -> None:
    """0, 1 beyond the warning, 2 where it is not fresh; one line, in which the first bar begins the figures."""
    status, line = check_result(found, ProbeOrder(within_s=2.0), warn_s)
    assert (status, line) == (expected[0], f"FRESHNESS {expected[1]}")
    assert line.count("|") == 1


def test_the_act_is_that_of_the_smallest_weight() -> None:
    """What says least of an item; types that speak against it are none, and without any the fault is named."""

    class Type:
        def __init__(self, weight: float) -> None:
            self.weight = weight

    assert act_type({"purchase": Type(8.0), "view": Type(1.0), "dismiss": Type(-1.0)}) == "view"
    with pytest.raises(ConfigInvalid, match="weight above 0"):
        act_type({"dismiss": Type(-1.0)})


def test_a_file_of_metrics_is_whole_or_as_it_was(tmp_path: Path) -> None:
    """Large numbers keep their digits, NaN is NaN, an unknown name writes nothing and leaves nothing behind."""
    path = tmp_path / "a.prom"
    write_metrics(path, {"midstream_backup_bytes": 12_345_678_901, "midstream_probe_seen_seconds": float("nan")})
    assert metrics_of(path)["midstream_backup_bytes"] == 12_345_678_901
    assert metrics_of(path)["midstream_probe_seen_seconds"] != metrics_of(path)["midstream_probe_seen_seconds"]
    before = path.read_bytes()
    with pytest.raises(KeyError):
        write_metrics(path, {"midstream_nothing": 1})
    assert [each.name for each in tmp_path.iterdir()] == ["a.prom"]
    assert path.read_bytes() == before
    assert all(name.startswith("midstream_") for name in TEXT_METRICS)
