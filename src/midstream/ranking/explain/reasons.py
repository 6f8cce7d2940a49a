"""Reasons for visitors: one short text an item, in their language, from templates by kind of source.

The source with the largest term in the blend gives the reason. A template may name attributes of the item and of the
user's item with the largest share: ``because you viewed {evidence.title}``. Where one of them is missing, the
language's text without names replaces it. Texts are plain; the page that shows them escapes them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Mask, Served
from midstream.ranking.explain.explanation import evidence_of
from midstream.ranking.plan import Plan
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.reason_texts import EVIDENCE, ID, ITEM, Template
from midstream.ranking.scorers.blend import Blend
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items

SHOWN_CHARACTERS_MAX = 120
"""Of an attribute's text: a title, and no description."""
_PINNED = frozenset(("pinned", "moved"))
"""Words of ``ranking.rules.WORDS`` for items that a pin placed."""


def reasons_for(served: Served, run: PlanRun, language: str) -> tuple[str | None, ...]:
    """Return the reason of each item of a slate, in its order; None = there is no text for it.

    Args:
        served: Result of the pipeline.
        run: Plan of the answer, with its texts, and the state of the answer. Sources whose evidence fails fail in it:
            their items get texts without names.
        language: One of the plan's.

    Cost: 1 µs an item, and where a template names evidence a few queries of the sources that need it.
    """
    chosen, plan, moment = served.selection.chosen, run.plan, run.moment
    texts, plain = plan.reasons.texts.get(language, {}), plan.reasons.plain.get(language, {})
    sources = _without_pins(served, _strongest(served, plan, chosen))
    led = _led(served, run, sources, texts)
    items, vocabulary = moment.table(Items), moment.table(Vocabulary)
    found: list[str | None] = []
    for place, row in enumerate(chosen.tolist()):
        owners = {ITEM: int(served.candidates.item_index[row]), EVIDENCE: led[place]}
        template = texts.get(sources[place])
        text = None if template is None else _filled(template, owners, items, vocabulary)
        found.append(plain.get(sources[place]) if text is None else text)
    return tuple(found)


def _strongest(served: Served, plan: Plan, rows: NDArray[np.intp]) -> tuple[str, ...]:
    """Return the source with the largest term for each candidate; empty = no source proposed it."""
    blend = next((each for each in reversed(plan.scorers) if isinstance(each, Blend)), Blend())
    names = served.candidates.source_names
    if not names:
        return ("",) * len(rows)
    rank = served.candidates.source_rank[rows].T.astype(np.float32)
    rank[rank < 0] = np.nan
    is_proposed: Mask = ~np.isnan(rank)
    # A source of weight 0 that proposed an item says more for it than one that did not.
    terms = np.where(is_proposed, blend.terms_of(names, rank), -np.inf)
    best: list[int] = terms.argmax(axis=0).tolist()
    is_any = np.logical_or.reduce(is_proposed, axis=0).tolist()
    return tuple(names[place] if known else "" for place, known in zip(best, is_any, strict=True))


def _without_pins(served: Served, sources: Sequence[str]) -> tuple[str, ...]:
    """Return the sources of a slate's items, empty for items that a rule placed.

    A pinned item is in the slate whether a source proposed it or not, so its source is no reason.
    """
    pinned = {each.item_index for each in served.traces if each.what in _PINNED}
    items: list[int] = served.candidates.item_index[served.selection.chosen].tolist()
    return tuple("" if item in pinned else source for item, source in zip(items, sources, strict=True))


def _led(served: Served, run: PlanRun, sources: Sequence[str], texts: Mapping[str, Template]) -> list[int]:
    """Return the user's item with the largest share for each item, -1 = there is none, or no text names it."""
    plan = run.plan
    every = {each.name: each for each in (*plan.sources, *plan.floor, plan.fill)}
    items = served.candidates.item_index[served.selection.chosen]
    found = [-1] * len(items)
    for name in dict.fromkeys(sources):
        if name not in texts or all(owner != EVIDENCE for owner, _ in texts[name].fields):
            continue
        places = [place for place, each in enumerate(sources) if each == name]
        for place, evidence in zip(places, evidence_of(every.get(name), items[places], run), strict=True):
            found[place] = evidence.led[0].item_index if evidence.led else -1
    return found


def _filled(template: Template, owners: Mapping[str, int], items: Items, vocabulary: Vocabulary) -> str | None:
    """Return the text with its attributes; None = one of them is not known."""
    said: list[str] = []
    for literal, owner, name in template.parts:
        said.append(literal)
        if not owner:
            continue
        index = owners[owner]
        if index < 0:
            return None
        value = vocabulary.item_id(index) if name == ID else items.value(index, name)
        if value is None or value == "":
            return None
        said.append(_shown(value))
    return "".join(said)


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        text = ", ".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    return text[:SHOWN_CHARACTERS_MAX]
