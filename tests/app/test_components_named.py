"""Components of one's own: code runs that ``midstream.toml`` names, and no other, whoever asks for it."""

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import midstream
from midstream.app.config import custom_components
from midstream.app.config.custom_components import component_type
from midstream.app.config.reader import parse_config
from midstream.app.explain.reruns import Reruns, find_request
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import config_of
from midstream.app.wiring import plans
from midstream.core.errors import ConfigInvalid
from midstream.core.kinds import Kind
from midstream.engine.instance import Instance
from midstream.events.schema import Event, build
from midstream.serving.app import Maintenance, asgi
from midstream.state.control.placements import encode_placement, placement_body
from tests.support.fakes.rebuilds import run_folder, write_config
from tests.support.patience import PATIENCE_S

CODE = """
import msgspec, numpy as np
from midstream.core.types import Proposal

class Shelf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = "shelf"
    limit: int = 3
    def retrieve(self, moment):
        return Proposal(np.zeros(0, np.int32), np.zeros(0, np.float32))

class Other(Shelf, frozen=True):
    name: str = "other"
"""
PLANTED = "open(__file__ + '.ran', 'w').close()\nclass X: pass\n"
NAMED = '[components]\nshelf = "components:Shelf"\n'
HOME = '[[placements]]\nname = "home"\nslate_size = 5\n'
OWN = '[[placements.sources]]\nkind = "custom"\npath = "components:Other"\n'
ATTACKS = (
    "{evil}/payload:X",
    "..{evil}/payload:X",
    "../evil/payload:X",
    "..evil.payload:X",
    "evil.payload:X",
    "beside:X",
    "components:Unnamed",
    "components.Shelf:Shelf",
    "data.payload:X",
    "linked:X",
    "unittest.__main__:X",
    "venv.__main__:X",
    "midstream.__main__:X",
    "pip.__main__:X",
    "this:X",
    "antigravity:X",
    "os:system",
    ":",
    "",
    "x" * 100_000 + ":X",
    "\0:X",
)
_watched: list[str] | None = None
_is_hooked = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is None or event not in {"import", "open", "exec"}:
        return
    told = arguments[0]
    _watched.append(str(told.co_filename if event == "exec" else told))


@contextmanager
def watched() -> Generator[list[str]]:
    """Give a list that gets every module that is imported, file that is opened and code that is run in the block."""
    global _watched, _is_hooked  # noqa: PLW0603  an audit hook is for good, so there is one
    if not _is_hooked:
        sys.addaudithook(_hook)
        _is_hooked = True
    found: list[str] = []
    _watched = found
    try:
        yield found
    finally:
        _watched = None


