"""Import of item models from elsewhere: a graph and a file of vectors become a version, or the file is named."""

import io
import warnings
import zipfile

import numpy as np
import pytest

from midstream.app.operate.model_registry import Import, import_model, registry_of
from midstream.core.errors import ArtifactInvalid, ArtifactTooLarge, Invalid, NotFound
from midstream.models.histories import Histories
from midstream.models.loading import load
from midstream.models.onnx.writing import node, onnx_file, value
from midstream.training.onnx_items_import import read_items
from midstream.training.registry import Registry
from tests.support.small_graphs import linear, mean_of_rows, mean_of_vectors

ITEMS, WIDTH = 12, 4
IDS = [f"item-{number}" for number in range(ITEMS)]
VECTORS = np.random.default_rng(3).standard_normal((ITEMS, WIDTH)).astype(np.float32)


@pytest.fixture
def files(tmp_path):
    """A folder with a graph over the rows of histories, and the vectors of the items."""
    (tmp_path / "users.onnx").write_bytes(mean_of_rows(VECTORS))
    np.savez(tmp_path / "items.npz", ids=np.array(IDS), vectors=VECTORS)
    return tmp_path


def asked(files, **more):
    """Return what is imported."""
    told = {"name": "taste", "items": str(files / "items.npz"), **more}
    return Import(str(files / "users.onnx"), **told)


def test_a_graph_and_its_vectors_become_a_version(files):
    """Which says what runs it; its golden histories are nobody's, and its scores those of the vectors."""
    name, version = import_model(files, asked(files, last=3))
    registry = registry_of(files)
    manifest = registry.manifest(name, version)
    assert (manifest.kind, manifest.runner, manifest.inputs) == ("onnx_items", "onnxruntime", ())
    told = manifest.options
    assert (told["source"], told["items"], told["last"]) == ("users.onnx", "items.npz", 3)
    model = load(registry.read(name, version))
    assert model.vocabulary.ids == IDS
    found = model.scores(Histories.of([[1, 2, 3, 4]]))[0]
    assert np.allclose(found, VECTORS @ VECTORS[[2, 3, 4]].mean(axis=0), atol=1e-5)


def test_ids_may_be_whole_numbers_and_vectors_of_float64(files):
    """An id is its digits."""
    np.savez(files / "items.npz", ids=np.arange(ITEMS), vectors=VECTORS.astype(np.float64))
    name, version = import_model(files, asked(files))
    assert load(registry_of(files).read(name, version)).vocabulary.ids == [str(each) for each in range(ITEMS)]


