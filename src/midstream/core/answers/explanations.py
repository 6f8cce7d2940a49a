"""Explanations of slates: sources and evidence of each item, parts of its score, effects of rules, and its rank."""

from collections.abc import Mapping

import msgspec


class ScoreParts(msgspec.Struct, frozen=True, omit_defaults=True):
    """A score as the sum of a base and the contribution of each feature."""

    scorer: str
    base: float = 0.0
    """Of an item of which nothing is known."""
    parts: Mapping[str, float | None] = {}
    """By feature, in descending order of the absolute value; zeros are left out. None = the contribution is no number;
    these are last. Empty = the scorer has no attribution."""
    link: str = "sum"
    """``sum``: base and parts add up to the score; ``logistic``: to x, and the score is 1 / (1 + exp(−scale · x))."""
    scale: float = 1.0


class Effect(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule of the slate that moved an item, or kept it out."""

    rule: str
    effect: str
    """A word of ``ranking.rules.WORDS``, such as ``pinned`` or ``capped``, or more of them."""
    factor: float | None = None
    """Of a boost."""
    before: float | None = None
    """Worth of the item without the boost: its score, with all earlier boosts of the file."""
    after: float | None = None
    """Worth with the boost."""
    penalty: float | None = None
    """Penalty for similarity to the items above its position, or for the divergence of the slate with it from the
    user's acts; with the whole slate if it was not chosen."""
    like: str | None = None
    """Id of the likest item above."""
    likeness: float | None = None
    """To that item, 1 = a double."""


class LedBy(msgspec.Struct, frozen=True):
    """An item of the asker's that led to another."""

    id: str
    share: float
    """Share of this item in the evidence of the source, above 0 and at most 1."""


class Proposed(msgspec.Struct, frozen=True, omit_defaults=True):
    """Proposal of an item by one source."""

    source: str
    rank: int
    """0 = its best."""
    score: float | None
    """None = it is no number."""
    led_by: tuple[LedBy, ...] = ()
    facts: Mapping[str, str | float | None] = {}
    """Counts of the source, where its evidence is not the user's history; None = unknown."""


class Removed(msgspec.Struct, frozen=True, omit_defaults=True):
    """Removal of an item by a filter."""

    filter: str
    part: str = ""
    """The part of the filter's text that is not true, as it is written; empty where there is no text."""


class ItemWhy(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why one item is where it is."""

    id: str
    outcome: str
    """``served``, ``not_selected`` (scored, and not in the slate), ``not_scored`` (cut), ``removed`` (by a filter),
    ``not_proposed``, ``deleted``, ``unknown``, or ``unexplained`` (a component that decided it fails in the rerun)."""
    because: str
    """The same in a sentence."""
    position: int | None = None
    propensity: float | None = None
    score: float | None = None
    """None = it has none, as a pinned item may."""
    rank: int | None = None
    """Place by the score alone among the candidates, 0 = the highest; None = it has no score."""
    proposed: tuple[Proposed, ...] = ()
    features: Mapping[str, float | None] = {}
    """Values of the placement's features; None = missing."""
    parts: ScoreParts | None = None
    removed: tuple[Removed, ...] = ()
    effects: tuple[Effect, ...] = ()


class SlateWhy(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Explanation of a slate and of further items."""

    request_id: str
    placement: str
    log_position: int
    """Of the state that answered."""
    config_hash: str
    tier: str
    scorer: str
    recent: tuple[str, ...]
    """Items of the request's session, oldest first."""
    retrieved: Mapping[str, int]
    removed: Mapping[str, int]
    candidate_count: int
    items: tuple[ItemWhy, ...]
    """Of the slate, in its order."""
    asked: tuple[ItemWhy, ...] = ()
    """Explanations of further items that the caller named."""
    failures: Mapping[str, str] = {}
    """Components that failed in the logged answer, each with its reason."""
    unexplained: Mapping[str, str] = {}
    """Components that failed while this explanation was made, each with its reason; their share of it is missing."""
    models: Mapping[str, str] = {}


class FieldDifference(msgspec.Struct, frozen=True):
    """A field that was one thing then and is another now."""

    field: str
    """Field of the record, with the position in the slate where only one differs: ``ids[3]``."""
    then: str
    now: str


class Explained(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why a logged request was answered as it was."""

    request_id: str
    identical: bool
    """Whether the request was run again and the answer is the logged one to the bit."""
    differences: tuple[FieldDifference, ...] = ()
    """Differences to the logged answer, or missing inputs of the rerun."""
    slate: tuple[str, ...] = ()
    """Ids of the items that were served."""
    continues: str = ""
    """Request id of the slate whose order this one continues, by a cursor: its explanation has the reasons, this one
    has none. Empty = it continues none."""
    took_us: int | None = None
    """Microseconds from the request's admission to its slate, as logged; None = not measured."""
    why: SlateWhy | None = None
    """Of the request as it is answered now; None = it cannot be answered any more, or it continues another."""


class JobView(msgspec.Struct, frozen=True):
    """Progress of a child process that makes an answer."""

    state: str
    stage: str
    progress: float
