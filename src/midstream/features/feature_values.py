"""Feature values set from outside: each is a change of the attribute or profile field that the feature reads.

So a set value is an event like any other: in the log, durable, exact as of any moment, erased with its user; the newest
event time wins. A computed feature has no field; its error names the alternatives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from midstream.core.errors import Fault
from midstream.events.wire import AttributeKind, vector_length
from midstream.features.kinds.kinds import AnyFeature, Boolean, Category, Computed, ItemAge, Number, Vector, WordCount
from midstream.features.readers.external import External
from midstream.state.attributes.attributes import number_of

PAGE = "/docs/features.md"
Noun: TypeAlias = Literal["item", "user"]
Form: TypeAlias = Literal["number", "boolean", "text", "texts", "numbers"]
_WORDS: Mapping[Form, str] = {
    "number": "A finite number, or null to take it away.",
    "boolean": "true or false, or null to take it away.",
    "text": "A text, or null to take it away.",
    "texts": "A text or a list of texts, or null to take them away.",
    "numbers": "A list of finite numbers, or null to take it away.",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the values of a feature are kept."""

    noun: Noun
    """Owner of the value: an item's attributes or a user's profile."""
    attribute: str
    form: Form
    """Of one value."""
    length: int = 0
    """Of a vector attribute; 0 = a list may have any."""

    def wrong(self, value: object) -> str:
        """Return what would be right, empty when a value can be kept and read."""
        if value is None or (_fits(self.form, value) and self._has_length(value)):
            return ""
        return f"A list of {self.length} finite numbers, or null to take it away." if self.length else _WORDS[self.form]

    def _has_length(self, value: object) -> bool:
        return not self.length or (isinstance(value, list) and len(cast("list[object]", value)) == self.length)


def settings_of(features: Sequence[AnyFeature], attributes: Mapping[str, AttributeKind]) -> dict[str, Setting]:
    """Return the field of each feature that can be set, by its name."""
    found = {each.name: _setting(each, attributes) for each in features}
    return {name: each for name, each in found.items() if each is not None}


def refusal(feature: AnyFeature, settable: Sequence[str]) -> Fault:
    """Return the error of a feature that cannot be set, with the alternatives."""
    kind = str(type(feature).__struct_config__.tag)
    others = f" Of the declared features these can be set: {', '.join(settable)}." if settable else ""
    return Fault(
        "name", f'"{feature.name}" is of the kind {kind}, {_origin(feature)}', f"{_instead(feature)}{others}", PAGE
    )


def _setting(feature: AnyFeature, attributes: Mapping[str, AttributeKind]) -> Setting | None:
    """Return where values of a feature are kept, None = nowhere."""
    name: str = getattr(feature, "attribute", "") or feature.name
    scope: str = getattr(feature, "scope", "item")
    form: Form | None
    match feature:
        case Vector() | Number(reduce=str()):
            form = "numbers"
        case Number() | ItemAge() if isinstance(feature, Number) or feature.attribute:
            form = "number"
        case Boolean():
            form = "boolean"
        case Category() if scope == "item" and attributes.get(name) == "tags":
            form = "texts"
        case Category() | WordCount():
            form = "text"
        case _:
            form = None
    if form is None or scope == "request":
        return None
    is_item = scope != "user"
    length = vector_length(attributes.get(name, "")) if is_item and form == "numbers" else 0
    return Setting("item" if is_item else "user", name, form, length)


def _origin(feature: AnyFeature) -> str:
    """Return in words where the values of a feature that cannot be set come from."""
    if isinstance(feature, External):
        return f'read from the table "{feature.table}".'
    if isinstance(feature, Computed):
        return "computed from other features."
    if getattr(feature, "scope", "") == "request" or not hasattr(feature, "actions"):
        return "known at the request alone."
    return "computed from events."


def _instead(feature: AnyFeature) -> str:
    """Return what to do instead."""
    if isinstance(feature, External):
        return "Write a row with a time to the table's file, then POST /v1/rebuild."
    if isinstance(feature, Computed):
        return "Set one of the features that its text reads, or change the text."
    if getattr(feature, "scope", "") == "request" or not hasattr(feature, "actions"):
        return "Send what it reads with the request: context, item_fields or items."
    return "Record the events that it is made of: POST /v1/events, also late ones with their time."


def _fits(form: Form, value: object) -> bool:
    if form == "number":
        return number_of(value) == number_of(value)  # NaN is what is no number
    if form == "boolean":
        return isinstance(value, bool)
    if form == "text":
        return isinstance(value, str)
    each = cast("Sequence[object]", value) if isinstance(value, list) else ()
    if form == "numbers":
        return isinstance(value, list) and all(_fits("number", one) for one in each)
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in each))
