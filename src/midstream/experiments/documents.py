"""Control documents of experiments: one experiment as it stands after its last change, and the holdout.

A document is data: who changed it, when and why is said by the control event that has it. Each change is a whole
document, so the state after any log position is the last document of each name, and a restart, a follower and a rerun
read the same. Times of ramp steps are absolute, as nothing here reads a clock.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from midstream.core.errors import ConfigInvalid, Fault
from midstream.events.faults import shown
from midstream.experiments.assignment import BUCKETS, even_shares, salt_of
from midstream.experiments.harm import HARMS_MAX, Harm
from midstream.experiments.interleaving import TEAMS_MAX
from midstream.experiments.metrics import ExperimentMetric, is_decided
from midstream.experiments.names import (
    DRAFT,
    HOLDOUT,
    NAME_BYTES_MAX,
    PLACEMENT_BYTES_MAX,
    is_name,
    variant_placement,
)
from midstream.experiments.reallocation import MOVES_MAX, Allocation, Reallocation, allocation_faults, first_shares

PAGE = "/docs/experiments.md"
VARIANTS_MAX = 16
"""Of an experiment: a shop with a million users has 60,000 for each, fewer say little."""
AFTER_MS_MAX = 366 * 24 * 3_600_000
"""Time from an order to a ramp step: a year."""
FAULTS_MAX = 40
"""Faults that a refusal names: all of a usual order."""
HELD_PLACEMENTS_MAX = 64
"""Placements that a holdout keeps as they are: each is a plan, and compiled."""
STEPS_MAX = 20
"""Ramp steps, those by command among them."""
RUNNING_MAX = 100
"""Running experiments: each variant is a plan, and compiled; 1,600 of them take 100 MB."""
KEPT_MAX = 200
"""Experiments that are kept, stopped ones among them; the oldest stopped one goes for a new one."""
WEIGHT_MIN, WEIGHT_MAX = 0.0001, 10_000
SHARE_MAX = 5_000
"""Of the holdout, in buckets: half of all users without what the shop makes is a rollback."""
State: TypeAlias = Literal["running", "stopped"]
StoppedBy: TypeAlias = Literal["", "person", "watch"]
Design: TypeAlias = Literal["split", "interleave"]
"""``split``: each unit has one variant; ``interleave``: each slate is drafted of all variants."""


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One variant: a placement version."""

    name: str
    placement: str
    """Name of the placement that answers."""
    sha256: str
    """Of its content as canonical JSON."""
    share: int
    """Buckets of 10,000 within the experiment."""
    removed: str = ""
    """Why it was taken out while the experiment goes on: its units have the control's content from then on, under its
    own name; empty = it was not."""


class RampStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a ramp."""

    from_ms: int
    """Wall clock of the request from which on it holds."""
    exposed: int
    """Buckets of 10,000 of the experiment's range that get a variant; the others get the placement as it is."""


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An experiment on one placement."""

    name: str
    placement: str
    layer: str
    layer_salt: int
    first: int
    """Buckets of the layer that are its own: this one ..."""
    end: int
    """... to before this one."""
    salt: int
    variants: tuple[Variant, ...]
    """The first is the control."""
    steps: tuple[RampStep, ...]
    """By rising time and share."""
    metrics: tuple[ExperimentMetric, ...] = ()
    """What it is judged by; none = it is older than their declaration, and the default ones hold."""
    state: State = "running"
    began_ms: int
    began_position: int = 0
    """Log position that no event of it is before."""
    ended_ms: int | None = None
    reason: str = ""
    """Why it stopped."""
    stopped_by: StoppedBy = ""
    auto_stop: bool = True
    """A broken guardrail stops it, or takes its variant out."""
    harms: tuple[Harm, ...] = ()
    """Broken guardrails by which it was stopped, or variants were taken out."""
    allocation: Allocation = "fixed"
    moves: tuple[Reallocation, ...] = ()
    """Of shares, the newest last; those of a variant are of the last one."""
    design: Design = "split"
    draft: Variant | None = None
    """Of an interleaving experiment: the placement under which its drafts are served, with the control's content."""

    @property
    def placements(self) -> tuple[Variant, ...]:
        """All placements that it has in force: its variants, and that of its drafts."""
        return self.variants if self.draft is None else (*self.variants, self.draft)


