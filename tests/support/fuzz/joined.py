"""Outcomes of slates in the state, beside those of a model in dictionaries of the same events."""

from collections import Counter
from collections.abc import Mapping

from midstream.state.outcomes.outcomes import Outcomes
from tests.support.fuzz.ledger import Broken
from tests.support.join import JoinedSlate, ReferenceJoin, slates_as_told


def check_join(outcomes: Outcomes, model: ReferenceJoin, position: int) -> None:
    """Every slate that is held, what followed at each of its positions, what waits, and all sums.

    Raises:
        Broken: They differ; the text says where.
    """
    held, expected = slates_of(outcomes), list(model.slates.values())
    if held != expected:
        raise Broken(f"at {position} these slates are held: {held}, and should be {expected}")
    waiting, waits = outcomes.arrays()["waiting_item"].tolist(), [each.item for each in model.waiting]
    if waiting != waits:
        raise Broken(f"at {position} outcomes of {waiting} wait for their slate, and should of {waits}")
    if outcomes.totals != {name: model.totals[name] for name in outcomes.totals}:
        raise Broken(f"at {position} what became of outcomes is {outcomes.totals}, and should be {model.totals}")
    if (sums := sums_of(outcomes)) != +model.counts:
        raise Broken(f"at {position} sums are {sums}, and should be {model.counts}")


def check_forgotten(outcomes: Outcomes, erased_at: Mapping[int, int], position: int) -> None:
    """Nothing is held of what a user was served, or did, before the user was erased.

    Args:
        outcomes: The table.
        erased_at: Hash of a user id to the log position of the erasure.
        position: Where the table stands.

    Raises:
        Broken: A slate of such a user is there.
    """
    for slate in slates_of(outcomes):
        if slate.log_position < erased_at.get(slate.user, -1):
            raise Broken(f"at {position} a slate is held whose user was erased behind it: {slate}")


def slates_of(outcomes: Outcomes) -> list[JoinedSlate]:
    """Return the slates that are held, the oldest first."""
    return [each for some in outcomes.held() for each in slates_as_told(outcomes, some, outcomes.actions)]


def sums_of(outcomes: Outcomes) -> Counter[tuple[tuple[str, str, str], str]]:
    """Return the sums of all groups as the model has them, without those that are 0."""
    found: Counter[tuple[tuple[str, str, str], str]] = Counter()
    for each in outcomes.counts():
        named = {"slates": each.slates, "positions": each.positions, "impression": each.impressions, **each.acted}
        placement, plan, tier = each.group
        found.update({((placement, plan, tier), name): count for name, count in named.items() if count})
    return found
