"""Template of ``midstream init``: every setting with its default and its meaning.

``template.toml`` is generated from the types and the docstrings under their fields (``scripts/config_template.py``), so
a default and its meaning are in one place; a test keeps it current.
"""

from pathlib import Path

TEMPLATE = Path(__file__).with_suffix(".toml")


def template() -> str:
    """Return the commented file."""
    return TEMPLATE.read_text("utf-8")
