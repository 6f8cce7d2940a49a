"""``midstream rebuild`` and SIGHUP beside a running server: a real one, its children real processes."""

import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from midstream.cli.app import main
from midstream.cli.demo.server import running_server
from tests.support.fakes.rebuilds import SMALL_LIMITS, write_config
from tests.support.patience import PATIENCE_S, wait_until

EVENT = {"type": "view", "user_id": "ann", "item_id": "mug"}


def asking(url: str) -> httpx.Client:
    """Return a client that waits as long as may be necessary."""
    return httpx.Client(base_url=url, timeout=PATIENCE_S)


def run(*arguments: object) -> int:
    """Run a command; return its exit status."""
    with pytest.raises(SystemExit) as left:
        main([str(each) for each in arguments])
    return int(str(left.value.code))


def test_a_server_changes_its_configuration_while_it_serves(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing, plans, a broken file, another state; by the command, by the signal; and no request fails meanwhile."""
    write_config(tmp_path)
    with running_server(tmp_path, lambda _: None) as url, asking(url) as client:
        for number in range(50):
            assert client.post("/v1/events", json={**EVENT, "item_id": f"i{number}"}).status_code == 200
        assert run("rebuild", "-f", tmp_path) == 0
        assert "nothing has changed" in capfd.readouterr().out
        write_config(tmp_path, "[[placements]]\nslate_size = 3\n")
        assert run("rebuild", "-f", tmp_path) == 0
        assert "the placements are in service" in capfd.readouterr().out
        assert len(client.get("/v1/recommendations").json()["items"]) == 3

        write_config(tmp_path, "[sesions]\ngap = '1m'\n")
        assert run("rebuild", "-f", tmp_path) == 2
        assert "sesions" in capfd.readouterr().err
        assert client.post("/v1/rebuild").json()["pointer"] == "midstream.toml: $.sesions"
        hang_up(tmp_path, client, "sesions")

        write_config(tmp_path, "[sessions]\ngap = '7m'\n[events.types]\nview = {}\nlike = {}\n")
        assert run("rebuild", "-f", tmp_path, "--json") == 0
        view = json.loads(capfd.readouterr().out)
        assert (view["change"], view["state"], view["reason"]) == ("state", "done", "")
        assert client.post("/v1/events", json={**EVENT, "type": "like"}).status_code == 200
        assert client.get("/health/ready").json()["reason"] == ""
        assert view["fold_version"] in client.get("/metrics").text

        client.delete("/v1/items/i1")
        assert run("rebuild", "-f", tmp_path, "--compact") == 0
        assert "rebuilt, and in service" in capfd.readouterr().out
        assert client.get("/v1/items/i1").status_code == 404
        assert client.get("/v1/items/i2").status_code == 200
    assert run("rebuild", "--verify", "-f", tmp_path) == 0


def hang_up(folder: Path, client: httpx.Client, reason: str) -> None:
    """Send the signal to the server that has the folder open, and wait until health says why it was not heeded."""
    os.kill(int((folder / "data" / "lock").read_text().split()[0]), signal.SIGHUP)
    wait_until(lambda: reason in client.get("/health/ready").json()["reason"])


def test_a_folder_that_nobody_has_open_is_rebuilt_here(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Compacted too; what goes together is checked."""
    write_config(tmp_path)
    events = [{**EVENT, "item_id": f"i{number}"} for number in range(5)]
    deleted = {"type": "item", "item_id": "i1", "operation": "delete"}
    (tmp_path / "a.ndjson").write_text("".join(json.dumps(each) + "\n" for each in (*events, deleted)))
    assert run("import", tmp_path / "a.ndjson", "-f", tmp_path) == 0
    assert run("rebuild", "--compact", "--verify", "-f", tmp_path) == 2
    capfd.readouterr()
    assert run("rebuild", "--compact", "--json", "-f", tmp_path) == 0
    done = json.loads(capfd.readouterr().out)
    assert (done["log_position"], done["dropped_items"]) == (7, 1)
    assert run("rebuild", "--verify", "--json", "-f", tmp_path) == 0
    verified = json.loads(capfd.readouterr().out)
    assert verified["from_the_beginning"] == verified["from_snapshot"] == done["digest"]
    assert verified["snapshot_position"] == 7
    assert SMALL_LIMITS in (tmp_path / "midstream.toml").read_text()
