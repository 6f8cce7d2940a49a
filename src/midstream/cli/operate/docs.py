"""``midstream docs``: prints the pages of the documentation, which are part of the package."""

import re
from typing import Annotated

import typer

from midstream.cli.console import out
from midstream.cli.help import CommandHelp
from midstream.core.errors import DOCUMENTATION_PATH, Fault, Invalid
from midstream.core.nearest import nearest

app = typer.Typer()
PageName = Annotated[
    str, typer.Argument(metavar="PAGE", help="A page, such as events, or a section of one: models#registry.")
]
PAGE = "/docs/cli.md#docs"
_HEADING = re.compile(r"^(#+) (.*)$")
_FENCE = "```"
_PUNCTUATION = re.compile(r"[^\w\- ]")


@app.command(
    "docs",
    cls=CommandHelp,
    epilog="""
    midstream docs
      Lists the pages.
    midstream docs events
    midstream docs models#registry
      Prints one section.
    """,
)
def command(page: PageName = "") -> None:
    """Print a page of the documentation.

    Errors name the page that explains them. Without PAGE the pages are listed, each with its title.
    """
    out.print(page_text(page).rstrip("\n") if page else page_list(), markup=False)


def page_list() -> str:
    """Return the name and the title of each page, one a line; records of decisions are left out."""
    from midstream.serving.openapi.reference_pages import reference_pages

    names = [name for name in reference_pages() if not name.startswith("decisions/")]
    width = max(map(len, names), default=0)
    return "\n".join(f"{name.removesuffix('.md'):<{width}}{_title_of(name)}" for name in names)


def page_text(page: str) -> str:
    """Return a page, or the section of it that is named behind a ``#``.

    Args:
        page: ``events``, ``models#registry``, or the address that an error of a server names, ``/docs/events.md``.

    Raises:
        Invalid: There is no such page, or no such section in it.
    """
    from midstream.serving.openapi.reference_pages import reference_page, reference_pages

    path, _, anchor = page.partition("#")
    name = path.removeprefix("/").removeprefix(DOCUMENTATION_PATH[1:]).removesuffix(".md")
    text = reference_page(f"{name}.md")
    if text is None:
        known = [each.removesuffix(".md") for each in reference_pages()]
        raise Invalid(
            (Fault("PAGE", f'"{name}" is no page.{nearest(name, known)}', "midstream docs lists them.", PAGE),)
        )
    return section_of(text.decode(), anchor) if anchor else text.decode()


def section_of(text: str, anchor: str) -> str:
    """Return the section of a Markdown text whose heading has an anchor, to the next heading of its level or above.

    Raises:
        Invalid: No heading has that anchor.
    """
    lines = text.splitlines()
    headings = _headings(lines)
    found = next(((at, level) for at, level, name in headings if name == anchor), None)
    if found is None:
        names = [name for _, _, name in headings]
        came = f'No section has the anchor "{anchor}".{nearest(anchor, names)}'
        raise Invalid((Fault("PAGE", came, f"One of: {', '.join(names)}.", PAGE),))
    begin, depth = found
    end = next((at for at, level, _ in headings if at > begin and level <= depth), len(lines))
    return "\n".join(lines[begin:end]).rstrip()


def _headings(lines: list[str]) -> list[tuple[int, int, str]]:
    """Return line, level and anchor of each heading; what looks like one in a block of code is none."""
    found: list[tuple[int, int, str]] = []
    is_code = False
    for number, line in enumerate(lines):
        if line.startswith(_FENCE):
            is_code = not is_code
        elif not is_code and (match := _HEADING.match(line)) is not None:
            found.append((number, len(match[1]), _anchor_of(match[2])))
    return found


def _anchor_of(heading: str) -> str:
    """Return the anchor of a heading, by the rule of GitHub."""
    return _PUNCTUATION.sub("", heading.lower()).strip().replace(" ", "-")


def _title_of(name: str) -> str:
    from midstream.serving.openapi.reference_pages import reference_page

    return (reference_page(name) or b"").partition(b"\n")[0].decode().lstrip("# ")
