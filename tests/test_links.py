"""Pages lead somewhere: each relative link of a page, and each page that an error names, is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
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
