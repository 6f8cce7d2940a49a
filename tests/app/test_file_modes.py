"""Who may read what a server leaves in its data folder: every file is on the list, and none is open to more."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import midstream
from midstream.app.ingest.import_file import import_file
from midstream.app.opening import DATA_NAME, config_of
from midstream.app.operate.erase import erase_users
from midstream.app.operate.rebuild import rebuild
from midstream.app.operate.seal import seal_folder
from midstream.app.server_address import Address, publish
from midstream.engine import child_process
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.events.file_modes import file_mode, make_folder, open_file
from midstream.serving.app import asgi
from midstream.serving.cluster.unix_socket import listen_at
from midstream.training.registry import Registry
from tests.support.fakes.models import publish_linear
from tests.support.fakes.rebuilds import run_folder, run_in_process, write_config

PRIVATE, SHARED, FOLDER, OWN_FOLDER = 0o600, 0o640, 0o750, 0o700
LIST = {
    r"key|server\.url|(dead-letters|import-rejected(\.\d+)?)\.ndjson(\.old)?|sockets/[a-z0-9-]+": PRIVATE,
    r"lock|history\.lock": SHARED,
    r"log(-\d+)?/(log\.json|\d+\.segment|lock)": SHARED,
    r"log(-\d+)?/history/(\d+-\d+\.parquet|\d+\.parquet|[a-z]+\.json|lock)": SHARED,
    r"log(-\d+)?/base[-\w]*/[\w./-]+": SHARED,
    r"snapshots/[\w-]+/[\w.-]+": SHARED,
    r"config/(parts/)?\w+\.json": SHARED,
    r"compactions/\w+\.npy": SHARED,
    r"models/\w+/[\w-]+/[\w.-]+": SHARED,
    r"receipts/[\d-]+\.json": SHARED,
}
"""Modes by path in the data folder: a file that is not on it must be put there by whoever adds it."""
SEEN = (
    *("key", "server.url", "dead-letters", "import-rejected", "sockets/", ".segment", "history/", "base"),
    *("snapshots/", "config/parts", "compactions/", "models/", "receipts/"),
)


@pytest.fixture
def everybody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A umask that takes nothing away, and children on a thread."""
    monkeypatch.setattr(child_process, "run", run_in_process)
    before = os.umask(0)
    yield
    os.umask(before)


def used(folder: Path) -> None:
    """Do all that a server does to its folder."""
    write_config(folder, '[history]\nhot = "1d"\nkeep = "4d"\n[[placements]]\nname = "home"\n')
    data = DataFolder(folder / DATA_NAME)
    (folder / "a.csv").write_text(
        "type,user_id,item_id,time\nviuw,ann,lamp,1\n"
        + "".join(f"view,u{n % 7},i{n % 9},{1_750_000_000_000 + n * 3_600_000}\n" for n in range(240))
    )
    assert import_file(folder, config_of(folder), folder / "a.csv").rejected == 1
    publish_linear(Registry(data.models))

    async def work(running: Instance) -> None:
        app = asgi(running.engine, lambda: running.service.accept, service=running.ingest)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            await client.post("/v1/events", json={"events": [{"type": "viuw", "user_id": "ann", "item_id": "lamp"}]})
            await client.get("/v1/recommendations?placement=home&user_id=ann")
        publish(data.root, Address("http://127.0.0.1:1", running.engine.liveness.log, os.getpid()))

    run_folder(folder, work)
    with midstream.open(folder) as shop:
        shop.set_placement("home", {"slate_size": 3}, author="ann")
        shop.record([{"type": "item", "operation": operation, "item_id": "gone"} for operation in ("put", "delete")])
    erase_users(folder, config_of(folder), ["u1"], now=True)
    seal_folder(folder, config_of(folder))
    rebuild(folder, config_of(folder), compact=True)
    with midstream.open(folder) as shop:
        publish(data.root, Address("http://127.0.0.1:1", shop.running.engine.liveness.log, os.getpid()))
    publish(data.root, Address("http://127.0.0.1:1", "ab", os.getpid()))
    listen_at(data.sockets / "leader").close()


@pytest.mark.usefixtures("everybody")
def test_every_file_of_a_used_folder_is_as_the_list_says(tmp_path: Path) -> None:
    """Nothing is open to strangers, and secrets and what people sent not even to the group."""
    used(tmp_path / "shop")
    root = tmp_path / "shop" / DATA_NAME
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
    for name, path in found.items():
        mode = path.stat().st_mode & 0o777
        if path.is_dir():
            assert mode == (OWN_FOLDER if name == "sockets" else FOLDER), name
        else:
            rules = [wanted for pattern, wanted in LIST.items() if re.fullmatch(pattern, name)]
            assert [mode] == rules, (name, oct(mode))
    assert root.stat().st_mode & 0o777 == FOLDER
    assert not [each for each in SEEN if not any(each in name for name in found)]


@pytest.mark.usefixtures("everybody")
def test_what_was_left_open_is_closed_when_it_is_written_again(tmp_path: Path) -> None:
    """Of an older release; what is closed already stays as it is, and nothing is opened."""
    for name, before, after in (
        ("dead-letters.ndjson", 0o664, 0o600),
        ("a.segment", 0o644, 0o640),
        ("key", 0o400, 0o400),
    ):
        path = tmp_path / name
        path.write_bytes(b"what was there")
        path.chmod(before)
        os.close(open_file(path, os.O_RDWR))
        assert (path.stat().st_mode & 0o777, path.read_bytes()) == (after, b"what was there")


@pytest.mark.usefixtures("everybody")
def test_folders_are_made_closed_however_deep(tmp_path: Path) -> None:
    """Those above that were missing as well; a file in the place is an error."""
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")} == {FOLDER}
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make_folder(tmp_path / "file")


def test_half_written_files_are_as_closed_as_whole_ones() -> None:
    """They have the same content."""
    for name in ("key.new", "key.writing", "server.url.new", "dead-letters.ndjson.new", "import-rejected.ndjson.old"):
        assert file_mode(Path(name)) == PRIVATE
    assert file_mode(Path("monkey")) == SHARED
