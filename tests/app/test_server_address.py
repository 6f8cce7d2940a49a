"""The address beside the lock: whoever listens there says whose server it is before anything is sent."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest

import midstream
from midstream.app import server_address
from midstream.app.config.schema import Config
from midstream.app.export.slates import SlateOptions, export_slates
from midstream.app.ingest.import_file import import_file
from midstream.app.inspect.list_pages import PageRange, list_items, list_slates
from midstream.app.inspect.outcome_report import live_columns
from midstream.app.opening import DATA_NAME, config_of
from midstream.app.operate.dead_letters import resend
from midstream.app.operate.erase import erase_users
from midstream.app.operate.model_registry import list_models, promote
from midstream.app.operate.placements import list_placements, remove_placement, set_placement, show_placement
from midstream.app.operate.rebuild import rebuild_beside
from midstream.app.server_address import Address, publish, read_address, server_of
from midstream.core.errors import FolderLocked, StoreUnavailable
from midstream.engine.folder import DataFolder
from midstream.engine.lists.item_pages import ItemListing
from midstream.engine.lists.request_pages import RequestListing
from midstream.engine.placements.control_changes import Said
from midstream.engine.recommender import Recommender
from midstream.engine.types import Liveness
from midstream.events.segments.log_identity import identity_of
from midstream.features.kinds.kinds import Count
from midstream.serving.access.api_keys import KeyWish
from midstream.serving.access.key_file import KeyFile
from tests.support.fakes.rebuilds import write_config

OTHER = Liveness("live", "0123456789abcdef", 4)
COMMANDS: dict[str, Callable[[Path, Config], object]] = {
    "import": lambda folder, config: import_file(folder, config, folder / "a.ndjson"),
    "erase": lambda folder, config: erase_users(folder, config, ["ann"]),
    "dead-letters": lambda folder, config: resend(folder, config, [1]),
    "placements list": list_placements,
    "placements show": lambda folder, config: show_placement(folder, config, "home"),
    "placements set": lambda folder, config: set_placement(folder, config, "home", {}, Said("ann")),
    "placements remove": lambda folder, config: remove_placement(folder, config, "home", Said("ann")),
    "models": list_models,
    "models promote": lambda folder, config: promote(folder, config, "near"),
    "rebuild": lambda folder, _: rebuild_beside(folder),
    "items list": lambda folder, config: list_items(folder, config, ItemListing(), PageRange()),
    "slates list": lambda folder, config: list_slates(folder, config, RequestListing(), PageRange()),
    "slates": lambda folder, config: export_slates(folder, config, folder / "out.ndjson", SlateOptions("home")),
}


class Answering(HTTPServer):
    """Answers everything alike and keeps what it was asked."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.said = (status, body)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Asked(BaseHTTPRequestHandler):
    server: Answering  # pyright: ignore[reportIncompatibleVariableOverride]

    def _answer(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        self.send_response(self.server.said[0])
        self.end_headers()
        self.wfile.write(self.server.said[1])

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815  as the standard library calls them

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as the standard library calls it
        """Print nothing."""


@contextmanager
def answering(status: int = 200, body: bytes | Liveness = OTHER) -> Generator[Answering]:
    """Give a server that says something."""
    server = Answering(status, body if isinstance(body, bytes) else msgspec.json.encode(body))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A shop with something in it."""
    write_config(tmp_path, '[[placements]]\nname = "home"\n[[models]]\nname = "near"\nkind = "ease"\n')
    (tmp_path / "a.ndjson").write_text('{"type":"view","user_id":"bob","item_id":"lamp"}\n')
    with midstream.open(tmp_path) as shop:
        shop.record([{"type": "view", "user_id": "ann", "item_id": "lamp"}])
    return tmp_path


def address_of(shop: Recommender, url: str, pid: int | None = None) -> Address:
    """Return what a server of a shop would have published."""
    live = shop.running.engine.liveness
    return Address(url, live.log, live.pid if pid is None else pid)


def gone() -> int:
    """Return the number of a process that is not there any more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_sends_to_another_shop(folder: Path, command: str) -> None:
    """The folder is open elsewhere and its address is another's now: four parts, and nothing was sent but a look."""
    config = config_of(folder)
    with midstream.open(folder) as shop, answering() as other:
        publish(folder / DATA_NAME, address_of(shop, other.url))
        with pytest.raises(StoreUnavailable) as refused:
            COMMANDS[command](folder, config)
    assert set(other.asked) == {"GET /health/live"}
    where, came, right, page = str(refused.value).split("\n")
    assert where.endswith("data/server.url")
    assert came == f"  {other.url} is the server of another folder: log 0123456789abcdef, process 4."
    assert f"process {os.getpid()}" in right
    assert "server.url and try again" in right
    assert page == "  midstream docs cli"


def test_every_command_looks_first() -> None:
    """Who asks a server of a folder has its address from ``server_of``, which looks who listens there."""
    users = set[str]()
    package = Path(server_address.__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package).with_suffix("").as_posix()
        names = {
            name.name
            for each in ast.walk(ast.parse(path.read_text()))
            if isinstance(each, ast.ImportFrom) and each.module == "midstream.app.server_address"
            for name in each.names
        }
        if "server_of" in names:
            users.add(module)
        # The last two name an address and ask nobody there.
        known = {
            "app/training/run", "cli/demo/server", "app/replicas/node_services", "app/feature_stores/feast_repository",
        }  # fmt: skip
        assert "read_address" not in names or module in known, path
    assert users == {
        "app/export/slates", "app/ingest/import_file", "app/ingest/undo", "app/inspect/list_pages",
        "app/inspect/outcome_report",
        "app/operate/consume", "app/operate/dead_letters", "app/operate/erase", "app/operate/experiments",
        "app/operate/inputs",
        "app/operate/model_registry", "app/operate/outputs", "app/operate/placements", "app/operate/rebuild",
        "app/operate/sinks", "app/operate/trainings", "app/scheduled/probe", "app/tenants/orders",
    }  # fmt: skip


@pytest.mark.parametrize(
    "status, body, came",
    [
        (502, b"<h1>Bad Gateway</h1>", "answers 502, and not as a server of midstream does."),
        (200, b"<html>Log in</html>", "answers 200, and not as a server of midstream does."),
        (200, b"\xff", "answers 200, and not as a server of midstream does."),
        (200, b"[]", "answers 200, and not as a server of midstream does."),
        (200, b'{"status":"live"}', "is the server of another folder: log unknown, process 0."),
    ],
)
def test_who_is_no_server_of_ours_is_told_so(folder: Path, status: int, body: bytes, came: str) -> None:
    """A proxy that answers HTML, and a program that says something else."""
    with midstream.open(folder) as shop, answering(status, body) as other:
        publish(folder / DATA_NAME, address_of(shop, other.url))
        with pytest.raises(StoreUnavailable, match=r"server\.url") as refused:
            erase_users(folder, config_of(folder), ["ann"])
    assert str(refused.value).split("\n")[1] == f"  {other.url} {came}"


def test_a_server_of_a_copy_of_the_log_is_another(folder: Path) -> None:
    """A shop restored from a backup has the same log: its process tells it apart."""
    with midstream.open(folder) as shop:
        live = shop.running.engine.liveness
        with answering(body=Liveness("live", live.log, live.pid + 1)) as other:
            publish(folder / DATA_NAME, address_of(shop, other.url))
            with pytest.raises(StoreUnavailable, match="is the server of another folder"):
                server_of(DataFolder(folder / DATA_NAME))
        with answering(body=live) as own:
            publish(folder / DATA_NAME, address_of(shop, own.url))
            assert server_of(DataFolder(folder / DATA_NAME)) == own.url
            publish(folder / DATA_NAME, Address(own.url, OTHER.log, live.pid))  # as copied from another folder
            assert server_of(DataFolder(folder / DATA_NAME)) == own.url


def test_the_address_of_a_server_that_was_killed_counts_as_none(folder: Path) -> None:
    """Whether nobody listens there or another does; a command that needs the folder says who has it open."""
    config = config_of(folder)
    with answering() as other:
        for url in (other.url, "http://127.0.0.1:9"):
            with midstream.open(folder) as shop:
                publish(folder / DATA_NAME, address_of(shop, url, gone()))
                assert server_of(DataFolder(folder / DATA_NAME)) is None
                assert [each.placement for each in list_placements(folder, config).placements][:1] == ["home"]
                with pytest.raises(FolderLocked):
                    erase_users(folder, config, ["ann"])
            publish(folder / DATA_NAME, address_of(shop, url, gone()))
            assert len(erase_users(folder, config, ["ann"])) == 1  # the folder is free again
            assert read_address(folder / DATA_NAME) is None
    assert set(other.asked) == {"GET /health/live"}


def test_no_key_goes_to_who_stands_in_for_a_killed_server(folder: Path) -> None:
    """What a server says of itself is public: the operator's key is sent while its process is there, and not later."""
    data = DataFolder(folder / DATA_NAME)
    with midstream.open(folder) as shop:
        live = shop.running.engine.liveness
        KeyFile(data.root).create(KeyWish("shop", ("read",)), 1, "cli:test")
        for pid, is_sent in ((live.pid, True), (gone(), False)):
            with answering(body=Liveness("live", live.log, pid)) as other:
                publish(data.root, address_of(shop, other.url, pid))
                found = server_of(data)
                assert ("authorization" in found.headers if found is not None else False) == is_sent


def test_a_server_that_is_there_and_does_not_answer_is_told(folder: Path) -> None:
    """It hangs, or listens on another port since: four parts."""
    with midstream.open(folder) as shop:
        publish(folder / DATA_NAME, address_of(shop, "http://127.0.0.1:9"))
        with pytest.raises(StoreUnavailable, match=r"http://127\.0\.0\.1:9 does not answer") as refused:
            set_placement(folder, config_of(folder), "home", {}, Said("ann"))
        assert len(str(refused.value).split("\n")) == 4


def test_a_report_says_nothing_of_another_shop(folder: Path) -> None:
    """Its columns are those of this shop, or none."""
    config = config_of(folder)
    features = msgspec.structs.replace(config, features=(Count(name="views", actions=("view",)),))
    with midstream.open(folder) as shop, answering() as other:
        publish(folder / DATA_NAME, address_of(shop, other.url))
        assert live_columns(folder, features) == {}
    assert set(other.asked) == {"GET /health/live"}


@pytest.mark.parametrize(
    "text", ["", "http://127.0.0.1:1\n", "ftp://x\nab\n3\n", "http://x\nab\nme\n", "http://x a 3 b"]
)
def test_a_file_that_says_something_else_is_no_address(tmp_path: Path, text: str) -> None:
    """It is not believed."""
    (tmp_path / "server.url").write_text(text)
    assert read_address(tmp_path) is None


def test_the_address_is_its_owners_and_the_name_is_no_secret(tmp_path: Path) -> None:
    """Nobody else may write or read the file; the name is a hash from which the id of the log does not follow."""
    publish(tmp_path, Address("http://127.0.0.1:1", "ab", 3))
    publish(tmp_path, Address("http://127.0.0.1:2", "ab", 3))
    assert read_address(tmp_path) == Address("http://127.0.0.1:2", "ab", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["server.url"]
    assert (tmp_path / "server.url").stat().st_mode & 0o777 == 0o600
    names = {identity_of(bytes([n]) * 16, g).public_name for n in range(9) for g in (0, 1)}
    assert len(names) == 9
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in names)
    assert identity_of(bytes(16), 0).public_name == "66c40f180399508199fe5e14cac0ffe0"
