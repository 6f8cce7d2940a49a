"""Import of item models from elsewhere: a graph and a file of vectors become a version, or the file is named."""

import io
import re
import warnings
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from midstream.app.operate.model_registry import Import, import_model, is_unproven, registry_of
from midstream.cli.app import main
from midstream.core.errors import ArtifactInvalid, ArtifactTooLarge, Invalid, NotFound
from midstream.models.histories import Histories
from midstream.models.items.onnx_items import OnnxItems
from midstream.models.loading import load
from midstream.models.onnx import writing
from midstream.models.onnx.graph import FLOAT, INT32, INT64, read_graph
from midstream.models.onnx.row_tables import row_tables
from midstream.models.onnx.wire import bytes_field, number_field
from midstream.models.onnx.wire import written as written_fields
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


def items_of(artifact):
    """Return the model of a version, which is one of items."""
    model = load(artifact)
    assert isinstance(model, OnnxItems)
    return model


def test_a_graph_and_its_vectors_become_a_version(files):
    """Which says what runs it; its golden histories are nobody's, and its scores those of the vectors."""
    name, version = import_model(files, asked(files, last=3))
    registry = registry_of(files)
    manifest = registry.manifest(name, version)
    assert (manifest.kind, manifest.runner, manifest.inputs) == ("onnx_items", "onnxruntime", ())
    told = manifest.options
    assert (told["source"], told["items"], told["last"]) == ("users.onnx", "items.npz", 3)
    model = items_of(registry.read(name, version))
    assert model.vocabulary.ids == IDS
    found = model.scores(Histories.of([[1, 2, 3, 4]]))[0]
    assert np.allclose(found, VECTORS @ VECTORS[[2, 3, 4]].mean(axis=0), atol=1e-5)


def test_ids_may_be_whole_numbers_and_vectors_of_float64(files):
    """An id is its digits."""
    np.savez(files / "items.npz", ids=np.arange(ITEMS), vectors=VECTORS.astype(np.float64))
    name, version = import_model(files, asked(files))
    assert items_of(registry_of(files).read(name, version)).vocabulary.ids == [str(each) for each in range(ITEMS)]


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
    "long vector": ({"ids": np.array(IDS), "vectors": np.full((ITEMS, 2), 1e19)}, "row 0 has a length of 1.41e"),
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
            model = items_of(registry_of(files).read(name, version))
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


def drawn(count=8, length=5):
    """Return histories that nobody has, and the scores that the trained model gives for them."""
    rows = np.random.default_rng(7).integers(0, ITEMS, (count, length))
    return np.array(IDS)[rows], VECTORS[rows].mean(axis=1) @ VECTORS.T


def written(files, vectors=VECTORS, **more):
    """Write the file of items, with expected scores."""
    histories, expected = drawn()
    told = {"ids": np.array(IDS), "vectors": vectors, "histories": histories, "expected": expected}
    np.savez(files / "items.npz", **{**told, **more})


TOWER = np.random.default_rng(5).standard_normal((WIDTH, WIDTH)).astype(np.float32)


def other_table(table):
    """Return a graph whose table is not that of the vectors: what it makes of it are numbers like those."""
    nodes = [
        node("Gather", ["table", "items"], ["said"], axis=0),
        node("ReduceMean", ["said"], ["mean"], axes=[0], keepdims=1),
        node("MatMul", ["mean", "tower"], ["user"]),
    ]
    constants = {"table": np.ascontiguousarray(table @ np.linalg.inv(TOWER)).astype(np.float32), "tower": TOWER}
    return onnx_file(nodes, [value("items", ("m",), INT64)], [value("user", (1, WIDTH))], constants)


