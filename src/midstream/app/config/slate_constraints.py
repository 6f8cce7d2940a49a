"""Constraints of a placement's scorers, selector, caps and diversity: the columns that they read must be configured."""

from collections.abc import Iterator

from midstream.app.config.bounds import distinct, known, listed
from midstream.app.config.filter_constraints import age_faults
from midstream.app.config.rule_constraints import PAGE as RULES
from midstream.app.config.rule_constraints import rule_faults
from midstream.app.config.schema import Config, Custom, Placement
from midstream.core.errors import Fault
from midstream.core.nearest import nearest
from midstream.features.kinds.kinds import columns_of
from midstream.integrations.model_servers.constraints import remote_faults
from midstream.integrations.model_servers.remote_scorer import RemoteScorer
from midstream.ranking.rules.calibration import CalibratedSelector
from midstream.ranking.scorers.model_scorer import OF_SOURCES
from midstream.ranking.scorers.objectives import Objectives
from midstream.ranking.selectors.thompson import Thompson
from midstream.ranking.selectors.top_k import TopK

PAGE, MODELS = "/docs/selectors.md", "/docs/models.md"
WEIGHT_MAX = 1_000_000
"""Of an objective, above or below 0."""
_CAPPED = ("category", "tags")


def scorer_faults(config: Config, placement: Placement, where: str) -> Iterator[Fault]:
    """Yield the faults of a placement's scorers; whether models fit is checked when they are loaded.

    Args:
        config: All of it.
        placement: One of its placements.
        where: Points at the placement.
    """
    every = [
        (f"{where}.scorers[{n}]", each) for n, each in enumerate(placement.scorers) if not isinstance(each, Custom)
    ]
    yield from distinct(((f"{place}.name", each.name) for place, each in every), "Each name once.", MODELS)
    for place, scorer in every:
        if isinstance(scorer, Objectives):
            yield from _terms(config, placement, scorer, place)
        elif isinstance(scorer, RemoteScorer):
            yield from remote_faults(scorer, _columns(config, placement), place)


def _terms(config: Config, placement: Placement, scorer: Objectives, where: str) -> Iterator[Fault]:
    """Yield the faults of the terms of a sum."""
    terms = [(f"{where}.objectives[{number}]", each) for number, each in enumerate(scorer.objectives)]
    yield from distinct(((f"{place}.model", each.model) for place, each in terms), "Each model once.", MODELS)
    for place, each in terms:
        if not 0 < abs(each.weight) <= WEIGHT_MAX:
            right = f"Another number than 0, at most {WEIGHT_MAX:,} above or below it: it weighs a term of a sum."
            yield Fault(f"{place}.weight", f"{each.weight} came.", right, MODELS)
        if each.value:
            yield from _column(config, placement, each.value, f"{place}.value", MODELS)


def _columns(config: Config, placement: Placement) -> set[str]:
    """Return the columns that a placement gives its scorers: those of its features, and of its sources."""
    read = [each for each in config.features if each.name in placement.features]
    sources = ("popular", "editorial", *(each.name for each in placement.sources))
    of_sources = (f"{kind}{name}" for kind in OF_SOURCES for name in sources)
    return {*of_sources, *(column for names in columns_of(read).values() for column in names)}


def _column(config: Config, placement: Placement, name: str, where: str, page: str) -> Iterator[Fault]:
    """Yield a fault unless a name is a column of the features that a placement reads."""
    read = [each for each in config.features if each.name in placement.features]
    columns = [column for names in columns_of(read).values() for column in names]
    yield from known(where, name, columns, "a column of the features of the placement", "Columns of features", page)


def slate_faults(config: Config, placement: Placement, where: str) -> Iterator[Fault]:
    """Yield the faults of a placement's selector, caps, diversity and rules."""
    yield from _selector(config, placement, f"{where}.selector")
    names = [(cap.attribute, cap.within) for cap in placement.caps]
    for number, (name, within) in enumerate(names):
        place = f"{where}.caps[{number}].attribute"
        yield from _attribute(config, name, place, is_vector_right=False)
        if (name, within) in names[:number]:
            right = "Each attribute once for the slate, and once for each time."
            yield Fault(place, f'"{name}" is there already.', right, RULES)
        if within is not None:
            yield from age_faults(config, str(within), f"{where}.caps[{number}].within", 'A time such as "24h".')
    if placement.diversity is not None:
        yield from _attribute(
            config, placement.diversity.attribute, f"{where}.diversity.attribute", is_vector_right=True
        )
    rule = "caps" if placement.caps else "diversity" if placement.diversity is not None else ""
    if rule and isinstance(placement.selector, Custom):
        came = f"{rule} came beside a selector of your own, which cannot say how probable what is left is."
        yield Fault(f"{where}.{rule}", came, "top_k, plackett_luce, epsilon_greedy or thompson, or without it.", RULES)
    if placement.diversity is not None and isinstance(placement.selector, Thompson):
        came = "It came beside thompson, which goes by rates alone."
        yield Fault(f"{where}.diversity", came, "Another selector, or caps.", RULES)
    yield from rule_faults(placement, where)


def _selector(config: Config, placement: Placement, where: str) -> Iterator[Fault]:
    """Yield the faults of a selector's columns, and of its prior."""
    selector = placement.selector
    if isinstance(selector, CalibratedSelector):
        yield from _attribute(config, selector.attribute, f"{where}.attribute", is_vector_right=False)
        if placement.diversity is not None:
            came = "calibrated came beside diversity, which lowers the same items by another measure."
            yield Fault(where, came, "One of both.", PAGE)
    if not isinstance(selector, TopK | CalibratedSelector | Custom) and selector.keep >= selector.pool:
        came = f"{selector.keep} places are kept of a pool of {selector.pool}: nothing is left to draw."
        yield Fault(f"{where}.keep", came, f"Less than pool, {selector.pool}.", PAGE)
    if not isinstance(selector, Thompson):
        return
    for setting, name in (("acts", selector.acts), ("impressions", selector.impressions)):
        yield from _column(config, placement, name, f"{where}.{setting}", PAGE)
    if selector.prior_acts > selector.prior_impressions - 1:
        came = f"{selector.prior_acts} acts of {selector.prior_impressions} impressions came."
        yield Fault(f"{where}.prior_acts", came, "Less than prior_impressions, by 1 at least.", PAGE)


def _attribute(config: Config, name: str, place: str, *, is_vector_right: bool) -> Iterator[Fault]:
    """Yield the faults of an attribute used for similarity."""
    kinds = config.items.attributes
    right = {each for each, kind in kinds.items() if kind in _CAPPED or (is_vector_right and kind.startswith("vector"))}
    if name not in right:
        came = f'"{name}" is {f"of kind {kinds[name]}" if name in kinds else "not an attribute"}.{nearest(name, right)}'
        told = "a category, tags or a vector" if is_vector_right else "a category or tags"
        may = f"One that is {told}: {listed(right)}" if right else f"One of [items.attributes] that is {told}; none is."
        yield Fault(place, came, may, RULES)
