"""What ``midstream serve`` prints on an empty folder works as it is printed."""

import json
import shutil
import socket
import subprocess

import pytest

from midstream.app.config.schema import Config
from midstream.app.opening import open_shop
from midstream.app.server_address import Address, publish, read_address, server_of
from midstream.cli.answers.serve import _chosen, _options
from midstream.cli.app import main
from midstream.cli.demo.server import running_server
from midstream.core.errors import ConfigInvalid
from midstream.engine.folder import DataFolder
from midstream.serving.options import ServerOptions
from tests.support.patience import PATIENCE_S, wait_until

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="what is printed sends with curl")


def test_what_serve_prints_works(tmp_path):
    """On an empty folder it offers the example; after that import both commands work, and the slate is not empty."""
    with pytest.raises(SystemExit):
        main(["init", str(tmp_path)])
    with running_server(tmp_path, lambda _: None):
        wait_until(lambda: "Ctrl-C" in (tmp_path / "server.txt").read_text())  # known a moment before it is printed
        said = (tmp_path / "server.txt").read_text()
        assert "midstream import example.ndjson" in said
        commands = [line.strip() for line in said.splitlines() if line.strip().startswith("curl ")]
        with pytest.raises(SystemExit) as left:
            main(["import", str(tmp_path / "example.ndjson"), "-f", str(tmp_path)])
        assert left.value.code == 0
        event, slate = (
            json.loads(subprocess.run(each, shell=True, capture_output=True, check=True, timeout=PATIENCE_S).stdout)  # noqa: S602  as a reader does
            for each in commands
        )
        assert event["recorded"] == 1
        assert len(slate["items"]) == 5
        assert slate["tier"] == "full"
    printed = (tmp_path / "server.txt").read_text()
    assert "all of them durable" in printed
    lines = [json.loads(line)["event"] for line in printed.splitlines() if line.startswith("{")]
    assert lines[:3] == ["starting", "recovered", "started"]
    assert lines[-2:] == ["stop_asked", "stopped"]
    assert "compiles for about a minute" not in printed  # standard error has lines of the log alone


def test_a_second_server_leaves_the_first_ones_address(tmp_path, capfd):
    """A server that finds the folder locked says so and does not take away where the first one listens."""
    with running_server(tmp_path, lambda _: None) as url:
        with pytest.raises(SystemExit) as left:
            main(["serve", "-f", str(tmp_path), "--port", "0"])
        assert left.value.code == 1
        assert "in use by process" in capfd.readouterr().err
        address = read_address(tmp_path / "data")
        assert address is not None
        assert (address.url, server_of(DataFolder(tmp_path / "data"))) == (url, url)
    assert read_address(tmp_path / "data") is None


def test_the_address_of_a_dead_server_is_not_used(tmp_path):
    """Whoever opens the folder next takes away what a killed server left, so no import is sent there."""
    (tmp_path / "data").mkdir()
    publish(tmp_path / "data", Address("http://127.0.0.1:9", "ab", 1))
    with open_shop(tmp_path):
        assert read_address(tmp_path / "data") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "nobody.invalid"])
def test_an_address_that_cannot_be_had_is_told(tmp_path, capfd, host):
    """A port in use and a host of nobody are expected failures: what came, and what would be right."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        with pytest.raises(SystemExit) as left:
            main(["serve", "-f", str(tmp_path), "--host", host, "--port", port, "--insecure"])
    assert left.value.code == 1
    said = capfd.readouterr().err
    assert f"{host}:{port} cannot be listened on" in said
    assert "port 0 takes any" in said


def test_a_snapshot_of_another_configuration_is_not_promised(tmp_path):
    """What the next start begins with is said of snapshots that it can use."""
    (tmp_path / "a.ndjson").write_text('{"type": "view", "user_id": "ann", "item_id": "a"}\n')
    for arguments in (("import", str(tmp_path / "a.ndjson")), ("rebuild",)):
        with pytest.raises(SystemExit) as left:
            main([*arguments, "-f", str(tmp_path)])
        assert left.value.code == 0
    for config, promised in (
        ("", "the snapshot at 2"),
        ("[events.types]\nview = { weight = 2.0 }\n", "the log, 2 events"),
    ):
        (tmp_path / "midstream.toml").write_text(config)
        with running_server(tmp_path, lambda _: None):
            pass
        assert f"the next start begins with {promised}" in (tmp_path / "server.txt").read_text()


@pytest.mark.long
def test_a_season_through_a_server(tmp_path, capsys):
    """``simulate --url`` plays the same world on a running server, which beats random there too."""
    with running_server(tmp_path, lambda _: None) as url, pytest.raises(SystemExit) as left:
        main(["simulate", "--url", url, "--seeds", "1,2", "--days", "3", "--people", "60", "--json"])
    assert left.value.code == 0
    figures = {each["policy"]: each for each in json.loads(capsys.readouterr().out)}
    assert figures["random"]["click_rate"]["mean"] < figures["midstream"]["click_rate"]["mean"]
    assert figures["midstream"]["click_rate"]["mean"] < figures["oracle"]["click_rate"]["mean"]
    with open_shop(tmp_path) as shop:
        assert shop.running.engine.log.end > figures["midstream"]["pages"]


def test_allowed_hosts_add_to_those_of_the_file():
    """Each ``--allow-host`` is one more; what is not said stays as the file has it."""
    config = Config(server=ServerOptions(port=1, allow_hosts=("shop.example",)))
    options = _options(config, {"host": "::1", "port": None}, ["reco.example", "midstream"])
    assert options.allow_hosts == ("shop.example", "reco.example", "midstream")
    assert (options.host, options.port) == ("::1", 1)


def test_key_of_the_folder_lets_a_server_listen_elsewhere(tmp_path):
    """As the page of security has it: with a key ``--host`` needs no ``--insecure``; a new folder does."""
    said = {"host": "0.0.0.0"}  # noqa: S104  a text
    with pytest.raises(ConfigInvalid, match="no key"):
        _chosen(tmp_path, said, ())
    with pytest.raises(SystemExit) as left:
        main(["keys", "create", "backend", "--scope", "recommend", "-f", str(tmp_path)])
    assert left.value.code == 0
    _, options = _chosen(tmp_path, said, ())
    assert options.host == said["host"]
