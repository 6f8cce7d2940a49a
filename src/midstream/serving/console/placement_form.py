"""Form model of a placement: one text field for each setting that a merchandiser changes, and back to the document.

Fields are compared as texts with those of the document that the form was made of, and only what differs is laid into
it: every other setting keeps its bytes. A text that is no number goes to the server as it is, so that the form has no
checks of its own and the fault is the route's. Sources are named by their name and not by their place, so that a form
can be laid over a document that somebody else changed meanwhile.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from midstream.ranking.scorers.blend import DEFAULT_WEIGHTS, OTHER_WEIGHT
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.popular import Popular
from midstream.retrieval.recent_items import RecentItems
from midstream.retrieval.recently_viewed import RecentlyViewed
from midstream.retrieval.repeat import RepeatItems
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.trending import Trending

Document: TypeAlias = Mapping[str, Any]
Texts: TypeAlias = Mapping[str, str]

SOURCE_WORDS: Final = {
    "session_knn": "what came next in sessions like this one",
    "covisitation": "what is acted on together with the visitor's last items",
    "trending": "what is acted on most at the moment",
    "popular": "what is acted on most in the long run",
    "recent_items": "what is new in the catalogue",
    "recently_viewed": "what this visitor looked at last",
    "repeat": "what this visitor buys again and again",
    "similar": "what is like the item of the page",
    "editorial": "what the shop puts forward",
}
"""Kinds of sources in the words of a shop."""
ADDABLE: Final[Mapping[str, int]] = {
    "session_knn": SessionKnn().limit,
    "covisitation": Covisitation().limit,
    "trending": Trending().limit,
    "popular": Popular().limit,
    "recent_items": RecentItems().limit,
    "recently_viewed": RecentlyViewed().limit,
    "repeat": RepeatItems().limit,
}
"""Kinds that need no setting of their own, and the limit that each has by default."""
EXCLUDE_WORDS: Final = {
    "impression": "seen",
    "served": "served by this placement",
    "served_anywhere": "served by any placement",
}
"""Names in ``exclude`` beside the configured interactions."""
CAPS_MAX: Final = 4
"""Of a placement."""
_LABELS: Final = {
    "slate_size": "Number of items",
    "deadline": "Deadline",
    "filter": "Filter",
    "user": "User",
    "on": "proposes",
    "max": "at most",
}
"""Words for fields, and for their last parts."""
ON: Final = "on"
"""Value of a checkbox that is ticked."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source of the placement, or one that can be added."""

    name: str
    kind: str
    words: str
    has_limit: bool
    default_weight: float


@dataclass(frozen=True, slots=True)
class PlacementDraft:
    """A document that a form makes."""

    document: Document
    fields: Texts
    """Pointer into the document → field of the form that has its value."""

    def field_of(self, pointer: str) -> str | None:
        """Return the field of a fault, the nearest one around it; None = the form has none."""
        steps = pointer.split("/")
        tried = ("/".join(steps[:stop]) for stop in range(len(steps), 1, -1))
        return next((self.fields[each] for each in tried if each in self.fields), None)


@dataclass(frozen=True, slots=True)
class PlacementForm:
    """Fields of a placement with their texts, and what is wrong with them."""

    document: Document
    """That the fields are of."""
    actions: Sequence[str]
    """Names that ``exclude`` may have."""
    texts: Texts
    faults: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict[str, Sequence[Mapping[str, str]]])

    @property
    def sources(self) -> Sequence[SourceRow]:
        """The sources of the document in order, then those that can be added."""
        return _source_rows(self.document)

    @property
    def excluded(self) -> Sequence[tuple[str, str]]:
        """Names in ``exclude`` and their words."""
        return [(each, EXCLUDE_WORDS.get(each, each)) for each in _excluded(self.document, self.actions)]

    @property
    def options(self) -> Sequence[str]:
        """Options of the selector that are a number or a text."""
        return [name for name, _ in _options(self.document)]

    @property
    def caps(self) -> range:
        """Numbers of the rows of caps: those that there are, and an empty one."""
        return range(_cap_rows(self.document))


@dataclass(frozen=True, slots=True)
class ChangedSetting:
    """A field of the form whose text is another one now."""

    label: str
    before: str
    after: str


def digest(document: Document | None) -> str:
    """Return a short text that is another one for another document."""
    return hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()[:16]


