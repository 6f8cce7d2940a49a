"""A server that is told to stop while it starts: it ends there, and its folder is as it was."""

import os
import shutil
import signal

import pytest

from midstream.app.config.schema import Config
from midstream.app.opening import open_shop
from midstream.app.server.serve import Ready, serve_folder
from midstream.cli.app import main
from midstream.engine.ingest import log_reader
from midstream.serving.options import ServerOptions
from midstream.state.fold import Fold

STOPS = (signal.SIGTERM, signal.SIGINT)
EVENTS = 100


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder whose start folds all of its log, in ten steps or so."""
    with open_shop(tmp_path) as shop:
        for number in range(EVENTS):
            shop.record([{"type": "view", "user_id": "ann", "item_id": f"i{number}"}])
    shutil.rmtree(tmp_path / "data" / "snapshots", ignore_errors=True)
    monkeypatch.setattr(log_reader, "FOLD_EVENTS", 10)
    return tmp_path


def contents(folder):
    """Every file of a folder but the lock, which holds the id of who had it last."""
    return {each: each.read_bytes() for each in folder.rglob("*") if each.is_file() and each.name != "lock"}


@pytest.mark.parametrize("number", STOPS)
def test_a_stop_that_is_asked_for_while_the_log_is_folded(folder, number):
    """It ends the start before the next step, writes nothing, and gives the folder and the signals back."""
    before, handlers = contents(folder), [signal.getsignal(each) for each in STOPS]
    steps: list[tuple[str, int]] = []
    served: list[Ready] = []

    def notify(stage, done, _total):
        steps.append((stage, done))
        os.kill(os.getpid(), number)

    assert serve_folder(folder, Config(), ServerOptions(port=0), served.append, notify) is None
    assert [stage for stage, _ in steps] == ["folding"]
    assert steps[0][1] < EVENTS
    assert served == []
    assert contents(folder) == before
    assert [signal.getsignal(each) for each in STOPS] == handlers
    with open_shop(folder) as shop:
        assert shop.running.engine.log.end == EVENTS


def test_a_server_that_is_stopped_at_its_start_says_so(folder, capfd, monkeypatch):
    """The command ends with 0, as after any stop; its log names the signal."""
    apply = Fold.apply

    def applied(fold, first, batch):
        os.kill(os.getpid(), signal.SIGTERM)
        apply(fold, first, batch)

    monkeypatch.setattr(Fold, "apply", applied)
    with pytest.raises(SystemExit) as left:
        main(["serve", "-f", str(folder), "--port", "0"])
    printed = capfd.readouterr()
    assert (left.value.code, printed.out) == (0, "stopped at its start; all that was acknowledged is in the log\n")
    assert [name for name in ("starting", "stop_asked", "SIGTERM", "stopped") if f'"{name}"' not in printed.err] == []
    assert '"recovered"' not in printed.err