PADDED = np.concatenate([np.zeros((1, WIDTH), dtype=np.float32), VECTORS])
WRONG_TABLES = {
    "padded": (PADDED, "a table of 13 rows, and there are 12 items"),
    "shifted": (PADDED[:-1], 'Row 1 has the vector of "item-0", and ids[1] is "item-1".'),
    "turned": (VECTORS[::-1], 'Row 0 has the vector of "item-11", and ids[0] is "item-0".'),
    "two of them": (VECTORS[[*range(10), 11, 10]], 'Row 10 has the vector of "item-11", and ids[10] is "item-10".'),
}


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_a_table_in_another_order_than_the_vectors_is_refused(files, name):
    """By its name, and by that of the first item that it has elsewhere: the graph shares the table of the vectors."""
    table, text = WRONG_TABLES[name]
    (files / "users.onnx").write_bytes(mean_of_rows(np.ascontiguousarray(table)))
    with pytest.raises(Invalid, match=re.escape(text)) as caught:
        import_model(files, asked(files))
    assert [each.where for each in caught.value.faults] == ['graph.initializer "vectors"']
    assert registry_of(files).names() == []


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_a_table_of_its_own_in_another_order_is_refused_by_expected_scores(files, name):
    """Which name an item; without them a table of the right length is taken, as nothing says what its rows are."""
    table, _ = WRONG_TABLES[name]
    (files / "users.onnx").write_bytes(other_table(table))
    if name != "padded":
        assert import_model(files, asked(files, name="unseen"))[0] == "unseen"
    written(files)
    pattern = r'After history \d, which ends with "item-\d+", "item-\d+" has the score .* is expected'
    with pytest.raises(Invalid, match=pattern) as caught:
        import_model(files, asked(files))
    assert [each.where for each in caught.value.faults] == ["items.npz"]
    assert "taste" not in registry_of(files).names()


def test_expected_scores_are_asked_again_at_each_load(files):
    """As they came, beside made up histories; another table under them is refused, and names an item."""
    (files / "users.onnx").write_bytes(other_table(VECTORS))
    histories, expected = drawn(20)
    written(files, histories=histories, expected=expected)
    name, version = import_model(files, asked(files))
    registry = registry_of(files)
    read = registry.read(name, version)
    assert registry.manifest(name, version).options["expected_histories"] == 20
    assert not is_unproven(files, name, version)
    start, row = read.arrays["golden.start"], read.arrays["golden.row"]
    assert (len(start) - 1, [IDS[each] for each in row[:5]]) == (16, histories[0].tolist())
    assert (read.arrays["golden.scores"][:8] == expected[:8].astype(np.float32)).all()
    assert np.allclose(
        items_of(read).scores(Histories.of([[1, 2]])), VECTORS[[1, 2]].mean(axis=0) @ VECTORS.T, atol=1e-5
    )
    shifted = np.frombuffer(other_table(PADDED[:-1]), dtype=np.uint8)
    other = replace(read, arrays={**read.arrays, "onnx_items.graph": shifted})
    with pytest.raises(ArtifactInvalid, match=r'golden questions otherwise .*, such as that of "item-\d+"'):
        load(other)


@pytest.mark.parametrize("name", [each for each in WRONG_TABLES if each != "padded"])
@pytest.mark.parametrize("more", [0, 1])
def test_few_expected_scores_leave_the_order_of_a_shared_table_to_be_looked_at(files, name, more):
    """One history that scores as the graph says: nothing but the rows themselves tells, behind which more may lie."""
    table, text = WRONG_TABLES[name]
    table = np.concatenate([table, np.ones((more, WIDTH), dtype=np.float32)])
    (files / "users.onnx").write_bytes(mean_of_rows(table))
    written(files, histories=np.array([[IDS[5]]]), expected=table[[5]] @ VECTORS.T)
    with pytest.raises(Invalid, match=re.escape(text)) as caught:
        import_model(files, asked(files))
    assert [each.where for each in caught.value.faults] == ['graph.initializer "vectors"']


CUTS = {
    "all but one byte": lambda content: content[:-1],
    "less than a number": lambda content: content[:3],
    "all but a number": lambda content: content[:-4],
    "some bytes more": lambda content: content + b"abc",
    "none": lambda content: content[:0],
}


@pytest.mark.parametrize("name", CUTS)
def test_a_damaged_table_is_refused_by_the_name_of_the_file(files, monkeypatch, name):
    """One whose bytes are not those of its shape: ONNX Runtime says which, and there is no other error."""

    def damaged(name, array):
        shape = [number_field(1, each) for each in array.shape]
        return written_fields([*shape, number_field(2, FLOAT), bytes_field(8, name), bytes_field(9, cut(array))])

    def cut(array):
        return CUTS[name](array.tobytes())

    with monkeypatch.context() as patched:
        patched.setattr(writing, "tensor", damaged)
        (files / "users.onnx").write_bytes(mean_of_rows(VECTORS))
    with pytest.raises(Invalid, match="'vectors'") as caught:
        import_model(files, asked(files))
    assert [each.where for each in caught.value.faults] == ["users.onnx"]
    assert registry_of(files).names() == []


