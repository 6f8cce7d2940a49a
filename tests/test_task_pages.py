"""Task pages work: their configurations decode, their commands exist, and what is quick runs in a shop of ``init``."""

import ast
import importlib
import shutil
from importlib.util import find_spec

import pytest
from typer.main import get_command

from midstream.app.config.reader import parse_config
from midstream.app.wiring import plans
from midstream.cli.app import app, main
from tests.support.pages import PAGES, ROOT, TASKS, blocks, commands

SLOW = {("serve",), ("train",), ("models", "promote")}
"""Not run here: a server, a fit in a process of its own, and what needs a version that was fitted."""
SAID = {
    "exclude-bought": ["removed by acted"],
    "out-of-stock": ["2 recorded", "removed by filter (if_nan(item.stock, 1) > 0)"],
    "from-gorse": ["2 recorded", "1 recorded"],
    "from-others": ["2 recorded"],
    "erase-a-user": ["u1"],
    "why-not-shown": ["place 19 of 38 by the score"],
    "move-to-another-machine": ["equal"],
}
"""What commands of a page print, as the page says it."""
PLACEMENT = """\
[items.attributes]
price = "number"

[[placements]]
"""
"""Stands before what is set as one placement: what the starter file declares, and its heading."""
COMMANDS = get_command(app)
pages = pytest.mark.parametrize("page", TASKS, ids=lambda page: page.stem)


def midstream_commands(page):
    """Return the arguments of each ``midstream`` command of a page, and whether it stands in a script."""
    return [
        (words[1:], bool(block.file))
        for block in blocks(page)
        if block.language == "sh"
        for words in commands(block)
        if words[0] == "midstream"
    ]


def run(words, capfd):
    """Run a command in this process; return its status and what it printed and said."""
    with pytest.raises(SystemExit) as left:
        main(words)
    told = capfd.readouterr()
    return left.value.code, told.out + told.err


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    """A shop as the tutorial begins: of ``midstream init``, with its example."""
    folder = tmp_path_factory.mktemp("starter") / "shop"
    for words in (["init", str(folder)], ["import", str(folder / "example.ndjson"), "--folder", str(folder)]):
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 0
    return folder


def test_pages_are_found():
    """Another folder or another fence would leave nothing to check."""
    assert len(TASKS) >= 10
    assert all(midstream_commands(page) for page in TASKS)


@pages
def test_each_configuration_decodes(page, tmp_path):
    """Each block of TOML is a configuration, or all of one placement."""
    for block in blocks(page):
        if block.language == "toml":
            heading = "" if block.file in {"", "midstream.toml"} else PLACEMENT
            text = block.text.replace("[[sources]]", "[[placements.sources]]") if heading else block.text
            assert plans(parse_config(heading + text), tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_command_exists(page):
    """Each ``midstream`` line of any page names a command and options that there are."""
    for words, _ in midstream_commands(page):
        command, left = COMMANDS, list(words)
        while hasattr(command, "commands"):
            assert left[0] in command.commands, words
            command = command.commands[left.pop(0)]
        options = {text for each in command.params for text in (*each.opts, *each.secondary_opts)}
        assert {word.partition("=")[0] for word in left if word.startswith("-") and word != "-"} <= options, words


def names_of(page):
    """Yield the names of this package that the Python of a page uses, with what has them; a page may await anywhere."""
    for block in blocks(page):
        if block.language != "python":
            continue
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
        for node in ast.walk(compile(block.text, page.name, "exec", flags)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "midstream":
                yield from ((node.module, each.name) for each in node.names)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "midstream":
                yield "midstream", node.attr


def has_name(module, name):
    """Return whether a module has a name, or is a package with a module of that name, which is not imported."""
    found = importlib.import_module(module)
    return hasattr(found, name) or (hasattr(found, "__path__") and find_spec(f"{module}.{name}") is not None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_of_each_page_compiles_and_finds_its_names(page):
    """Also where a page shows a part of a program that runs with a server or a store alone."""
    assert [f"{module}.{name}" for module, name in names_of(page) if not has_name(module, name)] == []


def test_names_of_pages_are_found():
    """Another fence would leave nothing to look up."""
    assert len({name for page in PAGES for name in names_of(page)}) >= 30


@pages
def test_quick_commands_run(page, starter, tmp_path, monkeypatch, capfd):
    """Each of them ends with 0 in a shop that has the files of the page, and says what the page says."""
    folder = tmp_path / "shop"
    files = [block for block in blocks(page) if block.file]
    if any("[items.attributes]\ncategories" in block.text for block in files):
        folder.mkdir()  # The data of another shop goes into a new folder.
    else:
        shutil.copytree(starter, folder)
    for block in files:
        if "/" not in block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(folder)
    said = ""
    for words, is_script in midstream_commands(page):
        if is_script or tuple(words[:1]) in SLOW or tuple(words[:2]) in SLOW or any("$" in word for word in words):
            continue
        status, text = run(words, capfd)
        assert status == 0, f"midstream {' '.join(words)}\n{text}"
        said += text
    assert said
    assert [text for text in SAID.get(page.stem, []) if text not in said] == [], said