def form_of(document: Document, actions: Sequence[str]) -> PlacementForm:
    """Return the form of a document as it is."""
    return PlacementForm(document, actions, texts_of(document, actions))


def texts_of(document: Document, actions: Sequence[str]) -> dict[str, str]:
    """Return the text of each field; empty = the default, or switched off."""
    found = {name: _text(document.get(name)) for name in ("slate_size", "deadline", "filter")}
    found |= {f"exclude.{each}": _text(document["exclude"].get(each)) for each in _excluded(document, actions)}
    by_name = {_name_of(each): each for each in document["sources"]}
    for row in _source_rows(document):
        there = by_name.get(row.name)
        found[f"source.{row.name}.on"] = "" if there is None else ON
        if row.has_limit:
            found[f"source.{row.name}.limit"] = _text(ADDABLE[row.kind] if there is None else there["limit"])
        found[f"source.{row.name}.weight"] = _text(document["weights"].get(row.name))
    found |= {f"selector.{name}": _text(value) for name, value in _options(document)}
    for number in range(_cap_rows(document)):
        cap: Document = document["caps"][number] if number < len(document["caps"]) else {}
        found |= {f"cap.{number}.{name}": _text(cap.get(name)) for name in ("attribute", "max")}
    spread: Document = document["diversity"] or {}
    return found | {f"diversity.{name}": _text(spread.get(name)) for name in ("attribute", "weight")}


def laid_over(document: Document, actions: Sequence[str], told: Texts) -> PlacementDraft:
    """Return a document with the fields that differ from its own.

    Args:
        document: Kept as it is.
        actions: Names that ``exclude`` may have.
        told: Text of each field; one that is missing is as in the document.
    """
    was = texts_of(document, actions)
    now = {name: told.get(name, text).replace("\r\n", "\n").strip() for name, text in was.items()}
    new = {name for name, text in was.items() if now[name] != text.strip()}
    made: dict[str, Any] = deepcopy(dict(document))
    fields = {f"/{name}": name for name in ("slate_size", "deadline", "filter")}
    for name in {"slate_size", "deadline"} & new:
        _put(made, name, _number(now[name]) if name == "slate_size" else now[name])
    if "filter" in new:
        made["filter"] = now["filter"] or None
    for each in _excluded(document, actions):
        fields[f"/exclude/{each}"] = f"exclude.{each}"
        if f"exclude.{each}" in new:
            _put(made["exclude"], each, _number(now[f"exclude.{each}"]))
    _lay_sources(made, fields, now, new)
    for name, value in _options(document):
        fields[f"/selector/{name}"] = f"selector.{name}"
        if f"selector.{name}" in new:
            text = now[f"selector.{name}"]
            _put(made["selector"], name, text if isinstance(value, str) else _number(text))
    _lay_caps(made, fields, now, new)
    _lay_diversity(made, fields, now, new)
    return PlacementDraft(made, fields)


def changed_settings(before: Texts, after: Texts) -> Sequence[ChangedSetting]:
    """Return the fields that differ, with words for them; of a source that is off neither limit nor weight count."""
    off = {
        name.removesuffix(".on")
        for name, text in before.items()
        if name.endswith(".on") and after.get(name, text) != ON
    }
    return [
        ChangedSetting(label_of(name), _shown(name, text), _shown(name, after[name]))
        for name, text in before.items()
        if after.get(name, text).replace("\r\n", "\n").strip() != text.strip()
        and not (name.rpartition(".")[0] in off and not name.endswith(".on"))
    ]


def label_of(name: str) -> str:
    """Return the words for a field.

    Example:
        >>> label_of("slate_size"), label_of("source.trending.limit"), label_of("cap.0.max")
        ('Number of items', 'Source trending: limit', 'Cap 1: at most')
    """
    part, _, rest = name.partition(".")
    of, _, last = rest.rpartition(".")
    if part == "cap":
        return f"Cap {int(of) + 1}: {_LABELS.get(last, last)}"
    if part == "source":
        return f"Source {of}: {_LABELS.get(last, last)}"
    return f"{part.capitalize()}: {rest}" if rest else _LABELS[name]


def _shown(name: str, text: str) -> str:
    if name.endswith(".on"):
        return "yes" if text else "no"
    return text.strip() or "\N{EN DASH}"


