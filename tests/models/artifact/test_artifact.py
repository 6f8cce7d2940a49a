"""Artifacts: what is written is read; what is not as it was written is refused, to the last bit."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from threading import Barrier

import msgspec
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from midstream.core.errors import ArtifactInvalid
from midstream.models.artifact import artifact as artifacts
from midstream.models.artifact.artifact import (
    SCHEMA_VERSION,
    ArtifactContent,
    Draft,
    Window,
    read_artifact,
    read_manifest,
    versions,
    write_artifact,
)
from midstream.models.artifact.golden import item_content
from midstream.models.histories import Histories
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.loading import load
from midstream.models.vocabulary import ItemVocabulary
from midstream.testing.model_conformance import check_item_model

HISTORIES = Histories.of([[3, 1, 3], [], [0], [5, 2, 7, 7, 1]])


def model_of(items: int = 9, seed: int = 0) -> ItemToItem:
    """Return a model of random weights."""
    ids = [f"item-{number}" for number in range(items)]
    vocabulary = ItemVocabulary.of(ids)
    dice = np.random.default_rng(seed)
    weights = dice.random((items, items)) * (dice.random((items, items)) < 0.5)
    return ItemToItem.of(vocabulary, csr_matrix(weights))


def draft_of(model: ItemToItem, **changes: object) -> Draft:
    """Return what is said of it."""
    draft = Draft(
        name="near",
        kind="item_to_item",
        vocabulary_hash=model.vocabulary.content_hash,
        options={"neighbours": 4, "seed": 0},
        window=Window("a log", 3, 100, 5_000, 5_000, 1_000, 2_000, {"events": 4_900}),
        config_hash="c0ffee",
        code_version="0.1.0",
        made_ms=3_000,
        metrics={"ndcg@20": 0.25, "auc": float("nan")},
    )
    return msgspec.structs.replace(draft, **changes)


def written(folder: Path, model: ItemToItem | None = None, **changes: object) -> Path:
    """Write a model; return the folder of its version."""
    model = model or model_of()
    content = item_content(model, HISTORIES, {"notes.txt": b"made by hand"})
    return folder / write_artifact(folder, draft_of(model, **changes), content)


def test_what_is_written_is_read_and_answers_the_same(tmp_path: Path) -> None:
    """Arrays, files and manifest come back as they were; the model scores as before, to the bit."""
    model = model_of()
    path = written(tmp_path / "near", model)
    found = read_artifact(path)
    assert found.manifest.window == draft_of(model).window
    assert found.manifest.metrics == {"ndcg@20": 0.25, "auc": None}
    assert found.files == {"notes.txt": b"made by hand"}
    assert found.version == path.name == versions(tmp_path / "near")[0]
    loaded = load(found)
    assert isinstance(loaded, ItemToItem)
    assert (loaded.scores(HISTORIES) == model.scores(HISTORIES)).all()
    assert loaded.vocabulary == model.vocabulary


def test_weights_from_item_to_item_are_an_item_model() -> None:
    """It keeps what every item model promises."""
    model = model_of()
    check_item_model(model, HISTORIES, lambda arrays: ItemToItem.read(model.vocabulary, arrays))


def test_versions_are_numbered_and_named_after_their_manifest(tmp_path: Path) -> None:
    """Each has a number one above the highest; equal content at another number is another version."""
    names = [written(tmp_path).name for _ in range(3)]
    assert [name[:5] for name in names] == ["0001-", "0002-", "0003-"]
    assert versions(tmp_path) == names
    shutil.rmtree(tmp_path / names[0])
    assert written(tmp_path).name[:5] == "0004-"
    assert versions(tmp_path / "nowhere") == []


def test_the_last_number_is_named_and_nothing_is_written_after_it(tmp_path: Path) -> None:
    """A number of ten digits would be no version."""
    (tmp_path / "999999998-000000000000").mkdir()
    assert written(tmp_path).name.startswith("999999999-")
    there = versions(tmp_path)
    with pytest.raises(ArtifactInvalid, match=r"999999999-.*no version can follow"):
        written(tmp_path)
    assert [each.name for each in sorted(tmp_path.iterdir())] == there


def test_writers_beside_each_other_take_different_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight at once, which all had written their files before the first took a number."""
    together, write_files = Barrier(8), artifacts._write_files

    def wait(temporary: Path, content: ArtifactContent) -> dict[str, artifacts.ArtifactFile]:
        files = write_files(temporary, content)
        together.wait()
        return files

    monkeypatch.setattr(artifacts, "_write_files", wait)
    with ThreadPoolExecutor(8) as pool:
        names = sorted(pool.map(lambda seed: written(tmp_path, model_of(seed=seed)).name, range(8)))
    assert [name[:4] for name in names] == [f"{number:04d}" for number in range(1, 9)]
    assert versions(tmp_path) == names == sorted(each.name for each in tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 3)])
