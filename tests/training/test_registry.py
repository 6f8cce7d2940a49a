"""The registry: what is published answers, is found by what people type, and nothing half done has a name."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from midstream.core.errors import ArtifactInvalid, ArtifactTooLarge, NotFound
from midstream.models.artifact.artifact import ArtifactContent, Draft, read_manifest
from midstream.models.artifact.golden import item_content
from midstream.models.histories import Histories
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.vocabulary import ItemVocabulary
from midstream.training.registry import Registry

HISTORIES = Histories.of([[0, 1], [2]])


def model_of(seed: int = 0, items: int = 5) -> ItemToItem:
    """Return a model of random weights."""
    ids = [f"item-{number}" for number in range(items)]
    vocabulary = ItemVocabulary.of(ids)
    return ItemToItem.of(vocabulary, csr_matrix(np.random.default_rng(seed).random((items, items))))


def published(registry: Registry, name: str = "near", seed: int = 0) -> str:
    """Publish a model; return its version."""
    model = model_of(seed)
    draft = Draft(name=name, kind="item_to_item", vocabulary_hash=model.vocabulary.content_hash)
    return registry.publish(draft, item_content(model, HISTORIES))


def test_what_is_published_is_listed_found_and_answers(tmp_path: Path) -> None:
    """Models by name, versions by number; a version by its name, number, first digits, or as the newest."""
    registry = Registry(tmp_path / "models")
    assert registry.names() == []
    assert registry.versions("near") == []
    first, second = published(registry), published(registry, seed=1)
    other = published(registry, "far")
    registry.clean()
    assert registry.names() == ["far", "near"]
    assert registry.versions("near") == [first, second]
    assert [registry.find("near", each) for each in (first, "1", "0002", second[5:10], "")] == [
        first,
        first,
        second,
        second,
        second,
    ]
    loaded = registry.load("far", other)
    assert isinstance(loaded.model, ItemToItem)
    assert (loaded.model.scores(HISTORIES) == model_of().scores(HISTORIES)).all()
    assert [each.number for each in registry.manifests("near") if not isinstance(each, ArtifactInvalid)] == [1, 2]
    registry.remove("near", first)
    assert registry.versions("near") == [second]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    """An unknown model, an unknown version, one that could be two, and names that lead elsewhere."""
    registry = Registry(tmp_path / "models")
    first = published(registry)
    cases = [("nobody", ""), ("near", "9"), ("near", "zz"), ("../models/near", ""), ("", "")]
    cases += [("near", "1" * 5_000), ("near", "\N{ARABIC-INDIC DIGIT ONE}")]
    for name, wanted in cases:
        with pytest.raises(NotFound):
            registry.find(name, wanted)
    with pytest.raises(NotFound):
        registry.read("near", "0001-000000000000")
    with pytest.raises(NotFound):
        registry.read("near", f"../near/{first}")
    shutil.copytree(
        tmp_path / "models/near" / first, tmp_path / "models/near" / f"{first[:-1]}{'10'[int(first[-1] == '1')]}"
    )
    with pytest.raises(NotFound, match="more than one"):
        registry.find("near", "1")


def test_a_number_that_no_version_has_means_none(tmp_path: Path) -> None:
    """Though the hash of another begins with it: who mistypes a number gets no other version."""
    registry = Registry(tmp_path / "models")
    first = published(registry)
    (tmp_path / "models/near" / first).rename(tmp_path / "models/near/0001-700000abcdef")
    for wanted in ("7", "70", "7000"):
        with pytest.raises(NotFound, match="no version"):
            registry.find("near", wanted)
    assert [registry.find("near", wanted) for wanted in ("1", "70000", "700000a")] == ["0001-700000abcdef"] * 3


def test_digits_of_other_scripts_name_no_version(tmp_path: Path) -> None:
    """A folder whose number is written otherwise is none of the versions, so no two of them have one number."""
    registry = Registry(tmp_path / "models")
    first = published(registry)
    arabic = first.replace("0001", "".join(chr(0x0660 + int(digit)) for digit in "0001"), 1)
    shutil.copytree(tmp_path / "models/near" / first, tmp_path / "models/near" / arabic)
    assert registry.versions("near") == [first]
    assert registry.find("near", "1") == first
    with pytest.raises(ArtifactInvalid, match="no version"):
        read_manifest(tmp_path / "models/near" / arabic)


def test_a_version_that_does_not_answer_as_it_should_is_not_published(tmp_path: Path) -> None:
    """A model of NaN is refused before anybody sees it."""
    registry = Registry(tmp_path / "models")
    first = published(registry)
    model = model_of()
    content = item_content(model, HISTORIES)
    draft = Draft(name="near", kind="item_to_item", vocabulary_hash=model.vocabulary.content_hash)
    broken = ArtifactContent({**content.arrays, "weight": np.full_like(model.weight, np.nan)})
    with pytest.raises(ArtifactInvalid, match="NaN"):
        registry.publish(draft, broken)
    assert registry.versions("near") == [first]


def test_a_version_of_more_bytes_than_may_be_is_neither_written_nor_read(tmp_path: Path) -> None:
    """It is named with both numbers; its manifest is still shown, and no array of it is opened."""
    registry = Registry(tmp_path / "models")
    version = published(registry)
    size = registry.manifest("near", version).bytes
    assert Registry(registry.folder, size).load("near", version).version == version
    small = Registry(registry.folder, size - 1)
    (registry.folder / "near" / version / "weight.npy").unlink()
    with pytest.raises(ArtifactTooLarge, match=f"{size:,} bytes.*version_bytes_max is {size - 1:,}"):
        small.read("near", version)
    with pytest.raises(ArtifactTooLarge):
        small.load("near", version)
    assert small.manifest("near", version).bytes == size
    with pytest.raises(ArtifactTooLarge, match="far"):
        published(Registry(registry.folder, 100), "far")
    assert not (registry.folder / "far").exists()
    with pytest.raises(ArtifactTooLarge):
        # The numbers alone would find room, and the heads of their files do not.
        published(Registry(registry.folder, size - 500), "far")
    assert registry.versions("far") == []


def test_a_version_that_lies_with_another_model_is_refused(tmp_path: Path) -> None:
    """The folder's name is not asked who it is: the manifest says."""
    registry = Registry(tmp_path / "models")
    version = published(registry)
    shutil.copytree(tmp_path / "models/near", tmp_path / "models/far")
    with pytest.raises(ArtifactInvalid, match="'near'"):
        registry.load("far", version)
    assert isinstance(registry.manifests("far")[0], ArtifactInvalid)


def test_a_large_version_is_read_hashed_and_looked_through_in_pieces(tmp_path: Path) -> None:
    """Somebody who is answered meanwhile waits for a MiB at most: a rest is offered behind each."""
    registry = Registry(tmp_path / "models")
    model = model_of(items=1_000)
    draft = Draft(name="near", kind="item_to_item", vocabulary_hash=model.vocabulary.content_hash)
    version = registry.publish(draft, item_content(model, HISTORIES))
    rests = list[int]()
    loaded = registry.load("near", version, lambda: rests.append(1))
    pieces = loaded.manifest.bytes >> 20
    assert pieces == 7
    assert len(rests) >= 2 * pieces + (model.weight.nbytes >> 20)
