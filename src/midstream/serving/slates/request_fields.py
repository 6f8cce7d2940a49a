"""Common fields of question bodies: each field, its bounds and its meaning stands here once."""

from collections.abc import Mapping
from typing import Annotated, TypedDict

import msgspec

from midstream.core.durations import parse_duration_ms
from midstream.core.errors import Fault, RequestInvalid
from midstream.engine.request_validation import FIELDS_OF_ITEM_MAX, ITEM_FIELDS_MAX
from midstream.engine.types import Value
from midstream.features.expressions.tree import TEXT_CHARACTERS_MAX
from midstream.serving.http.problems import PAGE

SLATE_MAX = 100
"""Items of a slate, as many as an impression may report at once."""
ITEMS_MAX = 200
"""Items of a basket: four times what the state keeps of a session."""
EXCLUDE_MAX = 1_000
"""Two hundred pages of five that were shown already."""
FIELDS_MAX = 32
CONTEXT_MAX = 64
TOKEN_CHARS_MAX = 128
DEADLINE_MS_MAX = 10_000
"""A page that waits longer has lost its visitor."""

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Token = Annotated[str, msgspec.Meta(max_length=TOKEN_CHARS_MAX)]
Items = Annotated[tuple[Text, ...], msgspec.Meta(max_length=ITEMS_MAX)]
Exclude = Annotated[tuple[Text, ...], msgspec.Meta(max_length=EXCLUDE_MAX)]
Fields = Annotated[tuple[Name, ...], msgspec.Meta(max_length=FIELDS_MAX)]
Condition = Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_CHARACTERS_MAX)]
Size = Annotated[int, msgspec.Meta(ge=1, le=SLATE_MAX)]
Context = Annotated[dict[Name, str | float | bool], msgspec.Meta(max_length=CONTEXT_MAX)]
ItemFields = Annotated[
    dict[Text, Annotated[dict[Name, float], msgspec.Meta(max_length=FIELDS_OF_ITEM_MAX)]],
    msgspec.Meta(max_length=ITEM_FIELDS_MAX),
]


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """What every question may have."""

    context: Context = {}
    item_fields: ItemFields = {}
    exclude: Exclude = ()
    min_log_position: Token | None = None
    deadline: Name | None = None
    explain: bool = False
    reasons: Name | None = None


class SlateQuestion(Question, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """What a question about one placement may have."""

    placement: Name | None = None
    filter: Condition | None = None
    fields: Fields = ()


class Common(TypedDict):
    """Those fields of an ask that every question may say."""

    exclude: tuple[str, ...]
    context: Mapping[str, Value]
    item_fields: Mapping[str, Mapping[str, float]]
    min_log_position: str | None
    deadline_ms: int | None
    explain: bool
    reasons: str | None


def common(question: Question) -> Common:
    """Return what is asked as far as every question says it.

    Raises:
        RequestInvalid: The deadline is no duration, or out of bounds.
    """
    return Common(
        exclude=question.exclude,
        context=question.context,
        item_fields=question.item_fields,
        min_log_position=question.min_log_position,
        deadline_ms=None if question.deadline is None else deadline_ms(question.deadline),
        explain=question.explain,
        reasons=question.reasons,
    )


def deadline_ms(text: str) -> int:
    """Return the milliseconds of a deadline such as ``50ms``.

    Raises:
        RequestInvalid: Not a duration, or not within 1 ms and 10 s.
    """
    try:
        found = parse_duration_ms(text)
    except ValueError:
        found = 0
    if not 1 <= found <= DEADLINE_MS_MAX:
        right = "A whole number and ms or s, such as 50ms, from 1ms to 10s."
        raise RequestInvalid((Fault("/deadline", f'"{text}" came.', right, PAGE),))
    return found
