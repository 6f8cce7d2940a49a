"""Descriptions of items for content models: values of attributes, and words.

A catalogue says more than a model can use. Values of categories, tags and truth values say what an item is by being the
same as another's; texts do so by their words. Numbers and vectors are left out: that two prices are equal means little,
and that they are near is not said by a term.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

VALUES_MAX = 200
"""Values of one attribute that are read: an item may have long lists, and a model keeps as many terms of it."""


@dataclass(frozen=True, slots=True)
class Description:
    """What an item is."""

    values: tuple[str, ...] = ()
    """Values of attributes, each with its name: ``category=shoes``, ``tags=red``."""
    text: str = ""
    """Title, description: words are taken from it, and the encoder is given it."""


def description_of(document: Mapping[str, object], kinds: Mapping[str, str]) -> Description:
    """Return what an item is.

    Args:
        document: Its attributes as they were sent.
        kinds: Of the declared attributes: a declared ``category`` or ``tags`` is a value, a text that is not declared
            is words; lists of texts are values, and so are truth values.

    Example:
        >>> description_of({"colour": "red", "title": "A lamp", "price": 3}, {"colour": "category"})
        Description(values=('colour=red',), text='A lamp')
    """
    values: list[str] = []
    texts: list[str] = []
    for name, told in sorted(document.items()):
        is_value = kinds.get(name) in {"category", "tags"}
        if isinstance(told, str) and not is_value:
            texts.append(told)
            continue
        every = cast("list[object]", told)[:VALUES_MAX] if isinstance(told, list) else [told]
        wanted = (str, bool, int) if is_value else (str, bool)
        values.extend(f"{name}={_text(each)}" for each in every if isinstance(each, wanted))
    return Description(tuple(values), " ".join(texts))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
