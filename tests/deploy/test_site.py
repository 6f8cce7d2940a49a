"""Site of the documentation: it lists every page, links lead somewhere, and addresses that errors name lead on."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import yaml  # type: ignore[import-untyped]  # the package brings no types

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """Return the hooks, which MkDocs loads from their file too."""
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "scripts" / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_navigation_has_each_page_once(hooks: ModuleType) -> None:
    """In the sections of the page of all pages; of decisions their index."""
    nav = hooks.navigation((ROOT / "docs" / "README.md").read_text("utf-8"))
    listed = [path for section in nav[1:] for pages in section.values() for page in pages for path in page.values()]
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    wanted = {path for path in there if not path.startswith("decisions/")} | {"decisions/README.md"}
    assert sorted([*listed, "README.md"]) == sorted(wanted)
    assert [next(iter(section)) for section in nav][:3] == ["All pages", "Learn", "Do"]


@pytest.mark.parametrize(
    "page,text,source,mended",
    [
        ("cli.md", "see [code](../src/a.py) here", "", "see code here"),
        ("cli.md", "[code](../src/a.py)", "https://shop.example/main/", "[code](https://shop.example/main/src/a.py)"),
        ("tasks/a.md", "see [page](../cli.md#probe)", "", "see [page](../cli.md#probe)"),
        ("tasks/a.md", "see [code](../../src/a.py)", "", "see code"),
        ("cli.md", "see [page](http.md)", "", "see [page](http.md)"),
    ],
)
def test_links_out_of_the_pages(hooks: ModuleType, page: str, text: str, source: str, mended: str) -> None:
    """A link within docs stays; one to a source leads to it, or is text where sources are nowhere."""
    assert hooks.inner_links(text, page, source) == mended


def test_addresses_that_errors_name_lead_on(hooks: ModuleType, tmp_path: Path) -> None:
    """``/docs/http.md`` of an error is a page of the site too."""
    docs, site = tmp_path / "docs", tmp_path / "site"
    for name in ("http", "tasks/a"):
        (docs / name).parent.mkdir(parents=True, exist_ok=True)
        (docs / f"{name}.md").write_text("# Page\n")
        (site / name).mkdir(parents=True)
        (site / name / "index.html").write_text("page")
    hooks.on_post_build({"docs_dir": str(docs), "site_dir": str(site)})
    for name in ("http", "tasks/a"):
        folder = site / f"{name}.md"
        (to,) = {part.split('"')[0] for part in (folder / "index.html").read_text().split("url=")[1:]}
        assert (folder / to / "index.html").resolve().read_text() == "page"


def test_site_fetches_nothing_from_elsewhere() -> None:
    """No font of others, and a search without a server."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    assert config["theme"]["font"] is False
    assert config["plugins"] == ["search"]
    assert all((ROOT / hook).is_file() for hook in config["hooks"])
