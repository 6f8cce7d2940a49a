"""Keyword arguments of the Python API, as types: the fields of each request."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from midstream.engine.types import Value


class _Question(TypedDict, total=False):
    """Common fields of requests, as in ``Ask``."""

    exclude: Sequence[str]
    context: Mapping[str, Value]
    item_fields: Mapping[str, Mapping[str, float]]
    deadline_ms: int | None
    explain: bool
    reasons: str | None


class ManyRequest(_Question, total=False):
    """Fields of a request for several users, as in ``Ask``."""

    n: int | None
    filter: str | None
    fields: Sequence[str]


class RankRequest(ManyRequest, total=False):
    """Fields of a ranking, as in ``Ask``; ``basket`` is ``items`` of a recommendation."""

    user_id: str | None
    session_id: str | None
    basket: Sequence[str]


class Request(ManyRequest, total=False):
    """Fields of a recommendation, as in ``Ask``."""

    user_id: str | None
    session_id: str | None
    items: Sequence[str]
    cursor: str | bool | None


class SharedRequest(_Question, total=False):
    """Common fields of the slates of a page, as in ``Ask``."""

    user_id: str | None
    session_id: str | None
    items: Sequence[str]


class FeatureRequest(TypedDict, total=False):
    """Fields of a feature read, as in ``FeatureAsk``."""

    user_id: str | None
    session_id: str | None
    item_fields: Mapping[str, Mapping[str, float]]
    context: Mapping[str, Value]
    features: Sequence[str]