BAD = {
    "no ids": ({"vectors": VECTORS}, "It has no ids"),
    "no vectors": ({"ids": np.array(IDS), "vector": VECTORS}, "It has no vectors"),
    "count": ({"ids": np.array(IDS[1:]), "vectors": VECTORS}, "there are 11 ids"),
    "axes": ({"ids": np.array(IDS), "vectors": VECTORS[:, 0]}, r"vectors is float32 \(12,\)"),
    "whole": ({"ids": np.array(IDS), "vectors": VECTORS.astype(int)}, "vectors is int64"),
    "twice": ({"ids": np.array([*IDS[:-1], IDS[0]]), "vectors": VECTORS}, '"item-0" comes 2 times'),
    "empty id": ({"ids": np.array([*IDS[:-1], ""]), "vectors": VECTORS}, "id of row 11 has 0 characters"),
    "long id": ({"ids": np.array([*IDS[:-1], "x" * 1_025]), "vectors": VECTORS}, "1025 characters"),
    "objects": ({"ids": np.array(IDS, dtype=object), "vectors": VECTORS}, "cannot be read"),
    "nan": ({"ids": np.array(IDS), "vectors": np.where(np.arange(ITEMS) == 7, np.nan, VECTORS.T).T}, "row 7"),
    "large": ({"ids": np.array(IDS), "vectors": np.full((ITEMS, 2), 1e200)}, "row 0"),
    "none": ({"ids": np.array([], dtype=str), "vectors": VECTORS[:0]}, r"ids is <U1 \(0,\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_file_of_vectors_is_refused(files, name):
    """By its name, with what came; nothing is published."""
    arrays, text = BAD[name]
    np.savez(files / "items.npz", allow_pickle=True, **arrays)
    with pytest.raises(Invalid, match=text) as caught:
        import_model(files, asked(files))
    assert [each.where for each in caught.value.faults] == ["items.npz"]
    assert registry_of(files).names() == []


def npy(values):
    """Return a file of one array."""
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


HEADERS = {
    "a length of 23 digits": "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999, 4), }",
    "a set of a list": "{[]: 1}",
    "no type": "{'descr': {}, 'fortran_order': False, 'shape': (1,), }",
    "no end": "{'descr': '<f4', 'fortran_order': False, 'shape': (1, }",
    "less than none": "{'descr': '<f4', 'fortran_order': False, 'shape': (-12, 4), }",
    "a comma": "{'descr': ',f4', 'fortran_order': False, 'shape': (True, 4), }",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_no_array_has_is_refused(files, name):
    """By the name of the file, whatever the reader raises."""
    header = HEADERS[name].ljust(117).encode("latin1") + b"\n"
    with zipfile.ZipFile(files / "items.npz", "w") as packed:
        packed.writestr("ids.npy", npy(np.array(IDS)))
        packed.writestr("vectors.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))
    with pytest.raises(Invalid, match=r"items\.npz"):
        read_items(files / "items.npz", Registry(files / "models"))


def test_an_encrypted_file_is_refused(files):
    """Nobody is asked for its password."""
    turned = bytearray((files / "items.npz").read_bytes())
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = turned.find(mark)
        while at >= 0:
            turned[at + flags] |= 1
            at = turned.find(mark, at + 1)
    (files / "items.npz").write_bytes(turned)
    with pytest.raises(Invalid, match="encrypted"):
        read_items(files / "items.npz", Registry(files / "models"))


@pytest.mark.parametrize("name", ["vectors", "ids", "vectors.npy"])
def test_a_second_member_of_a_name_is_refused(files, name):
    """NumPy prefers one without .npy, whose size would not have been looked at."""
    with zipfile.ZipFile(files / "items.npz", "a") as packed, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packed.writestr(name, npy(np.zeros((ITEMS, 9), dtype=np.float32)))
    with pytest.raises(Invalid, match="each once"):
        read_items(files / "items.npz", Registry(files / "models"))


def test_a_damaged_file_is_refused_whatever_byte_it_is(files):
    """Cut at any place, and with a byte turned over anywhere: a version of the same vectors, or a fault."""
    whole = (files / "items.npz").read_bytes()
    for at in range(0, len(whole), 7):
        turned = bytearray(whole)
        turned[at] ^= 0x5A
        for content in (whole[:at], bytes(turned)):
            (files / "items.npz").write_bytes(content)
            try:
                name, version = import_model(files, asked(files))
            except (Invalid, ArtifactTooLarge):
                continue
            model = load(registry_of(files).read(name, version))
            assert np.array_equal(model.item_vectors(), VECTORS)


def test_a_file_that_unpacks_to_more_than_a_version_may_have_is_not_unpacked(files):
    """Its own directory says how large it is."""
    with zipfile.ZipFile(files / "items.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("ids.npy", b"")
        with packed.open("vectors.npy", "w", force_zip64=True) as member:
            for _ in range(40):
                member.write(bytes(1 << 20))
    registry = Registry(files / "models", bytes_max=32 << 20)
    with pytest.raises(ArtifactTooLarge):
        read_items(files / "items.npz", registry)


def test_a_graph_that_makes_the_same_of_every_history_is_refused(files):
    """The golden histories could not tell it from any other one."""
    nodes = [node("Mul", ["items", "zero"], ["none"]), node("ReduceMean", ["none"], ["user"], axes=[0], keepdims=1)]
    content = onnx_file(
        nodes, [value("items", ("m", WIDTH))], [value("user", (1, WIDTH))], {"zero": np.zeros(1, dtype=np.float32)}
    )
    (files / "users.onnx").write_bytes(content)
    with pytest.raises(Invalid, match="whatever their items are"):
        import_model(files, asked(files))


def test_other_faults_name_what_is_wrong(files):
    """No name, no file, columns beside items, a file that is no graph, a ranker."""
    wrongs = [
        (asked(files, name=""), ArtifactInvalid, "say which model"),
        (asked(files, items=str(files / "no.npz")), NotFound, "is no file"),
        (asked(files, columns=("a",)), Invalid, "--items came with users.onnx and --columns"),
        (Import(str(files / "items.npz"), "taste", items=str(files / "items.npz")), Invalid, "--items came with items"),
    ]
    for wanted, error, text in wrongs:
        with pytest.raises(error, match=text):
            import_model(files, wanted)
    for content, text in (
        (b"no graph", "cannot be used|ONNX"),
        (linear(), "cannot be used"),
        (mean_of_vectors(("m", 9)), "9 numbers"),
    ):
        (files / "users.onnx").write_bytes(content)
        with pytest.raises(Invalid, match=text):
            import_model(files, asked(files))
    assert registry_of(files).names() == []
