"""Each gate at its bound, and what it says where there is nothing to judge by."""

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from midstream.training.gates.cost import cost
from midstream.training.gates.decide import decide, shadowed
from midstream.training.gates.evidence import (
    EstimatedValue,
    GateEvidence,
    JudgedActs,
    MeasuredVersion,
    PairedGap,
    ShadowAnswers,
    first_words,
)
from midstream.training.gates.freshness import AHEAD_MS_MAX, freshness
from midstream.training.gates.leak import leak
from midstream.training.gates.off_policy import off_policy
from midstream.training.gates.offline import offline, tightened
from midstream.training.gates.options import GateOptions, before_canary
from midstream.training.gates.results import GATES
from midstream.training.gates.shadow import shadow
from midstream.training.gates.validity import validity

DAY_MS = 86_400_000
NOW_MS = 100 * DAY_MS
GATES_AS = GateOptions()
VERSION = MeasuredVersion(
    version="0002-a", end_ms=NOW_MS, bytes=1_000, items=10, coverage=0.9, scores=100, apart=1.0, cpu_ms=0.5
)
CHAMPION = replace(VERSION, version="0001-a", end_ms=NOW_MS - DAY_MS)
JUDGED = JudgedActs(
    metric="NDCG@10",
    figure=0.5,
    questions=1_000,
    baseline=0.2,
    champion=0.48,
    difference=PairedGap(900, 0.02, -0.01, 0.05),
)
EVIDENCE = GateEvidence(now_ms=NOW_MS, judged=JUDGED, shadow=ShadowAnswers(requests=100, agreement=1.0, cpu_times=1.0))


def judged(**changed: object) -> GateEvidence:
    """Return evidence of which something else is so."""
    return GateEvidence(now_ms=NOW_MS, judged=replace(JUDGED, **changed))


def test_a_good_candidate_passes_all_gates_in_their_order() -> None:
    """The decision names both versions."""
    found = decide(VERSION, CHAMPION, EVIDENCE)
    assert (found.passed, found.gate, found.candidate, found.champion) == (True, "", "0002-a", "0001-a")
    assert tuple(each.name for each in found.results) == GATES
    assert "8 gates passed" in found.reason


def test_gates_behind_the_first_refusal_are_not_asked() -> None:
    """What a broken version scores says nothing."""
    found = decide(replace(VERSION, faults=("weight.npy is damaged",)), CHAMPION, EVIDENCE)
    assert [each.name for each in found.results] == ["validity"]
    assert "weight.npy is damaged" in found.reason


@pytest.mark.parametrize(
    "changed, passes",
    [({"coverage": 0.5}, True), ({"coverage": 0.49}, False), ({"not_finite": 1}, False), ({"apart": 0.4}, False)],
)
def test_validity_at_its_bounds(changed: dict[str, float], passes: bool) -> None:
    """Half of the most popular items; no number that is none; half of the questions told apart."""
    assert validity(replace(VERSION, **changed), None, EVIDENCE, GATES_AS).passed is passes


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"figure": 0.99}, "too good to be true"),
        ({"auc": 0.985}, "AUC of 0.9850"),
        ({"column": "sold", "column_auc": 0.99}, 'the column "sold" alone'),
        ({"foresight": PairedGap(900, 0.1, 0.05, 0.15)}, "later acts of others"),
        ({"champion": 0.1, "difference": PairedGap(900, 0.4, 0.3, 0.5)}, "5.0 times that of the champion"),
    ],
)
def test_each_sign_of_a_leak_is_enough(changed: dict[str, object], words: str) -> None:
    """And the text says which it was."""
    found = leak(VERSION, CHAMPION, judged(**changed), GATES_AS)
    assert (found.outcome, words in found.text) == ("refused", True), found.text


