"""The file that ``midstream init`` writes: every setting with its default and what it means.

``template.toml`` is made from the types and the docstrings under their fields (``scripts/config_template.py``), so a
default and what a setting means stand in one place; a test holds that it is current.
"""

from pathlib import Path

TEMPLATE = Path(__file__).with_suffix(".toml")


def template() -> str:
    """Return the commented file."""
    return TEMPLATE.read_text("utf-8")
