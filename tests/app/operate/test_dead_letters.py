"""The dead letters of a folder are read and sent again from the command line, with a server or without one."""

import json
from io import StringIO
from pathlib import Path

import pytest

from midstream.app.config.reader import parse_config
from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME, open_shop
from midstream.app.operate import dead_letters as app_letters
from midstream.app.operate.dead_letters import letter_of, letters_of, mend, remove_letters, resend
from midstream.cli.app import main
from midstream.cli.demo.server import running_server
from midstream.core.errors import FolderLocked, NotFound, RequestInvalid
from midstream.core.types import TimestampMs
from midstream.engine.folder import DataFolder
from midstream.events.dead_letters.dead_letters import DeadLetters, dead_letter
from midstream.events.disk import RealDisk
from midstream.events.json.decode import decode
from midstream.events.schema import event_at
from midstream.events.wire import Accept

TOML = "[events.types]\nview = {}\nwatch = {}\n"
CAME_MS = 1_700_000_000_000
WATCH = b'{"type": "watch", "user_id": "ann", "item_id": "film"}'
WRONG = b'{"type": "watch", "user_id": "ann", "colour": "red"}'


def bury(folder: Path, *events: bytes) -> None:
    """Put events into the letters of a folder, refused by a configuration that knows no watching."""
    letters = DeadLetters(DataFolder(folder / DATA_NAME).dead_letters, RealDisk())
    for raw in events:
        (rejected,) = decode(raw, Accept(frozenset({"view"}), 0)).rejected
        letters.add([dead_letter(TimestampMs(CAME_MS), rejected.fault, rejected.raw)])
    letters.close()


def recorded(folder: Path) -> list[tuple[str, int | None]]:
    """Return item and event time of what is in a folder's log."""
    batches = list(LogView(folder).batches())
    events = [event_at(batch, row) for batch in batches for row in range(len(batch))]
    return [(each.item_id, each.event_time_ms) for each in events if each.action]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two letters that would be recorded today and one that would not."""
    (tmp_path / "midstream.toml").write_text(TOML)
    bury(tmp_path, WATCH, WRONG, WATCH)
    return tmp_path


def test_letters_go_into_the_log_with_an_engine_of_one_s_own(folder: Path) -> None:
    """Each once, at the time at which it came; a second try finds the one that is left."""
    config = parse_config(TOML)
    done = resend(folder, config, ())
    assert (done.tried, done.recorded, done.duplicates, done.refused) == (3, 2, 0, 1)
    assert recorded(folder) == [("film", CAME_MS)] * 2
    assert [(each.number, each.tries) for each in letters_of(folder)] == [(2, 1)]
    again = resend(folder, config, (2, 3))
    assert (again.tried, again.refused, again.missing) == (1, 1, (3,))
    assert len(recorded(folder)) == 2


def test_a_file_from_before_records_nothing_twice(folder: Path) -> None:
    """As when the machine stopped between the log's sync and the letter's end."""
    path = DataFolder(folder / DATA_NAME).dead_letters
    before = path.read_bytes()
    resend(folder, parse_config(TOML), ())
    path.write_bytes(before)
    done = resend(folder, parse_config(TOML), (1, 3))
    assert (done.recorded, done.duplicates) == (0, 2)
    assert len(recorded(folder)) == 2


def test_they_are_judged_by_the_configuration_of_today(folder: Path) -> None:
    """One that still knows no watching takes none of them."""
    assert resend(folder, Config(), ()).refused == 3
    assert recorded(folder) == []


def test_letters_of_an_erased_user_leave(folder: Path) -> None:
    """They are late copies of the user's events, and such are kept nowhere."""
    with open_shop(folder) as shop:
        shop.record({"type": "view", "user_id": "ann", "item_id": "film"})
        shop.erase("ann")
    assert resend(folder, parse_config(TOML), ()).refused == 3
    assert [each.number for each in letters_of(folder)] == [2]
    assert recorded(folder)[1:] == []


def test_no_letters_open_nothing(tmp_path: Path) -> None:
    """There is not even a log afterwards."""
    assert letters_of(tmp_path) == []
    assert resend(tmp_path, Config(), ()).tried == 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotFound, match="no dead letter 3"):
        letter_of(tmp_path, 3)


