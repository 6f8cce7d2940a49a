"""The file that init writes is made of the types: it is current, and tells a change of a setting or of its words."""

import runpy
from pathlib import Path

import msgspec

from midstream.app.config.template import template

SCRIPT = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "config_template.py"))


class Base(msgspec.Struct):
    """Fields of a base."""

    first: int = 1
    """Of the base: ``first``."""
    bare: int = 2


class Derived(Base):
    """Fields of its own."""

    second: int = 3
    """Shown,
    on two lines.

    Not shown.
    """


def test_the_file_is_what_the_types_say():
    """After a change of a default or a docstring: ``.venv/bin/python scripts/config_template.py``."""
    assert template() == SCRIPT["template"]()


def test_words_are_the_first_paragraph_under_a_field():
    """Of a type and its bases; a field without any has none."""
    assert SCRIPT["docs_of"](Derived) == {"first": "Of the base: `first`.", "second": "Shown,\non two lines."}
