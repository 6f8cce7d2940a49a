"""Sequence models as ONNX: a network says what the arrays say, or it is not written; none is ever asked."""

import sys
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest

from midstream.core.errors import ArtifactInvalid, ExtraMissing
from midstream.models.artifact.artifact import Draft, read_artifact, write_artifact
from midstream.models.artifact.golden import item_content
from midstream.models.histories import Histories
from midstream.models.items import sequence_onnx
from midstream.models.items.sequence_onnx import FILE, agrees, exported, network_of, runner
from midstream.models.kinds import item_kind
from midstream.models.loading import load
from tests.models.sequences import HISTORIES, drawn_model
from tests.support.libraries import library
from tests.support.patience import PATIENCE_S


@pytest.fixture
def libraries():
    """What writes networks and what runs them, where both are installed."""
    for each in ("torch", "onnx", "onnxscript", "onnxruntime"):
        library(each)


def by_arrays(model, scale=1.0):
    """A network that is none: what the arrays say, times a number."""
    return lambda items: model._read(np.array([_row(model, each) for each in items], np.int32)) * np.float32(scale)


def _row(model, item):
    return int(np.flatnonzero((model.weights.items == item).all(axis=1))[0])


@pytest.mark.integration
@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("blocks, heads, ages", [(1, 1, 1), (1, 4, 2), (2, 2, 5), (3, 4, 9)])
def test_a_network_says_what_the_arrays_say(blocks, heads, ages):
    """For every length that the model reads, to 1e-5."""
    model = drawn_model(7, items=20, ages=ages, blocks=blocks, heads=heads, factors=16)
    run = runner(network_of(model))
    assert agrees(model, run)
    dice = np.random.default_rng(7)
    for length in range(1, ages + 1):
        rows = dice.integers(0, 20, length).astype(np.int32)
        (expected,) = model.history_vectors(Histories.of([rows.tolist()]))
        assert np.abs(run(model.weights.items[rows]) - expected).max() < 1e-5 * max(1, np.abs(expected).max())


def published(folder, model, files):
    """Write a model with files; return it as it is read again."""
    draft = Draft(name="next", kind="sasrec", vocabulary_hash=model.vocabulary.content_hash)
    return load(read_artifact(folder / write_artifact(folder, draft, item_content(model, HISTORIES, files))))


@pytest.mark.parametrize("missing", ["torch", "onnx", "onnxscript", "onnxruntime"])
def test_without_the_libraries_nothing_is_written(monkeypatch, missing):
    """And it is said what brings them, where that is asked."""
    if missing in {"onnx", "onnxscript"}:
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    monkeypatch.setitem(sys.modules, missing, None)
    model = drawn_model()
    if missing == "onnxruntime":
        monkeypatch.setattr(sequence_onnx, "network_of", lambda _model: b"network")
    assert exported(model) == {}
    with pytest.raises(ExtraMissing, match=r"midstream\[(torch|onnx)\]"):
        runner(b"") if missing == "onnxruntime" else network_of(model)


@pytest.mark.parametrize("error", [RuntimeError("no such operator"), MemoryError()])
def test_what_cannot_be_written_is_left_out(monkeypatch, error):
    """A fit of hours is published without it."""

    def fail(*_told, **_how):
        raise error

    torch = SimpleNamespace(onnx=SimpleNamespace(export=fail), zeros=lambda *shape: np.zeros(shape))
    monkeypatch.setitem(sys.modules, "onnx", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "onnxscript", SimpleNamespace())
    monkeypatch.setattr(sequence_onnx, "library", lambda: torch)
    monkeypatch.setattr(sequence_onnx, "_network", lambda _torch, model: model)
    model = drawn_model(ages=1)
    with pytest.raises(ArtifactInvalid, match="cannot be written"):
        network_of(model)
    assert exported(model) == {}


def test_other_kinds_have_no_files():
    """Only what has a network is asked for one."""
    assert item_kind("popular").files(drawn_model()) == {}


@pytest.mark.parametrize("scale, is_right", [(1.0, True), (1.00005, True), (1.0003, False), (np.nan, False)])
def test_a_network_that_says_otherwise_is_not_written(monkeypatch, scale, is_right):
    """By more than 1e-4 of the largest number."""
    model = drawn_model(6)
    run = by_arrays(model, scale)
    monkeypatch.setattr(sequence_onnx, "network_of", lambda _model: b"network")
    monkeypatch.setattr(sequence_onnx, "runner", lambda _network: run)
    assert agrees(model, run) == is_right
    assert exported(model) == ({FILE: b"network"} if is_right else {})


