"""Addresses of pages that errors name: each is served, has the section it names, and nothing beside the pages is."""

import re
from pathlib import Path

import pytest

from midstream.serving.openapi.docs_page import DOCS_PATH
from midstream.serving.openapi.reference_pages import reference_pages

ROOT = Path(__file__).parents[3]
_CONSTANT = re.compile(r'"(/docs/[^"{}]+)"')
_PATH_OF_THE_REPOSITORY = re.compile(r'"docs/[a-z]')
_SECTION_OF_PAGE = re.compile(r'f"\{PAGE\}(#[\w-]+)"')
_PUNCTUATION = re.compile(r"[^\w\- ]")


def named_addresses() -> dict[str, set[str]]:
    """Return each address of a page that a source file has as a constant, with the files."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        text = path.read_text("utf-8")
        addresses = _CONSTANT.findall(text)
        if sections := _SECTION_OF_PAGE.findall(text):
            (page,) = re.findall(r'^PAGE = "(/docs/[^"#]+)"', text, re.MULTILINE)
            addresses += [page + each for each in sections]
        for address in addresses:
            found.setdefault(address, set()).add(path.relative_to(ROOT).as_posix())
    return found


def anchors_of(text: str) -> set[str]:
    """Return the anchors of the headings of a Markdown text."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {_PUNCTUATION.sub("", each.lower()).strip().replace(" ", "-") for each in headings}


def test_each_address_that_an_error_names_is_served(client):
    """With 200 and the text of the page, which has the section behind the #."""
    named = named_addresses()
    assert len(named) > 25
    for address, files in named.items():
        path, _, anchor = address.partition("#")
        answer = client.get(path)
        assert answer.status_code == 200, (address, files, answer.text)
        assert not anchor or anchor in anchors_of(answer.text), (address, files)


def test_no_error_names_a_path_of_the_repository():
    """A page is an address: a client of a server has no checkout."""
    files = [path for path in (ROOT / "src").rglob("*.py") if _PATH_OF_THE_REPOSITORY.search(path.read_text("utf-8"))]
    assert files == []


def test_page_of_a_problem_leads_to_the_page(client):
    """A client joins the address of the server and the page of the problem, and reads what is wrong."""
    problem = client.post("/v1/events", json={"type": "view"}).json()
    page = problem["results"][0]["page"] if "results" in problem else problem["page"]
    assert client.get(page).text.startswith("# Events")


def test_every_page_is_served_as_plain_text(client):
    """Text that every browser shows, in which nothing runs and which no frame holds."""
    for name, path in reference_pages().items():
        answer = client.get(f"/docs/{name}")
        assert answer.content == path.read_bytes()
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["x-frame-options"] == "DENY"
    assert client.ask("HEAD", "/docs/events.md").status_code == 200


def test_page_of_routes_links_to_the_reference(client):
    """Each page but those of tasks and decisions has a link, that leads to it, also below a prefix."""
    links = re.findall(r"href='(docs/[^']+)'", client.get(DOCS_PATH).text)
    assert links == [f"docs/{name}" for name in reference_pages() if "/" not in name]


@pytest.mark.parametrize(
    "name",
    [
        *("", "event.md", "../pyproject.toml", "..%2fpyproject.toml", "%2e%2e/README.md", "tasks%2f..%2fevents.md"),
        *("/etc/passwd", "%2fetc%2fpasswd", "events.md%00", "events.md/", "benchmarks.json", "events", "EVENTS.MD"),
    ],
)
def test_only_pages_are_served(client, name):
    """A name is looked up as it is: no other file is read, whatever a client makes of its path."""
    answer = client.get(f"/docs/{name}")
    assert answer.status_code == 404
    assert answer.json()["page"] == "/docs/http.md"


def test_wheel_carries_the_pages():
    """They lie inside the package, where the program looks for them when there is no checkout."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert '"docs" = "midstream/docs"' in text
