"""Pages lead somewhere: each relative link of a page, and each page that an error names, is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_ANCHORED = re.compile(r"\]\((?![a-z]+://)([^)#\s]*)#([^)]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_PUNCTUATION = re.compile(r"[^\w\- ]")
_NAMED = re.compile(r"docs/[a-z0-9_-]+\.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    """A link without a scheme is a file or folder beside the page."""
    links = [link for link in _LINK.findall(page.read_text("utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_pages_that_errors_name_are_there():
    """The fourth part of an error is a page that can be opened."""
    named = {name for path in (ROOT / "src").rglob("*.py") for name in _NAMED.findall(path.read_text("utf-8"))}
    assert named
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []


PAGE_OF_A_NAME = re.compile(r'^(_?[A-Z_]*PAGE)(?:: [^=\n]+)? = f?"([^"{]*)"$', re.MULTILINE)
"""A constant of a module that is an address of a page."""
ADDRESS = re.compile(r"(/docs/[a-z0-9_/-]+\.md|\{_?[A-Z_]*PAGE\})#([a-z0-9-]+)")
"""A heading of a page, in a text or in one with a constant in it."""


def test_headings_that_errors_name_are_there():
    """An address with a heading leads to it: ``/docs/cli.md#doctor``, also where the page is a constant's."""
    found = set[tuple[str, str]]()
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text("utf-8")
        constants = {f"{{{name}}}": page for name, page in PAGE_OF_A_NAME.findall(text)}
        for page, heading in ADDRESS.findall(text):
            assert page in constants or page.startswith("/docs/"), f"{path}: {page} is no constant of the module"
            found.add((constants.get(page, page), heading))
    assert len(found) > 10
    missing = [
        f"{page}#{heading}"
        for page, heading in sorted(found)
        if heading not in anchors(ROOT / page.partition("#")[0].lstrip("/"))
    ]
    assert missing == []


def anchors(page: Path) -> set[str]:
    """Return the names by which links lead to the headings of a page."""
    text = _FENCE.sub("", page.read_text("utf-8"))
    return {_PUNCTUATION.sub("", heading.lower()).strip().replace(" ", "-") for heading in _HEADING.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_anchors_lead_to_headings(page):
    """What stands behind the # of a link to a page is one of its headings."""
    links = [
        (page.parent / path if path else page, anchor) for path, anchor in _ANCHORED.findall(page.read_text("utf-8"))
    ]
    assert [(to.name, anchor) for to, anchor in links if to.is_file() and anchor not in anchors(to)] == []


def test_index_lists_every_page():
    """What is not on docs/README.md is found by nobody; records of decisions have an index of their own."""
    index = ROOT / "docs" / "README.md"
    text = index.read_text("utf-8")
    own = [page.relative_to(index.parent) for page in PAGES if index.parent in page.parents and page != index]
    missing = [page for page in own if page.parts[0] != "decisions" and page.as_posix() not in text]
    assert missing == []
