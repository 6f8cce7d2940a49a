"""Hooks of MkDocs for the site of ``docs``: navigation, links that lead out of it, and addresses that errors name.

Navigation is what docs/README.md lists, in its order, so that a page is listed once. A link to a file outside of
``docs`` leads to the sources where ``repo_url`` says where these can be read, and is text elsewhere. An error names a
page as ``/docs/http.md``: below that address the site has a page that leads on.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any

_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_PAGE = re.compile(r"^\| \[([^\]]+)\]\(([^)#]+\.md)\) \|", re.MULTILINE)
_LINK = re.compile(r"\[([^\]\n]*)\]\(((?:\.\./)+[^)\s]+)\)")
REDIRECT = (
    '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={to}"><a href="{to}">{to}</a>\n'
)


def navigation(index: str) -> list[dict[str, Any]]:
    """Return the navigation that the page of all pages lists: sections, then the pages of each."""
    titles = _SECTION.split(index)[1:]
    sections = zip(titles[::2], titles[1::2], strict=True)
    return [
        {"All pages": "README.md"},
        *({title: [{_text(name): path} for name, path in _PAGE.findall(text)]} for title, text in sections),
    ]


def _text(name: str) -> str:
    return name.removesuffix(".md").replace("`", "").capitalize()


def inner_links(markdown: str, page: str, source: str) -> str:
    """Return a page whose links out of ``docs`` lead to the sources, or are text.

    Args:
        markdown: Of the page.
        page: Its path below ``docs``.
        source: Address of the sources; empty = they are nowhere.
    """

    def replaced(found: re.Match[str]) -> str:
        text, target = found[1], found[2]
        above = len(re.findall(r"\.\./", target))
        if above <= len(PurePosixPath(page).parts) - 1:
            return found[0]
        return f"[{text}]({source.rstrip('/')}/{target[3 * above :]})" if source else text

    return _LINK.sub(replaced, markdown)


def on_config(config: Any) -> Any:
    """Set the navigation."""
    index = Path(config["docs_dir"], "README.md").read_text("utf-8")
    config["nav"] = navigation(index)
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, **_: object) -> str:
    """Mend links that lead out of ``docs``."""
    return inner_links(markdown, page.file.src_uri, config["repo_url"] or "")


def on_post_build(config: Any) -> None:
    """Write a page that leads on below each address that errors and links to Markdown name."""
    docs, site = Path(config["docs_dir"]), Path(config["site_dir"])
    for path in sorted(docs.rglob("*.md")):
        name = path.relative_to(docs)
        if path.name != "README.md" and (site / name.with_suffix("")).is_dir():
            folder = site / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "index.html").write_text(REDIRECT.format(to=f"../{path.stem}/"), "utf-8")
