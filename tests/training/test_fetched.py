"""A folder that another registry gave: the one version in it arrives, verified, and nothing else is read of it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from midstream.core.errors import ArtifactInvalid, ArtifactTooLarge
from midstream.models.artifact.artifact import MANIFEST
from midstream.training.fetched import import_folder
from midstream.training.packing import export_version
from midstream.training.registry import Registry
from tests.support.damage import damaged, damages
from tests.support.fakes.models import publish_chain
from tests.support.small_models import publish_small

TREES = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=binary sigmoid:1
feature_names=Column_0 Column_1
feature_infos=[0:9] [0:9]
tree_sizes=300

Tree=0
num_leaves=2
num_cat=0
split_feature=1
split_gain=1
threshold=3.5
decision_type=2
left_child=-1
right_child=-2
leaf_value=-0.5 0.75
leaf_weight=1 1
leaf_count=5 5
internal_value=0
internal_weight=0
internal_count=10
is_linear=0
shrinkage=1


end of trees

feature_importances:
Column_1=1

parameters:
end of parameters

pandas_categorical:null
"""
"""What LightGBM writes of one tree."""


@pytest.fixture
def there(tmp_path: Path) -> Registry:
    """Return the registry in which things arrive."""
    return Registry(tmp_path / "there")


def fetched(tmp_path: Path) -> tuple[Path, str]:
    """Return a folder with a version of the model ``near`` and what other programs put beside one, and the version."""
    here = Registry(tmp_path / "here")
    version = publish_chain(here, 2)
    folder = tmp_path / "fetched"
    shutil.copytree(here.folder / "near" / version, folder / "deep" / version)
    (folder / "MLmodel").write_text("flavors: {}")
    (folder / "model.pkl").write_bytes(b"\x80\x04.")
    return folder, version


def test_the_folder_of_a_version_arrives_by_its_name(tmp_path: Path, there: Registry) -> None:
    """What lies in it or beside it stays outside; a second time changes nothing."""
    folder, version = fetched(tmp_path)
    (folder / "deep" / version / "registered_model_meta").write_text("model_name: x")
    for _ in range(2):
        assert import_folder(there, folder) == ("near", version)
    loaded = there.load("near", version)
    assert {each.name for each in (there.folder / "near" / version).iterdir()} == {*loaded.manifest.files, MANIFEST}
    assert [each.name for each in there.folder.iterdir()] == ["near"]


def test_another_name_makes_another_version_of_the_same_files(tmp_path: Path, there: Registry) -> None:
    """The manifest names the model, so it is published anew, and once; the tar of an export goes the same way."""
    folder, version = fetched(tmp_path)
    _, second = import_folder(there, folder, "ranker")
    assert second != version
    assert there.manifest("ranker", second).files == Registry(tmp_path / "here").manifest("near", version).files
    assert there.manifest("ranker", second).options == {"step": 2}
    shutil.rmtree(folder / "deep")
    export_version(Registry(tmp_path / "here"), "near", version, folder / "near.tar")
    assert import_folder(there, folder, "ranker") == ("ranker", second)
    assert there.names() == ["ranker"]
    assert import_folder(there, folder) == ("near", version)


def test_damage_on_the_way_is_refused_and_leaves_nothing(tmp_path: Path, there: Registry) -> None:
    """Single bits and cuts of every file of it, the manifest among them."""
    folder, version = fetched(tmp_path)
    for each in damages(folder / "deep" / version, 40, 20, seed=3):
        with damaged(folder / "deep" / version, each), pytest.raises(ArtifactInvalid):
            import_folder(there, folder)
    assert list(there.folder.iterdir()) == []
    with pytest.raises(ArtifactTooLarge):
        import_folder(Registry(there.folder, 100), folder)
    assert list(there.folder.iterdir()) == []
    assert import_folder(there, folder) == ("near", version)


def _no_name(folder: Path, version: str) -> None:
    (folder / "deep" / version).rename(folder / "model")


def _link(folder: Path, version: str) -> None:
    (folder / "deep" / version / "weight.npy").rename(folder / "elsewhere")
    (folder / "deep" / version / "weight.npy").symlink_to(folder / "elsewhere")


def _two(folder: Path, version: str) -> None:
    shutil.copytree(folder / "deep" / version, folder / "again" / version)


def _both(folder: Path, _version: str) -> None:
    (folder / "near.tar").write_bytes(b"")


def _many(folder: Path, _version: str) -> None:
    for number in range(2_001):
        (folder / f"{number}").touch()


@pytest.mark.parametrize("change", [_no_name, _link, _two, _both, _many])
def test_what_is_not_one_version_is_refused(
    tmp_path: Path, there: Registry, change: Callable[[Path, str], None]
) -> None:
    """A folder whose name says nothing of its manifest, a link out of it, two versions, no end of files."""
    folder, version = fetched(tmp_path)
    change(folder, version)
    with pytest.raises(ArtifactInvalid):
        import_folder(there, folder)
    assert there.names() == []


def test_a_text_of_lightgbm_becomes_trees(tmp_path: Path, there: Registry) -> None:
    """With the names that it has, or those that are given; it is asked golden questions of its own."""
    folder = tmp_path / "fetched"
    folder.mkdir()
    (folder / "model.lgb").write_text(TREES)
    (folder / "MLmodel").write_text("flavors: {lightgbm: {}}")
    _, plain = import_folder(there, folder, "ranker", source="models:/ranker@champion")
    assert there.manifest("ranker", plain).inputs == ("Column_0", "Column_1")
    assert there.manifest("ranker", plain).options == {"source": "models:/ranker@champion"}
    _, named = import_folder(there, folder, "ranker", ("views", "carts"))
    model = there.load("ranker", named).model
    assert there.manifest("ranker", named).inputs == ("views", "carts")
    score = getattr(model, "score")(np.array([[9, 3.5], [0, 3.75], [0, np.nan]], dtype=np.float32))  # noqa: B009
    assert score[0] < 0.5 < score[1]
    for name, inputs in (("", ()), ("Ranker", ()), ("ranker", ("views",)), ("ranker", ("views", "views"))):
        with pytest.raises(ArtifactInvalid):
            import_folder(there, folder, name, inputs)
    (folder / "model.lgb").write_text(TREES[:300])
    with pytest.raises(ArtifactInvalid):
        import_folder(there, folder, "ranker")
    assert there.versions("ranker") == [plain, named]


@pytest.mark.parametrize("kind", ["als", "trees", "sasrec"])
def test_other_kinds_arrive_too(tmp_path: Path, there: Registry, kind: str) -> None:
    """Item models, rankers, and those with files beside their arrays."""
    here = Registry(tmp_path / "here")
    version = publish_small(here, kind, 1)
    assert import_folder(there, here.folder) == (kind, version)
