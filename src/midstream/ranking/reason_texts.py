"""Templates of reasons: allowed names, built-in texts, and the texts of a placement's sources."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

TEMPLATE_CHARACTERS_MAX = 200
LANGUAGES_MAX = 32
ITEM, EVIDENCE, ID = "item", "evidence", "id"
DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "session_knn": "Others who looked at the same went on to this",
        "covisitation": "Goes with what you looked at",
        "similar": "Similar to what you looked at",
        "trending": "Popular right now",
        "popular": "Popular",
        "recent_items": "New",
        "repeat": "You had this before",
        "recently_viewed": "You looked at this",
        "similar_users_items": "Others who like the same looked at this",
        "text_search": "Matches your search",
        "nearest": "Like what you looked at",
        "editorial": "Chosen for you by us",
        "als": "Fits what you like",
        "ease": "Goes with what you like",
        "graph": "Fits what you like",
        "sequence": "Often comes next",
        "content": "Like what you looked at",
        "two_tower": "Fits what you like",
        "hybrid": "Fits what you like",
    },
    "de": {
        "session_knn": "Wer dasselbe ansah, ging hierher weiter",
        "covisitation": "Passt zu dem, was Sie angesehen haben",
        "similar": "Ähnlich wie das, was Sie angesehen haben",
        "trending": "Gerade beliebt",
        "popular": "Beliebt",
        "recent_items": "Neu",
        "repeat": "Das hatten Sie schon einmal",
        "recently_viewed": "Das haben Sie sich angesehen",
        "similar_users_items": "Andere mit Ihrem Geschmack sahen sich das an",
        "text_search": "Passt zu Ihrer Suche",
        "nearest": "Wie das, was Sie angesehen haben",
        "editorial": "Von uns für Sie ausgesucht",
        "als": "Passt zu Ihrem Geschmack",
        "ease": "Passt zu dem, was Sie mögen",
        "graph": "Passt zu Ihrem Geschmack",
        "sequence": "Kommt oft als Nächstes",
        "content": "Wie das, was Sie angesehen haben",
        "two_tower": "Passt zu Ihrem Geschmack",
        "hybrid": "Passt zu Ihrem Geschmack",
    },
}
"""Texts that name no attribute, so that every shop has them."""


@dataclass(frozen=True, slots=True)
class Template:
    """A text with places for attributes."""

    parts: tuple[tuple[str, str, str], ...]
    """Text, then the owner of the attribute that follows (``item``, ``evidence``, empty = none), and its name."""

    @property
    def fields(self) -> frozenset[tuple[str, str]]:
        """Owner and name of each attribute in it."""
        return frozenset((owner, name) for _, owner, name in self.parts if owner)


def template_of(text: str) -> Template:
    """Return the parsed template of a text.

    Raises:
        ValueError: It is too long, or braces have no attribute.

    Example:
        >>> template_of("because you viewed {evidence.title}").parts
        (('because you viewed ', 'evidence', 'title'),)
    """
    if not 1 <= len(text) <= TEMPLATE_CHARACTERS_MAX:
        message = f"it has {len(text)} characters, from 1 to {TEMPLATE_CHARACTERS_MAX} are right"
        raise ValueError(message)
    parts: list[tuple[str, str, str]] = []
    for literal, field, form, conversion in Formatter().parse(text):
        if field is None:
            parts.append((literal, "", ""))
            continue
        owner, dot, name = field.partition(".")
        if owner not in {ITEM, EVIDENCE} or not dot or not name or form or conversion:
            message = f"{{{field}}} stands in it"
            raise ValueError(message)
        parts.append((literal, owner, name))
    return Template(tuple(parts))


@dataclass(frozen=True, slots=True)
class Reasons:
    """The texts of a placement."""

    texts: Mapping[str, Mapping[str, Template]]
    """By language and name of the source."""
    plain: Mapping[str, Mapping[str, str]]
    """Texts that name no attribute, likewise: the fallback."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that a request may name."""
        return tuple(sorted({*self.texts, *self.plain}))


NO_REASONS = Reasons({}, {})


def reasons_of(configured: Mapping[str, Mapping[str, str]], kinds: Mapping[str, str]) -> Reasons:
    """Return the texts for the sources of a placement.

    Args:
        configured: ``[reasons]``: by language, and kind or name of a source; they override built-in texts.
        kinds: Kind of each source, by its name.

    Raises:
        ValueError: A text is invalid.
    """
    languages = {*DEFAULTS, *configured}
    texts: dict[str, dict[str, Template]] = {}
    plain: dict[str, dict[str, str]] = {}
    for language in languages:
        own = configured.get(language, {})
        found = {name: own.get(name, own.get(kind)) for name, kind in kinds.items()}
        texts[language] = {name: template_of(text) for name, text in found.items() if text is not None}
        known = DEFAULTS.get(language, {})
        plain[language] = {name: known[kind] for name, kind in kinds.items() if kind in known}
    return Reasons(texts, plain)
