"""A hundred bad candidates, ten faults in ten worlds: none goes beyond the gates, and the right gate says why."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from midstream.core.errors import MidstreamError
from midstream.core.types import Score
from midstream.models.artifact.artifact import ArtifactFile, Draft, Manifest, Window
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.model import Arrays, ItemModel, RowModel
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import FtrlOptions, fit_ftrl
from midstream.models.vocabulary import ItemVocabulary
from midstream.training.gates.decide import decide
from midstream.training.gates.evidence import GateEvidence, GoldenAnswers, JudgedActs, MeasuredVersion
from midstream.training.gates.golden_answers import GoldenFile, GoldenHistory, golden_answers
from midstream.training.gates.judging import judged_rows
from midstream.training.gates.options import GateOptions
from midstream.training.gates.probes import measured, unreadable
from midstream.training.gates.results import GateDecision
from midstream.training.registry import Registry
from tests.support.fakes.models import chain_of, publish_chain

DAY_MS = 86_400_000
NOW_MS = 30 * DAY_MS
REQUESTS, ROWS, FEATURES = 240, 8, 4
GATES = GateOptions(worse_max=0.1, shadow=False)
SEEDS = range(10)
NO_GOLDEN = GoldenAnswers()


class Spent:
    """Processor time that a test says."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.seconds = 0.0

    def __call__(self) -> float:
        """Return it."""
        return self.seconds