@pytest.mark.parametrize("kind", ["<f4", "<f8", "<i4", "|u1", "|b1", "<U5", ">i4"])
def test_arrays_of_every_shape_and_type_come_back(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    """Also those without a number in them, of another byte order, and of another order of their axes."""
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(kind)
    path = tmp_path / write_artifact(tmp_path, draft_of(model_of()), ArtifactContent({"a": array, "b": array.T}))
    found = read_artifact(path).arrays
    assert np.array_equal(found["a"], array)
    assert np.array_equal(found["b"], array.T)
    assert found["a"].shape == shape
    assert found["a"].flags.aligned


def test_every_flipped_bit_and_every_cut_is_refused(tmp_path: Path) -> None:
    """1,000 single bits and 100 cuts over all files, the manifest among them, each refused as what it is."""
    path = written(tmp_path)
    dice = np.random.default_rng(5)
    files = sorted(path.iterdir())
    sizes = np.array([each.stat().st_size for each in files])
    for number in range(1_100):
        which = number % len(files) if number < 200 else int(dice.choice(len(files), p=sizes / sizes.sum()))
        place, mask = int(dice.integers(sizes[which])), 1 << int(dice.integers(8))
        whole = files[which].read_bytes()
        with files[which].open("r+b") as file:  # in place: a file that is replaced is written out at once
            if number < 100:
                file.truncate(place)
            else:
                file.seek(place)
                file.write(bytes([whole[place] ^ mask]))
        with pytest.raises(ArtifactInvalid):
            read_artifact(path)
        with files[which].open("r+b") as file:
            file.write(whole)
    load(read_artifact(path))


def _rename(path: Path) -> Path:
    return path.rename(path.with_name(f"0002{path.name[4:]}"))


def _rename_hash(path: Path) -> Path:
    return path.rename(path.with_name(f"{path.name[:-1]}{'0' if path.name[-1] != '0' else '1'}"))


def _add(path: Path) -> Path:
    (path / "more.npy").write_bytes(b"")
    return path


def _remove(path: Path) -> Path:
    (path / "weight.npy").unlink()
    return path


def _link(path: Path) -> Path:
    (path / "weight.npy").rename(path.parent / "elsewhere")
    (path / "weight.npy").symlink_to(path.parent / "elsewhere")
    return path


def _no_manifest(path: Path) -> Path:
    (path / artifacts.MANIFEST).unlink()
    return path


@pytest.mark.parametrize("damage", [_rename, _rename_hash, _add, _remove, _link, _no_manifest])
def test_a_folder_that_is_not_as_it_was_written_is_refused(tmp_path: Path, damage: Callable[[Path], Path]) -> None:
    """Another name, a file more, a file less, a link in place of a file."""
    with pytest.raises(ArtifactInvalid):
        read_artifact(damage(written(tmp_path)))


def _deep(levels: int) -> msgspec.Raw:
    return msgspec.Raw(b"[" * levels + b"]" * levels)


def _rewritten(path: Path, change: Callable[[dict[str, object]], object]) -> Path:
    """Change the manifest of a version as somebody would who names the folder after it."""
    told = msgspec.json.decode((path / artifacts.MANIFEST).read_bytes())
    change(told)
    text = msgspec.json.encode(told)
    (path / artifacts.MANIFEST).write_bytes(text)
    return path.rename(path.with_name(f"{path.name[:5]}{sha256(text).hexdigest()[:12]}"))


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda told: told.update(schema_version=SCHEMA_VERSION + 1), f"has schema {SCHEMA_VERSION + 1}"),
        (lambda told: told.pop("schema_version"), "cannot be read"),
        (lambda told: told.update(shoe_size=44), "shoe_size"),
        (lambda told: told.update(number=3), "number 3"),
        (lambda told: told.update(options=[]), "cannot be read"),
        (lambda told: told.update(options={"a": _deep(100_000)}), "cannot be read"),
    ],
)
def test_a_manifest_of_another_schema_is_refused(
    tmp_path: Path, change: Callable[[dict[str, object]], object], text: str
) -> None:
    """Even where the folder is named after it: another schema, a field that is not known, a wrong type."""
    with pytest.raises(ArtifactInvalid, match=text):
        read_manifest(_rewritten(written(tmp_path), change))


def _npy(header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        *(
            _npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}") + bytes(length)
            for shape, length in (
                ("(-1, -8)", 32),
                ("(0, 4611686018427387904)", 0),
                ("(True,)", 4),
                ("(-1,)", 0),
                ("(2.0,)", 8),
                ("3", 12),
                (f"({'1, ' * 28})", 4),
            )
        ),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,"),
        _npy("{'descr': '<f4', 'shape': (1"),
        _npy("[" * 110),
        _npy("{'descr': ['<f4'], 'fortran_order': False, 'shape': (1,)}"),
        _npy("{'descr': {}, 'fortran_order': False, 'shape': (1,)}"),
        _npy("'"),
        _npy("")[:9],
        b"",
    ],
)
def test_files_that_are_no_arrays_are_refused(tmp_path: Path, content: bytes) -> None:
    """Though length and hash are right: shapes of nothing, lengths below 0, texts that are no header."""
    path = written(tmp_path)
    (path / "weight.npy").write_bytes(content)
    told = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    path = _rewritten(path, lambda manifest: manifest["files"].update({"weight.npy": told}))  # type: ignore[attr-defined]
    with pytest.raises(ArtifactInvalid, match="weight"):
        load(read_artifact(path))