@pytest.mark.parametrize("part, is_right", [(5e-5, True), (1.5e-4, False)])
def test_expected_scores_of_many_items_may_differ_by_as_much_as_those_of_few(files, part, is_right):
    """By a part of the largest, though the golden scores are those of some items, of which that one may be none."""
    items, popular = 9_000, 4_001
    vectors = np.random.default_rng(4).standard_normal((items, WIDTH)).astype(np.float32)
    vectors[popular] *= 100
    rows = np.random.default_rng(6).integers(0, items, (10, 5))
    expected = vectors[rows].astype(np.float64).mean(axis=1) @ vectors.T
    step = part * np.abs(expected).max(axis=1, keepdims=True)
    expected += step * np.where(np.arange(items) % 2, -1, 1) * (np.arange(items) != popular)
    (files / "users.onnx").write_bytes(mean_of_rows(vectors))
    ids = np.array([f"item-{each}" for each in range(items)])
    np.savez(files / "items.npz", ids=ids, vectors=vectors, histories=ids[rows], expected=expected)
    if not is_right:
        with pytest.raises(Invalid, match="is expected"):
            import_model(files, asked(files))
        return
    read = registry_of(files).read(*import_model(files, asked(files)))
    largest = np.abs(expected).argmax(axis=1)[:8]
    assert {popular} < {*largest} < {*read.arrays["golden.items"]}
    assert len(read.arrays["golden.items"]) <= items // 3 + 8
    assert items_of(read).vocabulary.ids == ids.tolist()


def test_expected_scores_of_zero_have_no_tolerance(files):
    """There is nothing that it could be a part of, at the import as at a load: the item is named."""
    table = VECTORS.copy()
    table[3] = np.float32(1e-7)
    (files / "users.onnx").write_bytes(other_table(table))
    written(files, histories=np.array([["item-3"]]), expected=np.zeros((1, ITEMS)))
    with pytest.raises(Invalid, match=r'which ends with "item-3", .* and 0 is expected') as caught:
        import_model(files, asked(files))
    assert [each.where for each in caught.value.faults] == ["items.npz"]


def test_a_longer_table_is_taken_where_expected_scores_say_that_it_is_right(files):
    """Its further rows are nobody's: one for unknown items at its end."""
    table = np.concatenate([VECTORS, np.ones((1, WIDTH), dtype=np.float32)])
    (files / "users.onnx").write_bytes(mean_of_rows(table))
    with pytest.raises(Invalid, match="a table of 13 rows"):
        import_model(files, asked(files))
    written(files)
    assert items_of(registry_of(files).read(*import_model(files, asked(files)))).vocabulary.ids == IDS


def test_rows_are_followed_to_the_tables_they_look_up():
    """Through casts and axes, to each; not through a calculation, which may make another row of it."""
    nodes = [
        node("Cast", ["items"], ["whole"], to=INT64),
        node("Unsqueeze", ["whole", "zero"], ["batch"]),
        node("Gather", ["long", "batch"], ["first"], axis=0),
        node("Identity", ["wide"], ["same"]),
        node("Gather", ["same", "whole"], ["second"]),
        node("Gather", ["along", "whole"], ["third"], axis=1),
        node("Add", ["whole", "one"], ["next"]),
        node("Gather", ["padded", "next"], ["fourth"], axis=0),
        node("Gather", ["first", "whole"], ["fifth"], axis=0),
    ]
    told = {each: np.zeros((4, 2), dtype=np.float32) for each in ("long", "wide", "along", "padded")}
    whole = {"zero": np.zeros(1, dtype=np.int64), "one": np.ones(1, dtype=np.int64)}
    content = onnx_file(nodes, [value("items", ("m",), INT32)], [value("first", (1, 2))], {**told, **whole})
    assert [each.name for each in row_tables(read_graph(memoryview(content)), "items")] == ["long", "wide"]