def test_a_rise_from_next_to_nothing_is_no_leak() -> None:
    """From .01 to .05 is five times as much, and little."""
    small = judged(figure=0.05, champion=0.01, difference=PairedGap(900, 0.04, 0.03, 0.05))
    assert leak(VERSION, CHAMPION, small, GATES_AS).passed
    assert leak(VERSION, CHAMPION, judged(foresight=PairedGap(9, 0.0, -0.1, 0.1)), GATES_AS).passed
    assert leak(VERSION, CHAMPION, judged(questions=29, figure=1.0), GATES_AS).outcome == "not_judged"


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"figure": 0.2}, "most popular items"),
        ({"auc": 0.5}, "no better than chance"),
        ({"published": 0.4}, "what would serve has"),
        ({"difference": PairedGap(900, -0.1, -0.12, -0.08)}, "it is worse"),
        ({"difference": PairedGap(900, 0.0, -0.06, 0.06)}, "that it is not worse is not seen"),
        ({"difference": PairedGap(29, 0.1, 0.0, 0.2), "why_not": ""}, "29 questions are new to both"),
        ({"difference": None, "why_not": "it has learned all"}, "it has learned all"),
        ({"questions": 3}, "3 questions judge it"),
    ],
)
def test_offline_refuses_what_is_not_seen_to_be_as_good(changed: dict[str, object], words: str) -> None:
    """Not worse is shown, within the loss that is tolerated."""
    found = offline(VERSION, CHAMPION, judged(**changed), GATES_AS)
    assert (found.outcome, words in found.text) == ("refused", True), found.text


def test_offline_at_its_margin_and_without_a_champion() -> None:
    """A tenth of the champion's figure before a canary, else a twentieth; a first version has to beat none."""
    for bounds, margin in (
        (GATES_AS, 0.05),
        (before_canary(GATES_AS), 0.1),
        (before_canary(GateOptions(worse_max=0.02)), 0.02),
    ):
        at = PairedGap(900, 0.0, -margin * 0.48, 0.03)
        assert offline(VERSION, CHAMPION, judged(difference=at), bounds).passed
        assert not offline(VERSION, CHAMPION, judged(difference=replace_low(at)), bounds).passed
    assert offline(VERSION, None, judged(difference=None, champion=None), GATES_AS).passed
    lenient = GateOptions(unjudged="pass")
    assert offline(VERSION, CHAMPION, judged(figure=None, questions=0), lenient).outcome == "not_judged"


@pytest.mark.parametrize("worse_max", [None, 0.0, 0.5])
def test_what_would_serve_is_what_was_judged_whatever_may_be_lost_against_the_champion(worse_max: float | None) -> None:
    """A twentieth at most: it is another model otherwise, which no canary and no option makes the same."""
    bounds = GateOptions(worse_max=worse_max)
    ahead = PairedGap(900, 0.1, 0.05, 0.2)
    assert offline(VERSION, CHAMPION, judged(difference=ahead, published=0.476), bounds).passed
    found = offline(VERSION, CHAMPION, judged(difference=ahead, published=0.474), bounds)
    assert (found.outcome, "what would serve has" in found.text) == ("refused", True)


def test_a_pass_before_a_canary_is_no_pass_without_one() -> None:
    """By the same interval; a bound that was as low before stays as it was."""
    near, far = (judged(difference=PairedGap(900, 0.0, low * 0.48, 0.03)) for low in (-0.04, -0.06))
    wide = before_canary(GATES_AS)
    assert tightened(offline(VERSION, CHAMPION, near, wide), wide.loss_max, GATES_AS).passed
    found = tightened(offline(VERSION, CHAMPION, far, wide), wide.loss_max, GATES_AS)
    assert found.outcome == "refused"
    assert found.bound == pytest.approx(-0.05 * 0.48)
    assert tightened(offline(VERSION, CHAMPION, far, wide), wide.loss_max, GateOptions(worse_max=0.3)).passed


def replace_low(gap: PairedGap) -> PairedGap:
    """Return an interval that reaches a little lower."""
    return replace(gap, low=gap.low - 1e-9)


def test_freshness_goes_by_log_time_and_never_back_behind_the_champion() -> None:
    """Seven days; what is ahead of the log is refused, and a champion that is ahead is no measure."""
    week = replace(VERSION, end_ms=NOW_MS - 7 * DAY_MS)
    assert freshness(week, None, EVIDENCE, GATES_AS).passed
    assert not freshness(replace(week, end_ms=week.end_ms - 1), None, EVIDENCE, GATES_AS).passed
    assert "older than the champion" in freshness(week, CHAMPION, EVIDENCE, GATES_AS).text
    ahead = replace(VERSION, end_ms=NOW_MS + AHEAD_MS_MAX)
    assert freshness(ahead, None, EVIDENCE, GATES_AS).passed
    found = freshness(replace(ahead, end_ms=ahead.end_ms + 1), None, EVIDENCE, GATES_AS)
    assert (found.outcome, "ahead of the log's time" in found.text) == ("refused", True)
    assert freshness(VERSION, replace(CHAMPION, end_ms=NOW_MS + DAY_MS), EVIDENCE, GATES_AS).passed