def reached(found: list[str]) -> list[str]:
    """Return what of it nobody may reach through a path."""
    modules = {"this", "antigravity", "beside", "linked", "evil", "data", "unittest.__main__", "venv.__main__", "pip"}
    return [
        each
        for each in found
        if each.split(".")[0] in modules or each in modules or "payload" in each or "beside" in each or "linked" in each
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A shop that names one component and uses another, and code that it does not name, all around."""
    shop = tmp_path / "shop"
    write_config(shop, NAMED + HOME + OWN)
    (shop / "components.py").write_text(CODE + "\nclass Unnamed(Shelf, frozen=True):\n    pass\n")
    (shop / "data").mkdir()
    (tmp_path / "evil").mkdir()
    for path in (tmp_path / "evil" / "payload.py", shop / "data" / "payload.py", shop / "beside.py"):
        path.write_text(PLANTED)
    (shop / "linked.py").symlink_to(tmp_path / "evil" / "payload.py")
    return shop


def told(path: str, kind: str = "sources") -> dict[str, Any]:
    """Return a placement with a component of one's own."""
    part = {"kind": "custom", "path": path}
    return {kind: part if kind == "selector" else [part]}


def client_of(running: Instance) -> httpx.AsyncClient:
    """Return a client of what is served."""
    upkeep = Maintenance(running.rebuilder, running.eraser, running.champions, running.explainer, running.placing)
    app = asgi(running.engine, lambda: running.service.accept, upkeep=upkeep)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


def test_over_http_no_code_runs_that_the_file_does_not_name(folder: Path) -> None:
    """Set, previewed or shown, in each place a component may have: 400 with a pointer; nothing is imported."""

    async def work(running: Instance) -> None:
        async with client_of(running) as client:
            for number, attack in enumerate(ATTACKS):
                path = attack.format(evil=folder.parent / "evil")
                kind = ("sources", "filters", "scorers", "selector")[number % 4]
                with watched() as found:
                    put = await client.put(
                        "/v1/placements/home", json={"placement": told(path, kind), "author": "mallory"}
                    )
                    preview = await client.post(
                        "/v1/placements/new/preview", json={"placement": told(path, kind), "question": {}}
                    )
                    shown = await client.get("/v1/placements/home")
                for answer in (put, preview):
                    assert answer.status_code == 400, (path[:80], answer.text)
                    (error, *_) = answer.json()["errors"]
                    place = "selector" if kind == "selector" else f"{kind}/0"
                    assert error["pointer"] == f"/placement/{place}/path"
                    assert error["page"] == "/docs/sources.md"
                assert shown.status_code == 200
                assert not reached(found), path[:80]

    run_folder(folder, work)
    assert not list(folder.parent.rglob("*.ran"))


def test_over_http_what_the_file_names_is_used_with_other_options(folder: Path) -> None:
    """By its name, or by a path that a placement of the file has; options are decoded, and only data."""

    async def work(running: Instance) -> None:
        async with client_of(running) as client:
            for part in (
                {"kind": "custom", "name": "shelf", "options": {"limit": 2}},
                {"kind": "custom", "path": "components:Shelf", "options": {"name": "third"}},
                {"kind": "custom", "path": "components:Other", "options": {"limit": 1}},
            ):
                body = {"placement": {"sources": [part]}, "author": "ann"}
                answer = await client.put("/v1/placements/home", json=body)
                assert answer.status_code == 200, answer.text
                assert {**part, "path": part.get("path", "")}.items() <= answer.json()["in_force"]["sources"][0].items()
            for options, says in (
                ({"limit": {"__import__": "os"}}, "limit"),
                ({"limit": "open('x')"}, "limit"),
                ({"retrieve": "os:system"}, "retrieve"),
            ):
                part = {"kind": "custom", "name": "shelf", "options": options}
                answer = await client.put(
                    "/v1/placements/home", json={"placement": {"sources": [part]}, "author": "ann"}
                )
                assert (answer.status_code, answer.json()["pointer"]) == (400, "/placement/sources/0/options")
                assert says in answer.json()["errors"][0]["came"]

    run_folder(folder, work)


@pytest.mark.parametrize(
    "part, where, came",
    [
        ({}, "path", "It has neither a path nor a name."),
        ({"path": "components:Shelf", "name": "shelf"}, "path", "It has both a path and a name."),
        ({"name": "shelv"}, "name", '"shelv" is not in [components] of midstream.toml. Nearest: "shelf".'),
    ],
)
def test_a_component_has_a_path_or_a_name(folder: Path, part: dict[str, str], where: str, came: str) -> None:
    """One of the two, and one that there is."""
    with midstream.open(folder) as shop, pytest.raises(ConfigInvalid) as refused:
        shop.set_placement("home", {"sources": [{"kind": "custom", **part}]}, author="ann")
    (fault,) = refused.value.faults
    assert (fault.where, fault.came) == (f"$.sources[0].{where}", came)


CONTENTS = (
    '{"name":"home","sources":[{"kind":"custom","path":"beside:X"}]}',
    '{"name":"home","sources":[{"kind":"custom","name":"beside"}]}',
    '{"name":"home","selector":{"kind":"custom","path":"antigravity:X"}}',
    '{"name":"home","filters":[{"kind":"custom","path":"/tmp/payload:X"}]}',
    "[" * 30_000,
    "{",
    "[]",
    "7",
)


@pytest.mark.parametrize("number", range(len(CONTENTS)))
def test_a_log_from_elsewhere_runs_no_code(folder: Path, number: int) -> None:
    """A placement in the log that names code the file does not, or says nothing at all, is set aside with a fault."""
    body = placement_body("home", 1, CONTENTS[number], "mallory", "")

    async def record(running: Instance) -> None:
        await running.engine.record(build((Event(Kind.CONTROL, body=encode_placement(body)),)))

    async def look(running: Instance) -> None:
        (aside, *_) = running.placing.aside()
        assert aside.placement == "home"
        assert aside.came
        assert {each.origin for each in running.placing.views() if each.placement == "home"} == {"file"}
        async with client_of(running) as client:
            assert (await client.get("/v1/placements/home")).status_code == 200
            assert (await client.get("/v1/recommendations?placement=home&user_id=ann")).status_code == 200

    run_folder(folder, record)
    with watched() as found:
        run_folder(folder, look)
    assert not reached(found)
    assert not list(folder.parent.rglob("*.ran"))


def test_a_control_event_nested_without_end_is_passed_by(folder: Path) -> None:
    """A log from elsewhere that no server wrote: it is folded, and so it is at each start."""

    async def record(running: Instance) -> None:
        for start in (b'{"x":', b'{"change":"placement","name":', b'{"change":"model","name":'):
            await running.engine.record(build((Event(Kind.CONTROL, body=start + b"[" * 30_000),)))

    async def look(running: Instance) -> None:
        assert running.engine.log.end == 3
        assert running.placing.aside() == []

    run_folder(folder, record)
    run_folder(folder, look)


def test_a_component_that_the_file_no_longer_names_is_set_aside(folder: Path) -> None:
    """It was set when the file named it: the file's placement answers until the file names it again."""
    shelf = {"sources": [{"kind": "custom", "path": "components:Shelf"}], "slate_size": 4}
    with midstream.open(folder) as shop:
        shop.record([{"type": "view", "user_id": "ann", "item_id": f"i{n}"} for n in range(9)])
        shop.set_placement("home", shelf, author="ann")
        request_id = shop.recommend("home").request_id
    write_config(folder, HOME)
    (folder / "components.py").write_text(PLANTED)
    body = find_request(LogView(folder), config_of(folder), request_id)
    with watched() as found:
        with midstream.open(folder) as shop:
            (fault,) = shop.placement("home").aside
            assert fault.came == "'components:Shelf' is not named in midstream.toml, so it is not imported."
            assert len(shop.recommend("home").items) == 5
        again = Reruns(folder).again(body)
    assert [each.field for each in again.differences] == ["config_hash"]
    assert not any("components" in each for each in found)
    (folder / "components.py").write_text(CODE)
    write_config(folder, NAMED + HOME)
    with midstream.open(folder) as shop:
        assert not shop.placement("home").aside
        assert len(shop.recommend("home").items) == 4
    assert Reruns(folder).again(body).served is not None


@pytest.mark.parametrize(
    "path, came",
    [
        ("{evil}/payload:X", "is no name of a module"),
        ("../evil/payload:X", "is no name of a module"),
        ("..evil.payload:X", "is no name of a module"),
        ("sub/payload:X", "is no name of a module"),
        ("linked:X", "linked.py is a link that leads out of the folder"),
        ("package:X", "package/__init__.py is a link that leads out of the folder"),
        ("package.payload:X", "package/payload.py is a link that leads out of the folder"),
        ("calendar:X", "calendar.py is a link, and what it leads to is not there"),
        ("this:X", "is of the standard library"),
        ("unittest.__main__:X", "is of the standard library"),
        ("midstream.__main__:X", "or not for others to import"),
    ],
)
def test_the_file_itself_names_python_names_in_its_folder(folder: Path, path: str, came: str) -> None:
    """Never a path, nor the standard library, nor what lies elsewhere, in a placement and in ``[components]``."""
    (folder.parent / "evil" / "__init__.py").write_text(PLANTED)
    (folder / "package").symlink_to(folder.parent / "evil")
    (folder / "calendar.py").symlink_to("gone.py")
    path = path.format(evil=folder.parent / "evil")
    source = f'[[placements.sources]]\nkind = "custom"\npath = "{path}"\n'
    for text, where in (
        (HOME + source, "$.placements[0].sources[0].path"),
        (f'[components]\nany = "{path}"\n', "$.components.any"),
    ):
        with watched() as found, pytest.raises(ConfigInvalid) as refused:
            plans(parse_config(text), folder)
        (fault,) = refused.value.faults
        assert fault.where == f"midstream.toml: {where}"
        assert came in fault.came
        assert not reached(found)
    assert not list(folder.parent.rglob("*.ran"))


def test_links_and_packages_inside_of_the_folder_are_followed(folder: Path) -> None:
    """As a mounted directory has them: the file is a link into a folder of the folder."""
    (folder / "components.py").rename(folder / "real.py")
    (folder / "..data").mkdir()
    (folder / "real.py").rename(folder / "..data" / "components.py")
    (folder / "components.py").symlink_to(Path("..data") / "components.py")
    (folder / "shelves").mkdir()
    (folder / "shelves" / "low.py").write_text(CODE)
    write_config(folder, NAMED + 'low = "shelves.low:Other"\n' + HOME + OWN)
    with midstream.open(folder) as shop:
        shop.set_placement("home", {"sources": [{"kind": "custom", "name": "low"}]}, author="ann")


def test_a_module_that_changes_the_search_path_is_no_error_of_ours(folder: Path) -> None:
    """What it raises is told, and nothing else."""
    (folder / "components.py").write_text(
        "import sys\nsys.path[:] = [each for each in sys.path if each != sys.path[0]]\n" + CODE
    )
    before = list(sys.path)
    try:
        assert "home" in plans(config_of(folder), folder)
    finally:
        sys.path[:] = before


def test_an_edit_of_equal_length_in_one_second_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytecode that the interpreter trusts by size and whole seconds runs no code of before the edit."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = folder / "components.py"
    for limit in (3, 4):
        path.write_text(CODE.replace("limit: int = 3", f"limit: int = {limit}"))
        os.utime(path, (1_750_000_000, 1_750_000_000))
        assert component_type("components:Shelf", "$", folder)().limit == limit


@pytest.mark.parametrize("edited", ["shelves/__init__.py", "shelves/inner.py", "beside_shelves.py"])
def test_an_edit_of_a_package_is_seen_by_the_next_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    """As of a file: of a package, of a module in it, and of a module that it imports from the folder."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (folder / "shelves").mkdir()
    texts = {
        "shelves/__init__.py": CODE + "\nMARK = 3\nfrom .inner import INNER\nfrom beside_shelves import BESIDE\n",
        "shelves/inner.py": "INNER = 3\n",
        "beside_shelves.py": "BESIDE = 3\n",
    }
    found = []
    for value in (3, 4):
        for name, text in texts.items():
            path = folder / name
            path.write_text(text.replace(" = 3\n", f" = {value}\n") if name == edited else text)
            os.utime(path, (1_750_000_000, 1_750_000_000))
        try:
            kind = component_type("shelves:Shelf", "$", folder)
            module = sys.modules[kind.__module__]
            found.append((module.MARK, module.INNER, module.BESIDE))
        finally:  # as the next process has it
            for name in ("shelves", "shelves.inner", "beside_shelves"):
                sys.modules.pop(name, None)
    assert found[0] == (3, 3, 3)
    assert sorted(found[1]) == [3, 3, 4]


def test_an_import_in_another_thread_goes_on_while_a_load_ends(tmp_path, monkeypatch):
    """It has asked for a module of a load's folder, and finds what is installed when that is over."""
    inside, ended = threading.Event(), threading.Event()
    find = custom_components._FolderFinder.find_spec

    def slow(self, name, *more):
        found = find(self, name, *more)
        if name == "colorsys":
            inside.set()
            assert ended.wait(PATIENCE_S)
        return found

    monkeypatch.setattr(custom_components._FolderFinder, "find_spec", slow)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with ThreadPoolExecutor(1) as thread:
        with custom_components._importable(tmp_path):
            found = thread.submit(importlib.import_module, "colorsys")
            assert inside.wait(PATIENCE_S)
        ended.set()
        assert found.result(PATIENCE_S).__name__ == "colorsys"


def test_of_two_loads_at_once_the_newer_folder_is_first(tmp_path):
    """And the older one again when that is over."""
    for name in ("older", "newer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "of_two_loads.py").write_text("")
    with custom_components._importable(tmp_path / "older"):
        with custom_components._importable(tmp_path / "newer"):
            assert folder_of_module() == "newer"
        assert folder_of_module() == "older"
    assert importlib.util.find_spec("of_two_loads") is None


def folder_of_module():
    """Return the name of the folder in which a module is found."""
    spec = importlib.util.find_spec("of_two_loads")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.name