def _lay_sources(made: dict[str, Any], fields: dict[str, str], now: Texts, new: set[str]) -> None:
    kept, by_name = list[dict[str, Any]](), {_name_of(each): each for each in made["sources"]}
    for row in _source_rows(made):
        place = f"source.{row.name}"
        if now[f"{place}.on"] != ON:
            continue  # with limit and weight, whatever they are: it proposes nothing
        fields[f"/weights/{row.name}"] = f"{place}.weight"
        if f"{place}.weight" in new:
            _put(made["weights"], row.name, _number(now[f"{place}.weight"]))
        source = by_name.get(row.name, {"kind": row.kind})
        fields[f"/sources/{len(kept)}"] = f"{place}.on"
        fields[f"/sources/{len(kept)}/limit"] = f"{place}.limit"
        if f"{place}.limit" in new:
            _put(source, "limit", _number(now[f"{place}.limit"]))
        kept.append(source)
    made["sources"] = kept


def _lay_caps(made: dict[str, Any], fields: dict[str, str], now: Texts, new: set[str]) -> None:
    kept = list[dict[str, Any]]()
    for number in range(_cap_rows(made)):
        place = f"cap.{number}"
        cap: dict[str, Any] = made["caps"][number] if number < len(made["caps"]) else {}
        attribute, most = now[f"{place}.attribute"], now[f"{place}.max"]
        if not attribute and not most:
            continue
        fields |= {f"/caps/{len(kept)}": f"{place}.attribute"}
        fields |= {f"/caps/{len(kept)}/{name}": f"{place}.{name}" for name in ("attribute", "max")}
        for name, value in (("attribute", attribute), ("max", _number(most))):
            if f"{place}.{name}" in new:
                _put(cap, name, value)
        kept.append(cap)
    made["caps"] = kept


def _lay_diversity(made: dict[str, Any], fields: dict[str, str], now: Texts, new: set[str]) -> None:
    fields |= {"/diversity": "diversity.attribute"}
    fields |= {f"/diversity/{name}": f"diversity.{name}" for name in ("attribute", "weight")}
    if not now["diversity.attribute"] and not now["diversity.weight"]:
        made["diversity"] = None
    elif {"diversity.attribute", "diversity.weight"} & new:
        spread: dict[str, Any] = made["diversity"] or {}
        _put(spread, "attribute", now["diversity.attribute"])
        _put(spread, "weight", _number(now["diversity.weight"]))
        made["diversity"] = spread


def _put(at: dict[str, Any], name: str, value: object) -> None:
    """Set a value; an empty text takes it away, so that the default is in force."""
    if value == "":
        at.pop(name, None)
    else:
        at[name] = value


def _source_rows(document: Document) -> Sequence[SourceRow]:
    own = [SourceRow(*_named(each), "limit" in each, _weight_of(_name_of(each))) for each in document["sources"]]
    taken = {each.name for each in own}
    more = [SourceRow(kind, kind, SOURCE_WORDS[kind], True, _weight_of(kind)) for kind in ADDABLE if kind not in taken]  # noqa: FBT003
    return [*own, *more]


def _named(source: Document) -> tuple[str, str, str]:
    kind = source["kind"]
    return _name_of(source), kind, SOURCE_WORDS.get(kind, f"a source of the kind {kind}")


def _name_of(source: Document) -> str:
    name: str = source.get("name") or source["kind"]
    return name


def _weight_of(name: str) -> float:
    return DEFAULT_WEIGHTS.get(name, OTHER_WEIGHT)


def _excluded(document: Document, actions: Sequence[str]) -> Sequence[str]:
    return sorted({*actions, *EXCLUDE_WORDS, *document["exclude"]})


def _options(document: Document) -> Iterator[tuple[str, str | float]]:
    for name, value in document["selector"].items():
        is_plain = isinstance(value, str | int | float) and not isinstance(value, bool)
        if is_plain and not (document["selector"]["kind"] == "custom" or name == "kind"):
            yield name, value


def _cap_rows(document: Document) -> int:
    return min(len(document["caps"]) + 1, CAPS_MAX)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _number(text: str) -> str | float:
    """Return the number of a text, or the text where it is none, for the route to refuse."""
    for read in (int, float):
        try:
            found = read(text)
        except ValueError:
            continue
        return found if math.isfinite(found) else text
    return text