def test_a_network_of_another_shape_is_wrong():
    """Whatever it gives."""
    assert not agrees(drawn_model(), lambda items: items)


def test_what_is_no_network_cannot_be_run():
    """It is said, and not what the library thinks of it."""
    library("onnxruntime")
    for network in (b"", b"nothing of the kind" * 9):
        with pytest.raises(ArtifactInvalid, match="cannot be run"):
            runner(network)


def _field(number, content):
    """Return a field of a message as protobuf writes it."""

    def digits(value):
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + digits(value >> 7)

    if isinstance(content, int):
        return digits(number << 3) + digits(content)
    return digits(number << 3 | 2) + digits(len(content)) + content


def _told(name, *shape):
    """Return a value of float32 of a graph, by name and shape."""
    whole = b"".join(_field(1, _field(1, each)) for each in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, whole)))


def _network(node, constants=()):
    """Return a network of one node from ``items`` to ``user``."""
    ends = _field(11, _told(b"items", 1, 8)) + _field(12, _told(b"user", 1, 8))
    graph = _field(1, node) + _field(2, b"g") + b"".join(_field(5, each) for each in constants) + ends
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))


def _loop():
    """Return a network that does nothing 2^60 times."""
    kept = _field(1, b"on") + _field(2, b"on2") + _field(4, b"Identity")
    handed = _field(1, b"kept") + _field(2, b"kept2") + _field(4, b"Identity")
    number, flag = (
        _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, b"")))
        for name, kind in ((b"n", 7), (b"on", 9))
    )
    after = _field(1, b"on2") + _field(2, _field(1, _field(1, 9) + _field(2, b"")))
    ends = _field(11, number) + _field(11, flag) + _field(11, _told(b"kept", 1, 8))
    body = _field(1, kept) + _field(1, handed) + _field(2, b"body") + ends + _field(12, after)
    body += _field(12, _told(b"kept2", 1, 8))
    node = _field(1, b"many") + _field(1, b"") + _field(1, b"items") + _field(2, b"user") + _field(4, b"Loop")
    node += _field(5, _field(1, b"body") + _field(6, body) + _field(20, 5))
    many = _field(2, 7) + _field(8, b"many") + _field(9, (1 << 60).to_bytes(8, "little"))
    return _network(node, [many])


def _large():
    """Return a network that fills 2^50 numbers."""
    shape = _field(1, 2) + _field(2, 7) + _field(8, b"shape") + _field(9, (1 << 25).to_bytes(8, "little") * 2)
    return _network(_field(1, b"shape") + _field(2, b"user") + _field(4, b"ConstantOfShape"), [shape])


def _elsewhere():
    """Return a network that adds two numbers, which are in a file."""
    named = [(b"location", b"/etc/hostname"), (b"offset", b"0"), (b"length", b"32")]
    outside = b"".join(_field(13, _field(1, key) + _field(2, value)) for key, value in named)
    weights = _field(1, 8) + _field(2, 1) + _field(8, b"w") + outside + _field(14, 1)
    node = _field(1, b"items") + _field(1, b"w") + _field(2, b"user") + _field(4, b"Add")
    return _network(node, [weights])


@pytest.mark.parametrize("network", [_loop(), _large(), _elsewhere(), b"", b"nothing of the kind" * 9])
def test_a_network_that_arrives_is_never_run(tmp_path, network):
    """Whatever it holds, the version is loaded at once, and its arrays answer to the bit."""
    model, found = drawn_model(3), []
    loading = Thread(target=lambda: found.append(published(tmp_path, model, {FILE: network})), daemon=True)
    loading.start()
    loading.join(PATIENCE_S)
    assert not loading.is_alive()
    assert (found[0].scores(HISTORIES) == model.scores(HISTORIES)).all()


@pytest.mark.integration
@pytest.mark.usefixtures("libraries")
def test_an_answer_has_the_same_bits_with_a_network_and_without(tmp_path):
    """Whatever is installed: a version that was exported answers by its arrays too."""
    model = drawn_model(2)
    files = item_kind("sasrec").files(model)
    assert files.keys() == {FILE}
    again = published(tmp_path, model, files)
    assert (again.scores(HISTORIES) == model.scores(HISTORIES)).all()