@dataclass(frozen=True)
class Bent:
    """A ranker whose scores are bent."""

    model: RowModel
    bend: Callable[[Score], Score]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Of the model."""
        return self.model.inputs

    def score(self, values: Score) -> Score:
        """Return what the model says, bent."""
        return self.bend(self.model.score(values))

    def arrays(self) -> Arrays:
        """Of the model."""
        return self.model.arrays()


@dataclass(frozen=True)
class World:
    """Rows of a shop: what is acted on follows from two features."""

    early: Examples
    middle: Examples
    late: Examples
    champion: RowModel


def rows_of(dice: np.random.Generator, first_ms: int, taste: np.ndarray) -> Examples:
    """Return requests of an hour each in which acts follow a taste."""
    count = REQUESTS * ROWS
    values = dice.standard_normal((count, FEATURES)).astype(np.float32)
    chance = 1 / (1 + np.exp(1.0 - 2.0 * (values @ taste)))
    found = Examples.of_rows([f"f{n}" for n in range(FEATURES)], values, (dice.random(count) < chance).astype("f4"))
    return replace(
        found,
        start=np.arange(0, count + 1, ROWS, dtype=np.int64),
        time_ms=first_ms + np.arange(REQUESTS, dtype=np.int64) * 3_600_000,
        owner=np.arange(REQUESTS, dtype=np.uint64) // 2,
    )


def world_of(seed: int) -> World:
    """Return a world and its champion, which learned the early rows."""
    dice = np.random.default_rng(seed)
    taste = np.array([1.0, -0.7, 0.0, 0.0])
    early, middle, late = (rows_of(dice, NOW_MS - days * DAY_MS, taste) for days in (30, 20, 10))
    return World(early, middle, late, fit_ftrl(early, FtrlOptions(bins=1)))


def manifest(size: int = 10_000, end_ms: int = NOW_MS - 10 * 3_600_000) -> Manifest:
    """Return the manifest of a version of a size, that learned up to a time."""
    draft = Draft(name="ranker", kind="ftrl", window=Window(end=7, end_ms=end_ms))
    fields = {name: getattr(draft, name) for name in Draft.__struct_fields__}
    return Manifest(**fields, schema_version=2, number=1, files={"a": ArtifactFile(size, "")})


def probed(model: ItemModel | RowModel, told: Manifest | None = None, spent: Spent | None = None) -> MeasuredVersion:
    """Return what a candidate answers to made-up questions."""
    return measured(model, told or manifest(), "0002", ["item-1", "item-2"], spent or Spent())


def decided(
    world: World, candidate: MeasuredVersion, judged: JudgedActs, golden: GoldenAnswers = NO_GOLDEN
) -> GateDecision:
    """Return what the gates say beside the champion."""
    champion = measured(world.champion, manifest(), "0001", [], Spent())
    return decide(candidate, champion, GateEvidence(now_ms=NOW_MS, judged=judged, golden=golden), GATES)


def honest(world: World) -> RowModel:
    """Return a candidate as it should be."""
    return fit_ftrl(world.middle, FtrlOptions(bins=1))


def leaking(world: World, dice: np.random.Generator) -> tuple[RowModel, Examples]:
    """Return a fit on a column that was counted after the act, and the rows that judge it, which have it too."""

    def with_later(rows: Examples) -> Examples:
        later = (rows.label + 0.05 * dice.standard_normal(len(rows))).astype(np.float32)
        return replace(rows, names=(*rows.names, "later"), values=np.column_stack([rows.values, later]))

    return fit_ftrl(with_later(world.middle), FtrlOptions(bins=1)), with_later(world.late)


def stale(world: World, seed: int) -> GateDecision:
    """A fit that learned nothing of the last two weeks."""
    model = honest(world)
    told = manifest(end_ms=NOW_MS - (14 + seed) * DAY_MS)
    return decided(world, probed(model, told), judged_rows(model, world.champion, world.late))


def leak(world: World, seed: int) -> GateDecision:
    """A column that knows the outcome."""
    model, late = leaking(world, np.random.default_rng(seed))
    return decided(world, probed(model), judged_rows(model, world.champion, late))


def no_number(world: World, seed: int) -> GateDecision:
    """NaN where a feature is unknown."""
    del seed
    model = Bent(honest(world), lambda score: np.where(np.arange(len(score)) % 5 == 1, np.nan, score).astype("f4"))
    return decided(world, probed(model), judged_rows(honest(world), world.champion, world.late))


def inverted(world: World, seed: int) -> GateDecision:
    """The best last."""
    del seed
    model = Bent(honest(world), np.negative)
    return decided(world, probed(model), judged_rows(model, world.champion, world.late))


def slow(world: World, seed: int) -> GateDecision:
    """More time an answer than is allowed."""
    spent = Spent()

    def late(score: Score) -> Score:
        spent.seconds += 0.025 + seed / 1_000
        return score

    model = honest(world)
    return decided(world, probed(Bent(model, late), None, spent), judged_rows(model, world.champion, world.late))


def large(world: World, seed: int) -> GateDecision:
    """A version of gigabytes."""
    model = honest(world)
    return decided(world, probed(model, manifest((1 << 30) + 1 + seed)), judged_rows(model, world.champion, world.late))


def nothing_known(world: World, seed: int) -> GateDecision:
    """An item model without an item."""
    del seed
    empty = ItemToItem.of(ItemVocabulary.of([]), csr_matrix(np.zeros((0, 0), dtype=np.float32)))
    return decided(world, probed(empty), JudgedActs())


def corrupted(world: World, seed: int, place: Path) -> GateDecision:
    """A bit of its arrays flipped on the disk."""
    registry = Registry(place / str(seed))
    version = publish_chain(registry, 1)
    path = registry.folder / "near" / version / "weight.npy"
    content = bytearray(path.read_bytes())
    content[-1 - seed] ^= 1 << seed % 8
    path.write_bytes(content)
    try:
        candidate = probed(registry.load("near", version).model)
    except MidstreamError as error:
        candidate = unreadable(version, str(error))
    return decided(world, candidate, JudgedActs())


def constant(world: World, seed: int) -> GateDecision:
    """One score for everything."""
    model = Bent(honest(world), lambda score: np.full_like(score, seed / 10))
    return decided(world, probed(model), judged_rows(model, world.champion, world.late))


def forgetful(world: World, seed: int) -> GateDecision:
    """An item model that no longer says what everybody knows."""
    model = chain_of(20, 2 + seed)
    known = GoldenFile(histories=(GoldenHistory(history=("item-3",), within=1, has=("item-4",)),))
    assert not golden_answers(chain_of(20, 1), known).wrong
    return decided(world, probed(model), JudgedActs(), golden_answers(model, known))


FAULTS: dict[str, Callable[[World, int], GateDecision]] = {
    "freshness": stale,
    "leak": leak,
    "offline": inverted,
    "cost": slow,
    "golden_rows": forgetful,
}
ALSO: dict[str, tuple[Callable[[World, int], GateDecision], ...]] = {
    "validity": (no_number, nothing_known, constant),
    "cost": (large,),
}


WORDS = {
    "stale": "age_max is",
    "leak": "too good to be true",
    "inverted": "no better than chance",
    "slow": "too slow",
    "forgetful": "item-4 is not among the best 1",
    "no_number": "scores are no numbers",
    "nothing_known": "its vocabulary is empty",
    "constant": "all scores are equal",
    "large": "bytes are too many",
}
"""What a refusal says of each fault."""


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    """Ten worlds."""
    return [world_of(seed) for seed in SEEDS]


def bad_candidates() -> Iterator[tuple[str, Callable[[World, int], GateDecision]]]:
    """Yield each fault with the gate that is to see it; a corrupted version has a test of its own."""
    yield from FAULTS.items()
    yield from ((gate, each) for gate, several in ALSO.items() for each in several)


@pytest.mark.parametrize("gate, made", [pytest.param(*each, id=each[1].__name__) for each in bad_candidates()])
def test_a_bad_candidate_is_refused_by_the_right_gate(
    worlds: list[World], gate: str, made: Callable[[World, int], GateDecision]
) -> None:
    """In each of ten worlds; the text says why."""
    found = [made(world, seed) for world, seed in zip(worlds, SEEDS, strict=True)]
    assert [each.gate for each in found] == [gate] * len(found), found[0].reason
    assert all(WORDS[made.__name__] in each.reason for each in found), found[0].reason


def test_a_corrupted_version_is_refused_by_validity(worlds: list[World], tmp_path: Path) -> None:
    """Whichever bit it is: the bytes are not those of the manifest."""
    found = [corrupted(world, seed, tmp_path) for world, seed in zip(worlds, SEEDS, strict=True)]
    assert [each.gate for each in found] == ["validity"] * len(found)
    assert "weight.npy" in found[0].reason


def test_an_honest_candidate_passes(worlds: list[World]) -> None:
    """In each of the ten worlds, else the gates would only say no."""
    for world in worlds:
        model = honest(world)
        found = decided(world, probed(model), judged_rows(model, world.champion, world.late))
        assert found.passed, found.reason
        assert [each.name for each in found.results] == [
            "validity", "golden_rows", "leak", "offline", "freshness", "off_policy", "cost", "shadow"
        ]  # fmt: skip


def test_a_decision_is_plain_data(worlds: list[World]) -> None:
    """It is written as JSON and read back as it was."""
    found = stale(worlds[0], 0)
    assert msgspec.json.decode(msgspec.json.encode(found), type=GateDecision) == found
