"""A version whose hashes are right may be anything, since whoever writes one makes them: it is refused or answers.

What is loaded is asked by kernels that look at no index, so a wrong one would end the process and not raise.
"""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, ExtraMissing, Fault, Invalid, MidstreamError, ShapeMismatch
from midstream.models.artifact.artifact import Artifact
from midstream.models.loading import READ, load
from midstream.training.registry import Registry
from tests.support.small_models import EVERY_KIND, publish_small

CHANGES = 240


def changed(array: NDArray[np.generic], dice: np.random.Generator) -> NDArray[np.generic]:
    """Return an array of which one bit is another, or that has another shape or type."""
    found = np.array(array)
    others = (
        found.reshape(-1),
        found[..., None],
        found.T[:-1],
        np.concatenate([found, found]),
        found.astype("<f8" if found.dtype.kind in "biuf" else "S"),
        found[:0],
    )
    which = int(dice.integers(2 * len(others)))
    if which < len(others):
        return others[which]
    flat = found.reshape(-1).view(np.uint8)
    if len(flat):
        flat[int(dice.integers(len(flat)))] ^= 1 << int(dice.integers(8))
    return found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numbers near the end of float32 and float64
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_what_others_write_is_refused_or_answers(tmp_path: Path, kind: str) -> None:
    """Whatever one array is, loading ends with the one error, or with a model that answered its golden questions."""
    registry = Registry(tmp_path)
    try:
        whole = registry.read(kind, publish_small(registry, kind, 1))
    except ExtraMissing as error:
        pytest.skip(str(error))
    dice, names, refused = np.random.default_rng(7), sorted(whole.arrays), 0
    for number in range(CHANGES):
        name = names[number % len(names)]
        other = changed(whole.arrays[name], dice)
        try:
            load(Artifact(whole.version, whole.manifest, {**whole.arrays, name: other}, whole.files))
        except ArtifactInvalid:
            refused += 1
    assert refused > CHANGES / 4


@pytest.mark.parametrize(
    "start", [[0, 5, 3], [0, -1, 3], [0, 9, 3], [1, 2, 3], [0, 2, 2], [0, 2**62, 3], [0, *range(1, 17), 17]]
)
def test_golden_histories_that_are_none_are_refused(tmp_path: Path, start: list[int]) -> None:
    """Before a kernel goes along them."""
    registry = Registry(tmp_path)
    whole = registry.read("ease", publish_small(registry, "ease", 1))
    acts = start[-1] if len(start) > 3 else 3
    golden: dict[str, NDArray[np.generic]] = {
        "golden.row": np.zeros(acts, dtype="<i4"),
        "golden.weight": np.ones(acts, dtype="<f4"),
        "golden.start": np.array(start, dtype="<i8"),
        "golden.scores": np.zeros((len(start) - 1, len(whole.arrays["golden.items"])), dtype="<f4"),
    }
    with pytest.raises(ArtifactInvalid, match="golden histories are none"):
        load(Artifact(whole.version, whole.manifest, {**whole.arrays, **golden}, whole.files))


def test_a_model_that_answers_with_no_number_is_refused_as_one(tmp_path: Path) -> None:
    """Its numbers are finite, and what it makes of a history is not."""
    registry = Registry(tmp_path)
    whole = registry.read("sasrec", publish_small(registry, "sasrec", 1))
    huge = {"sequence.norm": np.full_like(whole.arrays["sequence.norm"], 3e38)}
    with pytest.raises(ArtifactInvalid, match="no number"):
        load(Artifact(whole.version, whole.manifest, {**whole.arrays, **huge}, whole.files))


def test_a_blend_of_no_part_is_refused_as_a_version(tmp_path: Path) -> None:
    """Its arrays are as they should be, and there are none of a part: no fault of options, which are nobody's here."""
    registry = Registry(tmp_path)
    whole = registry.read("blend", publish_small(registry, "blend", 1))
    none = {name: each[:0] if name.startswith("item_blend.") else each for name, each in whole.arrays.items()}
    with pytest.raises(ArtifactInvalid, match=rf"\A{whole.version}: ") as caught:
        load(Artifact(whole.version, whole.manifest, none, whole.files))
    assert not isinstance(caught.value, Invalid)


@pytest.mark.parametrize("error", [Invalid((Fault("$.weights", "", "", ""),)), ShapeMismatch("3 rows"), ExtraMissing()])
def test_whatever_a_reader_refuses_is_a_version_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: MidstreamError
) -> None:
    """All but a library that is not there, which somebody can install."""
    registry = Registry(tmp_path)
    whole = registry.read("item_to_item", publish_small(registry, "item_to_item", 1))

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setitem(READ, "item_to_item", refuse)
    with pytest.raises(ExtraMissing if isinstance(error, ExtraMissing) else ArtifactInvalid):
        load(whole)