BAD_EXPECTED: dict[str, tuple[dict[str, Any], str]] = {
    "alone": ({"expected": None}, "It has no expected"),
    "axes": ({"histories": np.array(IDS)}, r"histories is <U7 \(12,\)"),
    "floats": ({"histories": np.ones((8, 2))}, "histories is float64"),
    "count": ({"expected": np.ones((7, ITEMS))}, r"expected is float64 \(7, 12\), for 8 histories and 12 ids"),
    "items": ({"expected": np.ones((8, ITEMS + 1))}, r"expected is float64 \(8, 13\)"),
    "unknown": ({"histories": np.full((8, 1), "cup")}, 'History 0 has "cup"'),
    "empty": ({"histories": np.full((8, 2), "")}, "History 0 has 0 items"),
    "nan": ({"expected": np.full((8, ITEMS), np.nan)}, 'score of "item-0" after history 0 is no number'),
    "large": ({"expected": np.full((8, ITEMS), 1e300)}, "is no number"),
}


@pytest.mark.parametrize("name", BAD_EXPECTED)
def test_what_is_no_expected_score_is_refused(files, name):
    """By its name, with what came."""
    more, text = BAD_EXPECTED[name]
    histories, expected = drawn()
    told = {"ids": np.array(IDS), "vectors": VECTORS, "histories": histories, "expected": expected, **more}
    np.savez(files / "items.npz", **{name: each for name, each in told.items() if each is not None})
    with pytest.raises(Invalid, match=text) as caught:
        import_model(files, asked(files))
    assert [each.where for each in caught.value.faults] == ["items.npz"]
    assert registry_of(files).names() == []


def test_histories_may_be_of_several_lengths_and_of_whole_numbers(files):
    """An empty text is no item; an id is its digits."""
    rows = [[3, 1, 2], [4]]
    expected = np.stack([VECTORS[each].mean(axis=0) @ VECTORS.T for each in rows])
    written(files, histories=np.array([["item-3", "item-1", "item-2"], ["", "item-4", ""]]), expected=expected)
    import_model(files, asked(files))
    written(files, ids=np.arange(ITEMS), histories=np.array([[3, 1, 2]]), expected=expected[:1])
    import_model(files, asked(files))


def test_scores_that_are_no_numbers_are_refused(files):
    """A user's vector of 1e33 and an item's of 1e8 have a product that float32 has not; and one that is none itself."""
    nodes = [node("Mul", ["items", "large"], ["far"]), node("ReduceMean", ["far"], ["user"], axes=[0], keepdims=1)]
    large = {"large": np.full(1, 1e25, dtype=np.float32)}
    content = onnx_file(nodes, [value("items", ("m", WIDTH))], [value("user", (1, WIDTH))], large)
    (files / "users.onnx").write_bytes(content)
    np.savez(files / "items.npz", ids=np.array(IDS), vectors=VECTORS * np.float32(1e8))
    with pytest.raises(Invalid, match=r'The score of "item-\d+" after a made up history is no number') as caught:
        import_model(files, asked(files))
    assert [each.where for each in caught.value.faults] == ["graph.output"]
    nodes[0] = node("Div", ["items", "none"], ["far"])
    none = {"none": np.zeros(1, dtype=np.float32)}
    (files / "users.onnx").write_bytes(
        onnx_file(nodes, [value("items", ("m", WIDTH))], [value("user", (1, WIDTH))], none)
    )
    with pytest.raises(Invalid, match="what the graph makes of a history is no number") as caught:
        import_model(files, asked(files))
    assert [each.where for each in caught.value.faults] == ["users.onnx"]
    assert registry_of(files).names() == []


def said(capfd, *arguments):
    """Return what a command says on standard error, after it was done."""
    with pytest.raises(SystemExit) as left:
        main([str(each) for each in arguments])
    assert left.value.code == 0
    return " ".join(capfd.readouterr().err.split())


def test_the_command_says_when_no_expected_scores_came(files, capfd):
    """Where the graph reads rows, whose order is in no file; not where it reads the vectors that came."""
    (files / "users.onnx").write_bytes(other_table(VECTORS))
    line = ["models", "import", files / "users.onnx", "--name", "taste", "--items", files / "items.npz", "-f", files]
    assert "nothing says that the graph has them in the order" in said(capfd, *line)
    written(files)
    assert "expected scores" not in said(capfd, *line)
    np.savez(files / "items.npz", ids=np.array(IDS), vectors=VECTORS)
    (files / "users.onnx").write_bytes(mean_of_vectors(("m", WIDTH)))
    assert "expected scores" not in said(capfd, *line)
