"""Reference pages: the Markdown files of the documentation, which the wheel carries, by name.

``/docs/events.md`` is the address that an error names as its page. The names are listed once and looked up as they
are, so no text of a request becomes a path; a page is read once.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parents[2]
_FOLDERS = (_PACKAGE / "docs", _PACKAGE.parents[1] / "docs")
"""In an installed package, and in a checkout beside ``src``."""


@cache
def reference_pages() -> Mapping[str, Path]:
    """Return the file of each page by its name, such as ``events.md`` or ``tasks/similar-items.md``, in order."""
    folder = next((each for each in _FOLDERS if each.is_dir()), _FOLDERS[0])
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.md"))}


def reference_page(name: str) -> bytes | None:
    """Return the Markdown text of a page in UTF-8; None = there is no page of that name."""
    return _text_of(name) if name in reference_pages() else None


@cache
def _text_of(name: str) -> bytes:
    return reference_pages()[name].read_bytes()