def test_cost_is_bounded_by_itself_and_by_the_champion() -> None:
    """Little is always allowed: a millisecond, a mebibyte."""
    small = replace(CHAMPION, cpu_ms=0.001, bytes=10)
    assert cost(replace(VERSION, cpu_ms=1.0, bytes=1 << 20), small, EVIDENCE, GATES_AS).passed
    assert not cost(replace(VERSION, cpu_ms=1.01), small, EVIDENCE, GATES_AS).passed
    assert not cost(replace(VERSION, bytes=(1 << 20) + 1), small, EVIDENCE, GATES_AS).passed
    assert not cost(replace(VERSION, cpu_ms=20.1), None, EVIDENCE, GATES_AS).passed
    assert not cost(replace(VERSION, cpu_ms=None), None, EVIDENCE, GATES_AS).passed


def test_a_value_that_cannot_be_estimated_is_said_so() -> None:
    """It passes or not as the options say; off says that it is off."""
    unknown = GateEvidence(now_ms=0, value=EstimatedValue(why_not="no support"))
    told = [GateOptions(), GateOptions(off_policy="report"), GateOptions(off_policy="refuse")]
    results = [off_policy(VERSION, CHAMPION, unknown, each) for each in told]
    assert [each.outcome for each in results] == ["not_judged", "not_judged", "refused"]
    found = results[-1]
    assert "cannot be estimated: no support" in found.text
    low = EstimatedValue(candidate=1.0, low=0.89, champion=1.0, slates=2_000)
    options = GateOptions(off_policy="report")
    assert not off_policy(VERSION, CHAMPION, GateEvidence(now_ms=0, value=low), options).passed
    assert off_policy(VERSION, CHAMPION, GateEvidence(now_ms=0, value=replace(low, low=0.9)), options).passed
    harm = EstimatedValue(candidate=-1.0, low=-1.2, champion=-1.0, slates=2_000)
    assert not off_policy(VERSION, CHAMPION, GateEvidence(now_ms=0, value=harm), options).passed


@pytest.mark.parametrize(
    "seen, words",
    [
        (ShadowAnswers(requests=200, failures=1), "1 failures"),
        (ShadowAnswers(requests=200, not_finite=1), "1 scores that are no numbers"),
        (ShadowAnswers(requests=200, cpu_times=4.1), "4.1 times as long"),
        (ShadowAnswers(requests=200, agreement=0.09), "9% of the champion's items"),
    ],
)
def test_the_shadow_refuses_what_answers_otherwise(seen: ShadowAnswers, words: str) -> None:
    """Failures, numbers that are none, time, and another shop altogether."""
    found = shadow(VERSION, CHAMPION, GateEvidence(now_ms=0, shadow=seen), GateOptions(agreement_min=0.1))
    assert (found.outcome, words in found.text) == ("refused", True), found.text
    assert shadow(VERSION, None, GateEvidence(now_ms=0, shadow=seen), GATES_AS).outcome == "not_judged"


@pytest.mark.parametrize("seen", [None, ShadowAnswers(), ShadowAnswers(why_not="the state of then is gone")])
def test_a_shadow_without_a_request_waits_and_then_refuses(seen: ShadowAnswers | None) -> None:
    """It never passes: nothing was seen. One that is off is not asked."""
    found = decide(VERSION, CHAMPION, replace(EVIDENCE, shadow=seen))
    assert (found.passed, found.waits, found.gate, found.results[-1].outcome) == (False, True, "shadow", "waits")
    assert decide(VERSION, CHAMPION, replace(EVIDENCE, shadow=seen), GateOptions(shadow=False)).passed
    versions, day = ("0002-a", "0001-a"), GATES_AS.shadow_wait.ms
    again = shadowed(versions, found.results, seen or ShadowAnswers(), GATES_AS, day - 1)
    assert (again.waits, len(again.results)) == (True, len(GATES))
    late = shadowed(versions, found.results, seen or ShadowAnswers(), GATES_AS, day)
    assert (late.waits, late.passed, "not enough requests in 1d" in late.reason) == (False, False, True)
    assert shadowed(versions, found.results, ShadowAnswers(requests=100), GATES_AS, day).passed


