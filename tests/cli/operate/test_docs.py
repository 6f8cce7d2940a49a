"""``midstream docs``: pages and sections, by each name that an error gives them."""

import pytest

from midstream.cli.app import main
from midstream.cli.operate.docs import page_list, page_text
from midstream.core.errors import Fault, Invalid, docs_command


def test_list_has_names_and_titles():
    """One line a page, tasks too."""
    lines = dict(line.split(maxsplit=1) for line in page_list().splitlines())
    assert lines["events"] == "Events"
    assert "tasks/similar-items" in lines
    assert not any(name.startswith("decisions/") for name in lines)


@pytest.mark.parametrize("name", ["events", "events.md", "docs/events.md", "/docs/events.md"])
def test_page_by_any_of_its_names(name):
    """As an error on the command line names it, as one of a server does, and as a file."""
    assert page_text(name).startswith("# Events\n")


def test_section_ends_where_the_next_begins():
    """With the sections below it; a comment in a block of code is no heading."""
    whole = page_text("models")
    section = page_text("models#registry")
    assert section.startswith("## ")
    assert section in whole
    assert "\n## " not in section


def test_command_of_a_fault_prints_its_page(capsys):
    """The line that an error prints is a command that works."""
    words = docs_command("/docs/models.md#registry").split()
    assert words[:2] == ["midstream", "docs"]
    with pytest.raises(SystemExit) as left:
        main(words[1:])
    assert left.value.code == 0
    assert capsys.readouterr().out.strip() == page_text("models#registry").strip()


def test_text_of_a_fault_names_the_command():
    """Also where the error is printed by Python, which has no server."""
    assert str(Fault("a", "b", "c", "/docs/data.md")).endswith("midstream docs data")


@pytest.mark.parametrize("page,near", [("event", '"events"'), ("models#registri", '"registry"')])
def test_unknown_page_names_the_nearest(page, near):
    """Neither a page nor a section is guessed."""
    with pytest.raises(Invalid) as raised:
        page_text(page)
    assert near in raised.value.faults[0].came