class Holdout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Users who are in no experiment, and are answered by placements that do not change."""

    salt: int
    share: int
    """Buckets of 10,000: those below it are held out."""
    variants: tuple[Variant, ...]
    """One for each placement that has an answer of its own for them; the others answer as they are."""
    began_ms: int


class NewVariant(msgspec.Struct, frozen=True):
    """A variant before the start."""

    name: str
    weight: float = 1.0


class NewExperiment(msgspec.Struct, frozen=True):
    """An experiment before the start."""

    name: str
    placement: str
    """Whose requests it answers."""
    variants: tuple[NewVariant, ...]
    """The control first."""
    layer: str
    size: int
    """Buckets of the layer that it takes."""
    steps: tuple[RampStep, ...]
    metrics: tuple[ExperimentMetric, ...] = ()
    design: Design = "split"
    auto_stop: bool = True
    allocation: Allocation = "fixed"


def started(new: NewExperiment, hashes: Sequence[str], first: int, now_ms: int, position: int = 0) -> Experiment:
    """Return an experiment that runs.

    Args:
        new: Without a fault.
        hashes: Of the content of each variant, and of the drafts where there are any.
        first: Its first bucket in its layer.
        now_ms: Wall clock.
        position: Of the log.
    """
    shares = even_shares([each.weight for each in new.variants])
    drafts = variant_placement(new.placement, new.name, DRAFT)
    return Experiment(
        name=new.name,
        placement=new.placement,
        layer=new.layer,
        layer_salt=salt_of("layer", new.layer),
        first=first,
        end=first + new.size,
        salt=salt_of("experiment", new.name),
        variants=tuple(
            Variant(each.name, variant_placement(new.placement, new.name, each.name), sha256, share)
            for each, sha256, share in zip(new.variants, hashes[: len(shares)], shares, strict=True)
        ),
        steps=new.steps,
        metrics=new.metrics,
        began_ms=now_ms,
        began_position=position,
        design=new.design,
        auto_stop=new.auto_stop,
        allocation=new.allocation,
        moves=() if new.allocation == "fixed" else (first_shares(shares, now_ms),),
        draft=Variant(DRAFT, drafts, hashes[-1], BUCKETS) if new.design == "interleave" else None,
    )


def exposed_at(experiment: Experiment, now_ms: int) -> int:
    """Return the exposed buckets of 10,000 at a time, 0 before the first step."""
    return max((each.exposed for each in experiment.steps if each.from_ms <= now_ms), default=0)


def ramped(experiment: Experiment, steps: Sequence[RampStep], now_ms: int) -> Experiment:
    """Return an experiment with other steps from now on; those that were taken stay.

    Raises:
        ConfigInvalid: It does not run, a step would take units out, or there are too many.
    """
    require_running(experiment)
    taken = tuple(each for each in experiment.steps if each.from_ms <= now_ms)
    shares = [each.share for each in experiment.variants]
    if faults := (*step_faults(steps, taken), *share_faults(shares)):
        raise ConfigInvalid(faults)
    return msgspec.structs.replace(experiment, steps=(*taken, *steps))


def reallocated(experiment: Experiment, move: Reallocation) -> Experiment:
    """Return an experiment with other shares from now on.

    Raises:
        ConfigInvalid: It does not run, or its shares do not move.
    """
    require_running(experiment)
    if experiment.allocation != "thompson" or len(move.shares) != len(experiment.variants):
        came = f"{experiment.name} has the allocation {experiment.allocation}, and {len(move.shares)} shares came."
        raise ConfigInvalid((Fault("allocation", came, "An experiment whose shares move.", PAGE),))
    return msgspec.structs.replace(
        experiment,
        variants=tuple(
            msgspec.structs.replace(each, share=share)
            for each, share in zip(experiment.variants, move.shares, strict=True)
        ),
        moves=(*experiment.moves, move)[-MOVES_MAX:],
    )


def stopped(experiment: Experiment, reason: str, now_ms: int, harms: Sequence[Harm] = ()) -> Experiment:
    """Return an experiment that is over.

    Args:
        experiment: Before.
        reason: Why.
        now_ms: Wall clock.
        harms: Broken guardrails that ended it; none = a person did.

    Raises:
        ConfigInvalid: It is already.
    """
    require_running(experiment)
    return msgspec.structs.replace(
        experiment,
        state="stopped",
        ended_ms=now_ms,
        reason=reason,
        stopped_by="watch" if harms else "person",
        harms=(*experiment.harms, *harms)[:HARMS_MAX],
    )


def without_variants(experiment: Experiment, hashes: Mapping[str, str], harms: Sequence[Harm]) -> Experiment:
    """Return an experiment that goes on without some variants.

    Args:
        experiment: Before.
        hashes: Of the content that each has from now on, the control's, by name.
        harms: Broken guardrails of each.

    Raises:
        ConfigInvalid: It does not run any more.
    """
    require_running(experiment)
    reasons = {each.variant: each.reason for each in reversed(harms)}
    return msgspec.structs.replace(
        experiment,
        variants=tuple(
            msgspec.structs.replace(each, sha256=hashes[each.name], removed=reasons[each.name])
            if each.name in hashes
            else each
            for each in experiment.variants
        ),
        harms=(*experiment.harms, *harms)[:HARMS_MAX],
    )


def require_running(experiment: Experiment) -> None:
    """Refuse a change of an experiment that is over.

    Raises:
        ConfigInvalid: It is.
    """
    if experiment.state != "running":
        right = "A running experiment; to go on, start one of another name."
        came = f"{experiment.name} was stopped: {experiment.reason or 'without a reason'}."
        raise ConfigInvalid((Fault("name", came, right, PAGE),))


def step_faults(steps: Sequence[RampStep], taken: Sequence[RampStep] = ()) -> Iterator[Fault]:
    """Yield why steps are no ramp; those that were taken come before them."""
    if not 1 <= len(steps) <= STEPS_MAX - len(taken):
        after = f", and {len(taken)} were taken" if taken else ""
        yield Fault("/ramp", f"{len(steps)} came{after}.", f"1 to {STEPS_MAX} steps together.", PAGE)
        return  # one fault for each of any number would be no answer
    earlier = (taken[-1] if taken else None, *steps)
    for number, (before, each) in enumerate(zip(earlier, steps, strict=False)):
        where = f"/ramp/{number}"
        if not 0 <= each.exposed <= BUCKETS:
            yield Fault(f"{where}/exposed", f"{each.exposed} came.", f"0 to {BUCKETS}, hundredths of a percent.", PAGE)
        if before is not None and (each.exposed < before.exposed or each.from_ms < before.from_ms):
            came = f"{each.exposed / 100:g} % came after {before.exposed / 100:g} %, or an earlier time after a later."
            yield Fault(where, came, "A later time and no smaller share: a unit that is in stays in.", PAGE)


def share_faults(shares: Sequence[int]) -> Iterator[Fault]:
    """Yield which variants no unit would have."""
    for number, share in enumerate(shares):
        if share < 1:
            came = f"It comes to {share} of {BUCKETS:,} parts of the experiment, so no unit would have the variant."
            yield Fault(f"/variants/{number}/weight", came, f"At least 1/{BUCKETS} of all weights.", PAGE)


def new_faults(new: NewExperiment) -> Iterator[Fault]:
    """Yield why an experiment cannot start, whatever else runs."""
    if len(new.placement.encode(errors="replace")) > PLACEMENT_BYTES_MAX:
        yield Fault("/placement", f"{shown(new.placement)} came.", f"At most {PLACEMENT_BYTES_MAX} bytes.", PAGE)
        return
    if not 2 <= len(new.variants) <= VARIANTS_MAX:  # noqa: PLR2004  one has nothing beside it
        yield Fault("/variants", f"{len(new.variants)} came.", f"2 to {VARIANTS_MAX}, the control first.", PAGE)
        return
    unnamed = tuple(_name_faults(new))
    yield from unnamed
    if not unnamed:
        yield from _variant_faults(new)
    if not 1 <= new.size <= BUCKETS:
        yield Fault("/share", f"{new.size / BUCKETS:g} came.", "From 0.0001 to 1.", PAGE)
    yield from step_faults(new.steps)
    yield from allocation_faults(new.allocation, new.design, new.metrics)
    if new.design == "interleave":
        yield from _team_faults(new)


def _team_faults(new: NewExperiment) -> Iterator[Fault]:
    """Yield why variants cannot be the teams of a draft."""
    if len(new.variants) > TEAMS_MAX:
        came = f"{len(new.variants)} came, which would draft one slate."
        yield Fault("/variants", came, f"2 to {TEAMS_MAX}, the control first.", PAGE)
    for number, each in enumerate(new.variants):
        if each.name == DRAFT:
            came = f'"{DRAFT}" came, which names the slates that all variants drafted.'
            yield Fault(f"/variants/{number}/name", came, "Another name.", PAGE)
        if each.weight != 1:
            came = f"{each.weight:g} came of an interleaving experiment."
            yield Fault(f"/variants/{number}/weight", came, "Nothing: coins decide which variant picks first.", PAGE)
    drafts = variant_placement(new.placement, new.name, DRAFT)
    if len(drafts.encode(errors="replace")) > PLACEMENT_BYTES_MAX:
        right = f"At most {PLACEMENT_BYTES_MAX} bytes for placement, experiment and {DRAFT}, with @ and . between."
        yield Fault("/name", f"{shown(drafts)} is too long.", right, PAGE)


def _name_faults(new: NewExperiment) -> Iterator[Fault]:
    """Yield which names cannot be used."""
    named = [("/name", new.name), ("/layer", new.layer)]
    named += [(f"/variants/{number}/name", each.name) for number, each in enumerate(new.variants)]
    for where, text in named:
        if not is_name(text):
            right = f"1 to {NAME_BYTES_MAX} characters: lower-case letters, digits, _ and -, a letter or digit first."
            yield Fault(where, f"{shown(text)} came.", right, PAGE)
    if new.name == HOLDOUT:
        yield Fault("/name", f'"{HOLDOUT}" came, which names the held-out users.', "Another name.", PAGE)
    if len({each.name for each in new.variants}) < len(new.variants):
        yield Fault("/variants", "Two have one name.", "Each name once.", PAGE)


def _variant_faults(new: NewExperiment) -> Iterator[Fault]:
    """Yield which weights cannot be used, and which names are too long together."""
    is_weighed = True
    for number, each in enumerate(new.variants):
        if not WEIGHT_MIN <= each.weight <= WEIGHT_MAX:  # NaN is neither
            is_weighed = False
            right = f"A number from {WEIGHT_MIN} to {WEIGHT_MAX:,}."
            yield Fault(f"/variants/{number}/weight", f"{shown(each.weight)} came.", right, PAGE)
        if len((whole := variant_placement(new.placement, new.name, each.name)).encode()) > PLACEMENT_BYTES_MAX:
            right = f"At most {PLACEMENT_BYTES_MAX} bytes for placement, experiment and variant, with @ and . between."
            yield Fault(f"/variants/{number}/name", f"{shown(whole)} is too long.", right, PAGE)
    if is_weighed:
        yield from share_faults(even_shares([each.weight for each in new.variants]))


def free_span(others: Iterable[Experiment], layer: str, size: int) -> tuple[int, int] | None:
    """Return a range of a layer in which no running experiment is, None = there is none of that size.

    Args:
        others: Running experiments of all layers.
        layer: The layer.
        size: Buckets.
    """
    taken = sorted((each.first, each.end) for each in others if each.layer == layer)
    start = 0
    for first, end in (*taken, (BUCKETS, BUCKETS)):
        if first - start >= size:
            return start, start + size
        start = max(start, end)
    return None


def holdout_of(share: int, placements: Sequence[tuple[str, str]], now_ms: int) -> Holdout:
    """Return a holdout.

    Args:
        share: Buckets of 10,000.
        placements: Name and hash of the content of each placement that answers held-out users as it is now.
        now_ms: Wall clock.
    """
    variants = tuple(
        Variant(HOLDOUT, variant_placement(name, HOLDOUT, HOLDOUT), sha256, BUCKETS) for name, sha256 in placements
    )
    return Holdout(salt_of(HOLDOUT), share, variants, now_ms)


def encode_document(document: Experiment | Holdout) -> str:
    """Return a document as canonical JSON."""
    return msgspec.json.encode(document, order="deterministic").decode()


def experiment_of(content: str) -> Experiment | None:
    """Return the experiment of a control document; None = it is empty, or no server wrote it."""
    try:
        found = msgspec.json.decode(content, type=Experiment)
    except (msgspec.MsgspecError, RecursionError):
        return None
    is_judged = not found.metrics or is_decided(found.metrics)
    has_draft = (found.draft is not None) == (found.design == "interleave")
    is_sound = _is_whole(found.variants) and is_judged and has_draft
    return found if 0 <= found.first < found.end <= BUCKETS and is_sound else None


def document_holdout(content: str) -> Holdout | None:
    """Return the holdout of a control document; None = it is empty, or no server wrote it."""
    try:
        found = msgspec.json.decode(content, type=Holdout)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return found if 0 <= found.share <= BUCKETS else None


def _is_whole(variants: Sequence[Variant]) -> bool:
    """Return whether the shares of some variants are all buckets, and none is less than nothing."""
    shares = [each.share for each in variants]
    return len(shares) <= VARIANTS_MAX and sum(shares) == BUCKETS and min(shares) >= 0
