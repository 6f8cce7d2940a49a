"""The freshness probe: an event that an answer has, an event that none has, and a server that is not there."""

import json
from pathlib import Path

import httpx
import pytest

from midstream.app.scheduled.probe import ITEM, act_type
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
        assert metrics_of(file)["midstream_probe_success"] == 0
    assert run("probe", "-f", here, "--metrics", file) == 1
    assert "no server has" in capfd.readouterr().err
    assert metrics_of(file)["midstream_probe_success"] == 0


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