def test_a_shadow_of_few_requests_waits_and_what_fails_in_few_is_refused() -> None:
    """99 that pass say too little, at last that refuses; one that fails says enough; the least may be set lower."""
    versions, day = ("2", "1"), GATES_AS.shadow_wait.ms
    few = shadowed(versions, (), ShadowAnswers(requests=99), GATES_AS, day - 1)
    assert (few.waits, "requests_min is 100" in few.reason) == (True, True)
    late = shadowed(versions, (), ShadowAnswers(requests=99), GATES_AS, day)
    assert (late.passed, late.waits, "99 requests were run again" in late.reason) == (False, False, True)
    assert late.results[-1].outcome == "refused"
    failing = shadowed(versions, (), ShadowAnswers(requests=1, failures=1), GATES_AS, 0)
    assert (failing.passed, failing.waits) == (False, False)
    one = replace(GATES_AS, requests_min=1)
    assert shadowed(versions, (), ShadowAnswers(requests=1), one, 0).passed


def test_a_figure_that_a_rerunning_child_lost_is_a_fault() -> None:
    """As JSON it would be none, and none passes."""
    lost = replace(EVIDENCE, shadow=ShadowAnswers(requests=9, faults=("shadow.agreement",)))
    assert "shadow.agreement" in decide(VERSION, CHAMPION, lost).reason
    worth = replace(EVIDENCE, value=EstimatedValue(faults=("value.low",)))
    assert "value.low" in decide(VERSION, CHAMPION, worth, GateOptions(off_policy="report")).reason


def test_many_texts_are_counted() -> None:
    """The first three, and how many more."""
    assert first_words(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"


def spoiled(told: msgspec.Struct, name: str, value: float) -> Iterator[tuple[str, Any]]:
    """Yield the structure once for each of its numbers that may be no whole one, with this in its place."""
    for field in msgspec.structs.fields(told):
        own = getattr(told, field.name)
        if isinstance(own, msgspec.Struct):
            inner = spoiled(own, f"{name}.{field.name}", value)
            yield from ((at, replace(told, **{field.name: each})) for at, each in inner)
        elif "float" in str(field.type):
            yield f"{name}.{field.name}", replace(told, **{field.name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_never_passed(value: float) -> None:
    """Each comparison with NaN is false, so it would be beyond no bound, wherever it is measured."""
    told = GateOptions(off_policy="refuse", agreement_min=0.5)
    seen = ShadowAnswers(requests=100, agreement=1.0, cpu_times=1.0)
    worth = EstimatedValue(candidate=1.0, low=1.0, champion=1.0, slates=100)
    evidence = replace(EVIDENCE, judged=replace(JUDGED, foresight=PairedGap(9, -0.1, -0.2, 0.0)))
    evidence = replace(evidence, value=worth, shadow=seen)
    assert decide(VERSION, CHAMPION, evidence, told).passed
    found = {
        **{name: decide(each, CHAMPION, evidence, told) for name, each in spoiled(VERSION, "candidate", value)},
        **{name: decide(VERSION, each, evidence, told) for name, each in spoiled(CHAMPION, "champion", value)},
        **{name: decide(VERSION, CHAMPION, each, told) for name, each in spoiled(evidence, "evidence", value)},
    }
    assert len(found) == 23
    assert {name for name, each in found.items() if each.passed or name not in each.reason} == set()


def test_a_figure_that_another_process_lost_is_a_fault() -> None:
    """JSON has no NaN: the name is what is sent, and refuses."""
    found = decide(VERSION, CHAMPION, judged(faults=("judged.difference.low",)))
    assert (found.gate, found.reason) == ("validity", "validity refused: not a number: judged.difference.low")
