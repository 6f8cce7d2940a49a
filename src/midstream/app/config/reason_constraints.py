"""Constraints of ``[reasons]``: each text names sources and attributes that the configuration has."""

from collections.abc import Iterator

from midstream.app.config.bounds import PAGE, known
from midstream.app.config.schema import Config, Custom
from midstream.core.errors import Fault
from midstream.core.paths import step
from midstream.ranking.reason_texts import DEFAULTS, ID, template_of

RIGHT = "Text with places such as {evidence.title} or {item.brand}: attributes of [items.attributes], or id."


def reason_faults(config: Config) -> Iterator[Fault]:
    """Yield the faults of reasons' texts."""
    every = [each for placement in config.placements for each in placement.sources]
    sources = {*DEFAULTS["en"], *(each.name for each in every if not isinstance(each, Custom))}
    # One of one's own is called as it likes, which is known once it is loaded.
    has_own = any(isinstance(each, Custom) for each in every)
    for language, texts in config.reasons.items():
        for name, text in texts.items():
            where = f"$.reasons{step(language)}{step(name)}"
            if not has_own:
                yield from known(where, name, sources, "a kind or name of a source", "One of")
            yield from _text(config, where, text)


def _text(config: Config, where: str, text: str) -> Iterator[Fault]:
    """Yield what is wrong with a text."""
    try:
        fields = template_of(text).fields
    except ValueError as error:
        yield Fault(where, f"{text[:64]!r}: {error}.", RIGHT, PAGE)
        return
    for _, name in sorted(fields):
        yield from known(where, name, (ID, *config.items.attributes), "an attribute of items", "Attributes")