@pytest.mark.parametrize(
    "name, array, text",
    [
        ("weight", np.full(40, np.nan, np.float32), "NaN"),
        ("golden.scores", np.full((4, 9), np.inf, np.float32), "NaN"),
        ("weight", np.zeros(40, np.float64), "weight"),
        ("weight", np.zeros(3, np.float32), "not those"),
        ("row", np.full(40, 9, np.int32), "not"),
        ("start", np.zeros((10, 1), np.int64), "start"),
        ("vocabulary.start", np.arange(10, dtype=np.int64), "vocabulary"),
        ("golden.start", np.array([0, 3, 3, 4, 99]), "golden"),
        ("golden.start", np.array([0]), "golden"),
        ("golden.row", np.full(9, 9, np.int32), "golden"),
        ("golden.items", np.full(9, -1, np.int32), "golden"),
        ("golden.scores", np.zeros((4, 9), np.float32), "golden"),
        ("golden.scores", np.zeros((4, 9), np.float64), "golden"),
        ("golden.scores", None, "golden"),
        ("weight", None, "weight"),
    ],
)
def test_what_was_written_wrongly_is_refused(tmp_path: Path, name: str, array: np.ndarray | None, text: str) -> None:
    """NaN, wrong types and shapes, other answers than expected: though every hash is right."""
    model = model_of()
    content = item_content(model, HISTORIES)
    arrays = {**content.arrays, name: array}
    kept = {key: each for key, each in arrays.items() if each is not None}
    path = tmp_path / write_artifact(tmp_path, draft_of(model), replace(content, arrays=kept))
    found = read_artifact(path)
    with pytest.raises(ArtifactInvalid, match=text) as refused:
        load(found)
    assert path.name in str(refused.value)


def test_a_kind_that_is_not_known_and_a_vocabulary_of_others_are_refused(tmp_path: Path) -> None:
    """The manifest decides who reads, and says whose rows these are."""
    with pytest.raises(ArtifactInvalid, match="no kind 'oracle'"):
        load(read_artifact(written(tmp_path, kind="oracle")))
    with pytest.raises(ArtifactInvalid, match="vocabulary"):
        load(read_artifact(written(tmp_path, vocabulary_hash="00")))


def test_golden_answers_tell_another_model_from_the_one_that_was_written(tmp_path: Path) -> None:
    """A difference of a thousandth of the largest score is one, that of another order of sums is none."""
    model = model_of()
    content = item_content(model, HISTORIES)
    for factor, is_right in ((1 + 1e-6, True), (1 + 1e-3, False)):
        other = {**content.arrays, "weight": np.asarray(model.weight * np.float32(factor), dtype=np.float32)}
        path = tmp_path / write_artifact(tmp_path, draft_of(model), ArtifactContent(other))
        if is_right:
            load(read_artifact(path))
            continue
        with pytest.raises(ArtifactInvalid, match="golden questions"):
            load(read_artifact(path))


@pytest.mark.parametrize(
    "draft, content",
    [
        ({"name": "../up"}, ArtifactContent({})),
        ({"name": "Near"}, ArtifactContent({})),
        ({}, ArtifactContent({"../a": np.zeros(1)})),
        ({}, ArtifactContent({"a": np.array([None])})),
        ({}, ArtifactContent({}, {"a.npy": b""})),
        ({}, ArtifactContent({}, {"manifest.json": b""})),
        ({}, ArtifactContent({f"a{number}": np.zeros(1) for number in range(1_001)})),
    ],
)
def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, draft: dict[str, object], content: ArtifactContent
) -> None:
    """Names that lead elsewhere, objects, too many files."""
    with pytest.raises(ArtifactInvalid):
        write_artifact(tmp_path, draft_of(model_of(), **draft), content)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk gets its room back, and no version has a name."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        written(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_version_is_durable_before_it_has_a_name_and_its_name_before_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is synced, then the folder that names them, then it is renamed, then the folder that has the name."""
    folder, steps = tmp_path / "near", list[str]()
    sync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        steps.append(f"{path.name} is {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    path = written(folder)
    temporary = steps[-3]
    assert temporary.startswith(artifacts.TEMPORARY)
    assert steps[-4:] == [artifacts.MANIFEST, temporary, f"{temporary} is {path.name}", "near"]
    assert sorted(steps[:-3]) == sorted(each.name for each in path.iterdir())
