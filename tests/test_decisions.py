"""The decision records are complete, numbered without a gap, and all in their index."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "decisions"
SECTIONS = ["Status", "Context", "Decision", "Consequences"]
ROW = re.compile(r"^\| \[(\d{4})\]\(([^)]+)\) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def records() -> list[Path]:
    """All records, in the order of their numbers."""
    return sorted(FOLDER.glob("[0-9]*.md"))


def title_and_status(text: str) -> tuple[str, str]:
    """A record's title without its number, and the first line of its status."""
    title = re.search(r"^# \d{4}: (.+)$", text, re.MULTILINE)
    status = re.search(r"^## Status\n\n(template|proposed|accepted|replaced by \d{4})\b", text, re.MULTILINE)
    assert title, "the first line is '# NNNN: Title'"
    assert status, "the status is one of template, proposed, accepted, replaced by NNNN"
    return title[1], status[1]


def index(text: str) -> list[tuple[str, str, str, str]]:
    """The rows of the index: number, file name, title, status."""
    return [(row[0], row[1], row[2].strip(), row[3].strip()) for row in ROW.findall(text)]


def test_index_lists_every_record():
    """Every record has its row, in order, with its title and status; no row lacks its record."""
    expected = [(path.name[:4], path.name, *title_and_status(path.read_text("utf-8"))) for path in records()]
    assert index((FOLDER / "README.md").read_text("utf-8")) == expected


def test_numbers_have_no_gap():
    """Numbers start at the template's 0000 and go up by one."""
    assert [int(path.name[:4]) for path in records()] == list(range(len(records())))


@pytest.mark.parametrize("path", records(), ids=lambda path: path.stem)
def test_record_has_its_parts(path: Path):
    """A record has its number in its title, the four sections in order, consequences of all three sorts."""
    text = path.read_text("utf-8")
    assert text.startswith(f"# {path.name[:4]}: ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    consequences = text.partition("## Consequences")[2]
    assert re.findall(r"^- (Good|Bad|Neutral): ", consequences, re.MULTILINE) == ["Good", "Bad", "Neutral"]


def test_index_that_lacks_a_row_is_seen():
    """The comparison is not with an empty list."""
    rows = index((FOLDER / "README.md").read_text("utf-8"))
    assert len(rows) == len(records()) >= 1
    assert index("| 0001 | no link | accepted |") == []