def test_a_process_without_http_keeps_them(folder: Path) -> None:
    """It cannot be asked to record; the letters stay."""
    with open_shop(folder), pytest.raises(FolderLocked):
        resend(folder, parse_config(TOML), ())
    assert len(letters_of(folder)) == 3


MENDED = '{"type": "watch", "user_id": "ann", "item_id": "mended"}'


def test_a_letter_is_mended_and_others_removed_with_an_engine_of_one_s_own(folder: Path) -> None:
    """The mended event at the time at which the letter came; what is refused or not there changes nothing."""
    config = parse_config(TOML)
    for wrong in (WRONG.decode(), "{", "5"):
        with pytest.raises(RequestInvalid, match="/event"):
            mend(folder, config, 2, wrong)
    with pytest.raises(NotFound, match='no dead letter "9"'):
        mend(folder, config, 9, MENDED)
    assert mend(folder, config, 2, MENDED).recorded == 1
    assert recorded(folder) == [("mended", CAME_MS)]
    done = remove_letters(folder, config, [1, 2])
    assert (done.removed, done.missing) == (1, (2,))
    assert [each.number for each in letters_of(folder)] == [3]
    assert remove_letters(folder, config, ()).removed == 0
    assert resend(folder, config, ()).recorded == 1


def test_letters_are_mended_and_removed_by_command_beside_a_server(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the server that has the folder open, in parts, by number or by reason."""
    monkeypatch.setattr(app_letters, "RETRY_MAX", 2)
    bury(folder, WATCH, WATCH)

    def run(*arguments: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as left:
            main(["dead-letters", *arguments, "-f", str(folder)])
        return left.value.code, "".join(capsys.readouterr())

    with running_server(folder, lambda _: None):
        assert run("retry", "2", "--event", WRONG.decode())[0] == 2
        assert run("retry", "1", "2", "--event", MENDED)[0] == run("retry", "--all", "--event", MENDED)[0] == 2
        monkeypatch.setattr("sys.stdin", StringIO(MENDED))
        assert run("retry", "2", "--event", "-")[0] == 0
        assert "no dead letter" in run("retry", "2", "--event", MENDED)[1]
        assert run("remove")[0] == run("remove", "1", "--all")[0] == run("remove", "--all", "--reason", "x")[0] == 2
        status, said = run("remove", "1", "3", "9", "--json")
        assert (status, json.loads(said)) == (1, {"removed": 2, "missing": [9], "last": 9})
        assert "0" in run("remove", "--reason", "nothing of this kind")[1]
        assert [each.number for each in letters_of(folder)] == [4, 5]
        assert run("remove", "--reason", "is not a type")[0] == 0
        assert letters_of(folder) == []
    assert recorded(folder) == [("mended", CAME_MS)]


def test_the_commands_beside_a_server(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """List, show and send again, through the server that has the folder open, in parts."""
    monkeypatch.setattr(app_letters, "RETRY_MAX", 2)

    def run(*arguments: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as left:
            main(["dead-letters", *arguments, "-f", str(folder)])
        return left.value.code, capsys.readouterr().out

    with running_server(folder, lambda _: None):
        status, said = run("list", "--json", "--limit", "2")
        assert status == 0
        assert [each["number"] for each in json.loads(said)["letters"]] == [3, 2]
        assert json.loads(said)["kept"] == 3
        status, said = run("list", "--reason", "is not a type")
        assert status == 0
        assert "2023-11-14" in said
        assert "┃ number ┃ time" in said
        status, said = run("show", "2")
        assert status == 0
        assert WRONG.decode() in said
        status, said = run("retry", "--all", "--json")
        assert status == 1
        assert json.loads(said) == {
            "tried": 3,
            "recorded": 2,
            "duplicates": 0,
            "refused": 1,
            "missing": [],
            "last": 3,
        }
        assert json.loads(run("show", "2", "--json")[1])["reason"]["where"] == "/colour"
        assert run("retry", "1")[0] == 1
        assert run("retry", "2", "--all")[0] == run("retry")[0] == 2
    assert recorded(folder) == [("film", CAME_MS)] * 2
